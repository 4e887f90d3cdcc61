package shard

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"

	"github.com/mallamesh/malla/proxy/drive"
)

// Who plays in [TestOrdersOfChance] stands here.

// A chanceClient speaks HTTP/1.1.
type chanceClient struct {
	w    *chance
	p    *drive.Pipe
	ids  []string // of its requests
	head []bool   // which of these are HEAD
	got  string
	more int  // chunks of the last request that are to come
	raw  bool // the last request asks for a WebSocket
}

func (c *chanceClient) act() {
	w := c.w
	c.take()
	if c.p.Closed || c.p.EOF {
		return
	}
	switch w.IntN(12) {
	case 0:
		c.p.Reset()
	case 1:
		c.p.CloseWrite()
	default:
		switch {
		case c.raw:
			c.p.WriteString("raw")
		case c.more > 1 || c.more == 1 && w.IntN(2) == 0:
			c.more--
			text := strings.Repeat("x", 1+w.IntN(1<<w.IntN(17)))
			c.p.WriteString(fmt.Sprintf("%x\r\n%s\r\n", len(text), text))
		case c.more == 1:
			c.more = 0
			c.p.WriteString("0\r\n\r\n")
		default:
			path, id := w.path()
			c.ids, c.head = append(c.ids, id), append(c.head, false)
			head := path + " HTTP/1.1\r\nHost: a\r\nx-id: " + id + "\r\n"
			switch w.IntN(10) {
			case 0:
				c.raw = true
				c.p.WriteString("GET " + head + "connection: upgrade\r\nupgrade: websocket\r\n\r\n")
			case 1, 2, 3:
				c.more = 1 + w.IntN(4)
				c.p.WriteString("POST " + head + "transfer-encoding: chunked\r\n\r\n")
			case 4:
				c.head[len(c.head)-1] = true
				c.p.WriteString("HEAD " + head + "\r\n")
			case 5:
				c.p.WriteString("PUT " + head + "content-length: 4\r\n\r\nbody")
			default:
				c.p.WriteString("GET " + head + "\r\n")
			}
		}
	}
}

func (c *chanceClient) take() { c.got += c.p.Take() }

// check looks whether what came are answers to what was asked, in order.
func (c *chanceClient) check() {
	text := strings.NewReader(c.got)
	r := bufio.NewReader(text)
	for i := 0; ; {
		if !strings.Contains(c.got[len(c.got)-text.Len()-r.Buffered():], "\r\n\r\n") {
			return // broken off
		}
		q := &http.Request{Method: "GET"}
		if i < len(c.head) && c.head[i] {
			q.Method = "HEAD"
		}
		resp, err := http.ReadResponse(r, q)
		if err != nil {
			c.w.t.Errorf("a client of HTTP/1.1 got %q: %v", c.got, err)
			return
		}
		if resp.StatusCode < 200 && resp.StatusCode != 101 {
			continue
		}
		if i == len(c.ids) {
			c.w.t.Errorf("a client of HTTP/1.1 has asked %d times and got %q", len(c.ids), c.got)
			return
		}
		if resp.StatusCode == 101 {
			answerTo(c.w, c.ids[i], resp.Header.Get("x-answer"), "")
			return
		}
		body, _ := io.ReadAll(resp.Body)
		answerTo(c.w, c.ids[i], resp.Header.Get("x-answer"), string(body))
		i++
	}
}

// answerTo looks whether an answer of a host is one to a request.
func answerTo(w *chance, asked, said, body string) {
	if rest := strings.ReplaceAll(body, asked+";", ""); said != "" && (said != asked || !strings.HasPrefix(asked+";", rest)) { // it may be broken off
		w.t.Errorf("the request %s has the answer to %q, with %q", asked, said, rest)
	}
}

// A chanceClient2 speaks HTTP/2.
type chanceClient2 struct {
	w    *chance
	peer *peer2
	next uint32
	ids  map[uint32]string
	open []uint32 // of which the request has not ended
}

