package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// A load gives a contestant work for a while and tells what that took.
type load interface {
	needs() string // the program that makes it; empty: this one
	run(b *bench, w *workload, x *contestant, seconds float64) sample
	String() string // for the page
}

// wrk is wrk with as many connections of HTTP/1.1.
type wrk struct{ conns int }

func (wrk) needs() string { return "wrk" }

func (l wrk) String() string { return fmt.Sprintf("`wrk -t1 -c%d`", l.conns) }

func (l wrk) run(b *bench, w *workload, x *contestant, seconds float64) sample {
	args := []string{"-t1", fmt.Sprintf("-c%d", l.conns), fmt.Sprintf("-d%ds", int(math.Ceil(seconds))), "--latency"}
	path := smallPath
	if len(w.sizes) > 0 {
		s := w.sizes[x.size]
		if s.host != "" {
			args = append(args, "-H", "Host: "+s.host)
		}
		if s.path != "" {
			path = s.path
		}
	}
	return x.spending(func() (float64, sample) {
		l := told(b, x, parseWrk, find("wrk"), append(args, x.url(w, path))...)
		return float64(l.requests), sample{p50: l.p50, p99: l.p99}
	})
}

// h2load is h2load with as many connections of HTTP/2 and streams on each.
type h2load struct {
	conns, streams int
	path           string // default: a small body
	grpc           bool   // calls that carry a message of 200 bytes
	rate           int    // requests a second on each connection; 0: as many as go
}

func (h2load) needs() string { return "h2load" }

func (l h2load) args() []string {
	args := []string{"-t1", fmt.Sprintf("-c%d", l.conns), fmt.Sprintf("-m%d", l.streams)}
	if l.rate > 0 {
		args = append(args, fmt.Sprintf("--rps=%d", l.rate))
	}
	if l.grpc {
		args = append(args, "-H", "content-type: application/grpc", "-H", "te: trailers")
	}
	return args
}

func (l h2load) String() string {
	var s strings.Builder
	s.WriteString("`h2load")
	for _, a := range l.args() {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		s.WriteString(" " + a)
	}
	s.WriteString("`")
	if l.grpc {
		s.WriteString(" with a message of 200 bytes")
	}
	return s.String()
}

func (l h2load) run(b *bench, w *workload, x *contestant, seconds float64) sample {
	args := append(l.args(), "-D", strconv.Itoa(int(seconds*1000))+"ms")
	if l.grpc {
		args = append(args, "-d", b.message(x.dir, append([]byte{0, 0, 0, 0, 195}, make([]byte, 195)...)))
	}
	if len(w.sizes) > 0 {
		for _, h := range w.sizes[x.size].headers {
			args = append(args, "-H", h)
		}
		if body := w.sizes[x.size].body; body != "" {
			args = append(args, "-d", b.message(x.dir, []byte(body)))
		}
	}
	path := l.path
	if path == "" {
		path = smallPath
	}
	return x.spending(func() (float64, sample) {
		n := told(b, x, parseH2load, find("h2load"), append(args, x.url(w, path))...)
		return float64(n), nil
	})
}

// message writes the body of requests.
func (b *bench) message(dir string, body []byte) string {
	path := filepath.Join(dir, "message")
	if err := os.WriteFile(path, body, 0o644); err != nil {
		b.Fatalf("%v", err)
	}
	return path
}

func (x *contestant) url(w *workload, path string) string {
	return fmt.Sprintf("http://127.0.0.1:%d%s", x.port(w), path)
}

// port is that of the listener which the load goes to.
func (x *contestant) port(w *workload) int {
	entry := w.way[0].name
	if len(w.sizes) > 0 && w.sizes[x.size].entry != "" && !x.bare {
		entry = w.sizes[x.size].entry
	}
	return x.ports[entry]
}

// told runs a program and reads what it says.
func told[T any](b *bench, x *contestant, parse func(string) (T, error), program string, args ...string) T {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %s: %v\n%s", x.name, program, err, out)
	}
	v, err := parse(string(out))
	if err != nil {
		b.Fatalf("%s: %v", x.name, err)
	}
	return v
}

// helper is a client that this program is itself, as a process of its own.
type helper struct {
	kind, curve string
	conns, rate int
}

func (helper) needs() string { return "" }

func (l helper) String() string {
	s := helpers[l.kind].does + fmt.Sprintf(", %d connections", l.conns)
	if l.rate > 0 {
		s += fmt.Sprintf(", %d a second", l.rate)
	}
	return s
}

func (l helper) run(b *bench, w *workload, x *contestant, seconds float64) sample {
	spec := helperSpec{Kind: l.kind, Addr: fmt.Sprintf("127.0.0.1:%d", x.port(w)), Conns: l.conns, Rate: l.rate,
		Seconds: seconds, Certificates: x.dir, Curve: l.curve}
	return x.spending(func() (float64, sample) {
		out, err := b.helperCommand(spec).Output()
		if err != nil {
			b.Fatalf("%s: %s: %v", x.name, l.kind, err)
		}
		var r helperResult
		if err := json.Unmarshal(out, &r); err != nil {
			b.Fatalf("%s: %s: %v", x.name, l.kind, err)
		}
		if r.Pieces == 0 {
			b.Fatalf("%s: %s: nothing was done", x.name, l.kind)
		}
		if l.rate > 0 {
			return r.Pieces, sample{p50: r.P50, p99: r.P99}
		}
		return r.Pieces, nil
	})
}

// hold measures memory: at rest, then with idle connections that have had one
// request each, then with idle TLS connections on top.
type hold struct{ plain, tls int }

func (hold) needs() string { return "" }

func (l hold) String() string {
	return fmt.Sprintf("resident memory (VmRSS) of new processes, then with %d idle connections that had one request each, then with %d of mutual TLS more", l.plain, l.tls)
}

// settle is how long memory is left alone before it is looked at.
const settle = time.Second

func (l hold) run(b *bench, _ *workload, x *contestant, _ float64) sample {
	look := func() float64 {
		mesh.Pause(settle)
		bytes, err := resident(x.server.tree())
		if err != nil {
			b.Fatalf("%s: %v", x.name, err)
		}
		return float64(bytes)
	}
	n := func(n int) int {
		if b.short {
			return n / 4
		}
		return n
	}
	atRest := look()
	done := b.holding(helperSpec{Kind: "hold", Addr: fmt.Sprintf("127.0.0.1:%d", x.ports["plain"]), Conns: n(l.plain)})
	plain := look()
	doneTLS := b.holding(helperSpec{Kind: "hold", Addr: fmt.Sprintf("127.0.0.1:%d", x.ports["tls"]), Conns: n(l.tls), Certificates: x.dir})
	tls := look()
	for _, f := range []func() error{done, doneTLS} {
		if err := f(); err != nil {
			b.Fatalf("%s: %v", x.name, err)
		}
	}
	return sample{
		idle:     atRest / 1e6,
		perPlain: (plain - atRest) / float64(n(l.plain)) / 1e3,
		perTLS:   (tls - plain) / float64(n(l.tls)) / 1e3,
	}
}
