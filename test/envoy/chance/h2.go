package chance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A Move is something that a client of HTTP/2 does at once.
type Move struct {
	Name   string
	Bytes  []byte
	Settle bool // before it, what was asked is awaited
}

// A Game is all that a client does on one connection, and of which streams it has asked for everything.
type Game struct {
	Moves []Move
	Whole map[uint32]bool // streams whose requests have ended, and so have answers
	Wrong string          // the move that RFC 9113 does not allow, "" if there is none
}

func (g *Game) String() string {
	var names []string
	for _, m := range g.Moves {
		name := m.Name
		if m.Settle {
			name = "settle, " + name
		}
		names = append(names, name)
	}
	return strings.Join(names, "; ")
}

// A player makes a game.
type player struct {
	*rand.Rand
	Game
	out    bytes.Buffer
	f      *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer
	next   uint32
	open   []uint32 // streams that may get more of their requests
	closed []uint32 // streams that may not
}

// HTTP2 makes the game of a seed.
func HTTP2(seed uint64) *Game {
	p := &player{Rand: rand.New(rand.NewPCG(seed, 9113)), next: 1}
	p.Whole = map[uint32]bool{}
	p.f = http2.NewFramer(&p.out, nil)
	p.f.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.block)
	p.out.WriteString(http2.ClientPreface)
	p.settings("first settings")
	odd := -1 // one wrong move says what it does; after two it is hard to say which of them did
	count := 2 + p.IntN(9)
	if p.IntN(3) > 0 {
		odd = 1 + p.IntN(count)
	}
	for i := range count {
		if i == odd {
			wrong := wrongs[p.IntN(len(wrongs))]
			wrong(p)
			p.Wrong = p.Moves[len(p.Moves)-1].Name
			continue
		}
		p.right()
	}
	return &p.Game
}

// did ends a move.
func (p *player) did(format string, args ...any) {
	p.Moves = append(p.Moves, Move{Name: fmt.Sprintf(format, args...), Bytes: bytes.Clone(p.out.Bytes()), Settle: len(p.Moves) > 0 && p.IntN(3) == 0})
	p.out.Reset()
}

// join makes one move of those from i on.
func (p *player) join(i int) {
	all := &p.Moves[i]
	for _, m := range p.Moves[i+1:] {
		all.Name, all.Bytes = all.Name+" and "+m.Name, append(all.Bytes, m.Bytes...)
	}
	p.Moves = p.Moves[:i+1]
}

// one chooses.
func one[T any](p *player, of ...T) T { return of[p.IntN(len(of))] }

// settings offers something that is allowed.
func (p *player) settings(name string) {
	var all []http2.Setting
	if p.IntN(2) == 0 {
		all = append(all, http2.Setting{ID: http2.SettingInitialWindowSize, Val: one[uint32](p, 0, 1, 20, 65535, 1<<20, 1<<30)})
	}
	if p.IntN(3) == 0 {
		all = append(all, http2.Setting{ID: http2.SettingMaxFrameSize, Val: one[uint32](p, 16384, 20000, 1<<24-1)})
	}
	if p.IntN(3) == 0 {
		all = append(all, http2.Setting{ID: http2.SettingHeaderTableSize, Val: one[uint32](p, 0, 1, 100, 4096, 65536)})
	}
	if p.IntN(4) == 0 {
		all = append(all, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: one[uint32](p, 0, 1, 100)})
	}
	if p.IntN(4) == 0 {
		all = append(all, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	}
	if p.IntN(4) == 0 {
		all = append(all, http2.Setting{ID: 0x7a7a, Val: p.Uint32()})
	}
	_ = p.f.WriteSettings(all...)
	p.did("%s %v", name, all)
}

// right does something that is allowed.
func (p *player) right() {
	switch n := p.IntN(20); {
	case n < 7 || len(p.open) == 0 && n < 13:
		p.request(p.fields(), p.IntN(2) == 0)
	case n < 11:
		p.data(p.any(), p.IntN(3) == 0)
	case n < 12:
		p.trailers(p.any(), []hpack.HeaderField{{Name: "x-end", Value: "yes"}}, true)
	case n < 13:
		id := p.any()
		code := one(p, http2.ErrCodeCancel, http2.ErrCodeNo, http2.ErrCodeInternal, http2.ErrCode(99))
		_ = p.f.WriteRSTStream(id, code)
		p.end(id)
		p.did("reset %d %v", id, code)
	case n < 15:
		id := uint32(0)
		if len(p.open) > 0 && p.IntN(2) == 0 {
			id = p.any()
		}
		by := one[uint32](p, 1, 10, 1000, 70000)
		_ = p.f.WriteWindowUpdate(id, by)
		p.did("window of %d by %d", id, by)
	case n < 16:
		p.settings("settings")
	case n < 17:
		_ = p.f.WritePing(false, [8]byte{1, byte(p.IntN(256))})
		p.did("ping")
	case n < 18:
		id, kind := p.some(), http2.FrameType(0x20+p.IntN(200))
		_ = p.f.WriteRawFrame(kind, http2.Flags(p.IntN(256)), id, make([]byte, p.IntN(100)))
		p.did("unknown frame of %d", id)
	case n < 19:
		id := max(p.some(), 1)
		_ = p.f.WritePriority(id, http2.PriorityParam{StreamDep: id + 2, Weight: uint8(p.IntN(256)), Exclusive: p.IntN(2) == 0})
		p.did("priority of %d", id)
	default:
		p.request(p.fields(), true)
	}
}

