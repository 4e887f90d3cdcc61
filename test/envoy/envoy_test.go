//go:build linux

// Package envoy_test holds malla against the real Envoy.
//
// It asks two things. Does a real Envoy, as an ADS client of our control plane in
// a running mesh, accept everything that we make for a sidecar's and a gateway's
// node? And does malla-proxy do with the same configuration and the same bytes
// what Envoy does: answers, headers, what the upstream sees, access-log lines?
// Where it does not on purpose, the scenario says so and why.
//
// The real Envoy is found as $MALLA_ENVOY, as .cache/envoy/bin/envoy (make test
// puts it there), or on PATH; without one the tests skip, but never with CI=true.
package envoy_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mallamesh/malla/test/script/mesh"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		panic(err)
	}
	code := m.Run()
	if *tellSpent {
		spent.tell(os.Stderr)
	}
	mesh.RemoveBinary()
	if proxyBinary.dir != "" {
		os.RemoveAll(proxyBinary.dir)
	}
	os.Exit(code)
}

// findEnvoy returns the path of a real Envoy.
func findEnvoy(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a real Envoy is not asked with -short")
	}
	candidates := []string{os.Getenv("MALLA_ENVOY"), filepath.Join(mesh.Root(t), ".cache", "envoy", "bin", "envoy")}
	if p, err := exec.LookPath("envoy"); err == nil {
		candidates = append(candidates, p)
	}
	for _, c := range candidates {
		if c == "" {
			continue
		}
		if exists(c) {
			return native(c)
		}
	}
	skip(t, "no real Envoy: set MALLA_ENVOY, or run make test, which installs it")
	return ""
}

// native is the program that pip's script becomes at once: Python would have a third of the time that Envoy needs to start.
func native(path string) string {
	if found, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "..", "lib", "python*", "site-packages", "envoy", "_bin", "envoy")); len(found) == 1 {
		return found[0]
	}
	return path
}

// skip leaves a test out, but never in CI.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

var proxyBinary struct {
	sync.Once
	dir string
	err error
}

// findProxy returns malla-proxy: beside the binary under test, or built once.
func findProxy(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("MALLA_BIN"); bin != "" {
		if p := filepath.Join(filepath.Dir(bin), "malla-proxy"); exists(p) {
			return p
		}
	}
	proxyBinary.Do(func() {
		if proxyBinary.dir, proxyBinary.err = os.MkdirTemp("", "malla-proxy"); proxyBinary.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", filepath.Join(proxyBinary.dir, "malla-proxy"), "github.com/mallamesh/malla/cmd/malla-proxy")
		if out, err := cmd.CombinedOutput(); err != nil {
			proxyBinary.err = fmt.Errorf("build cmd/malla-proxy: %w\n%s", err, out)
		}
	})
	if proxyBinary.err != nil {
		t.Fatal(proxyBinary.err)
	}
	return filepath.Join(proxyBinary.dir, "malla-proxy")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A running is a process of a test, with what it said.
type running struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	said bytes.Buffer // guarded by mu
	done chan struct{}
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(p)
}

func (r *running) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// start runs a program until the test ends.
func start(t *testing.T, name string, args ...string) *running {
	t.Helper()
	r := &running{cmd: exec.Command(name, args...), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.done
		spent.process(name, "in play", r.cmd.ProcessState)
		if t.Failed() {
			text := r.log()
			t.Logf("%s said:\n%s", filepath.Base(name), text[max(0, len(text)-6000):])
		}
	})
	return r
}

// fill replaces {{name}} in a text.
func fill(text string, values map[string]string) string {
	for k, v := range values {
		text = strings.ReplaceAll(text, "{{"+k+"}}", v)
	}
	return text
}
