package drive

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A recorder notes in which order timers run out.
type recorder struct {
	w   *wheel
	got []int64
}

func (r *recorder) OnTimer(t *Timer) {
	if t.when != r.w.now {
		panic("a timer runs out at another time than its own")
	}
	r.got = append(r.got, t.when)
}

// A loop that has one far timer sleeps until it runs out, and does not wake to move it to a nearer level.
func TestWheelIsDueWhenTheTimerIs(t *testing.T) {
	for _, at := range []int64{1, 63, 64, 100, 1000, 5000, 4097, 1 << 20, 1<<30 + 7} {
		var w wheel
		w.now = 62
		w.add(&Timer{Handler: &recorder{w: &w}}, 62+at)
		if due, ok := w.due(); !ok || due != 62+at {
			t.Errorf("the timer runs out at %d, the wheel says %d, %v", 62+at, due, ok)
		}
	}
}

func TestWheelTellsEveryTimerInTime(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var w wheel
	r := &recorder{w: &w}
	var want []int64
	var timers []*Timer
	for range 2000 {
		at := 1 + random.Int64N(1<<random.IntN(36))
		timer := &Timer{Handler: r}
		w.add(timer, at)
		timers = append(timers, timer)
		want = append(want, at)
	}
	for i := range 500 { // every fourth is stopped
		w.remove(timers[i*4])
	}
	var kept []int64
	for i, at := range want {
		if i%4 != 0 {
			kept = append(kept, at)
		}
	}
	slices.Sort(kept)
	for w.now < 1<<36 {
		if at, ok := w.due(); ok {
			i, _ := slices.BinarySearch(kept, w.now+1)
			if first := kept[i]; at > first {
				t.Fatalf("at %d the wheel wants to sleep until %d, a timer runs out at %d", w.now, at, first)
			}
		}
		w.advance(w.now + 1 + random.Int64N(1<<random.IntN(36)))
	}
	if !slices.Equal(r.got, kept) {
		t.Errorf("%d timers ran out, want %d; in order %v", len(r.got), len(kept), slices.IsSorted(r.got))
	}
	if _, _, _, ok := w.next(); ok {
		t.Error("the wheel is not empty")
	}
}

func TestTimerCanBeSetAnew(t *testing.T) {
	m := NewMemory(time.Unix(0, 0))
	r := &recorder{w: &m.Loop.wheel}
	timer := Timer{Handler: r}
	m.Loop.Schedule(&timer, time.Second)
	m.Advance(900 * time.Millisecond)
	m.Loop.Schedule(&timer, time.Second)
	m.Advance(900 * time.Millisecond)
	if len(r.got) != 0 {
		t.Fatal("the timer ran out although it was set anew")
	}
	m.Advance(200 * time.Millisecond)
	if len(r.got) != 1 || timer.Armed() {
		t.Errorf("ran out %d times, armed %v; want once and not", len(r.got), timer.Armed())
	}
}

func TestBuffersAreReturned(t *testing.T) {
	var p buffers
	b := p.get(5000)
	if cap(b) != 16<<10 {
		t.Fatalf("room for %d bytes, want %d", cap(b), 16<<10)
	}
	b = p.grow(append(b, make([]byte, 16<<10)...), 1)
	if cap(b) != 64<<10 || len(b) != 16<<10 {
		t.Errorf("grown to %d of %d", len(b), cap(b))
	}
	if again := p.get(16 << 10); cap(again) != 16<<10 || len(p.free[1]) != 0 {
		t.Error("the smaller buffer was not returned")
	}
	p.put(make([]byte, 0, 12345)) // of nobody's size
	if n := testing.AllocsPerRun(100, func() { p.put(p.get(1)) }); n != 0 {
		t.Errorf("get and put allocate %v times", n)
	}
}

// A script is a handler that does as it is told and notes what it was told.
type script struct {
	notes []string
	take  int // bytes to consume at a time; 0: all
	data  func(c *Conn, b []byte) int
}

func (s *script) note(n string) { s.notes = append(s.notes, n) }
func (s *script) OnData(c *Conn, b []byte) int {
	s.note("data " + string(b))
	if s.data != nil {
		return s.data(c, b)
	}
	if s.take > 0 {
		return min(s.take, len(b))
	}
	return len(b)
}
func (s *script) OnEnd(*Conn)                { s.note("end") }
func (s *script) OnClose(_ *Conn, err error) { s.note("close " + err.Error()) }
func (s *script) OnDrained(*Conn)            { s.note("drained") }
func (s *script) OnDeadline(*Conn)           { s.note("deadline") }
func (s *script) OnConnect(_ *Conn, err error) {
	if err != nil {
		s.note("no connect " + err.Error())
		return
	}
	s.note("connect")
}

