package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// Promises of the project, for two cores.
const (
	maxUp        = 5.0   // seconds
	maxMemory    = 500.0 // MB
	maxIdle      = 3.0   // % of one core
	maxConfig    = 300.0 // ms
	maxHop       = 0.6   // of Envoy
	pollInterval = 5 * time.Millisecond
)

func (b *bench) rounds(n int) int {
	if b.quick {
		return 1
	}
	return n
}

// up measures from the start of the built binary to the first page.
func (b *bench) up() {
	var times []float64
	for range b.rounds(3) {
		m := mesh.New(b, mesh.Options{Name: "bench"})
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.Start(mesh.Options{Paths: []string{mesh.Samples(b, "bookinfo")}})
		}()
		c := mesh.Client(2 * time.Second)
		mesh.Until(b, 60*time.Second, "the first page", func() error {
			a, err := mesh.Get(c, m.URL("/productpage"))
			if err == nil {
				err = mesh.OK(a)
			}
			return err
		})
		times = append(times, time.Since(start).Seconds())
		<-done
		if m.Up.Code != 0 {
			b.Fatalf("malla up: %s", m.Up)
		}
		b.clean()
	}
	b.promise("up samples/bookinfo, start of the binary to first 200", median(times), maxUp, " s", fmt.Sprintf("median of %d", len(times)))
}

// idle measures memory and processor time of a mesh that nobody uses.
func (b *bench) idle() {
	m := mesh.Up(b, mesh.Options{Name: "bench", Paths: []string{mesh.Samples(b, "bookinfo")}})
	c := mesh.Client(5 * time.Second)
	for range 200 { // pages that every process needs to have worked once
		if _, err := mesh.Get(c, m.URL("/productpage")); err != nil {
			b.Fatalf("%v", err)
		}
	}
	c.CloseIdleConnections()
	mesh.Pause(3 * time.Second)
	tree := m.Tree()
	bytes, err := mesh.PSS(tree)
	if err != nil {
		b.Fatalf("memory: %v", err)
	}
	span := 10 * time.Second
	if b.quick {
		span = 2 * time.Second
	}
	before := mesh.CPU(tree)
	mesh.Pause(span)
	used := mesh.CPU(tree) - before
	b.promise("memory of all processes together (PSS)", float64(bytes)/1e6, maxMemory, " MB", "after 200 pages: "+byRole(tree))
	b.promise("processor time of the idle mesh, of one core", 100*used.Seconds()/span.Seconds(), maxIdle, " %", fmt.Sprintf("over %v", span))
}

// byRole tells where the memory is.
func byRole(tree []mesh.Process) string {
	roles := []struct {
		name  string
		words []string
	}{{"control plane", []string{"control", "run"}}, {"proxies", []string{"proxy", "run"}}, {"applications", []string{"sample"}},
		{"pods' process 1", []string{"local", "pod-init"}}, {"supervisor", []string{"local", "supervise"}}, {"parent", nil}}
	var parts []string
	for _, r := range roles {
		var own []mesh.Process
		for i, p := range tree {
			if r.words == nil && i == 0 || r.words != nil && p.Is(r.words...) {
				own = append(own, p)
			}
		}
		bytes, err := mesh.PSS(own)
		if err != nil {
			return err.Error()
		}
		parts = append(parts, fmt.Sprintf("%d %s %.0f MB", len(own), r.name, float64(bytes)/1e6))
	}
	return strings.Join(parts, ", ")
}

// marker answers in the proxy itself, so that what a proxy holds is seen by asking
// it, from inside its own network.
const marker = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bench}
spec:
  hosts: [reviews.default.svc.cluster.local]
  gateways: [mesh, bookinfo-gateway]
  http:
  - match: [{uri: {exact: /bench}}]
    directResponse: {status: 200, body: {string: "%d"}}
  - route: [{destination: {host: reviews.default.svc.cluster.local}}]
`

// config measures from the save of a file to the rule in force in every proxy.
func (b *bench) config() {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.CopyFS(dir, os.DirFS(mesh.Samples(b, "bookinfo"))); err != nil {
		b.Fatalf("%v", err)
	}
	list, err := os.OpenFile(filepath.Join(dir, "kustomization.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.Fatalf("%v", err)
	}
	fmt.Fprintln(list, "- bench.yaml")
	list.Close()
	save := func(n int) time.Time {
		if err := os.WriteFile(filepath.Join(dir, "bench.yaml"), fmt.Appendf(nil, marker, n), 0o644); err != nil {
			b.Fatalf("%v", err)
		}
		return time.Now()
	}
	save(0)
	m := mesh.Up(b, mesh.Options{Name: "bench", Paths: []string{dir}})
	vip := m.Field("service/reviews", ".spec.clusterIP")

	seen := make(chan sighting, 1024)
	proxies := 0
	for _, p := range m.Tree() {
		if p.Is("proxy", "run", "--type", "sidecar") {
			b.watch(p.PID, vip+":9080", seen)
			proxies++
		}
	}
	b.watch(0, fmt.Sprintf("127.0.0.1:%d", m.Port(80)), seen)
	proxies++
	everywhere := func(n int) time.Time {
		at := map[string]time.Time{}
		var last time.Time
		deadline := time.After(20 * time.Second)
		for len(at) < proxies {
			select {
			case s := <-seen:
				if _, known := at[s.who]; s.value == strconv.Itoa(n) && !known {
					if at[s.who] = s.at; s.at.After(last) {
						last = s.at
					}
				}
			case <-deadline:
				b.Fatalf("rule %d: in force in %d of %d proxies after 20 s", n, len(at), proxies)
			}
		}
		return last
	}
	everywhere(0)
	var times []float64
	for n := 1; n <= 20; n++ {
		saved := save(n)
		times = append(times, milliseconds(everywhere(n).Sub(saved)))
		mesh.Pause(200 * time.Millisecond)
	}
	b.promise("saved VirtualService in force in every proxy", median(times), maxConfig, " ms", fmt.Sprintf("median of %d, %d proxies, asked every %v", len(times), proxies, pollInterval))
}

// A sighting says when a proxy first answered with a value.
type sighting struct {
	who, value string
	at         time.Time
}

const envProbe = "MALLA_BENCH_PROBE"

// watch asks a proxy from inside the network of the process pid (0: this one) and
// reports changes of the answer.
func (b *bench) watch(pid int, addr string, seen chan<- sighting) {
	self, err := os.Executable()
	if err != nil {
		b.Fatalf("%v", err)
	}
	args := []string{self}
	if pid != 0 {
		args = append([]string{"nsenter", "-t", strconv.Itoa(pid), "-U", "-n", "--preserve-credentials"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), envProbe+"="+addr, "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatalf("watch a proxy: %v", err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			nanos, value, _ := strings.Cut(lines.Text(), " ")
			n, _ := strconv.ParseInt(nanos, 10, 64)
			seen <- sighting{strconv.Itoa(pid), value, time.Unix(0, n)}
		}
	}()
}

// probe is the process that watch starts: it prints a line for each new answer.
func probe(addr string) {
	c := &http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}}
	last := ""
	for ; ; mesh.Pause(pollInterval) {
		a, err := mesh.Get(c, "http://"+addr+"/bench", "host: reviews.default.svc.cluster.local")
		if err != nil || a.Body == last || a.Status != http.StatusOK {
			continue
		}
		last = a.Body
		if _, err := fmt.Println(time.Now().UnixNano(), last); err != nil {
			return
		}
	}
}