// settings allow as much as chance says.
func (w *chance) settings() (list []http2.Setting) {
	if w.IntN(3) == 0 {
		list = append(list, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(1 + w.IntN(3))})
	}
	if w.IntN(3) == 0 {
		list = append(list, http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(w.IntN(2000))})
	}
	return list
}

func (c *chanceClient2) act() {
	w := c.w
	if c.peer.p.Closed || c.peer.p.EOF {
		return
	}
	switch n := w.IntN(20); {
	case n == 0:
		c.peer.p.Reset()
	case n == 1:
		c.peer.goAway(0, http2.ErrCodeNo)
	case n == 2 && c.next > 1:
		c.peer.credit(1+2*uint32(w.IntN(int(c.next/2))), uint32(1+w.IntN(5000)))
	case n < 5 && c.next > 1:
		c.peer.reset(1+2*uint32(w.IntN(int(c.next/2))), http2.ErrCodeCancel)
	case n < 12 && len(c.open) > 0:
		i := w.IntN(len(c.open))
		id, end := c.open[i], w.IntN(2) == 0
		if end {
			c.open = slices.Delete(c.open, i, i+1)
		}
		if end && w.IntN(3) == 0 {
			c.peer.headers(id, true, "x-trailer", "1")
		} else {
			c.peer.data(id, []byte(strings.Repeat("x", w.IntN(1<<w.IntN(15)))), end)
		}
	default:
		path, id := w.path()
		if c.ids == nil {
			c.ids = map[uint32]string{}
		}
		c.ids[c.next] = id
		if w.IntN(2) == 0 {
			c.peer.get(c.next, path, "x-id", id)
		} else {
			fields := []string{"x-id", id}
			if w.IntN(4) == 0 {
				fields = append(fields, "content-length", strconv.Itoa(w.IntN(1000)))
			}
			c.peer.post(c.next, path, fields...)
			c.open = append(c.open, c.next)
		}
		c.next += 2
	}
}

func (c *chanceClient2) check() {
	for stream, head := range c.peer.heads {
		answerTo(c.w, c.ids[stream], head["x-answer"], "")
	}
}

// A chanceHost speaks HTTP/1.1.
type chanceHost struct {
	w     *chance
	p     *drive.Pipe
	got   string
	id    string // of the request that it has; empty: none
	stage int
	raw   bool // the request asks for a WebSocket
	shut  bool // it has ended its side
}

func (w *chance) host(p *drive.Pipe) {
	h := &chanceHost{w: w, p: p}
	if w.IntN(4) == 0 {
		p.Window = 1 + w.IntN(2000)
	}
	p.OnData = func(p *drive.Pipe) {
		h.got += p.Take()
		h.look()
	}
	w.hosts = append(w.hosts, h)
}

// look finds the next request. That it has come whole is not looked for.
func (h *chanceHost) look() {
	if h.id != "" {
		return
	}
	_, after, _ := strings.Cut(h.got, "x-id: ") // behind what is left of the body of the last one
	if head, rest, ok := strings.Cut(after, "\r\n\r\n"); ok {
		h.id, _, _ = strings.Cut(head, "\r\n")
		h.raw = strings.Contains(head, "upgrade: websocket")
		h.got, h.stage = rest, 0
	}
}

