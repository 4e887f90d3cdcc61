package peer

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mallamesh/malla/test/envoy/scenario"
)

// h2 is the client's side of HTTP/2. A request is written for people:
//
//	POST /path
//	:authority: other.example
//	x-name: value
//
//	the body
//	(trailers)
//	x-end: yes
//
// The title says which stream it is about (stream=NAME), and whether the stream stays
// open (open). "send data" sends more of the body, "send reset" a RST_STREAM with
// code=N, "send raw" bytes as they are.
type h2 struct {
	framer *http2.Framer
	out    sync.Mutex    // guards writing and enc
	all    *bufio.Writer // guarded by out: what a step sends goes at once, so that it is not chance what the proxy reads together
	sends  bool          // guarded by out: a step is not yet over
	enc    *hpack.Encoder
	block  bytes.Buffer
	scheme string

	mu      sync.Mutex // guards what follows
	cond    *sync.Cond
	streams map[uint32]*h2stream
	named   map[string]*h2stream
	next    uint32
	window  int64 // what may still be sent on the connection
	initial int64 // of streams
	offer   offer
	goaway  string
	err     error // the connection has ended
}

type h2stream struct {
	id      uint32
	window  int64
	headers [][]hpack.HeaderField // blocks in order
	body    []byte
	ended   bool
	open    bool // the request has not ended
	reset   string
	noticed int
}

// newH2 opens the protocol on a connection and reads it from then on.
func newH2(c *conn) (*h2, error) {
	all := bufio.NewWriterSize(c.Conn, 1<<16)
	h := &h2{all: all, framer: http2.NewFramer(all, c.Conn), streams: map[uint32]*h2stream{}, named: map[string]*h2stream{}, next: 1, window: 65535, initial: 65535, scheme: "http"}
	h.cond = sync.NewCond(&h.mu)
	h.enc = hpack.NewEncoder(&h.block)
	h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, secure := c.Conn.(*tls.Conn); secure {
		h.scheme = "https"
	}
	if _, err := io.WriteString(all, http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := h.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}); err != nil {
		return nil, err
	}
	if err := h.framer.WriteWindowUpdate(0, 16<<20); err != nil {
		return nil, err
	}
	if err := all.Flush(); err != nil {
		return nil, err
	}
	go h.read()
	return h, nil
}

// read takes frames in until the connection ends.
func (h *h2) read() {
	for {
		f, err := h.framer.ReadFrame()
		var reply func() error
		h.mu.Lock()
		if err != nil {
			if _, stream := err.(http2.StreamError); !stream {
				h.err = err
				h.cond.Broadcast()
				h.mu.Unlock()
				return
			}
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if s := h.streams[f.StreamID]; s != nil {
				s.headers = append(s.headers, append([]hpack.HeaderField(nil), f.Fields...))
				s.ended = s.ended || f.StreamEnded()
			}
		case *http2.DataFrame:
			if s := h.streams[f.StreamID]; s != nil {
				s.body = append(s.body, f.Data()...)
				s.ended = s.ended || f.StreamEnded()
			}
			if n, id := uint32(len(f.Data())), f.StreamID; n > 0 {
				reply = func() error {
					_ = h.framer.WriteWindowUpdate(0, n)
					return h.framer.WriteWindowUpdate(id, n)
				}
			}
		case *http2.RSTStreamFrame:
			if s := h.streams[f.StreamID]; s != nil {
				s.reset = f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			h.goaway = fmt.Sprintf("GOAWAY %s", f.ErrCode)
		case *http2.SettingsFrame:
			h.offer.settings(f)
			if !f.IsAck() {
				if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
					for _, s := range h.streams {
						s.window += int64(v) - h.initial
					}
					h.initial = int64(v)
				}
				reply = h.framer.WriteSettingsAck
			}
		case *http2.PingFrame:
			if data := f.Data; !f.IsAck() {
				reply = func() error { return h.framer.WritePing(true, data) }
			}
		case *http2.WindowUpdateFrame:
			h.offer.window(f)
			if f.StreamID == 0 {
				h.window += int64(f.Increment)
			} else if s := h.streams[f.StreamID]; s != nil {
				s.window += int64(f.Increment)
			}
		}
		h.cond.Broadcast()
		h.mu.Unlock()
		if reply != nil {
			h.out.Lock()
			if _ = reply(); !h.sends {
				_ = h.all.Flush()
			}
			h.out.Unlock()
		}
	}
}

