package main

import (
	"bytes"
	"embed"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// configs are those of the candidates and of the backend; {{port}}, {{backend}}
// and {{dir}} are filled in.
//
//go:embed testdata
var configs embed.FS

// A hop is a proxy that is measured, with one worker, or the backend itself.
type hop struct {
	name, version string
	direct        bool
	pid, port     int

	// By round: processor time per request, requests per second, latencies in ms,
	// memory in MB.
	micros, rate, p50, p99, memory series
}

// A candidate is a proxy that may be on this machine.
type candidate struct {
	name, config string
	program      string // empty: it is not
	args         func(config string) []string
}

func (b *bench) candidates() []candidate {
	return []candidate{
		{"malla-proxy", "envoy.yaml", b.proxy(), func(c string) []string { return []string{"-c", c, "--concurrency", "1"} }},
		{"Envoy", "envoy.yaml", findEnvoy(mesh.Root(b)), func(c string) []string {
			return []string{"-c", c, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"}
		}},
		{"nginx", "nginx.conf", find("nginx"), func(c string) []string { return []string{"-c", c, "-p", filepath.Dir(c)} }},
		{"HAProxy", "haproxy.cfg", find("haproxy"), func(c string) []string { return []string{"-db", "-f", c} }},
	}
}

// find looks for a program also where Debian keeps servers.
func find(name string) string {
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	return ""
}

// findEnvoy prefers the one that scripts/tools has installed.
func findEnvoy(root string) string {
	for _, p := range []string{filepath.Join(root, ".cache", "envoy", "bin", "envoy"), os.Getenv("MALLA_ENVOY")} {
		if _, err := os.Stat(p); p != "" && err == nil {
			return p
		}
	}
	return find("envoy")
}

// proxy is malla-proxy: beside the binary under test, or built now.
func (b *bench) proxy() string {
	if bin := os.Getenv("MALLA_BIN"); bin != "" {
		p := filepath.Join(filepath.Dir(bin), "malla-proxy")
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	p := filepath.Join(b.temp(), "malla-proxy")
	b.Logf("building malla-proxy")
	if out, err := exec.Command("go", "build", "-o", p, "github.com/mallamesh/malla/cmd/malla-proxy").CombinedOutput(); err != nil {
		b.Fatalf("build cmd/malla-proxy: %v\n%s", err, out)
	}
	return p
}

// startHops starts the backend and every candidate that is there.
func (b *bench) startHops() (list []*hop) {
	dir := b.temp()
	if err := os.Chmod(dir, 0o755); err != nil { // nginx' worker may be somebody else
		b.Fatalf("%v", err)
	}
	backend := b.startBackend(dir)
	for _, c := range b.candidates() {
		if c.program == "" {
			b.Logf("%s is not on this machine", c.name)
			continue
		}
		sub := filepath.Join(dir, c.name)
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatalf("%v", err)
		}
		h := &hop{name: c.name, version: versionOf(c.program), port: mesh.FreePort(b)}
		if c.name == "malla-proxy" {
			h.version = b.report.machine.commit
		}
		config := b.fill(sub, c.config, h.port, backend.port)
		h.pid = b.start(h.port, exec.Command(c.program, c.args(config)...))
		list = append(list, h)
	}
	return append(list, backend)
}

// small is the body of the backend; testdata/backend.conf has the same.
const small = "hello from the backend, this is a small body\n"

// envBackend makes this program a backend at the address that it names.
const envBackend = "MALLA_BENCH_BACKEND"

// startBackend starts the one backend of all: nginx, or else this program.
func (b *bench) startBackend(dir string) *hop {
	h := &hop{name: "direct", direct: true, port: mesh.FreePort(b)}
	if nginx := find("nginx"); nginx != "" {
		h.version = "nginx " + versionOf(nginx)
		h.pid = b.start(h.port, exec.Command(nginx, "-c", b.fill(dir, "backend.conf", h.port, 0), "-p", dir))
		return h
	}
	h.version = "net/http"
	cmd := exec.Command(b.self())
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=127.0.0.1:%d", envBackend, h.port), "GOMAXPROCS=1")
	h.pid = b.start(h.port, cmd)
	return h
}

func serveBackend(addr string) {
	s := http.Server{Addr: addr, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(small))
	})}
	fmt.Fprintln(os.Stderr, "bench: backend:", s.ListenAndServe())
	os.Exit(1)
}

// fill writes a configuration into dir and returns its path.
func (b *bench) fill(dir, config string, port, backend int) string {
	text, err := configs.ReadFile("testdata/" + config)
	if err != nil {
		b.Fatalf("%v", err)
	}
	filled := strings.NewReplacer("{{port}}", strconv.Itoa(port), "{{backend}}", strconv.Itoa(backend), "{{dir}}", dir).Replace(string(text))
	path := filepath.Join(dir, config)
	if err := os.WriteFile(path, []byte(filled), 0o644); err != nil {
		b.Fatalf("%v", err)
	}
	return path
}

// start runs a server in a process group of its own and waits until it listens.
func (b *bench) start(port int, cmd *exec.Cmd) int {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	if _, err := mesh.Wait(15*time.Second, func() error {
		c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			c.Close()
		}
		return err
	}); err != nil {
		b.clean() // ends it, so that nobody writes to said any more
		b.Fatalf("%s does not listen: %v\n%s", cmd.Path, err, said.String())
	}
	return cmd.Process.Pid
}

var version = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

// versionOf asks a program for its version.
func versionOf(program string) string {
	for _, flag := range []string{"--version", "-v"} {
		out, err := exec.Command(program, flag).CombinedOutput()
		if v := version.FindString(string(out)); err == nil && v != "" {
			return v
		}
	}
	return "unknown"
}
