package drive

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// connected tells that it is.
type connected struct{ done chan *Conn }

func (h connected) OnConnect(c *Conn, err error) { h.done <- c }
func (h connected) OnData(_ *Conn, p []byte) int { return len(p) }
func (h connected) OnEnd(*Conn)                  {}
func (h connected) OnClose(*Conn, error)         {}
func (h connected) OnDrained(*Conn)              {}
func (h connected) OnDeadline(*Conn)             {}

// sentSegments is how many segments with data the connection has sent.
func sentSegments(t *testing.T, c *Conn) int {
	info, err := unix.GetsockoptTCPInfo(c.sock.(*fdSocket).fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Error(err)
		return 0
	}
	return int(info.Data_segs_out)
}

// What a turn has for a connection goes together, in as few segments as it fills.
func TestBulkFillsItsSegments(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { l.Run(); close(ended) }()
	defer func() { l.Stop(); <-ended }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	h := connected{make(chan *Conn, 1)}
	l.Post(func() { l.Dial(Dial{Addr: listener.Addr().(*net.TCPAddr).AddrPort()}, h) })
	peer, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c := <-h.done
	// turn writes frames of bodies in one turn, waits until they have arrived, and returns how many segments they were.
	turn := func(frames int) int {
		const frame = 16<<10 + 9
		var before, after int
		l.Post(func() {
			before = sentSegments(t, c)
			for range frames {
				c.End(append(c.Room(frame), make([]byte, frame)...))
			}
		})
		if _, err := io.CopyN(io.Discard, peer, int64(frames)*frame); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		l.Post(func() { after = sentSegments(t, c); close(done) })
		<-done
		return after - before
	}
	for range 50 { // the windows of a new connection are half a segment
		turn(9)
	}
	for _, test := range []struct{ frames, segments int }{{1, 1}, {4, 2}, {8, 3}, {9, 3}} {
		best := turn(test.frames)
		for range 20 { // the system may be short of memory, or late
			best = min(best, turn(test.frames))
		}
		if best != test.segments {
			t.Errorf("%d frames of 16 KiB were %d segments of a loopback, want %d", test.frames, best, test.segments)
		}
	}
}

// A loop whose connections all have a bulk at once writes what a small buffer holds rather than to keep large ones, and so
// does one whose mark a larger one would pass.
func TestManyBulksAreWrittenEarly(t *testing.T) {
	m, _, first, _ := accepted(t)
	conns := []*Conn{first}
	for range 2 * spare[len(spare)-1] {
		m.Accept(there, here, func(c *Conn) { c.SetHandler(&script{}); conns = append(conns, c) })
	}
	const frame = 16<<10 + 9
	m.Loop.Post(func() {
		for i, c := range conns {
			low := i == 1
			if low {
				c.SetMark(100 << 10)
			}
			for range 5 {
				c.End(append(c.Room(frame), make([]byte, frame)...))
			}
			early := low || i >= spare[len(spare)-1]
			if got := c.Buffered(); early != (got < straightMark) {
				t.Errorf("connection %d holds %d bytes of a turn, want less than 64 KiB: %v", i, got, early)
			}
			if c.Full() {
				t.Errorf("connection %d is full of what its socket takes", i)
			}
		}
	})
	m.Step()
}
