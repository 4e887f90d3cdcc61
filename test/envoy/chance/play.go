package chance

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An Outcome is what the client of a game has seen.
type Outcome struct {
	Streams map[uint32]string // what came of each stream
	Sure    map[uint32]bool   // streams whose answers had come before the client did something else
	Ended   bool              // the connection was ended by the proxy
	GoAway  string            // why, if it said so
}

// String tells an outcome on one line.
func (o *Outcome) String() string {
	var all []string
	for id, s := range o.Streams {
		all = append(all, fmt.Sprintf("%03d: %s", id, s))
	}
	slices.Sort(all)
	return fmt.Sprintf("ended %v %s [%s]", o.Ended, o.GoAway, strings.Join(all, "; "))
}

// A viewer reads what a proxy says.
type viewer struct {
	mu      sync.Mutex
	wake    *sync.Cond
	seen    map[uint32]*view
	goaway  string
	ended   bool
	ponged  int
	changed int // how often something has come
}

type view struct {
	heads []string
	body  int
	over  bool
	reset string
}

// Play plays a game over a connection, which it closes. patience is how long an answer may take, calm how long nothing comes
// where no end is to be expected.
func (g *Game) Play(c net.Conn, patience, calm time.Duration) *Outcome {
	v := &viewer{seen: map[uint32]*view{}}
	v.wake = sync.NewCond(&v.mu)
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.read(c)
	}()
	out := &Outcome{Sure: map[uint32]bool{}}
	_ = c.SetDeadline(time.Now().Add(patience * time.Duration(len(g.Moves)+1)))
	pings := 0
	settle := func() {
		pings++
		f := http2.NewFramer(c, nil)
		_ = f.WritePing(false, [8]byte{0: 'c', 7: byte(pings)})
		v.settle(g, pings, patience, calm)
	}
	for _, m := range g.Moves {
		if m.Settle {
			settle()
			v.sure(out)
		}
		if _, err := c.Write(m.Bytes); err != nil {
			break
		}
	}
	settle()
	v.mu.Lock()
	out.Ended, out.GoAway = v.ended, v.goaway
	if !v.ended {
		for id := range v.seen {
			out.Sure[id] = true
		}
	}
	out.Streams = map[uint32]string{}
	for id, s := range v.seen {
		out.Streams[id] = s.String()
	}
	v.mu.Unlock()
	c.Close()
	<-done
	return out
}

// sure notes the streams whose answers are over.
func (v *viewer) sure(out *Outcome) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, s := range v.seen {
		if s.over || s.reset != "" {
			out.Sure[id] = true
		}
	}
}

// settle waits until the proxy has read all and said what there is to say.
func (v *viewer) settle(g *Game, pings int, patience, calm time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	due := func() bool {
		if v.ponged < pings {
			return true
		}
		for id, whole := range g.Whole {
			if s := v.seen[id]; whole && s != nil && !s.over && s.reset == "" { // one that has not been asked for yet has not been seen
				return true
			}
		}
		return false
	}
	begun, last, at := time.Now(), v.changed, time.Now()
	for !v.ended && time.Since(begun) < patience {
		if last != v.changed {
			last, at = v.changed, time.Now()
		}
		quiet := time.Since(at) > calm
		if v.ponged >= pings && quiet || !due() && time.Since(at) > calm/3 {
			return
		}
		wake := time.AfterFunc(calm/6, v.wake.Broadcast)
		v.wake.Wait()
		wake.Stop()
	}
}

func (v *viewer) stream(id uint32) *view {
	if v.seen[id] == nil {
		v.seen[id] = &view{}
	}
	return v.seen[id]
}

func (v *viewer) read(c net.Conn) {
	f := http2.NewFramer(io.Discard, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.SetMaxReadFrameSize(1<<24 - 1)
	for {
		frame, err := f.ReadFrame()
		v.mu.Lock()
		if err != nil {
			if _, stream := err.(http2.StreamError); !stream {
				v.ended = true
				v.wake.Broadcast()
				v.mu.Unlock()
				return
			}
		}
		v.changed++
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			s := v.stream(f.StreamID)
			s.heads = append(s.heads, head(f))
			s.over = s.over || f.StreamEnded()
		case *http2.DataFrame:
			s := v.stream(f.StreamID)
			s.body += len(f.Data())
			s.over = s.over || f.StreamEnded()
		case *http2.RSTStreamFrame:
			v.stream(f.StreamID).reset = f.ErrCode.String()
		case *http2.GoAwayFrame:
			v.goaway = f.ErrCode.String()
		case *http2.PingFrame:
			if f.IsAck() && f.Data[0] == 'c' {
				v.ponged = int(f.Data[7])
			}
		}
		v.wake.Broadcast()
		v.mu.Unlock()
	}
}

// head is what of a block does not differ from run to run.
func head(f *http2.MetaHeadersFrame) string {
	var out []string
	for _, h := range f.Fields {
		switch h.Name {
		case "date", "x-envoy-upstream-service-time", "x-request-id":
			out = append(out, h.Name)
		default:
			out = append(out, h.Name+"="+h.Value)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (s *view) String() string {
	// Whether a 100 still goes out for a request that ends at once, by a reset, is a matter of moments.
	heads := slices.DeleteFunc(slices.Clone(s.heads), func(h string) bool { return h == ":status=100" })
	if len(heads) == 0 && s.body == 0 && s.reset == "" && !s.over {
		return ""
	}
	out := fmt.Sprintf("%s, %d bytes", strings.Join(heads, " | "), s.body)
	switch {
	case s.reset != "":
		out += ", reset " + s.reset
	case s.over:
		out += ", over"
	}
	return out
}

// Unlike says what two outcomes of one game differ in, "" for nothing: why a connection was ended counts only where the first
// says it, and of one that was ended only what had been answered before.
func Unlike(a, b *Outcome) string {
	switch {
	case a.Ended != b.Ended:
		return "one connection has ended, and the other has not"
	case a.GoAway != b.GoAway && a.GoAway != "":
		return "the connections have other reasons"
	}
	for id := range a.Sure {
		if b.Sure[id] && a.Streams[id] != b.Streams[id] {
			return fmt.Sprintf("stream %d: %q and %q", id, a.Streams[id], b.Streams[id])
		}
	}
	for id := range b.Sure {
		if !a.Ended && a.Streams[id] == "" && b.Streams[id] != "" {
			return fmt.Sprintf("stream %d is answered by one only", id)
		}
	}
	for id := range a.Sure {
		if !b.Ended && b.Streams[id] == "" && a.Streams[id] != "" {
			return fmt.Sprintf("stream %d is answered by one only", id)
		}
	}
	return ""
}
