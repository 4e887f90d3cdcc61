package h2

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mallamesh/malla/proxy/header"
)

var update = flag.Bool("update", false, "write what happened into the stories")

// An interval gets up to its share of jitter, and connections do not all get the same.
func TestKeepaliveJitter(t *testing.T) {
	seen := map[int64]bool{}
	for range 50 {
		c := Conn{o: Options{PingInterval: 1000, PingJitter: 15}}
		next, err := c.Keepalive(1)
		if err != nil || next < 1001 || next >= 1151 {
			t.Fatalf("the first PING is at %d (%v), want 1001 to 1150", next, err)
		}
		seen[next] = true
	}
	if len(seen) < 2 {
		t.Error("all connections ask at the same time")
	}
}

// Stories are what one end does with what comes. A line that is not indented is a frame from
// the peer, or what our side does (lower case); the indented lines below it are what follows:
// events (*) and frames (>).
func TestStories(t *testing.T) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	if len(paths) == 0 {
		t.Fatal("no stories")
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range archive.Files {
			got := (&story{t: t, name: f.Name}).run(string(f.Data))
			if got == string(f.Data) {
				continue
			}
			if *update {
				archive.Files[i].Data = []byte(got)
				continue
			}
			t.Errorf("%s: %s:\n%s\nwant:\n%s", path, f.Name, got, f.Data)
		}
		if *update {
			if err := os.WriteFile(path, txtar.Format(archive), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}

type story struct {
	t       *testing.T
	name    string
	o       Options
	d       *side
	in      bytes.Buffer
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	hold    bool
}

func (y *story) run(text string) string {
	y.framer = http2.NewFramer(&y.in, nil)
	y.framer.AllowIllegalWrites = true
	y.encoder = hpack.NewEncoder(&y.block)
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		y.line(strings.Fields(line))
		if y.d == nil {
			continue
		}
		if !y.hold {
			for len(y.d.out.b) > 0 {
				b := append([]byte(nil), y.d.out.b...)
				y.d.out.b = y.d.out.b[:0]
				y.d.frames(b)
				y.d.c.OnDrained()
			}
		}
		if y.d.onHeld {
			y.d.onHeld = false
			y.d.c.Deliver()
		}
		out.WriteString(collapse(y.d.log.String()))
		y.d.log.Reset()
	}
	return out.String()
}

// collapse makes one line of many that are the same.
func collapse(text string) string {
	var out strings.Builder
	last, n := "", 0
	flush := func() {
		switch {
		case n == 1:
			out.WriteString(last)
		case n > 1:
			fmt.Fprintf(&out, "%s (%d times)\n", strings.TrimSuffix(last, "\n"), n)
		}
	}
	for line := range strings.Lines(text) {
		if line != last {
			flush()
			last, n = line, 0
		}
		n++
	}
	flush()
	return out.String()
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// bodyOf makes a body of a word: N zeros of "zeros:N".
func bodyOf(words []string) []byte {
	if len(words) == 0 {
		return nil
	}
	if n, ok := strings.CutPrefix(words[0], "zeros:"); ok {
		return make([]byte, number(n))
	}
	return []byte(strings.Join(words, " "))
}

func cutWord(words []string, word string) ([]string, bool) {
	if len(words) > 0 && words[0] == word {
		return words[1:], true
	}
	return words, false
}

func mapOf(words []string) *header.Map {
	m := new(header.Map)
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		m.AddNameCopy([]byte(name), bodyOf([]string{value}))
	}
	return m
}

func (y *story) line(w []string) {
	if w[0] == "server" || w[0] == "client" {
		y.begin(w)
		return
	}
	if strings.ToUpper(w[0]) == w[0] {
		y.frame(w[0], w[1:])
		y.d.input(y.in.Bytes())
		y.in.Reset()
		return
	}
	y.act(w[0], w[1:])
}

// begin makes a side, and lets the settings of both pass unless "raw" is said.
func (y *story) begin(w []string) {
	raw := false
	for _, opt := range w[1:] {
		k, v, _ := strings.Cut(opt, "=")
		switch k {
		case "raw":
			raw = true
		case "streams":
			y.o.MaxConcurrentStreams = uint32(number(v))
		case "window":
			y.o.StreamWindow = number(v)
		case "connwindow":
			y.o.ConnWindow = number(v)
		case "table":
			y.o.DecoderTable = number(v)
		case "headers":
			y.o.MaxHeaders = number(v)
		case "bytes":
			y.o.MaxHeaderBytes = number(v)
		case "connect":
			y.o.AllowConnect = true
		case "streamerrors":
			y.o.StreamErrors = true
		case "underscores":
			y.o.DropUnderscores, y.o.RejectUnderscores = v == "drop", v == "reject"
		case "ping":
			y.o.PingInterval, y.o.PingTimeout = 1000, 100
		case "idle":
			y.o.PingIdle, y.o.PingTimeout = 500, 100
		case "premature":
			y.o.Limits.PrematureResets = number(v)
		case "resets":
			y.o.Limits.ResetBurst, y.o.Limits.ResetRate = number(v), 1
		default:
			y.t.Fatalf("%s: no option %s", y.name, k)
		}
	}
	y.d = newSide(w[0] == "server", &y.o)
	if raw {
		return
	}
	y.d.quiet = true
	if y.d.c.server {
		y.d.input([]byte(preface))
	}
	y.framer.WriteSettings()
	y.framer.WriteSettingsAck()
	y.d.input(y.in.Bytes())
	y.in.Reset()
	y.d.out.b = y.d.out.b[:0]
	y.d.quiet = false
}

func (y *story) encode(words []string) []byte {
	y.block.Reset()
	for _, w := range words {
		i := strings.Index(w[1:], "=") + 1
		y.encoder.WriteField(hpack.HeaderField{Name: w[:i], Value: strings.ReplaceAll(string(bodyOf([]string{w[i+1:]})), `\n`, "\n")})
	}
	return y.block.Bytes()
}

var get = []string{":method=GET", ":scheme=http", ":authority=a.b", ":path=/"}

// frame writes a frame of the peer's.
func (y *story) frame(kind string, w []string) {
	var id uint32
	if len(w) > 0 && kind != "RAW" && kind != "SETTINGS" && kind != "PING" && kind != "PREFACE" && kind != "GOAWAY" {
		id = uint32(number(w[0]))
		w = w[1:]
	}
	switch kind {
	case "PREFACE":
		y.in.WriteString(preface)
	case "RAW":
		b, err := hex.DecodeString(strings.Join(w, ""))
		if err != nil {
			y.t.Fatal(err)
		}
		y.in.Write(b)
	case "SETTINGS":
		if _, ack := cutWord(w, "ack"); ack {
			y.framer.WriteSettingsAck()
			break
		}
		var all []http2.Setting
		for _, s := range w {
			k, v, _ := strings.Cut(s, "=")
			all = append(all, http2.Setting{ID: http2.SettingID(number(k)), Val: uint32(number(v))})
		}
		y.framer.WriteSettings(all...)
	case "GET": // a request without a body
		y.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: true, BlockFragment: y.encode(append(get, w...))})
	case "POST": // one with
		post := append([]string{":method=POST"}, get[1:]...)
		y.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: y.encode(append(post, w...))})
	case "HEADERS":
		w, end := cutWord(w, "end")
		w, open := cutWord(w, "open")
		w, self := cutWord(w, "self")
		p := http2.HeadersFrameParam{StreamID: id, EndHeaders: !open, EndStream: end, BlockFragment: y.encode(w)}
		if self {
			p.Priority = http2.PriorityParam{StreamDep: id, Weight: 1}
		}
		y.framer.WriteHeaders(p)
	case "CONTINUATION":
		w, open := cutWord(w, "open")
		y.framer.WriteContinuation(id, !open, y.encode(w))
	case "DATA":
		w, end := cutWord(w, "end")
		pad := []byte(nil)
		if len(w) > 0 && strings.HasPrefix(w[0], "pad:") {
			pad, w = make([]byte, number(w[0][4:])), w[1:]
		}
		b := bodyOf(w)
		for ; len(b) > minFrame; b = b[minFrame:] {
			y.framer.WriteData(id, false, b[:minFrame])
		}
		y.framer.WriteDataPadded(id, end, b, pad)
	case "WINDOW_UPDATE":
		y.framer.WriteWindowUpdate(id, uint32(number(w[0])))
	case "RST_STREAM":
		y.framer.WriteRSTStream(id, http2.ErrCode(number(w[0])))
	case "PRIORITY":
		y.framer.WritePriority(id, http2.PriorityParam{StreamDep: uint32(number(w[0]))})
	case "PING":
		_, ack := cutWord(w, "ack")
		y.framer.WritePing(ack, [8]byte{'1', '2', '3', '4', '5', '6', '7', '8'})
	case "GOAWAY":
		y.framer.WriteGoAway(uint32(number(w[0])), http2.ErrCode(number(w[1])), []byte("bye"))
	case "PUSH_PROMISE":
		y.framer.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true})
	case "TIMES": // id times the frame that follows
		for range id {
			y.frame(w[0], w[1:])
		}
	default:
		y.t.Fatalf("%s: no frame %s", y.name, kind)
	}
}

