package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// A proxy is one that may be on this machine.
type proxy struct {
	name, config string
	program      string // empty: it is not
	args         func(config string, workers int) []string
}

// proxies that can be measured, with the one number of workers that each is told
// in its own way.
func (b *bench) proxies() []proxy {
	workers := strconv.Itoa
	return []proxy{
		{malla, "envoy.yaml", b.mallaProxy(), func(c string, n int) []string { return []string{"-c", c, "--concurrency", workers(n)} }},
		{envoy, "envoy.yaml", findEnvoy(mesh.Root(b)), func(c string, n int) []string {
			return []string{"-c", c, "--concurrency", workers(n), "--use-dynamic-base-id", "--log-level", "error"}
		}},
		{nginx, "nginx.conf", find("nginx"), func(c string, _ int) []string { return []string{"-c", c, "-p", filepath.Dir(c)} }},
		{haproxy, "haproxy.cfg", find("haproxy"), func(c string, _ int) []string { return []string{"-db", "-f", c} }},
	}
}

// nginxModules is where Debian keeps nginx' TCP proxy.
const nginxModules = "/usr/lib/nginx/modules"

// able reports whether p is here and can do w.
func (b *bench) able(p proxy, w *workload) bool {
	if !slices.Contains(w.peers, p.name) {
		return false
	}
	if p.program == "" {
		b.Logf("%s is not on this machine", p.name)
		return false
	}
	if p.name == nginx && w.way[0].in == tcp {
		if _, err := os.Stat(nginxModules + "/ngx_stream_module.so"); err != nil {
			b.Logf("nginx' stream module is not on this machine")
			return false
		}
	}
	return true
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

// mallaProxy is malla-proxy: beside the binary under test, or built once.
func (b *bench) mallaProxy() string {
	if b.built != "" {
		return b.built
	}
	if bin := os.Getenv("MALLA_BIN"); bin != "" {
		p := filepath.Join(filepath.Dir(bin), "malla-proxy")
		if _, err := os.Stat(p); err == nil {
			b.built = p
			return p
		}
	}
	b.Logf("building malla-proxy")
	p := filepath.Join(b.home, "malla-proxy")
	if out, err := exec.Command("go", "build", "-o", p, "github.com/mallamesh/malla/cmd/malla-proxy").CombinedOutput(); err != nil {
		b.Fatalf("build cmd/malla-proxy: %v\n%s", err, out)
	}
	b.built = p
	return p
}

// A server is a process that is measured or that answers, with those below it.
type server struct {
	pid  int
	stop func()
}

// tree is the server's processes. nginx has its worker only a little after it listens.
func (s *server) tree() []mesh.Process { return below(s.pid, mesh.Processes()) }

// start runs a server in a process group of its own and waits until it listens.
func (b *bench) start(ports []int, cmd *exec.Cmd) *server {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.Fatalf("%v", err)
	}
	ended := false
	stop := func() {
		if !ended {
			ended = true
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
		}
	}
	b.Cleanup(stop)
	for _, port := range ports {
		if _, err := mesh.Wait(30*time.Second, func() error {
			c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if err == nil {
				c.Close()
			}
			return err
		}); err != nil {
			stop() // so that nobody writes to said any more
			b.Fatalf("%s does not listen: %v\n%s", cmd.Path, err, said.String())
		}
	}
	return &server{pid: cmd.Process.Pid, stop: stop}
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
