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
	"syscall"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

const (
	maxPush = 300.0 // ms
	askWait = 5 * time.Millisecond
)

// marker is a rule that each proxy answers by itself, so that what it holds is
// seen by asking it from inside its own network. The body is the rule's number.
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

// push measures from the save of a file to the rule in force in every proxy.
func (b *bench) push() {
	if find("nsenter") == "" {
		b.need("nsenter (util-linux)", "a saved VirtualService")
	}
	dir := b.temp()
	if err := os.CopyFS(dir, os.DirFS(mesh.Samples(b, "bookinfo"))); err != nil {
		b.Fatalf("%v", err)
	}
	if err := addResource(filepath.Join(dir, "kustomization.yaml"), "bench.yaml"); err != nil {
		b.Fatalf("%v", err)
	}
	b.save(dir, 0)
	b.Logf("push: starting a mesh")
	m := mesh.New(b, mesh.Options{Name: "bench"})
	b.starting.Lock()
	m.Start(mesh.Options{Paths: []string{dir}})
	b.starting.Unlock()
	if m.Up.Code != 0 {
		b.Fatalf("malla up: %s\n%s", m.Up, m.Log())
	}
	seen := make(chan sighting, 1024)
	proxies := b.watchAll(m, seen)
	b.everywhere(0, proxies, seen)
	var times series
	for n := 1; n <= b.rounds(20, 3); n++ {
		saved := b.save(dir, n)
		took := b.everywhere(n, proxies, seen).Sub(saved)
		times = append(times, float64(took)/float64(time.Millisecond))
		// Not in step with anybody's timers, and not upon what is still being tidied.
		mesh.Pause(200*time.Millisecond + time.Duration(n*7)*time.Millisecond)
	}
	b.report.add(line{
		what: "a saved VirtualService in force in every proxy", value: times.median(), must: maxPush, unit: " ms", measured: true,
		spread: times.spread(), how: fmt.Sprintf("median of %d, %d proxies", len(times), proxies),
	})
	b.report.notes = append(b.report.notes, fmt.Sprintf("push: from the rename of a new file over the old one to the last proxy's first answer under the new rule. "+
		"It is observed by requests: in the network namespace of every sidecar (and at the gateway's port on this machine) a process asks for a path that the rule "+
		"answers in the proxy itself (directResponse), %v after the answer before, so a value holds up to that wait and one request too much, and the load of %d such processes.", askWait, proxies))
}

// save replaces the rule's file as editors do.
func (b *bench) save(dir string, n int) time.Time {
	next := filepath.Join(dir, ".bench.yaml.new")
	if err := os.WriteFile(next, fmt.Appendf(nil, marker, n), 0o644); err != nil {
		b.Fatalf("%v", err)
	}
	now := time.Now()
	if err := os.Rename(next, filepath.Join(dir, "bench.yaml")); err != nil {
		b.Fatalf("%v", err)
	}
	return now
}

// addResource names one more file in a kustomization whose last list is its
// resources.
func addResource(kustomization, name string) error {
	f, err := os.OpenFile(kustomization, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "- %s\n", name)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// A sighting says when a proxy first answered with a value.
type sighting struct {
	who, value string
	at         time.Time
}

// everywhere waits until each proxy has answered with n, and returns when the last
// one did.
func (b *bench) everywhere(n, proxies int, seen <-chan sighting) (last time.Time) {
	at := map[string]bool{}
	deadline := time.After(20 * time.Second)
	for len(at) < proxies {
		select {
		case s := <-seen:
			if s.value != strconv.Itoa(n) || at[s.who] {
				continue
			}
			at[s.who] = true
			if s.at.After(last) {
				last = s.at
			}
		case <-deadline:
			b.Fatalf("rule %d: in force in %d of %d proxies after 20 s", n, len(at), proxies)
		}
	}
	return last
}

// watchAll watches every proxy of a mesh and returns how many there are.
func (b *bench) watchAll(m *mesh.Mesh, seen chan<- sighting) (proxies int) {
	vip := m.Field("service/reviews", ".spec.clusterIP")
	for _, p := range m.Tree() {
		switch {
		case p.Is("proxy", "run", "--type", "sidecar"):
			b.watch(p.PID, vip+":9080", seen)
			proxies++
		case p.Is("proxy", "run"):
			b.watch(0, fmt.Sprintf("127.0.0.1:%d", m.Port(80)), seen)
			proxies++
		}
	}
	return proxies
}

// envProbe makes this program a probe of the address that it names.
const envProbe = "MALLA_BENCH_PROBE"

// watch asks a proxy from inside the network of the process pid (0: this one) and
// reports changes of the answer.
func (b *bench) watch(pid int, addr string, seen chan<- sighting) {
	args := []string{b.self()}
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
			if at, value, ok := parseSighting(lines.Text()); ok {
				seen <- sighting{strconv.Itoa(pid), value, at}
			}
		}
	}()
}

// self is this program, which is also its own helper processes.
func (b *bench) self() string {
	path, err := os.Executable()
	if err != nil {
		b.Fatalf("%v", err)
	}
	return path
}

// probe is the process that watch starts: it prints a line for each new answer.
func probe(addr string) {
	c := &http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}}
	last := ""
	for ; ; mesh.Pause(askWait) {
		a, err := mesh.Get(c, "http://"+addr+"/bench", "host: reviews.default.svc.cluster.local")
		if err != nil || a.Body == last || a.Status != http.StatusOK {
			continue
		}
		last = a.Body
		if _, err := fmt.Println(formatSighting(time.Now(), last)); err != nil {
			return
		}
	}
}

// formatSighting writes the wall clock, which the processes of a machine share.
func formatSighting(at time.Time, value string) string {
	return strconv.FormatInt(at.UnixNano(), 10) + " " + value
}

func parseSighting(text string) (at time.Time, value string, ok bool) {
	var nanos int64
	if _, err := fmt.Sscanf(text, "%d %s", &nanos, &value); err != nil {
		return time.Time{}, "", false
	}
	return time.Unix(0, nanos), value, true
}
