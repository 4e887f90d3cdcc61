package chance

import (
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wrongs are moves that RFC 9113 does not allow, or that ask for care.
var wrongs = []func(*player){
	(*player).wrongFields, (*player).wrongFields, (*player).wrongFields, (*player).wrongFields, (*player).wrongTrailers,
	(*player).wrongStream, (*player).wrongStream, (*player).wrongLength, (*player).wrongSettings, (*player).wrongWindow, (*player).wrongBlock, (*player).wrongOrder,
	(*player).wrongContent, (*player).wrongContent, (*player).goAway,
}

// wrongFields asks with fields that no request may have.
func (p *player) wrongFields() {
	f := p.fields()
	extra := one(p,
		hpack.HeaderField{Name: "X-Upper", Value: "case"}, hpack.HeaderField{Name: "connection", Value: "close"}, hpack.HeaderField{Name: "connection", Value: "x-some"},
		hpack.HeaderField{Name: "transfer-encoding", Value: "chunked"}, hpack.HeaderField{Name: "te", Value: "gzip"}, hpack.HeaderField{Name: "keep-alive", Value: "1"},
		hpack.HeaderField{Name: "proxy-connection", Value: "close"}, hpack.HeaderField{Name: "upgrade", Value: "websocket"}, hpack.HeaderField{Name: ":unknown", Value: "x"},
		hpack.HeaderField{Name: ":status", Value: "200"}, hpack.HeaderField{Name: ":path", Value: "/twice"}, hpack.HeaderField{Name: ":method", Value: "POST"},
		hpack.HeaderField{Name: ":authority", Value: "twice"}, hpack.HeaderField{Name: "", Value: "no name"}, hpack.HeaderField{Name: "x bad", Value: "name"},
		hpack.HeaderField{Name: "x-bad", Value: "a\rb"}, hpack.HeaderField{Name: "x-bad", Value: "a\nb"}, hpack.HeaderField{Name: "x-bad", Value: "a\x00b"},
		hpack.HeaderField{Name: "x-bad", Value: " spaces "}, hpack.HeaderField{Name: "x-bad", Value: "a\x01b"}, hpack.HeaderField{Name: "x-bad", Value: "\x7f"},
		hpack.HeaderField{Name: "host", Value: "other.example"}, hpack.HeaderField{Name: "host", Value: "bad host"}, hpack.HeaderField{Name: "x:colon", Value: "a"},
		hpack.HeaderField{Name: "content-length", Value: "-1"}, hpack.HeaderField{Name: "content-length", Value: "1x"}, hpack.HeaderField{Name: "content-length", Value: "+1"},
		hpack.HeaderField{Name: "content-length", Value: ""}, hpack.HeaderField{Name: "content-length", Value: "18446744073709551616"}, hpack.HeaderField{Name: ":protocol", Value: "websocket"},
	)
	switch p.IntN(5) {
	case 0: // one is not there
		i := p.IntN(4)
		f = append(f[:i:i], f[i+1:]...)
	case 1: // one is not what it should be
		bad := map[string][]string{
			":method": {"", "get", "G T", "GET\r", "CONNECT", "TRACE", "M\xc3", strings.Repeat("M", 50)}, ":scheme": {"", "ftp", "HTTP", "h ttp", "://"},
			":path":      {"", "a", "*", "//", "/a b", "/a\tb", "/#x", "/\x00", "/\xc3\xa9", "http://x/", "?q", "/%zz", "/a\\b", "/..", "/%2e%2e/", "/a#b"},
			":authority": {"", "a b", "u@h", "h:99999", "h:", "[::1]", "[::1", "a/b", "a?b", "h:8o", "\xff", "a,b"},
		}
		i := p.IntN(4)
		f[i].Value = one(p, bad[f[i].Name]...)
	case 2: // somewhere
		i := p.IntN(len(f) + 1)
		f = append(f[:i:i], append([]hpack.HeaderField{extra}, f[i:]...)...)
	default:
		f = append(f, extra)
	}
	p.request(f, p.IntN(3) > 0)
}

// wrongTrailers ends a request with fields that no trailers may have.
func (p *player) wrongTrailers() {
	id := p.any()
	f := []hpack.HeaderField{one(p,
		hpack.HeaderField{Name: ":path", Value: "/"}, hpack.HeaderField{Name: "X-Upper", Value: "a"}, hpack.HeaderField{Name: "connection", Value: "close"},
		hpack.HeaderField{Name: "content-length", Value: "5"}, hpack.HeaderField{Name: "x-bad", Value: "a\nb"}, hpack.HeaderField{Name: "", Value: "a"}, hpack.HeaderField{Name: "te", Value: "trailers"},
		hpack.HeaderField{Name: "host", Value: "a"}, hpack.HeaderField{Name: "x-plain", Value: "without an end"})}
	p.trailers(id, f, f[0].Name != "x-plain" && p.IntN(4) > 0)
}

// wrongStream says something of a stream of which it may not be said.
func (p *player) wrongStream() {
	id := one(p, 0, 2, p.next, p.next+6, max(p.some(), 1))
	if len(p.closed) > 0 && p.IntN(2) == 0 {
		id = one(p, p.closed...)
	}
	switch kind := p.IntN(6); kind {
	case 0:
		_ = p.f.WriteData(id, p.IntN(2) == 0, make([]byte, p.IntN(100)))
		p.did("data of %d", id)
	case 1:
		end := p.IntN(2) == 0
		how := p.head(id, p.encoded(p.fields()), end)
		if id >= p.next && id%2 == 1 {
			p.next, p.Whole[id] = id+2, end
		}
		p.did("headers %s", how)
	case 2:
		_ = p.f.WriteRSTStream(id, http2.ErrCodeCancel)
		p.did("reset of %d", id)
	case 3:
		_ = p.f.WriteWindowUpdate(id, 10)
		p.did("window of %d", id)
	case 4:
		_ = p.f.WriteContinuation(id, true, nil)
		p.did("continuation of %d", id)
	default:
		_ = p.f.WriteRawFrame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, id, []byte{0, 0, 0, 4, 0x82})
		p.did("push promise of %d", id)
	}
}

