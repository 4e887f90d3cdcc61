package h2

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
)

// A driver's connection is an output.
var _ Output = (*drive.Conn)(nil)

// A sink is an Output in memory.
type sink struct {
	b    []byte
	mark int // above which it is full; 0: never
}

func (o *sink) Room(n int) []byte {
	if cap(o.b)-len(o.b) < n {
		o.b = append(make([]byte, 0, 2*(len(o.b)+n)), o.b...)
	}
	return o.b
}
func (o *sink) End(b []byte)  { o.b = b }
func (o *sink) Buffered() int { return len(o.b) }
func (o *sink) Full() bool    { return o.mark > 0 && len(o.b) > o.mark }

// A side is one end with its streams, which writes down what happens.
type side struct {
	name    string
	c       *Conn
	out     sink
	shard   *Shard
	clock   int64
	streams map[uint32]*flow
	order   []*flow
	log     strings.Builder
	quiet   bool
	onHeld  bool // OnHeld was called
	decoder *hpack.Decoder
	spare   flow

	onSettings func()
}

func newSide(server bool, o *Options) *side {
	d := &side{name: "client", streams: map[uint32]*flow{}, decoder: hpack.NewDecoder(4096, nil)}
	d.shard = NewShard(func() int64 { return d.clock })
	if server {
		d.name = "server"
		d.c = NewServer(d.shard, o, &d.out, d)
	} else {
		d.c = NewClient(d.shard, o, &d.out, d)
	}
	return d
}

func (d *side) say(format string, args ...any) {
	if !d.quiet {
		fmt.Fprintf(&d.log, "  "+format+"\n", args...)
	}
}

func (d *side) OnStream(s *Stream) (StreamHandler, *header.Map, *header.Map) {
	f := &flow{d: d, s: s}
	d.streams[s.ID()] = f
	d.order = append(d.order, f)
	return f, &f.headers, &f.trailers
}
func (d *side) OnSettings() {
	if d.onSettings != nil {
		d.onSettings()
	}
}
func (d *side) OnGoAway(code Code, debug []byte) {
	d.say("* goaway %v %q", code, debug)
}
func (d *side) OnClosed() {
	if !d.quiet {
		d.say("* closed, %d active", d.c.Active())
	}
}
func (d *side) OnHeld() { d.onHeld = true }

// A flow is one stream of a side, and its handler.
type flow struct {
	d                 *side
	s                 *Stream
	headers, trailers header.Map

	got      bytes.Buffer
	data     int
	began    bool
	ended    bool
	reset    *Reset
	drained  int
	late     bool // something came after the end or the reset
	gone     bool // our Release or Reset
	released bool
	onData   func(*flow, []byte, bool)
	onEnd    func(*flow)
}

func fieldText(m *header.Map) string {
	var parts []string
	for i := range m.Len() {
		f := m.At(i)
		parts = append(parts, fmt.Sprintf("%s=%s", f.Name, f.Value))
	}
	return strings.Join(parts, " ")
}

func ending(end bool) string {
	if end {
		return " end"
	}
	return ""
}

func (f *flow) check() { f.late = f.late || f.ended || f.reset != nil || f.gone }

func (f *flow) OnHeaders(m *header.Map, end bool) {
	f.check()
	f.late = f.late || f.began
	f.began, f.ended = true, end
	if !f.d.quiet {
		f.d.say("* %d headers%s %s", f.s.ID(), ending(end), fieldText(m))
	}
	if end && f.onEnd != nil {
		f.onEnd(f)
	}
}
func (f *flow) OnInformational(m *header.Map) {
	f.check()
	f.d.say("* %d informational %s", f.s.ID(), fieldText(m))
}
func (f *flow) OnData(b []byte, end bool) {
	f.check()
	f.ended = end
	f.data += len(b)
	if !f.d.quiet {
		if f.got.Write(b); len(b) > 40 {
			f.d.say("* %d data%s, %d bytes", f.s.ID(), ending(end), len(b))
		} else {
			f.d.say("* %d data%s %q", f.s.ID(), ending(end), b)
		}
	}
	if f.onData != nil {
		f.onData(f, b, end)
	}
	if end && f.onEnd != nil {
		f.onEnd(f)
	}
}
func (f *flow) OnTrailers(m *header.Map) {
	f.check()
	f.ended = true
	if !f.d.quiet {
		f.d.say("* %d trailers %s", f.s.ID(), fieldText(m))
	}
	if f.onEnd != nil {
		f.onEnd(f)
	}
}
func (f *flow) OnReset(r Reset) {
	f.late = f.late || f.reset != nil || f.gone
	f.reset = &r
	f.d.say("* %d reset %s", f.s.ID(), resetText(r))
}
func (f *flow) OnDrained() {
	f.drained++
	f.d.say("* %d drained", f.s.ID())
}