var (
	here  = netip.MustParseAddrPort("10.0.0.1:80")
	there = netip.MustParseAddrPort("10.0.0.2:5000")
)

func accepted(t *testing.T) (*Memory, *Pipe, *Conn, *script) {
	m := NewMemory(time.Unix(1000, 0))
	s := &script{}
	var conn *Conn
	p := m.Accept(there, here, func(c *Conn) { conn = c; c.SetHandler(s) })
	return m, p, conn, s
}

func want(t *testing.T, s *script, notes ...string) {
	t.Helper()
	if !slices.Equal(s.notes, notes) {
		t.Errorf("the handler was told %q, want %q", s.notes, notes)
	}
	s.notes = nil
}

func TestInputIsPresentedAgain(t *testing.T) {
	m, p, c, s := accepted(t)
	s.take = 2
	p.WriteString("abcd")
	m.Step()
	want(t, s, "data abcd")
	p.WriteString("e")
	m.Step()
	want(t, s, "data cde")
	c.Resume() // e is still there
	m.Step()
	want(t, s, "data e")
}

func TestPauseAndResume(t *testing.T) {
	m, p, c, s := accepted(t)
	s.data = func(c *Conn, b []byte) int { c.Pause(); return 1 }
	p.WriteString("ab")
	m.Step()
	p.WriteString("cd")
	m.Step()
	want(t, s, "data ab")
	s.data = nil
	c.Resume()
	m.Step()
	want(t, s, "data b", "data cd")
}

// A peer whose end is told early is not waited for by a handler that takes no input; others say their last first.
func TestEndIsToldEarly(t *testing.T) {
	for _, early := range []bool{true, false} {
		m, p, c, s := accepted(t)
		c.EndEarly(early)
		s.data = func(c *Conn, b []byte) int { c.Pause(); return 1 }
		p.WriteString("ab")
		m.Step()
		p.WriteString("cd")
		p.CloseWrite()
		m.Step()
		if early {
			want(t, s, "data ab", "end")
			continue
		}
		want(t, s, "data ab")
		s.data = nil
		c.Resume()
		m.Step()
		want(t, s, "data b", "data cd", "end")
	}
}

// So it is where the end comes with the input that the handler pauses for.
func TestEndIsToldEarlyWithWhatPauses(t *testing.T) {
	m, p, c, s := accepted(t)
	c.EndEarly(true)
	s.data = func(c *Conn, b []byte) int { c.Pause(); return 0 }
	p.WriteString("ab")
	p.CloseWrite()
	m.Step()
	want(t, s, "data ab", "end")
}

func TestHandlerHandsOver(t *testing.T) {
	m, p, c, s := accepted(t)
	next := &script{}
	s.data = func(c *Conn, b []byte) int { c.SetHandler(next); return 2 }
	p.WriteString("PPrest")
	m.Step()
	want(t, s, "data PPrest")
	want(t, next, "data rest")
	_ = c
}

func TestEnds(t *testing.T) {
	m, p, _, s := accepted(t)
	p.WriteString("last")
	p.CloseWrite()
	m.Step()
	want(t, s, "data last", "end")
	p.Reset()
	m.Step()
	want(t, s, "close "+syscall.ECONNRESET.Error())
}

func TestOutputIsOneWriteAndStopsAtTheMark(t *testing.T) {
	m, p, c, s := accepted(t)
	p.Window = 10
	c.SetMark(20)
	m.Loop.Post(func() {
		c.Write([]byte(strings.Repeat("x", 15)))
		c.Write([]byte(strings.Repeat("y", 15)))
	})
	m.Step()
	if !c.Full() || c.Buffered() != 20 {
		t.Errorf("full %v with %d bytes, want true with 20", c.Full(), c.Buffered())
	}
	if got := p.Take(); got != strings.Repeat("x", 10) {
		t.Errorf("took %q", got)
	}
	m.Step()
	want(t, s, "drained")
	got := p.Take()
	m.Step()
	if got += p.Take(); got != strings.Repeat("x", 5)+strings.Repeat("y", 15) || c.out != nil {
		t.Errorf("took %q; a buffer is kept: %v", got, c.out != nil)
	}
}