// wrongLength is a frame whose length is not that of its type.
func (p *player) wrongLength() {
	kind := one(p, http2.FrameSettings, http2.FramePing, http2.FrameRSTStream, http2.FrameWindowUpdate, http2.FramePriority, http2.FrameGoAway, http2.FrameData, http2.FrameHeaders)
	id, n := uint32(0), one(p, 0, 1, 3, 5, 7, 9, 16384, 16385)
	if kind == http2.FrameRSTStream || kind == http2.FramePriority || kind == http2.FrameData || kind == http2.FrameHeaders {
		id = p.any()
		if kind == http2.FrameData || kind == http2.FrameHeaders {
			n = 16385
		}
		p.end(id)
	}
	_ = p.f.WriteRawFrame(kind, 0, id, make([]byte, n))
	p.did("%v of %d with %d bytes", kind, id, n)
}

func (p *player) wrongSettings() {
	switch p.IntN(6) {
	case 0:
		_ = p.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		p.did("settings: window 2^31")
	case 1:
		v := one[uint32](p, 0, 16383, 1<<24)
		_ = p.f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: v})
		p.did("settings: frame size %d", v)
	case 2:
		_ = p.f.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2})
		p.did("settings: push 2")
	case 3:
		_ = p.f.WriteRawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, make([]byte, 6))
		p.did("settings: ack with payload")
	case 4:
		_ = p.f.WriteRawFrame(http2.FrameSettings, 0, 1, nil)
		p.did("settings of 1")
	default:
		_ = p.f.WriteRawFrame(http2.FramePing, 0, 1, make([]byte, 8))
		p.did("ping of 1")
	}
}

func (p *player) wrongWindow() {
	id := one(p, 0, p.any())
	by := one[uint32](p, 0, 1<<31-1)
	_ = p.f.WriteWindowUpdate(id, by)
	p.did("window of %d by %d", id, by)
}

// wrongBlock is a header block that cannot be decoded.
func (p *player) wrongBlock() {
	good := p.encoded(p.fields())
	block := one(p, []byte{0x80}, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte{0xfe}, good[:len(good)-1], append([]byte{0x3f, 0xe1, 0xff, 0x0f}, good...), append(good, 0x20), []byte{0x00, 0x81, 0xff, 0x01, 'a'}, nil)
	id := p.next
	p.next += 2
	end := p.IntN(2) == 0
	_ = p.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: end, EndHeaders: true}) // whole: Envoy decodes as it comes
	p.Whole[id] = end
	p.did("bad block of %d: %x, end %v", id, block, end)
}

// wrongOrder puts a frame into the middle of a header block.
func (p *player) wrongOrder() {
	block := p.encoded(p.fields())
	id := p.next
	p.next += 2
	_ = p.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:len(block)/2], EndStream: true})
	switch p.IntN(4) {
	case 0:
		_ = p.f.WritePing(false, [8]byte{})
	case 1:
		_ = p.f.WriteData(id, true, nil)
	case 2:
		_ = p.f.WriteRawFrame(0x77, 0, id, nil)
	default:
		_ = p.f.WriteContinuation(id+2, true, block[len(block)/2:])
	}
	_ = p.f.WriteContinuation(id, true, block[len(block)/2:])
	p.Whole[id] = true
	p.did("something inside of the block of %d", id)
}

// wrongContent has another length than it says.
func (p *player) wrongContent() {
	from := len(p.Moves)
	defer func() { p.join(from) }() // a host that has all that was announced may answer before the end, which Envoy does not like
	f := append(p.fields(), hpack.HeaderField{Name: "content-length", Value: one(p, "5", "10", "05", "10000")})
	id := p.request(f, p.IntN(4) == 0)
	if p.Whole[id] {
		return
	}
	if p.IntN(2) == 0 {
		p.data(id, false)
	}
	if p.IntN(3) == 0 {
		p.trailers(id, []hpack.HeaderField{{Name: "x-end", Value: "yes"}}, true)
		return
	}
	p.data(id, true)
}

func (p *player) goAway() {
	code := one(p, http2.ErrCodeNo, http2.ErrCodeProtocol, http2.ErrCode(1000))
	_ = p.f.WriteGoAway(0, code, []byte("debug"))
	p.did("goaway %v", code)
}
