package h2

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/header"
)

// A pair is a client and a server of ours that are joined in memory.
type pair struct{ client, server *side }

func newPair(co, so *Options) *pair {
	p := &pair{newSide(false, co), newSide(true, so)}
	p.client.quiet, p.server.quiet = true, true
	settle(p.client, p.server)
	return p
}

func (p *pair) open() *flow {
	f := &flow{d: p.client}
	f.s = p.client.c.Open(f, &f.headers, &f.trailers)
	if f.s == nil {
		return nil
	}
	p.client.order = append(p.client.order, f)
	return f
}

var (
	postMap   = mapOf(strings.Fields(":method=POST :scheme=http :authority=a.b :path=/x content-type=text/plain x-custom=constant"))
	answerMap = mapOf(strings.Fields(":status=200 content-type=text/plain server=envoy"))
	tailMap   = mapOf(strings.Fields("grpc-status=0"))
)

// A step is something that can happen to a request, on either side or between them.
type step struct {
	name string
	do   func(p *pair, c, s *flow)
}

func whole(n int) []byte { return make([]byte, n) }

var steps = []step{
	{"request body", func(_ *pair, c, _ *flow) { c.s.SendData(whole(100), false) }},
	{"request end", func(_ *pair, c, _ *flow) { c.s.SendData(whole(50000), true) }},
	{"request trailers", func(_ *pair, c, _ *flow) { c.s.SendTrailers(tailMap) }},
	{"client resets", func(_ *pair, c, _ *flow) { c.gone = true; c.s.Reset(Cancel) }},
	{"client releases", func(_ *pair, c, _ *flow) { release(c) }},
	{"response", func(_ *pair, _, s *flow) { on(s, func() { s.s.SendHeaders(answerMap, false) }) }},
	{"response end", func(_ *pair, _, s *flow) { on(s, func() { s.s.SendData(whole(50000), true) }) }},
	{"response trailers", func(_ *pair, _, s *flow) { on(s, func() { s.s.SendTrailers(tailMap) }) }},
	{"server resets", func(_ *pair, _, s *flow) { on(s, func() { s.gone = true; s.s.Reset(InternalError) }) }},
	{"server pauses", func(_ *pair, _, s *flow) { on(s, func() { s.s.Pause() }) }},
	{"server releases", func(_ *pair, _, s *flow) { on(s, func() { release(s) }) }},
	{"server goes away", func(p *pair, _, _ *flow) { p.server.c.GoAway(NoError) }},
	{"client to server", func(p *pair, _, _ *flow) { pass(p.client, p.server) }},
	{"server to client", func(p *pair, _, _ *flow) { pass(p.server, p.client) }},
}

// on does something to a stream that exists and that its owner still has.
func on(f *flow, do func()) {
	if f != nil && f.s != nil && !f.released {
		do()
	}
}

func release(f *flow) {
	f.gone, f.released = true, true
	f.s.Release()
}