func TestCloseWritesFirst(t *testing.T) {
	m, p, c, s := accepted(t)
	m.Loop.Post(func() { c.Write([]byte("bye")); c.Close(); c.Write([]byte("too late")) })
	m.Step()
	if got := p.Take(); got != "bye" || !p.Closed || p.Broken {
		t.Errorf("got %q, closed %v, reset %v", got, p.Closed, p.Broken)
	}
	want(t, s)
}

func TestCloseGentlyWaitsForTheClient(t *testing.T) {
	m, p, c, _ := accepted(t)
	m.Loop.Post(func() { c.Write([]byte("bye")); c.CloseGently() })
	m.Step()
	if !p.EOF || p.Closed {
		t.Fatalf("our side shut %v, closed %v; want shut only", p.EOF, p.Closed)
	}
	p.WriteString("what I was about to say")
	m.Step()
	if p.Unread() != 0 || p.Closed {
		t.Error("input should be read and thrown away")
	}
	m.Advance(1100 * time.Millisecond)
	if !p.Closed {
		t.Error("a client that does not close is not waited for longer than a second")
	}
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	m, p, c, _ := accepted(t)
	p.Window = 1
	m.Loop.Post(func() { c.Write([]byte("never taken")); c.Close() })
	m.Advance(flushTime + time.Second)
	if !p.Closed || m.Loop.Len() != 0 {
		t.Errorf("closed %v, %d connections; want true and none", p.Closed, m.Loop.Len())
	}
}

func TestDial(t *testing.T) {
	m := NewMemory(time.Unix(0, 0))
	s := &script{}
	m.Loop.Dial(Dial{Addr: here}, s)
	m.Step()
	want(t, s, "no connect "+syscall.ECONNREFUSED.Error())
	var server *Pipe
	m.Handle(here, func(p *Pipe) { server = p })
	c := m.Loop.Dial(Dial{Addr: here}, s)
	c.Write([]byte("early"))
	m.Step()
	want(t, s, "connect")
	if got := server.Take(); got != "early" {
		t.Errorf("the server got %q", got)
	}
}

// A host may have spoken and gone by the time that we see that we are connected; that it has gone comes with that news,
// and never again.
func TestHostThatHasGoneWhenWeAreConnected(t *testing.T) {
	m := NewMemory(time.Unix(0, 0))
	m.Handle(here, func(*Pipe) {})
	c := m.Loop.Dial(Dial{Addr: here}, &script{})
	if !c.state.connecting {
		t.Fatal("connected before anybody looked")
	}
	if c.event(true, true, true, false); !c.state.hup {
		t.Error("the end of the host's bytes is forgotten: after a short read nobody would look for it")
	}
}

func TestDeadline(t *testing.T) {
	m, _, c, s := accepted(t)
	c.SetDeadline(m.Loop.Now() + int64(5*time.Second))
	m.Advance(4 * time.Second)
	want(t, s)
	c.SetDeadline(m.Loop.Now() + int64(2*time.Second)) // it has moved on
	m.Advance(1900 * time.Millisecond)
	want(t, s)
	m.Advance(100 * time.Millisecond)
	want(t, s, "deadline")
	m.Advance(10 * time.Second)
	want(t, s)
}

// However many deadlines pass one after another, each is noticed within a tenth of a second, and connections are looked at no more
// often than that.
func TestDeadlinesCloseTogether(t *testing.T) {
	m, _, c, s := accepted(t)
	m.Advance(time.Second)
	c.SetDeadline(m.Loop.Now() + int64(time.Millisecond))
	m.Advance(time.Millisecond)
	want(t, s, "deadline")
	c.SetDeadline(m.Loop.Now() + int64(time.Millisecond))
	m.Advance(98 * time.Millisecond)
	want(t, s)
	m.Advance(2 * time.Millisecond)
	want(t, s, "deadline")
}

// A time of centuries is one, and not an overflow that has passed already.
func TestTimesOfCenturies(t *testing.T) {
	m, _, c, s := accepted(t)
	m.Advance(time.Hour)
	var timer fired
	timer.t.Handler = &timer
	m.Loop.Schedule(&timer.t, math.MaxInt64)
	c.SetDeadline(m.Loop.Now() + math.MaxInt64)
	m.Advance(time.Hour)
	want(t, s)
	if timer.n != 0 {
		t.Error("the timer ran out")
	}
}

// fired counts how often a timer has run out.
type fired struct {
	t Timer
	n int
}

func (f *fired) OnTimer(*Timer) { f.n++ }