// any is a stream that may get more; if there is none, one is opened.
func (p *player) any() uint32 {
	if len(p.open) == 0 {
		p.request(p.fields(), false)
	}
	return p.open[p.IntN(len(p.open))]
}

// some is any stream that was there, or the connection.
func (p *player) some() uint32 {
	if p.next == 1 {
		return 0
	}
	return uint32(p.IntN(int(p.next)))/2*2 + 1
}

func (p *player) end(id uint32) {
	for i, o := range p.open {
		if o == id {
			p.open = append(p.open[:i], p.open[i+1:]...)
			p.closed = append(p.closed, id)
			return
		}
	}
}

// fields are those of a request as they should be.
func (p *player) fields() []hpack.HeaderField {
	method := one(p, "GET", "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS")
	out := []hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: one(p, "http", "http", "https")},
		{Name: ":path", Value: one(p, "/", "/a", "/a?b=c", "/a/../b", "/%41", "/a//b", "/"+strings.Repeat("x", p.IntN(300)))},
		{Name: ":authority", Value: one(p, "test.example", "test.example:80", "TEST.example")},
	}
	p.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	more := []hpack.HeaderField{
		{Name: "x-some", Value: "thing"}, {Name: "x-empty", Value: ""}, {Name: "cookie", Value: "a=b"}, {Name: "cookie", Value: "c=d"}, {Name: "te", Value: "trailers"},
		{Name: "user-agent", Value: "chance"}, {Name: "x-long", Value: strings.Repeat("y", p.IntN(5000))}, {Name: "accept", Value: "*/*"}, {Name: "x-high", Value: "\xc3\xa9"},
		{Name: "x-forwarded-for", Value: "10.0.0.1"}, {Name: "x-request-id", Value: "mine"}, {Name: "x_under", Value: "score"}, {Name: "expect", Value: "100-continue"},
		{Name: "host", Value: "test.example"}, {Name: "x-envoy-max-retries", Value: "1"},
	}
	p.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	return append(out, more[:p.IntN(5)]...)
}

// encoded is a header block.
func (p *player) encoded(fields []hpack.HeaderField) []byte {
	p.block.Reset()
	for _, f := range fields {
		f.Sensitive = p.IntN(5) == 0
		_ = p.enc.WriteField(f)
	}
	return bytes.Clone(p.block.Bytes())
}

// head writes a block, in pieces.
func (p *player) head(id uint32, block []byte, end bool) string {
	param := http2.HeadersFrameParam{StreamID: id, EndStream: end}
	if p.IntN(3) == 0 {
		param.PadLength = uint8(p.IntN(256))
	}
	if p.IntN(3) == 0 {
		param.Priority = http2.PriorityParam{StreamDep: id + 2, Weight: uint8(p.IntN(256))}
	}
	pieces := p.pieces(block)
	param.BlockFragment, param.EndHeaders = pieces[0], len(pieces) == 1
	_ = p.f.WriteHeaders(param)
	for i, piece := range pieces[1:] {
		_ = p.f.WriteContinuation(id, i == len(pieces)-2, piece)
	}
	return fmt.Sprintf("%d in %d, %d bytes, end %v", id, len(pieces), len(block), end)
}

func (p *player) pieces(block []byte) [][]byte {
	var out [][]byte
	for n := one(p, 0, 0, 0, 1, 2, 4); n > 0; n-- {
		at := p.IntN(len(block) + 1)
		out, block = append(out, block[:at]), block[at:]
	}
	return append(out, block)
}

func (p *player) request(fields []hpack.HeaderField, end bool) uint32 {
	id := p.next
	p.next += 2
	how := p.head(id, p.encoded(fields), end)
	if p.Whole[id] = end; end {
		p.closed = append(p.closed, id)
	} else {
		p.open = append(p.open, id)
	}
	p.did("request %s %s", how, told(fields))
	return id
}

func (p *player) data(id uint32, end bool) {
	n := one(p, 0, 1, 10, 1000, 5000)
	if p.IntN(3) == 0 {
		_ = p.f.WriteDataPadded(id, end, bytes.Repeat([]byte{'d'}, n), make([]byte, p.IntN(256)))
	} else {
		_ = p.f.WriteData(id, end, bytes.Repeat([]byte{'d'}, n))
	}
	if end {
		p.Whole[id] = true
		p.end(id)
	}
	p.did("data of %d, %d bytes, end %v", id, n, end)
}

func (p *player) trailers(id uint32, fields []hpack.HeaderField, end bool) {
	how := p.head(id, p.encoded(fields), end)
	p.Whole[id] = end
	p.end(id)
	p.did("trailers %s %s", how, told(fields))
}

// told writes fields on one line.
func told(fields []hpack.HeaderField) string {
	var out []string
	for _, f := range fields {
		value := f.Value
		if len(value) > 60 {
			value = fmt.Sprintf("(%d bytes)", len(value))
		}
		out = append(out, fmt.Sprintf("%q", f.Name+": "+value))
	}
	return strings.Join(out, " ")
}
