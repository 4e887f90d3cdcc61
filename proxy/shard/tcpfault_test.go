package shard

import (
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tcp"
)

// faulty is a bench whose listener has a TCP fault.
func faulty(t *testing.T, f listen.Fault) (*bench, *stats.TCPFault) {
	b := full(t)
	f.Stats = &stats.TCPFault{}
	b.rt.Listeners[0].Chains[0].Gates = []listen.Gate{&f}
	return b, f.Stats
}

// A connection that is refused sees a reset before it has said anything.
func TestTCPFaultRefuses(t *testing.T) {
	b, set := faulty(t, listen.Fault{Refuse: 100})
	p := b.dial()
	b.Step()
	if !p.Broken || b.Open() != 0 || set.Refused.Value() != 1 {
		t.Errorf("broken %v, %d connections are open, %d were refused; want a reset", p.Broken, b.Open(), set.Refused.Value())
	}
	if got := b.log.last(); !strings.Contains(got, " FI tcp_fault_refused ") {
		t.Errorf("the log says %q", got)
	}
}

// A connection that is reset has as many bytes through as it may, in both directions together, and not one more.
func TestTCPFaultResets(t *testing.T) {
	request := get("/direct")
	for _, after := range []int{0, 10, len(request), len(request) + 20} {
		b, set := faulty(t, listen.Fault{Reset: 100, After: after})
		p := b.dial()
		p.WriteString(request)
		b.Step()
		got := p.Take()
		if want := max(0, after-len(request)); len(got) != want || !p.Broken || b.Open() != 0 || set.Resets.Value() != 1 {
			t.Errorf("after %d bytes: got %d of the answer, broken %v; want %d and a reset", after, len(got), p.Broken, want)
		}
	}
}

// The logs of a TCP proxy and of its listener say of a reset that it was ours, and how many bytes got through.
func TestTCPFaultResetIsOurs(t *testing.T) {
	b, _ := faulty(t, listen.Fault{Reset: 100, After: 5})
	format, err := access.Compile("%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS(CLOSE)% %DOWNSTREAM_DETECTED_CLOSE_TYPE% %DOWNSTREAM_LOCAL_CLOSE_REASON% %BYTES_RECEIVED% %BYTES_SENT%")
	if err != nil {
		t.Fatal(err)
	}
	lines := &logLine{format: format}
	chain := &listen.Chain{Name: "tcp", Filter: &tcp.Config{StatPrefix: "t", Cluster: "app", Logs: []listen.Log{lines}}, Gates: b.rt.Listeners[0].Chains[0].Gates}
	b.rt.Listeners[0] = clone(b, chain, "2")
	b.rt.Listeners[0].Logs = []listen.Log{lines}
	if err := b.Apply(b.rt); err != nil {
		t.Fatal(err)
	}
	b.Handle(app1, func(p *drive.Pipe) { p.WriteString("abc") })
	b.endpoints("app", app1)
	p := b.dial()
	p.WriteString("abc")
	b.Step()
	if got := p.Take(); got != "ab" || !p.Broken {
		t.Errorf("the client got %q, broken %v; want two bytes and a reset", got, p.Broken)
	}
	if len(lines.lines) != 2 {
		t.Fatalf("the logs say %q, want two lines", lines.lines)
	}
	for _, line := range lines.lines {
		if !strings.HasPrefix(line, "FI tcp_fault_reset;downstream_local_reset{received=3,sent=2,age=0ms}") || !strings.HasSuffix(line, " LocalReset tcp_fault_reset 3 2") {
			t.Errorf("a log says %q", line)
		}
	}
}

// A connection that waits is served after that, as if it had come then; if its client goes, that is all.
func TestTCPFaultDelays(t *testing.T) {
	b, set := faulty(t, listen.Fault{Delay: 100, Wait: 300 * time.Millisecond})
	p := b.dial()
	p.WriteString(get("/direct"))
	b.Advance(200 * time.Millisecond)
	if got := p.Take(); got != "" {
		t.Errorf("the client got %q after 200 ms, want to wait for 300", got)
	}
	b.Advance(200 * time.Millisecond)
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 503 ") || set.Delayed.Value() != 1 {
		t.Errorf("the client got %q", got)
	}
	q := b.dial()
	b.Step()
	q.Reset()
	b.Advance(time.Second)
	if b.Open() != 1 {
		t.Errorf("%d connections are open, want that of the first client", b.Open())
	}
}

// A share of connections is a share.
func TestTCPFaultShare(t *testing.T) {
	b, set := faulty(t, listen.Fault{Refuse: 25})
	var pipes []*drive.Pipe
	for range 2000 {
		pipes = append(pipes, b.dial())
	}
	b.Step()
	if n := set.Refused.Value(); n < 400 || n > 600 || b.Open() != len(pipes)-int(n) {
		t.Errorf("%d of 2000 were refused, %d are open; want about 500", n, b.Open())
	}
}

// What a stream's log says when its connection is cut is that we did it: in the middle of a request, of an answer, over either
// version of HTTP. The listener's log says it too, and the connection counts as one that ended from here.
func TestTCPFaultUnderHTTPIsOurs(t *testing.T) {
	format, err := access.Compile("%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DOWNSTREAM_DETECTED_CLOSE_TYPE% %DOWNSTREAM_LOCAL_CLOSE_REASON%")
	if err != nil {
		t.Fatal(err)
	}
	closing, err := access.Compile("%RESPONSE_CODE_DETAILS(CLOSE)%")
	if err != nil {
		t.Fatal(err)
	}
	request := get("/direct")
	for _, test := range []struct {
		name  string
		after int
		two   bool
	}{
		{"in a request's head", 10, false},
		{"behind the request", len(request), false},
		{"in the answer", len(request) + 20, false},
		{"HTTP/2, behind the request", 120, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
			b.endpoints("app", app1)
			b.Handle(app1, func(p *drive.Pipe) { p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort") })
			chain := b.rt.Listeners[0].Chains[0]
			f := &listen.Fault{Reset: 100, After: test.after, Stats: &stats.TCPFault{}}
			chain.Gates = []listen.Gate{f}
			lines, ends, listener := &logLine{format: format}, &logLine{format: closing}, &logLine{format: format}
			b.config.Logs = []listen.Log{lines, ends}
			b.rt.Listeners[0].Logs = []listen.Log{listener}
			p := b.Dial("in", client, local)
			if test.two {
				c := newPeer2(p, false)
				c.post(1, "/direct")
				c.data(1, []byte(strings.Repeat("more ", 100)), false)
			} else {
				p.WriteString(request)
			}
			b.Step()
			if !p.Broken || b.Open() != 0 {
				t.Fatalf("broken %v, %d connections are open; want a reset", p.Broken, b.Open())
			}
			const want = "FI tcp_fault_reset LocalReset tcp_fault_reset"
			if got := lines.last(); got != want || len(lines.lines) != 1 {
				t.Errorf("the stream's log says %q", lines.lines)
			}
			if got := listener.last(); got != want || len(listener.lines) != 1 {
				t.Errorf("the listener's log says %q", listener.lines)
			}
			if got := ends.last(); !strings.HasPrefix(got, "tcp_fault_reset;downstream_local_reset{") {
				t.Errorf("how it has ended is told by %q", got)
			}
			st := b.config.Stats
			if here, there := st.DownstreamCxDestroyLocalActiveRq.Value(), st.DownstreamCxDestroyRemoteActiveRq.Value(); here != 1 || there != 0 {
				t.Errorf("%d connections with requests ended from here and %d from there, want 1 and 0", here, there)
			}
		})
	}
}
