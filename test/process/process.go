// Package process finds and runs the programs that a test puts beside each other:
// malla-proxy as it is built from here, the real Envoy, and what else is on PATH.
//
// A program that is missing skips its test with a line that says so; with CI=true it
// fails it. Whatever was started ends with its test, and with the test's process.
package process

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/mallamesh/malla/test/script/mesh"
)

// Skip leaves a test out, but never in CI.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Tool returns the path of a program of the system; scripts/tools installs it.
func Tool(t testing.TB, name string) string {
	t.Helper()
	for _, p := range []string{name, "/usr/sbin/" + name} { // Debian has servers where users do not look
		if p, err := exec.LookPath(p); err == nil {
			return p
		}
	}
	Skip(t, name+" is missing: scripts/tools installs it, or says how")
	return ""
}

// Envoy returns the path of a real Envoy: $MALLA_ENVOY, .cache/envoy/bin/envoy (where
// scripts/tools puts it), or the one on PATH.
func Envoy(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a real Envoy is not asked with -short")
	}
	candidates := []string{os.Getenv("MALLA_ENVOY"), filepath.Join(mesh.Root(t), ".cache", "envoy", "bin", "envoy")}
	if p, err := exec.LookPath("envoy"); err == nil {
		candidates = append(candidates, p)
	}
	for _, c := range candidates {
		if c != "" && exists(c) {
			return native(c)
		}
	}
	Skip(t, "no real Envoy: set MALLA_ENVOY, or run make test, which installs it")
	return ""
}

// native is the program that pip's script becomes at once: Python would have a third of the time that Envoy needs to start.
func native(path string) string {
	if found, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "..", "lib", "python*", "site-packages", "envoy", "_bin", "envoy")); len(found) == 1 {
		return found[0]
	}
	return path
}

var proxy struct {
	sync.Once
	dir string
	err error
}

// Proxy returns malla-proxy: beside the binary under test, or built once.
func Proxy(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("MALLA_BIN"); bin != "" {
		if p := filepath.Join(filepath.Dir(bin), "malla-proxy"); exists(p) {
			return p
		}
	}
	proxy.Do(func() {
		if proxy.dir, proxy.err = os.MkdirTemp("", "malla-proxy"); proxy.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", filepath.Join(proxy.dir, "malla-proxy"), "github.com/mallamesh/malla/cmd/malla-proxy")
		if out, err := cmd.CombinedOutput(); err != nil {
			proxy.err = fmt.Errorf("build cmd/malla-proxy: %w\n%s", err, out)
		}
	})
	if proxy.err != nil {
		t.Fatal(proxy.err)
	}
	return filepath.Join(proxy.dir, "malla-proxy")
}

// Clean removes what Proxy has built; a TestMain calls it.
func Clean() {
	if proxy.dir != "" {
		os.RemoveAll(proxy.dir)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A Process is a program that runs until its test ends.
type Process struct {
	Cmd  *exec.Cmd
	Done chan struct{} // closed when it has ended

	mu   sync.Mutex
	said bytes.Buffer // guarded by mu
}

// Write takes what the program says.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

// Log is what the program has said so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// Start starts a program. If the test fails, what the program said is shown.
func Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	return StartAs(t, diesWithUs(), name, args...)
}

// StartAs is Start for a program with attributes of its own, as namespaces.
func StartAs(t testing.TB, attr *syscall.SysProcAttr, name string, args ...string) *Process {
	t.Helper()
	p := &Process{Cmd: exec.Command(name, args...), Done: make(chan struct{})}
	p.Cmd.Stdout, p.Cmd.Stderr = p, p
	p.Cmd.SysProcAttr = attr
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.Cmd.Wait()
		close(p.Done)
	}()
	t.Cleanup(func() {
		_ = p.Cmd.Process.Kill()
		<-p.Done
		if t.Failed() {
			text := p.Log()
			t.Logf("%s said:\n%s", filepath.Base(name), text[max(0, len(text)-6000):])
		}
	})
	return p
}