// wait waits until a condition holds, the connection ends, or the time is over.
func (h *h2) wait(limit time.Duration, until func() bool) bool {
	end := time.Now().Add(limit)
	wake := time.AfterFunc(limit, h.cond.Broadcast)
	defer wake.Stop()
	for !until() && h.err == nil && time.Now().Before(end) {
		h.cond.Wait()
	}
	return until()
}

func (h *h2) send(c *conn, step scenario.Step) error {
	h.out.Lock()
	h.sends = true
	h.out.Unlock()
	defer h.flush()
	switch {
	case step.Has("raw"):
		text, err := scenario.Bytes(step.Text)
		if err != nil {
			return err
		}
		h.out.Lock()
		defer h.out.Unlock()
		_, _ = io.WriteString(h.all, strings.TrimSuffix(text, "\r\n"))
		return nil
	case step.Has("reset"):
		code := 8 // CANCEL
		if text := step.Attrs["code"]; text != "" {
			if _, err := fmt.Sscan(text, &code); err != nil {
				return err
			}
		}
		s := h.stream(step)
		if s == nil {
			return fmt.Errorf("there is no stream %q", step.Attrs["stream"])
		}
		h.out.Lock()
		defer h.out.Unlock()
		_ = h.framer.WriteRSTStream(s.id, http2.ErrCode(code))
		return nil
	case step.Has("data"):
		s := h.stream(step)
		if s == nil {
			return fmt.Errorf("there is no stream %q", step.Attrs["stream"])
		}
		body, err := scenario.Lines(step.Text)
		if err != nil {
			return err
		}
		h.mu.Lock()
		s.open = s.open && step.Has("open")
		h.mu.Unlock()
		h.data(s, []byte(body), !step.Has("open"))
		return nil
	}
	m, err := parseMessage(step.Text, h.scheme)
	if err != nil {
		return err
	}
	h.mu.Lock()
	s := &h2stream{id: h.next, window: h.initial}
	h.next += 2
	h.streams[s.id], h.named[step.Attrs["stream"]] = s, s
	h.mu.Unlock()
	open := step.Has("open")
	h.mu.Lock()
	s.open = open
	h.mu.Unlock()
	h.headers(s, m.headers, m.body == "" && m.trailers == nil && !open)
	if m.body != "" {
		h.data(s, []byte(m.body), m.trailers == nil && !open)
	}
	if m.trailers != nil {
		h.headers(s, m.trailers, true)
	}
	return nil
}

// flush sends what has been written. An error shows in read.
func (h *h2) flush() {
	h.out.Lock()
	defer h.out.Unlock()
	h.sends = false
	_ = h.all.Flush()
}

func (h *h2) stream(step scenario.Step) *h2stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.named[step.Attrs["stream"]]
}

// headers writes a block, in as many frames as it needs. An error shows in read.
func (h *h2) headers(s *h2stream, fields []hpack.HeaderField, end bool) {
	h.out.Lock()
	defer h.out.Unlock()
	h.block.Reset()
	for _, f := range fields {
		_ = h.enc.WriteField(f)
	}
	const most = 16384
	block := h.block.Bytes()
	piece := block[:min(most, len(block))]
	block = block[len(piece):]
	_ = h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: piece, EndStream: end, EndHeaders: len(block) == 0})
	for len(block) > 0 {
		piece = block[:min(most, len(block))]
		block = block[len(piece):]
		_ = h.framer.WriteContinuation(s.id, len(block) == 0, piece)
	}
}

// data writes a body as the windows allow; what they never allow stays unsent.
func (h *h2) data(s *h2stream, body []byte, end bool) {
	for {
		h.mu.Lock()
		may := func() bool { return len(body) == 0 || h.window > 0 && s.window > 0 || s.reset != "" }
		if !may() { // the proxy is to see what it gives windows for
			h.mu.Unlock()
			h.flush()
			h.mu.Lock()
		}
		fits := h.wait(answerTime, may)
		n := min(int64(len(body)), h.window, s.window, 16384)
		if !fits || s.reset != "" {
			h.mu.Unlock()
			return
		}
		h.window, s.window = h.window-n, s.window-n
		h.mu.Unlock()
		last := n == int64(len(body))
		h.out.Lock()
		err := h.framer.WriteData(s.id, last && end, body[:n])
		h.out.Unlock()
		if body = body[n:]; last || err != nil {
			return
		}
	}
}

