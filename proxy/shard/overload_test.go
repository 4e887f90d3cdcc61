package shard

import (
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/stats"
)

// pressed is a bench with an overload manager, whose one monitor is turned by hand.
type pressed struct {
	*bench
	m        *overload.Manager
	pressure float64
	ended    int // streams that were reset
	enough   int64
}

func (p *pressed) Pressure() (float64, error) { return p.pressure, nil }
func (p *pressed) Accept(bool)                {}
func (p *pressed) Rescale()                   { p.one.set.Rescale() }
func (p *pressed) Shrink(int64) bool          { return false }
func (p *pressed) Reset(least int, enough int64) int {
	if p.enough > 0 {
		enough = p.enough
	}
	n := reset(func(f func(*one)) { f(p.one) }, least, enough)
	p.ended += n
	return n
}

func newPressed(b *bench, a overload.Action) *pressed {
	p := &pressed{bench: b}
	p.Worker.Overload = &overload.State{}
	a.Name, a.Triggers = a.Kind.String(), []overload.Trigger{{Resource: "hand", From: 0.5, To: 0.9}}
	p.m = overload.New(overload.Config{Monitors: []overload.Named{{Name: "hand", Monitor: p}}, Actions: []overload.Action{a}, Account: 10}, p.Worker.Overload, p, stats.NewRegistry(false), slog.New(slog.DiscardHandler))
	return p
}

// press sets the pressure.
func (p *pressed) press(to float64) {
	p.pressure = to
	p.m.Refresh()
	p.Step()
}

// Times become shorter under pressure, for those who wait already too, and as long again after it.
func TestTimesFollowThePressure(t *testing.T) {
	floors := map[overload.Timer]overload.Floor{
		overload.ConnectionIdle: {Time: 2 * time.Second}, overload.StreamIdle: {Share: 0.1}, overload.ConnectionAge: {Time: 4 * time.Second}, overload.StreamFlush: {Time: time.Second},
	}
	for _, test := range []struct {
		what    string
		request string
		window  int
		full    time.Duration // without pressure
		least   time.Duration // with all of it
	}{
		{"a connection without a request", get("/direct"), 1 << 20, 60 * time.Second, 2 * time.Second},
		{"a stream", get("/raw/slow"), 1 << 20, 30 * time.Second, 3 * time.Second},
		{"a client that takes nothing", get("/raw"), 10, 20 * time.Second, time.Second},
	} {
		for _, pressure := range []float64{0, 0.95} {
			b := newPressed(full(t), overload.Action{Kind: overload.ReduceTimeouts, Timers: floors})
			b.config.IdleTimeout, b.config.StreamIdle, b.config.FlushTimeout = 60*time.Second, 30*time.Second, 20*time.Second
			p := b.dial()
			p.Window = test.window
			p.WriteString(test.request)
			b.Step()
			b.press(pressure)
			want := test.full
			if pressure > 0 {
				want = test.least
			}
			b.Advance(want - time.Second)
			if b.Open() != 1 {
				t.Errorf("%s, pressure %v: ended before its time, %v", test.what, pressure, want)
			}
			for range 3 { // times are looked at once a second, and an answer must go out
				b.Advance(time.Second)
			}
			p.Window = 1 << 20
			b.Step()
			if b.log.last(); b.Open() != 0 && !strings.Contains(p.Take(), "504") {
				t.Errorf("%s, pressure %v: is still there after %v", test.what, pressure, want)
			}
		}
	}
	b := newPressed(full(t), overload.Action{Kind: overload.ReduceTimeouts, Timers: floors})
	b.config.IdleTimeout, b.config.MaxAge = 60*time.Second, 40*time.Second
	b.config.DrainTimeout, b.config.DelayedClose = time.Millisecond, time.Millisecond
	b.do(get("/direct"))
	b.press(0.7) // half of the way
	b.press(0)
	b.Advance(38 * time.Second)
	if b.Open() != 1 {
		t.Error("the connection has ended, although the pressure is gone")
	}
	b.press(0.7)
	if b.Advance(time.Second); b.Open() != 0 {
		t.Error("a connection of 38 s is still there, want it to end after 22 s")
	}
}

