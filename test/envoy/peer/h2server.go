package peer

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2 is an upstream that speaks HTTP/2. Answers are written as requests are, with
// the status in the first line; the words "reset" (code=N), "goaway", "close" and
// "silent" say what happens instead of an end or after it. An "early" answer ends before all that.
func (u *Upstream) h2(c net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil || string(preface) != http2.ClientPreface {
		u.note("no HTTP/2: " + string(preface))
		return
	}
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 16 << 20}) != nil || f.WriteWindowUpdate(0, 16<<20) != nil {
		return
	}
	requests := map[uint32]*strings.Builder{}
	paths := map[uint32]string{}
	tunnels := map[uint32]*message{} // that echo, with what they say at their end
	o := offer{}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		id, end := frame.Header().StreamID, false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			o.settings(frame)
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
			continue
		case *http2.WindowUpdateFrame:
			o.window(frame)
			continue
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data)
			}
			continue
		case *http2.MetaHeadersFrame:
			if paths[id] != "" && requests[id] == nil { // answered early
				continue
			}
			if requests[id] == nil {
				requests[id] = &strings.Builder{}
				requests[id].WriteString("HTTP/2 request\r\n")
				paths[id] = frame.PseudoValue("path")
				for _, h := range frame.Fields {
					fmt.Fprintf(requests[id], "%s: %s\r\n", h.Name, h.Value)
				}
				requests[id].WriteString("\r\n")
				if u.echoes() {
					tunnels[id] = u.openH2(f, id, paths[id])
				}
			} else {
				for _, h := range frame.Fields {
					fmt.Fprintf(requests[id], "\ntrailer %s: %s", h.Name, h.Value)
				}
			}
			end = frame.StreamEnded() || u.early(paths[id])
		case *http2.DataFrame:
			if b := requests[id]; b != nil {
				b.Write(frame.Data())
			}
			if tunnels[id] != nil {
				_ = f.WriteData(id, false, frame.Data())
			}
			end = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			if requests[id] != nil {
				u.note("stream ended with RST_STREAM " + frame.ErrCode.String())
			}
			continue
		}
		if end && requests[id] != nil {
			if u.script.Attrs["note"] == "settings" && !o.settled {
				u.note(o.take())
			}
			u.note(requests[id].String())
			delete(requests, id)
			if m := tunnels[id]; m != nil {
				delete(tunnels, id)
				endH2(f, id, m)
				continue
			}
			if !u.sayH2(c, f, id, paths[id]) {
				return
			}
		}
	}
}

// echoes reports whether requests are tunnels.
func (u *Upstream) echoes() bool {
	for _, a := range u.script.Answers {
		if a.Has("echo") {
			return true
		}
	}
	return false
}

// early reports whether the answer to a path comes before the request's body.
func (u *Upstream) early(path string) bool {
	for _, a := range u.script.Answers {
		if a.Has("early") && strings.HasPrefix(path, a.Attrs["path"]) {
			return true
		}
	}
	return false
}

// openH2 agrees to a tunnel, or refuses it (nil).
func (u *Upstream) openH2(f *http2.Framer, id uint32, path string) *message {
	m, err := parseMessage(u.next(path).Text, "")
	if err != nil {
		u.note("(the scenario's answer: " + err.Error() + ")")
		return nil
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: encode(m.headers), EndHeaders: true})
	if m.body != "" {
		_ = f.WriteData(id, false, []byte(m.body))
	}
	return m
}

// endH2 ends a tunnel whose other side has ended.
func endH2(f *http2.Framer, id uint32, m *message) {
	if m.trailers == nil {
		_ = f.WriteData(id, true, nil)
		return
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: encode(m.trailers), EndHeaders: true, EndStream: true})
}

// sayH2 answers one request; false ends the connection.
func (u *Upstream) sayH2(c net.Conn, f *http2.Framer, id uint32, path string) bool {
	answer := u.next(path)
	if answer.Attrs == nil {
		answer.Text = "200\n\nok"
	}
	if d, err := time.ParseDuration(answer.Attrs["delay"]); err == nil {
		time.Sleep(d)
	}
	code := 8
	_, _ = fmt.Sscan(answer.Attrs["code"], &code)
	cut := !answer.Has("early") && (answer.Has("reset") || answer.Has("close") || answer.Has("silent"))
	if answer.Text != "" {
		m, err := parseMessage(answer.Text, "")
		if err != nil {
			u.note("(the scenario's answer: " + err.Error() + ")")
			return false
		}
		block := encode(m.headers)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: m.body == "" && m.trailers == nil && !cut})
		for body := []byte(m.body); len(body) > 0; {
			n := min(len(body), 16384)
			_ = f.WriteData(id, n == len(body) && m.trailers == nil && !cut, body[:n])
			body = body[n:]
		}
		if m.trailers != nil {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: encode(m.trailers), EndHeaders: true, EndStream: true})
		}
	}
	switch {
	case answer.Has("reset"):
		_ = f.WriteRSTStream(id, http2.ErrCode(code))
	case answer.Has("goaway"):
		_ = f.WriteGoAway(id, http2.ErrCode(0), nil)
	case answer.Has("close"):
		return false
	}
	return true
}

// encode makes a block that needs no table: every answer may use a new encoder.
func encode(fields []hpack.HeaderField) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0)
	for _, f := range fields {
		_ = e.WriteField(f)
	}
	return b.Bytes()
}