// act is what our side does.
func (y *story) act(verb string, w []string) {
	d := y.d
	switch verb {
	case "hold":
		y.hold = true
		d.out.mark = number(w[0])
		return
	case "flush":
		y.hold, d.out.mark = false, 0
		d.frames(append([]byte(nil), d.out.b...))
		d.out.b = d.out.b[:0]
		d.c.OnDrained()
		return
	case "drain":
		d.c.Drain()
		return
	case "goaway":
		d.c.GoAway(NoError)
		return
	case "close":
		d.c.Close()
		return
	case "state":
		d.say("active %d, can open %v, exhausted %v, done %v", d.c.Active(), d.c.CanOpen(), d.c.Exhausted(), d.c.Done())
		return
	case "time":
		d.clock = int64(number(w[0]))
		return
	case "sweep":
		d.c.Sweep(int64(number(w[0])))
		return
	case "keepalive":
		next, err := d.c.Keepalive(d.clock)
		d.say("next %d, error %v", next, err)
		return
	case "try":
		d.say("%v", d.c.TryIdle(d.clock))
		return
	case "nextid":
		d.c.nextID = uint32(number(w[0]))
		d.c.history.last = d.c.nextID - 2
		return
	case "open":
		f := &flow{d: d}
		f.s = d.c.Open(f, &f.headers, &f.trailers)
		if f.s == nil {
			d.say("no")
			return
		}
		w, end := cutWord(w, "end")
		if len(w) > 0 {
			f.s.SendHeaders(mapOf(w), end)
		}
		d.streams[f.s.ID()] = f
		return
	}
	f := d.streams[uint32(number(w[0]))]
	if f == nil {
		y.t.Fatalf("%s: no stream %s", y.name, w[0])
	}
	w, end := cutWord(w[1:], "end")
	switch verb {
	case "headers":
		f.s.SendHeaders(mapOf(w), end)
	case "informational":
		f.s.SendInformational(mapOf(w))
	case "data":
		f.s.SendData(bodyOf(w), end)
		if f.s.Full() {
			d.say("full, %d queued, stalled %v", f.s.Queued(), f.s.Stalled())
		}
	case "trailers":
		f.s.SendTrailers(mapOf(w))
	case "pause":
		f.s.Pause()
	case "resume":
		f.s.Resume()
	case "reset":
		f.gone = true
		f.s.Reset(Code(number(w[0])))
	case "release":
		f.gone = true
		f.s.Release()
	default:
		y.t.Fatalf("%s: no verb %s", y.name, verb)
	}
}