// Whatever the order in which the ends of a stream happen, on both sides and with bytes under way: no
// handler hears anything after its end, no stream is left, and every byte of the windows is paid for.
func TestInterleavings(t *testing.T) {
	run := func(order []int) {
		p := newPair(&Options{StreamWindow: 70000}, &Options{StreamWindow: 70000})
		c := p.open()
		c.s.SendHeaders(postMap, false)
		pass(p.client, p.server)
		for _, i := range order {
			var s *flow
			if len(p.server.order) > 0 {
				s = p.server.order[0]
			}
			if c.released && strings.Contains(steps[i].name, "client re") || c.released && strings.HasPrefix(steps[i].name, "request") {
				continue
			}
			steps[i].do(p, c, s)
		}
		settle(p.client, p.server)
		var names []string
		for _, i := range order {
			names = append(names, steps[i].name)
		}
		for _, f := range append(append([]*flow(nil), p.client.order...), p.server.order...) {
			if f.late {
				t.Errorf("%q: the %s heard of the stream after its end", names, f.d.name)
			}
			if !f.released {
				f.s.Resume()
			}
		}
		settle(p.client, p.server)
		for _, f := range append(append([]*flow(nil), p.client.order...), p.server.order...) {
			if !f.released {
				release(f)
			}
		}
		settle(p.client, p.server)
		for _, d := range []*side{p.client, p.server} {
			if err := d.c.Err(); err != nil {
				t.Errorf("%q: the %s ends with %v", names, d.name, err)
			}
			if n := d.c.Active(); n != 0 || d.c.table.n != 0 {
				t.Errorf("%q: the %s has %d streams left", names, d.name, n)
			}
			balanced(t, d.c)
		}
		for _, x := range [][2]*side{{p.client, p.server}, {p.server, p.client}} {
			if x[0].c.sendWindow != x[1].c.recvWindow {
				t.Errorf("%q: the %s may send %d bytes, and is expected to send %d", names, x[0].name, x[0].c.sendWindow, x[1].c.recvWindow)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	n := len(steps)
	for a := range n { // all orders of three
		for b := range n {
			for c := range n {
				run([]int{a, b, c})
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2)) // and many longer ones
	for range 6000 {
		order := make([]int, 4+rnd.IntN(12))
		for i := range order {
			order[i] = rnd.IntN(n)
		}
		run(order)
	}
}

// A stream whose memory serves another one by now does not disturb it: bytes are credited to whom they belong.
func TestReuseInsideACall(t *testing.T) {
	p := newPair(&Options{StreamWindow: 70000}, &Options{StreamWindow: 70000})
	c := p.open()
	var second *flow
	c.onEnd = func(f *flow) {
		release(f)
		second = p.open()
		second.s.SendHeaders(postMap, false)
	}
	c.s.SendHeaders(postMap, true)
	settle(p.client, p.server)
	s := p.server.order[0]
	s.s.SendHeaders(answerMap, false)
	s.s.SendData(whole(60000), true)
	settle(p.client, p.server)
	if second == nil || second.s != c.s {
		t.Fatal("the second request does not use the memory of the first")
	}
	if second.s.unsaid != 0 || second.s.recvWindow != 70000 {
		t.Errorf("the second stream's window is %d and %d more, want 70000 and 0", second.s.recvWindow, second.s.unsaid)
	}
	balanced(t, p.client.c)
}

// A handler that pauses when it is handed data has not taken it yet: credit comes with Resume.
func TestPauseInsideACall(t *testing.T) {
	p := newPair(&Options{}, &Options{StreamWindow: 70000, ConnWindow: 70000})
	c := p.open()
	c.s.SendHeaders(postMap, false)
	settle(p.client, p.server)
	s := p.server.order[0]
	s.onData = func(f *flow, _ []byte, _ bool) { f.s.Pause() }
	c.s.SendData(whole(60000), false)
	settle(p.client, p.server)
	if s.data != minFrame || s.s.unsaid != 0 || p.server.c.unsaid != 0 || c.s.sendWindow != 10000 {
		t.Errorf("the handler was given %d bytes, %d and %d are credited, the client has %d left; want one frame, nothing, 10000",
			s.data, s.s.unsaid, p.server.c.unsaid, c.s.sendWindow)
	}
	for range 4 {
		s.s.Resume()
		settle(p.client, p.server)
	}
	if s.s.Resume(); s.data != 60000 || c.s.sendWindow+s.s.unsaid != 70000 {
		settle(p.client, p.server)
		t.Errorf("after Resume: %d bytes given, %d left to the client and %d to be told; want 60000, and 70000 together", s.data, c.s.sendWindow, s.s.unsaid)
	}
}

// The peer's window bounds what a stream holds, however fast its source is: Full stops the source.
func TestBackPressure(t *testing.T) {
	p := newPair(&Options{StreamWindow: 70000}, &Options{})
	c := p.open()
	c.s.SendHeaders(postMap, true)
	settle(p.client, p.server)
	s := p.server.order[0].s
	s.SendHeaders(answerMap, false)
	c.s.Pause()
	sent := 0
	for !s.Full() {
		s.SendData(whole(10000), false)
		sent += 10000
		settle(p.client, p.server)
	}
	if sent > 80000 || s.Queued() > 10000 {
		t.Errorf("%d bytes were taken and %d wait, want about 70000", sent, s.Queued())
	}
	if c.data != 0 {
		t.Errorf("the paused client was given %d bytes", c.data)
	}
	drained := p.server.order[0].drained
	c.s.Resume()
	settle(p.client, p.server)
	if c.data != sent || p.server.order[0].drained != drained+1 {
		t.Errorf("the client has %d of %d bytes, the server was told %d times", c.data, sent, p.server.order[0].drained-drained)
	}
}

// exchange is one request through both ends.
func (p *pair) exchange(body []byte) {
	c := &p.client.spare
	*c = flow{d: p.client, headers: c.headers, trailers: c.trailers}
	c.s = p.client.c.Open(c, &c.headers, &c.trailers)
	c.s.SendHeaders(postMap, false)
	c.s.SendData(body, true)
	move(p.client, p.server)
	move(p.server, p.client)
	if !c.ended {
		panic(fmt.Sprint("no response: ", p.client.c.Err(), p.server.c.Err()))
	}
	c.s.Release()
}

func move(from, to *side) {
	to.c.Feed(from.out.b)
	from.out.b = from.out.b[:0]
	from.c.OnDrained()
}

// answering has a server's side answer every request, without allocating.
type answering struct {
	*side
	f flow
}

func (d *answering) OnStream(s *Stream) (StreamHandler, *header.Map, *header.Map) {
	d.f.s = s
	return d, &d.f.headers, &d.f.trailers
}
func (d *answering) OnHeaders(*header.Map, bool) { d.f.s.SendHeaders(answerMap, false) }
func (d *answering) OnInformational(*header.Map) {}
func (d *answering) OnTrailers(*header.Map)      {}
func (d *answering) OnReset(Reset)               {}
func (d *answering) OnDrained()                  {}
func (d *answering) OnData(b []byte, end bool) {
	d.f.s.SendData(b, false)
	if end {
		d.f.s.SendTrailers(tailMap)
		d.f.s.Release()
	}
}

func answeringPair() *pair {
	p := newPair(&Options{}, &Options{})
	p.server.c.h = &answering{side: p.server}
	return p
}

// A request costs no allocation on either side once the connection is warm.
func TestAllocs(t *testing.T) {
	p := answeringPair()
	body := whole(200)
	for range 300 {
		p.exchange(body)
	}
	if n := testing.AllocsPerRun(2000, func() { p.exchange(body) }); n != 0 {
		t.Errorf("a request allocates %v times, want 0", n)
	}
}

// BenchmarkExchange is one request with a body, and its response with trailers, through a client and a server.
func BenchmarkExchange(b *testing.B) {
	p := answeringPair()
	body := whole(200)
	for b.Loop() {
		p.exchange(body)
	}
}

func BenchmarkData(b *testing.B) {
	p := answeringPair()
	body := whole(100 << 10)
	b.SetBytes(int64(2 * len(body)))
	p.exchange(body)
	for b.Loop() {
		p.exchange(body)
	}
}

// What the paused streams of all connections of a shard hold together is bounded: beyond that, streams of which
// more comes are reset, and the connection goes on.
func TestHeldInputIsBoundedForTheShard(t *testing.T) {
	p := newPair(&Options{}, &Options{})
	c := p.open()
	c.s.SendHeaders(postMap, false)
	settle(p.client, p.server)
	s := p.server.order[0]
	s.s.Pause()
	p.server.shard.heldChunks = maxHeld - 2 // of other connections
	for range 3 {
		c.s.SendData(whole(chunkSize), false)
		settle(p.client, p.server)
	}
	if !s.s.Gone() || p.server.c.Err() != nil || p.server.shard.heldChunks != maxHeld-2 {
		t.Errorf("stream over %v, connection's error %v, %d chunks held; want true, none, and those of others, %d",
			s.s.Gone(), p.server.c.Err(), p.server.shard.heldChunks, maxHeld-2)
	}
	c = p.open()
	c.s.SendHeaders(postMap, true)
	settle(p.client, p.server)
	if len(p.server.order) != 2 {
		t.Error("the connection takes no more requests")
	}
}
