package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// A hop is a proxy that is measured, with one worker.
type hop struct {
	name, version string
	config        string // its file in testdata
	args          func(program, config string) []string
	program       string // empty: not on this machine

	pid      int
	port     int
	micros   []float64 // CPU microseconds per request, by round
	rate     []float64 // requests per second
	latency  string    // of the last round: 50 % and 99 %
	resident float64   // MB after the last round
}

func candidates(b *bench) []hop {
	envoy := ""
	for _, c := range []string{os.Getenv("MALLA_ENVOY"), filepath.Join(mesh.Root(b), ".cache", "envoy", "bin", "envoy"), find("envoy")} {
		if _, err := os.Stat(c); c != "" && err == nil {
			envoy = c
			break
		}
	}
	return []hop{
		{name: "malla-proxy", config: "envoy.yaml", program: b.proxy(), args: func(p, c string) []string { return []string{p, "-c", c, "--concurrency", "1"} }},
		{name: "Envoy", config: "envoy.yaml", program: envoy, args: func(p, c string) []string {
			return []string{p, "-c", c, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"}
		}},
		{name: "nginx", config: "nginx.conf", program: find("nginx"), args: func(p, c string) []string { return []string{p, "-c", c, "-p", filepath.Dir(c)} }},
		{name: "HAProxy", config: "haproxy.cfg", program: find("haproxy"), args: func(p, c string) []string { return []string{p, "-db", "-f", c} }},
	}
}

func find(name string) string {
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	return ""
}

// proxy is malla-proxy: beside the binary under test, or built now.
func (b *bench) proxy() string {
	if bin := os.Getenv("MALLA_BIN"); bin != "" {
		if p := filepath.Join(filepath.Dir(bin), "malla-proxy"); exists(p) {
			return p
		}
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	p := filepath.Join(dir, "malla-proxy")
	if out, err := exec.Command("go", "build", "-o", p, "github.com/mallamesh/malla/cmd/malla-proxy").CombinedOutput(); err != nil {
		b.Fatalf("build cmd/malla-proxy: %v\n%s", err, out)
	}
	return p
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// need says that a tool is missing: an error in CI.
func (b *bench) need(what string) {
	if os.Getenv("CI") == "true" {
		b.Fatalf("%s is missing; make tools installs it", what)
	}
	b.Logf("%s is missing, so the proxies are not measured; make tools installs it", what)
	panic(stopped{})
}

// hop measures the processor time of one request through one proxy.
func (b *bench) hop() {
	wrk, nginx := find("wrk"), find("nginx")
	if wrk == "" {
		b.need("wrk")
	}
	if nginx == "" {
		b.need("nginx")
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	_ = os.Chmod(dir, 0o755) // nginx' worker is somebody else
	backend := mesh.FreePort(b)
	b.start(dir, "backend.conf", backend, 0, func(c string) []string { return []string{nginx, "-c", c, "-p", dir} })

	var list []hop
	for _, h := range candidates(b) {
		if h.program == "" {
			b.Logf("%s is not on this machine", h.name)
			continue
		}
		if h.version = versionOf(h.program); h.version == "" {
			h.version = "this commit"
		}
		h.port = mesh.FreePort(b)
		sub := filepath.Join(dir, h.name)
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatalf("%v", err)
		}
		h.pid = b.start(sub, h.config, h.port, backend, func(c string) []string { return h.args(h.program, c) })
		list = append(list, h)
	}
	seconds := 5
	if b.quick {
		seconds = 1
	}
	for range b.rounds(5) {
		for i := range list {
			b.load(wrk, &list[i], seconds)
		}
	}
	b.hops = list
	malla, envoy := b.find("malla-proxy"), b.find("Envoy")
	if malla == nil || envoy == nil {
		b.need("the real Envoy")
	}
	b.promise("HTTP/1.1 hop, processor time per request, of Envoy's", median(malla.micros)/median(envoy.micros), maxHop, "",
		fmt.Sprintf("%.1f us against %.1f us; one worker, 64 connections, medians of %d", median(malla.micros), median(envoy.micros), len(malla.micros)))
}

func (b *bench) find(name string) *hop {
	for i := range b.hops {
		if b.hops[i].name == name {
			return &b.hops[i]
		}
	}
	return nil
}

// start fills a configuration in and runs a server with it.
func (b *bench) start(dir, config string, port, backend int, args func(string) []string) int {
	text, err := os.ReadFile(filepath.Join(mesh.Root(b), "test", "bench", "testdata", config))
	if err != nil {
		b.Fatalf("%v", err)
	}
	path := filepath.Join(dir, config)
	filled := strings.NewReplacer("{{port}}", strconv.Itoa(port), "{{backend}}", strconv.Itoa(backend), "{{dir}}", dir).Replace(string(text))
	if err := os.WriteFile(path, []byte(filled), 0o644); err != nil {
		b.Fatalf("%v", err)
	}
	a := args(path)
	cmd := exec.Command(a[0], a[1:]...)
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
		b.Fatalf("%s does not listen: %v\n%s", a[0], err, said.String())
	}
	return cmd.Process.Pid
}

// versionOf asks a program for its version.
func versionOf(program string) string {
	for _, flag := range []string{"--version", "-v"} {
		out, err := exec.Command(program, flag).CombinedOutput()
		if v := version.FindString(string(out)); err == nil && v != "" {
			return v
		}
	}
	return ""
}

var (
	version  = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)
	requests = regexp.MustCompile(`(\d+) requests in ([\d.]+)(s|m)`)
	halfWay  = regexp.MustCompile(`(?m)^ +(50|99)% +(\S+)$`)
	failures = regexp.MustCompile(`(?m)^ *(Socket errors|Non-2xx).*$`)
)

// load makes one round of load on one candidate.
func (b *bench) load(wrk string, h *hop, seconds int) {
	url := fmt.Sprintf("http://127.0.0.1:%d/", h.port)
	run := func(d string) string {
		out, err := exec.Command(wrk, "-t1", "-c64", "-d"+d, "--latency", url).CombinedOutput()
		if err != nil {
			b.Fatalf("wrk: %v\n%s", err, out)
		}
		if bad := failures.FindString(string(out)); bad != "" {
			b.Errorf("%s: %s", h.name, strings.TrimSpace(bad))
		}
		return string(out)
	}
	run("1s")
	family := family(h.pid)
	before := mesh.CPU(family)
	start := time.Now()
	out := run(fmt.Sprintf("%ds", seconds))
	took := time.Since(start)
	used := mesh.CPU(family) - before
	m := requests.FindStringSubmatch(out)
	if m == nil {
		b.Fatalf("wrk said:\n%s", out)
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	h.micros = append(h.micros, float64(used.Microseconds())/n)
	h.rate = append(h.rate, n/took.Seconds())
	var l []string
	for _, p := range halfWay.FindAllStringSubmatch(out, -1) {
		l = append(l, p[2])
	}
	h.latency = strings.Join(l, " / ")
	if pss, err := mesh.PSS(family); err == nil {
		h.resident = float64(pss) / 1e6
	}
	fmt.Fprintf(os.Stderr, "  %-12s %7.1f us  %8.0f requests/s  %s\n", h.name, h.micros[len(h.micros)-1], h.rate[len(h.rate)-1], h.latency)
}

// family is a process and those below it.
func family(pid int) []mesh.Process {
	all := mesh.Processes()
	set := []int{pid}
	var out []mesh.Process
	for range 3 { // generations
		for _, p := range all {
			if slices.Contains(set, p.Parent) && !slices.Contains(set, p.PID) {
				set = append(set, p.PID)
			}
		}
	}
	for _, p := range all {
		if slices.Contains(set, p.PID) {
			out = append(out, p)
		}
	}
	return out
}
