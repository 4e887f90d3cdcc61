package drive

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// held is what a connection's output occupies.
func held(c *Conn) int {
	n := cap(c.out)
	for _, b := range c.full {
		n += cap(b)
	}
	return n
}

// write queues b in one of the ways that there are.
func write(c *Conn, b []byte, room bool) {
	if room {
		c.End(append(c.Room(len(b)), b...))
		return
	}
	c.Write(b)
}

// A peer that takes nothing costs what is written for it, whatever the sizes of the pieces.
func TestOutputCostsWhatItHolds(t *testing.T) {
	const mark = 1 << 20
	for _, test := range []struct {
		piece int
		room  bool // appended as a whole, as an HTTP/2 frame is
	}{
		{64 << 10, false}, {97_000, false}, {1 << 20, false}, {1000, false}, {1000, true}, {16<<10 + 9, true},
	} {
		m, p, c, _ := accepted(t)
		p.Window = 1
		c.SetMark(mark)
		b := make([]byte, test.piece)
		m.Loop.Post(func() {
			for !c.Full() {
				write(c, b, test.room)
			}
		})
		m.Step()
		if got, want := held(c), c.Buffered()*9/8; got > want {
			t.Errorf("%d bytes in pieces of %d occupy %d, want at most %d", c.Buffered(), test.piece, got, want)
		}
		c.Abort()
		if held(c) != 0 || c.Buffered() != 0 {
			t.Errorf("a connection that has gone holds %d bytes", held(c))
		}
	}
}

// Whatever is written arrives, once and in order, however the peer takes it.
func TestOutputArrivesInOrder(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			m, p, c, _ := accepted(t)
			c.SetMark(1 << 20)
			var sent, got []byte
			var next byte
			for range 60 {
				p.Window = 1 + r.IntN(200<<10)
				m.Loop.Post(func() {
					for range r.IntN(4) {
						b := make([]byte, 1+r.IntN(1<<r.IntN(20)))
						for i := range b {
							next++
							b[i] = next ^ byte(i>>8)
						}
						sent = append(sent, b...)
						write(c, b, r.IntN(2) == 0)
					}
				})
				m.Step()
				if c.Buffered()+len(got)+len(p.In) != len(sent) {
					t.Fatalf("%d bytes wait and %d are out, of %d", c.Buffered(), len(got)+len(p.In), len(sent))
				}
				got = append(got, p.Take()...)
				m.Step()
			}
			for p.Window = 1 << 20; c.Buffered() > 0 || len(p.In) > 0; m.Step() {
				got = append(got, p.Take()...)
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes arrive, not the %d that were written", len(got), len(sent))
			}
			if held(c) != 0 {
				t.Errorf("%d bytes are held with nothing to write", held(c))
			}
		})
	}
}

// Peers that are slow cost no allocations once buffers are there.
func TestOutputAllocs(t *testing.T) {
	m, p, c, _ := accepted(t)
	c.SetMark(1 << 20)
	p.Window = 4 << 20
	b := make([]byte, 40<<10)
	turn := func() {
		c.state.blocked = true
		for !c.Full() {
			c.Write(b)
		}
		c.state.blocked = false
		c.flush()
		p.In = p.In[:0]
		m.Step()
	}
	turn()
	if n := testing.AllocsPerRun(20, turn); n != 0 {
		t.Errorf("%v allocations for each MiB, want 0", n)
	}
}