func (h *h2) receive(c *conn, step scenario.Step, note func(key, value string)) error {
	s := h.stream(step)
	if s == nil {
		return fmt.Errorf("there is no stream %q", step.Attrs["stream"])
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// headers is about the beginning of an answer, everything else about all of it.
	done := func() bool { return s.ended || s.reset != "" || step.Has("headers") && len(s.headers) > 0 }
	if !h.wait(c.wait, done) && h.err == nil {
		note("error", "no end of the answer: "+late)
	}
	if s.ended && s.open { // a RST_STREAM for the rest of the request may follow
		h.wait(silentTime, func() bool { return s.reset != "" })
	}
	for ; s.noticed < len(s.headers); s.noticed++ {
		block := s.headers[s.noticed]
		if len(block) > 0 && block[0].Name == ":status" {
			if block[0].Value[0] == '1' && block[0].Value != "101" {
				note(fmt.Sprintf("interim %d", s.noticed+1), block[0].Value)
				continue
			}
			note("status", block[0].Value)
			headers(plain(block[1:]), note)
			continue
		}
		for _, f := range block {
			note("trailer "+f.Name, f.Value)
		}
	}
	if step.Has("headers") {
		return nil
	}
	note("body", short(plainly(s.coding(), s.body)))
	if s.reset != "" {
		note("reset", s.reset)
	}
	if h.err != nil && !done() {
		note("error", "no end of the answer: "+reason(h.err))
	}
	return nil
}

// coding is what the answer says of its body.
func (s *h2stream) coding() string {
	for _, block := range s.headers {
		for _, f := range block {
			if f.Name == "content-encoding" {
				return f.Value
			}
		}
	}
	return ""
}

// look waits for the end of the connection and says how it came.
func (h *h2) look(wait time.Duration) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	fate := "open"
	if h.goaway != "" {
		wait = endTime
	}
	if h.wait(wait, func() bool { return h.err != nil }) {
		fate = reason(h.err)
	}
	return strings.TrimPrefix(h.goaway+", "+fate, ", ")
}

func plain(block []hpack.HeaderField) []field {
	var out []field
	for _, f := range block {
		out = append(out, field{f.Name, f.Value})
	}
	return out
}

// A message is a request or an answer as people write it for HTTP/2.
type message struct {
	headers, trailers []hpack.HeaderField
	body              string
}

// parseMessage reads one. The first line is METHOD PATH, or a status code.
func parseMessage(text, scheme string) (*message, error) {
	text, trailers, hasTrailers := strings.Cut(text, "(trailers)\n")
	head, body, _ := strings.Cut(text, "\n\n")
	m := &message{}
	first, rest, _ := strings.Cut(head, "\n")
	method, path, request := strings.Cut(first, " ")
	switch {
	case strings.HasPrefix(first, ":"):
		rest = head
	case request:
		m.headers = []hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":path", Value: path}, {Name: ":scheme", Value: scheme}}
		if !strings.Contains("\n"+rest, "\n:authority:") {
			m.headers = append(m.headers, hpack.HeaderField{Name: ":authority", Value: "test.example"})
		}
	default:
		m.headers = []hpack.HeaderField{{Name: ":status", Value: first}}
	}
	fields, err := parseFields(rest)
	if err != nil {
		return nil, err
	}
	m.headers = append(m.headers, fields...)
	if hasTrailers {
		if m.trailers, err = parseFields(trailers); err != nil {
			return nil, err
		}
	}
	m.body, err = scenario.Lines(body)
	return m, err
}

func parseFields(text string) ([]hpack.HeaderField, error) {
	var out []hpack.HeaderField
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if l == "" {
			continue
		}
		i := strings.Index(l[1:], ":") + 1
		if i == 0 {
			return nil, fmt.Errorf("found header %q, want NAME: VALUE", l)
		}
		value, err := scenario.Lines(strings.TrimPrefix(l[i+1:], " "))
		if err != nil {
			return nil, err
		}
		out = append(out, hpack.HeaderField{Name: l[:i], Value: value})
	}
	return out, nil
}

// offered tells the proxy's offer.
func (h *h2) offered() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.offer.take()
}