var causes = [...]string{"by the peer", "malformed", "gone away", "broken", "closed"}

func resetText(r Reset) string {
	t := fmt.Sprintf("%s %v", causes[r.Cause], r.Code)
	if r.Details != "" {
		t += " " + r.Details
	}
	if r.Unseen {
		t += " unseen"
	}
	return t
}

// frames writes down the frames in b, and returns what is not a whole one.
func (d *side) frames(b []byte) {
	if rest, ok := bytes.CutPrefix(b, []byte(preface)); ok {
		d.say("> preface")
		b = rest
	}
	fr := http2.NewFramer(nil, bytes.NewReader(b))
	fr.SetMaxReadFrameSize(1<<24 - 1)
	fr.AllowIllegalReads = true
	var block []byte
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		h := f.Header()
		end := ending(h.Flags&http2.FlagDataEndStream != 0)
		switch f := f.(type) {
		case *http2.HeadersFrame:
			block = append(block[:0], f.HeaderBlockFragment()...)
			d.say("> HEADERS %d%s %s", h.StreamID, end, d.blockText(block, f.HeadersEnded()))
		case *http2.ContinuationFrame:
			block = append(block, f.HeaderBlockFragment()...)
			d.say("> CONTINUATION %d %s", h.StreamID, d.blockText(block, f.HeadersEnded()))
		case *http2.DataFrame:
			if len(f.Data()) > 40 {
				d.say("> DATA %d%s, %d bytes", h.StreamID, end, len(f.Data()))
			} else {
				d.say("> DATA %d%s %q", h.StreamID, end, f.Data())
			}
		case *http2.SettingsFrame:
			if f.IsAck() {
				d.say("> SETTINGS ack")
				break
			}
			var t []string
			f.ForeachSetting(func(s http2.Setting) error {
				t = append(t, fmt.Sprintf("%d=%d", s.ID, s.Val))
				return nil
			})
			d.say("> SETTINGS %s", strings.Join(t, " "))
		case *http2.PingFrame:
			if f.IsAck() {
				d.say("> PING ack %q", f.Data[:])
			} else {
				d.say("> PING")
			}
		case *http2.GoAwayFrame:
			d.say("> GOAWAY %d %v %q", f.LastStreamID, Code(f.ErrCode), f.DebugData())
		case *http2.RSTStreamFrame:
			d.say("> RST_STREAM %d %v", h.StreamID, Code(f.ErrCode))
		case *http2.WindowUpdateFrame:
			d.say("> WINDOW_UPDATE %d %d", h.StreamID, f.Increment)
		default:
			d.say("> %v", f)
		}
	}
}

func (d *side) blockText(block []byte, whole bool) string {
	if !whole {
		return "..."
	}
	fields, err := d.decoder.DecodeFull(block)
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, f := range fields {
		v := f.Value
		if len(v) > 60 {
			v = fmt.Sprintf("(%d bytes)", len(v))
		}
		parts = append(parts, f.Name+"="+v)
	}
	return strings.Join(parts, " ")
}

// pass moves the output of one side to the other; it reports whether there was any.
func pass(from, to *side) bool {
	if len(from.out.b) == 0 {
		return false
	}
	b := append([]byte(nil), from.out.b...)
	from.out.b = from.out.b[:0]
	from.c.OnDrained()
	to.input(b)
	return true
}

// settle moves bytes between two sides until there are none.
func settle(a, b *side) {
	for pass(a, b) || pass(b, a) || a.onHeld || b.onHeld {
		for _, d := range []*side{a, b} {
			if d.onHeld {
				d.onHeld = false
				d.c.Deliver()
			}
		}
	}
}

// input feeds bytes, of which all must be consumed.
func (d *side) input(b []byte) {
	n, err := d.c.Feed(b)
	if err != nil {
		d.say("* error: %v", err)
	} else if n < len(b) {
		d.say("* %d bytes left", len(b)-n)
	}
}
