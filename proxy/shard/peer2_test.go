package shard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mallamesh/malla/proxy/drive"
)

// A peer2 speaks HTTP/2 on a pipe, as client or server, by x/net's framer: another
// implementation than ours.
type peer2 struct {
	p     *drive.Pipe
	in    bytes.Buffer
	out   bytes.Buffer
	fr    *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer

	events []string // what came, but for SETTINGS and WINDOW_UPDATE
	body   map[uint32]int
	onEnd  func(stream uint32, headers map[string]string) // of a message
	heads  map[uint32]map[string]string
	server bool
	front  bool // the preface has come
	hold   func([]byte)
}

func newPeer2(p *drive.Pipe, server bool, settings ...http2.Setting) *peer2 {
	c := &peer2{p: p, server: server, body: map[uint32]int{}, heads: map[uint32]map[string]string{}}
	c.fr = http2.NewFramer(&c.out, &c.in)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.block)
	if !server {
		c.out.WriteString(http2.ClientPreface)
		c.front = true
	}
	c.fr.WriteSettings(settings...)
	c.flush()
	p.OnData = func(*drive.Pipe) { c.read() }
	return c
}

func (c *peer2) flush() {
	if c.hold != nil {
		c.hold(c.out.Bytes())
	} else {
		c.p.Write(c.out.Bytes())
	}
	c.out.Reset()
}

// headers sends a header block: names and values in turn.
func (c *peer2) headers(stream uint32, end bool, fields ...string) {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block.Bytes(), EndHeaders: true, EndStream: end})
	c.flush()
}

// get sends a request without a body.
func (c *peer2) get(stream uint32, path string, more ...string) {
	c.headers(stream, true, append([]string{":method", "GET", ":scheme", "http", ":authority", "a.b", ":path", path}, more...)...)
}

// post begins a request with a body.
func (c *peer2) post(stream uint32, path string, more ...string) {
	c.headers(stream, false, append([]string{":method", "POST", ":scheme", "http", ":authority", "a.b", ":path", path}, more...)...)
}

func (c *peer2) data(stream uint32, b []byte, end bool) {
	for len(b) > 16384 {
		c.fr.WriteData(stream, false, b[:16384])
		b = b[16384:]
	}
	c.fr.WriteData(stream, end, b)
	c.flush()
}

// credit gives the other side more window, for the connection and a stream.
func (c *peer2) credit(stream uint32, n uint32) {
	c.fr.WriteWindowUpdate(0, n)
	c.fr.WriteWindowUpdate(stream, n)
	c.flush()
}

func (c *peer2) reset(stream uint32, code http2.ErrCode) {
	c.fr.WriteRSTStream(stream, code)
	c.flush()
}

func (c *peer2) goAway(last uint32, code http2.ErrCode) {
	c.fr.WriteGoAway(last, code, nil)
	c.flush()
}

// read takes down the frames that have come whole.
func (c *peer2) read() {
	c.in.WriteString(c.p.Take())
	if !c.front {
		if c.in.Len() < len(http2.ClientPreface) {
			return
		}
		if got := string(c.in.Next(len(http2.ClientPreface))); got != http2.ClientPreface {
			panic(fmt.Sprintf("preface %q", got))
		}
		c.front = true
	}
	for {
		b := c.in.Bytes()
		if len(b) < 9 || len(b) < 9+int(binary.BigEndian.Uint32(b)>>8) {
			return
		}
		f, err := c.fr.ReadFrame()
		if err != nil {
			panic(err)
		}
		c.frame(f)
	}
}

func (c *peer2) frame(f http2.Frame) {
	id := f.Header().StreamID
	note := func(format string, args ...any) { c.events = append(c.events, fmt.Sprintf(format, args...)) }
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			c.fr.WriteSettingsAck()
			c.flush()
		}
	case *http2.WindowUpdateFrame:
	case *http2.PingFrame:
		if f.IsAck() {
			note("PING ack")
			break
		}
		note("PING")
		c.fr.WritePing(true, f.Data)
		c.flush()
	case *http2.MetaHeadersFrame:
		head := map[string]string{}
		var fields []string
		for _, h := range f.Fields {
			head[h.Name] = h.Value
			fields = append(fields, h.Name+"="+h.Value)
		}
		if c.heads[id] == nil {
			c.heads[id] = head
		}
		note("HEADERS %d%s %s", id, ended(f.StreamEnded()), strings.Join(fields, " "))
		c.ended(id, f.StreamEnded())
	case *http2.DataFrame:
		c.body[id] += len(f.Data())
		if len(f.Data()) > 64 {
			note("DATA %d%s (%d bytes)", id, ended(f.StreamEnded()), len(f.Data()))
		} else {
			note("DATA %d%s %q", id, ended(f.StreamEnded()), f.Data())
		}
		c.ended(id, f.StreamEnded())
	case *http2.RSTStreamFrame:
		note("RST_STREAM %d %s", id, f.ErrCode)
	case *http2.GoAwayFrame:
		note("GOAWAY %d %s %s", f.LastStreamID, f.ErrCode, f.DebugData())
	default:
		note("%v", f.Header())
	}
}

func (c *peer2) ended(id uint32, yes bool) {
	if yes && c.onEnd != nil {
		c.onEnd(id, c.heads[id])
	}
}

func ended(yes bool) string {
	if yes {
		return " end"
	}
	return ""
}

// take returns what came since the last call, a line each.
func (c *peer2) take() string {
	s := strings.Join(c.events, "\n")
	c.events = nil
	return s
}

// newPlainEncoder returns an encoder whose blocks do not depend on what came before.
func newPlainEncoder(b *bytes.Buffer) *hpack.Encoder {
	e := hpack.NewEncoder(b)
	e.SetMaxDynamicTableSize(0)
	return e
}