// The largest streams are the first to go, whatever carries them, and small ones stay.
func TestLargestStreamsAreReset(t *testing.T) {
	b := newPressed(full(t), overload.Action{Kind: overload.ResetStreams})
	b.rt.Listeners[0].BufferLimit = 1 << 20
	sizes := map[string]int{"/raw/a": 100, "/raw/b": 30_000, "/raw/c": 600_000}
	b.answer = func(_ *bench, p *drive.Pipe, request string) {
		n := sizes[strings.Fields(request)[1]]
		p.WriteString("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + strings.Repeat("x", n))
	}
	clients := map[string]*drive.Pipe{}
	for path := range sizes {
		clients[path] = b.dial()
		clients[path].Window = 10
		clients[path].WriteString(get(path))
	}
	b.Step()
	if b.Open() != 3 {
		t.Fatalf("%d connections are open, want 3", b.Open())
	}
	b.press(0.51) // only what is above 128 KiB
	if b.Open() != 2 || b.ended != 1 {
		t.Errorf("light pressure: %d connections are open and %d streams were reset, want 2 and 1", b.Open(), b.ended)
	}
	b.press(0.95)
	if b.Open() != 1 || b.ended != 2 {
		t.Errorf("full pressure: %d connections are open and %d streams were reset, want 1 and 2", b.Open(), b.ended)
	}
	if got := b.log.last(); !strings.Contains(got, " OM ") {
		t.Errorf("the log says %s, want the flag OM", got)
	}
}

// What the process must free is one decision: the largest streams go, whichever shard they are on, and each shard does not free all of it.
func TestShardsResetTogether(t *testing.T) {
	for _, test := range []struct {
		what   string
		held   [][]int // of the streams of each shard
		enough int64
		left   []int // streams of each shard
	}{
		{"the largest is on the first", [][]int{{900_000, 200_000}, {300_000, 100_000}}, 500_000, []int{1, 2}},
		{"the largest is on the second", [][]int{{300_000, 200_000}, {900_000, 100_000}}, 500_000, []int{2, 1}},
		{"one of each", [][]int{{400_000, 50_000}, {600_000, 50_000}}, 900_000, []int{1, 1}},
		{"alike", [][]int{{400_000, 400_000}, {400_000, 400_000}}, 700_000, []int{0, 2}},
		{"all that is large", [][]int{{400_000, 500}, {300_000, 500}}, math.MaxInt64, []int{1, 1}},
		{"nothing is too much", [][]int{{400_000}, {300_000}}, 0, []int{1, 1}},
	} {
		shards := make([]*bench, len(test.held))
		for i, held := range test.held {
			b := full(t)
			b.rt.Listeners[0].BufferLimit = 1 << 20
			b.answer = func(_ *bench, p *drive.Pipe, request string) {
				n, _ := strconv.Atoi(strings.TrimPrefix(strings.Fields(request)[1], "/raw/"))
				p.WriteString("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + strings.Repeat("x", n))
			}
			for _, n := range held {
				p := b.dial()
				p.Window = 10
				p.WriteString(get("/raw/" + strconv.Itoa(n)))
			}
			b.Step()
			shards[i] = b
		}
		reset(func(f func(*one)) {
			for _, b := range shards {
				f(b.one)
			}
		}, 1000, test.enough)
		for i, b := range shards {
			b.Step()
			if b.Open() != test.left[i] {
				t.Errorf("%s: %d streams are left on shard %d, want %d", test.what, b.Open(), i, test.left[i])
			}
		}
	}
}

// No more streams are reset than it takes: what the largest held may do.
func TestNoMoreStreamsAreResetThanItTakes(t *testing.T) {
	b := newPressed(full(t), overload.Action{Kind: overload.ResetStreams})
	b.rt.Listeners[0].BufferLimit = 1 << 20
	sizes := map[string]int{"/raw/a": 300_000, "/raw/b": 200_000, "/raw/c": 900_000}
	b.answer = func(_ *bench, p *drive.Pipe, request string) {
		p.WriteString("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + strings.Repeat("x", sizes[strings.Fields(request)[1]]))
	}
	clients := map[string]*drive.Pipe{}
	for path := range sizes {
		clients[path] = b.dial()
		clients[path].Window = 10
		clients[path].WriteString(get(path))
	}
	b.Step()
	b.enough = 500_000
	b.press(0.95)
	if b.ended != 1 || b.Open() != 2 {
		t.Errorf("%d streams were reset and %d connections are open, want 1 and 2", b.ended, b.Open())
	}
	if got := b.log.last(); !strings.Contains(got, "/raw/c") {
		t.Errorf("the log says %s, want the one that held most", got)
	}
	b.press(0.95) // and again, as long as there is pressure
	if b.ended != 3 || b.Open() != 0 {
		t.Errorf("after another look %d streams were reset and %d connections are open, want 3 and 0", b.ended, b.Open())
	}
}

// A request that is held up before its answer has begun is told why it ends.
func TestRequestIsToldOfPressure(t *testing.T) {
	b := newPressed(full(t), overload.Action{Kind: overload.ResetStreams})
	var up *drive.Pipe
	b.Handle(app1, func(p *drive.Pipe) { up = p; p.Window = 10 })
	p := b.dial()
	p.WriteString("POST /raw HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\n" + strings.Repeat("x", 200_000))
	b.Step()
	if up == nil {
		t.Fatal("nobody has come to the host")
	}
	b.press(0.95)
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "\r\nretry-after: 1\r\n") || !strings.HasSuffix(got, "envoy overloaded") {
		t.Errorf("the client got %q, want 503 with retry-after", got)
	}
}

// Streams of HTTP/2 end one by one, and their connection goes on, unless it is the connection that takes nothing.
func TestLargestStreamsOfHTTP2(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		b := newTwo(t, cluster.Config{})
		pr := newPressed(b.bench, overload.Action{Kind: overload.ResetStreams})
		b.reply = func(p *peer2, stream uint32, head map[string]string) {
			p.headers(stream, false, ":status", "200")
			if head[":path"] == "/big" {
				p.data(stream, make([]byte, 60_000), false)
			}
		}
		c := b.client(http2.Setting{ID: http2.SettingInitialWindowSize, Val: map[bool]uint32{false: 100, true: 65535}[stuck]})
		if stuck {
			c.p.Window, c.p.OnData = 1000, nil
		}
		c.get(1, "/big")
		c.get(3, "/small")
		b.Step()
		pr.press(0.95)
		if pr.ended != 1 || (b.Open() == 0) != stuck {
			t.Errorf("stuck %v: %d were reset, want 1; %d connections are left", stuck, pr.ended, b.Open())
		}
	}
}
