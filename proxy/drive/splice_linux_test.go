package drive

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
)

// relay joins two connections and counts what passes by splice.
type relay struct {
	other   *Conn
	spliced *int
	bytes   *int
}

func (r *relay) OnData(c *Conn, b []byte) int {
	r.other.Write(b)
	r.passed(c, len(b))
	return len(b)
}

func (r *relay) OnSpliced(c *Conn, n int) {
	*r.spliced += n
	r.passed(c, n)
}

func (r *relay) passed(c *Conn, n int) {
	*r.bytes += n
	if r.other.Full() {
		c.Pause()
	}
}

func (r *relay) OnEnd(c *Conn) {
	r.other.CloseWrite()
	if r.other.Ended() {
		c.Close()
		r.other.Close()
	}
}
func (r *relay) OnClose(*Conn, error) { r.other.Abort() }
func (r *relay) OnDrained(*Conn)      { r.other.Resume() }
func (r *relay) OnDeadline(*Conn)     {}
func (r *relay) OnConnect(c *Conn, err error) {
	if err != nil {
		r.other.Abort()
		return
	}
	c.SpliceTo(r.other)
	r.other.SpliceTo(c)
	r.other.Resume()
}

// startRelay serves a relay to backend on a loop of its own.
func startRelay(t *testing.T, backend net.Addr, spliced, passed *int) (address string, stop func()) {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Bind(netip.MustParseAddrPort("127.0.0.1:0"), BindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Listen(s, func(c *Conn) {
		up := &relay{other: c, spliced: spliced, bytes: passed}
		down := &relay{spliced: spliced, bytes: passed}
		c.SetHandler(down)
		c.Pause()
		down.other = l.Dial(Dial{Addr: backend.(*net.TCPAddr).AddrPort()}, up)
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { l.Run(); close(done) }()
	return s.Addr().String(), func() { l.Stop(); <-done; s.Close() }
}

// TestSpliceKeepsBytes: what goes by splice arrives whole and in order, with short writes between the
// long ones, a reader that is slower than the writer, and an end of each direction.
func TestSpliceKeepsBytes(t *testing.T) {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	got := make(chan [sha256.Size]byte, 1)
	go func() {
		c, err := backend.Accept()
		if err != nil {
			return
		}
		h := sha256.New()
		buf := make([]byte, 3<<10) // slow: the relay has to wait for us
		for {
			n, err := c.Read(buf)
			h.Write(buf[:n])
			if err != nil {
				break
			}
		}
		got <- [sha256.Size]byte(h.Sum(nil))
		io.WriteString(c, "the other half still works")
		c.Close()
	}()
	var spliced, passed int
	address, stop := startRelay(t, backend.Addr(), &spliced, &passed)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(block)
	h := sha256.New()
	total := 0
	for i := range 48 {
		part := block
		if i%8 == 7 {
			part = block[:i] // a few bytes only
		}
		n, err := c.Write(part)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(part)
		total += n
	}
	c.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(c)
	if err != nil || string(answer) != "the other half still works" {
		t.Errorf("answer %q, %v", answer, err)
	}
	if sum := <-got; !bytes.Equal(sum[:], h.Sum(nil)) {
		t.Error("the backend got other bytes than were sent")
	}
	stop()
	if passed != total+len(answer) {
		t.Errorf("counted %d bytes, want %d", passed, total+len(answer))
	}
	if spliced < total/4 {
		t.Errorf("%d of %d bytes went by splice, want most", spliced, total)
	}
}

// TestSplicePipesAreGivenBack: connections that break in the middle of a bulk leave no descriptors open.
func TestSplicePipesAreGivenBack(t *testing.T) {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	go func() {
		for {
			c, err := backend.Accept()
			if err != nil {
				return
			}
			io.CopyN(io.Discard, c, 2<<20)
			c.(*net.TCPConn).SetLinger(0)
			c.Close() // with much unread
		}
	}()
	before := descriptors(t)
	var spliced, passed int
	address, stop := startRelay(t, backend.Addr(), &spliced, &passed)
	for range 30 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		block := make([]byte, 1<<20)
		for {
			if _, err := c.Write(block); err != nil {
				break
			}
		}
		c.Close()
	}
	stop()
	backend.Close()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
	if spliced == 0 {
		t.Error("nothing went by splice")
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