func (h *chanceHost) act() {
	w, p := h.w, h.p
	if p.Closed || p.EOF || h.shut {
		return
	}
	if h.id == "" {
		switch w.IntN(20) {
		case 0:
			p.Reset()
		case 1:
			h.end()
		}
		return
	}
	mark := "x-answer: " + h.id + "\r\n"
	part := strings.Repeat(h.id+";", 1+w.IntN(300))
	done := func() {
		h.id = ""
		h.look()
	}
	if h.stage == 2 { // of 100,000 bytes, which never come all
		switch w.IntN(4) {
		case 0:
			p.Reset()
		case 1:
			h.end()
		default:
			p.WriteString(h.id + ";")
		}
		return
	}
	if h.stage == 1 {
		switch w.IntN(6) {
		case 0:
			p.Reset()
		case 1:
			p.WriteString("0\r\n\r\n")
			done()
		case 2:
			p.WriteString("0\r\nx-sum: 1\r\n\r\n")
			done()
		default:
			p.WriteString(fmt.Sprintf("%x\r\n%s\r\n", len(part), part))
		}
		return
	}
	if h.raw && w.IntN(2) == 0 {
		p.WriteString("HTTP/1.1 101 Switch\r\n" + mark + "connection: upgrade\r\nupgrade: websocket\r\n\r\n")
		h.stage = 2
		return
	}
	switch w.IntN(14) {
	case 12, 13:
		p.WriteString("HTTP/1.1 302 Found\r\n" + mark + "location: http://a/" + pick(w, []string{"app/follow", "two/plain", "app/hedge", "nowhere"}) + "\r\ncontent-length: 0\r\n\r\n")
		done()
	case 0:
		p.Reset()
	case 1:
		h.end()
	case 2:
		p.WriteString("HTTP/1.1 103 Early\r\n\r\n")
	case 3:
		p.WriteString("HTTP/1.1 204 No\r\n" + mark + "\r\n")
		done()
	case 4, 5:
		p.WriteString("HTTP/1.1 503 No\r\n" + mark + "content-length: " + strconv.Itoa(len(part)) + "\r\n\r\n" + part)
		done()
	case 6:
		p.WriteString("HTTP/1.1 200 OK\r\n" + mark + "\r\n" + part)
		h.end()
	case 7:
		p.WriteString("HTTP/1.1 200 OK\r\n" + mark + "content-length: 100000\r\n\r\n" + part)
		h.stage = 2
	case 8, 9:
		p.WriteString("HTTP/1.1 200 OK\r\n" + mark + "transfer-encoding: chunked\r\n\r\n")
		h.stage = 1
	default:
		p.WriteString("HTTP/1.1 200 OK\r\n" + mark + "content-length: " + strconv.Itoa(len(part)) + "\r\n\r\n" + part)
		done()
	}
}

func (h *chanceHost) end() {
	h.shut = true
	h.p.CloseWrite()
}

// A chanceHost2 speaks HTTP/2.
type chanceHost2 struct {
	w     *chance
	peer  *peer2
	begun map[uint32]bool
	ended map[uint32]bool
	shut  bool // it has ended its side
}

func (w *chance) host2(p *drive.Pipe) {
	w.hosts2 = append(w.hosts2, &chanceHost2{w: w, peer: newPeer2(p, true, w.settings()...), begun: map[uint32]bool{}, ended: map[uint32]bool{}})
}

func (h *chanceHost2) act() {
	w, p := h.w, h.peer
	if p.p.Closed || p.p.EOF || h.shut {
		return
	}
	var open []uint32
	for _, id := range slices.Sorted(maps.Keys(p.heads)) {
		if !h.ended[id] {
			open = append(open, id)
		}
	}
	if len(open) == 0 || w.IntN(15) == 0 {
		switch w.IntN(8) {
		case 0:
			p.p.Reset()
		case 1:
			last := uint32(0)
			for id := range p.heads {
				if w.IntN(2) == 0 {
					last = max(last, id)
				}
			}
			p.goAway(last, http2.ErrCodeNo)
		case 2:
			p.fr.WritePing(false, [8]byte{1})
			p.flush()
		case 3:
			h.shut = true
			p.p.CloseWrite()
		}
		return
	}
	stream := pick(w, open)
	id := p.heads[stream]["x-id"]
	end := w.IntN(3) == 0
	switch n := w.IntN(9); {
	case n == 8:
		p.credit(stream, uint32(1+w.IntN(5000)))
		end = false
	case n == 0:
		p.reset(stream, pick(w, []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeCancel, http2.ErrCodeNo}))
		end = true
	case !h.begun[stream] && n == 1:
		p.headers(stream, false, ":status", "103")
		end = false
	case !h.begun[stream]:
		p.headers(stream, end, ":status", pick(w, []string{"200", "200", "503"}), "x-answer", id)
		h.begun[stream] = true
	case end && n == 1:
		p.headers(stream, true, "x-sum", "1")
	default:
		p.data(stream, []byte(strings.Repeat(id+";", 1+w.IntN(300))), end)
	}
	h.ended[stream] = end
}
