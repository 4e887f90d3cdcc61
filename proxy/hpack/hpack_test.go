package hpack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	peer "golang.org/x/net/http2/hpack"

	"github.com/mallamesh/malla/proxy/header"
)

func fieldsOf(m *header.Map) []peer.HeaderField {
	var out []peer.HeaderField
	for i := range m.Len() {
		f := m.At(i)
		out = append(out, peer.HeaderField{Name: string(f.Name), Value: string(f.Value), Sensitive: f.Sensitive})
	}
	return out
}

func text(fields []peer.HeaderField) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, "%q %q %v\n", f.Name, f.Value, f.Sensitive)
	}
	return b.String()
}

func encode(e *Encoder, fields []peer.HeaderField) []byte {
	dst := e.Begin(nil)
	for _, f := range fields {
		dst = e.Append(dst, header.TokenOf([]byte(f.Name)), []byte(f.Name), []byte(f.Value), f.Sensitive)
	}
	return dst
}

func newDecoder() *Decoder { return NewDecoder(1<<20, 1000) }

// The examples of RFC 7541, appendix C, decode to the fields that stand there.
func TestDecodeRFCExamples(t *testing.T) {
	for _, test := range []struct {
		name   string
		blocks []string
		want   []string
	}{
		{"requests, plain (C.3)", []string{
			"828684410f7777772e6578616d706c652e636f6d",
			"828684be58086e6f2d6361636865",
			"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
		}, []string{
			":method GET :scheme http :path / :authority www.example.com",
			":method GET :scheme http :path / :authority www.example.com cache-control no-cache",
			":method GET :scheme https :path /index.html :authority www.example.com custom-key custom-value",
		}},
		{"requests, Huffman (C.4)", []string{
			"828684418cf1e3c2e5f23a6ba0ab90f4ff",
			"828684be5886a8eb10649cbf",
			"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
		}, []string{
			":method GET :scheme http :path / :authority www.example.com",
			":method GET :scheme http :path / :authority www.example.com cache-control no-cache",
			":method GET :scheme https :path /index.html :authority www.example.com custom-key custom-value",
		}},
	} {
		d := newDecoder()
		for i, block := range test.blocks {
			b, _ := hex.DecodeString(block)
			var m header.Map
			if flaw, err := d.Decode(b, &m); flaw != 0 || err != nil {
				t.Fatalf("%s: block %d: flaw %v, error %v", test.name, i, flaw, err)
			}
			var got []string
			for _, f := range fieldsOf(&m) {
				got = append(got, f.Name+" "+f.Value)
			}
			if g := strings.Join(got, " "); g != test.want[i] {
				t.Errorf("%s: block %d is %q, want %q", test.name, i, g, test.want[i])
			}
		}
	}
}

// What is against RFC 7541 ends the connection.
func TestDecodeErrors(t *testing.T) {
	for _, test := range []struct {
		block string
		want  error
	}{
		{"80", ErrIndex},                                 // index 0 (6.1)
		{"be", ErrIndex},                                 // no entry yet (2.3.3)
		{"7f00", ErrIndex},                               // the same for a name
		{"ffffffffff7f", ErrInteger},                     // above what means anything (5.1)
		{"ff80808080808000", ErrInteger},                 // the same with zeros
		{"ff", ErrTruncated},                             // an integer without its end
		{"4003616263", ErrTruncated},                     // a name without a value
		{"40036162", ErrTruncated},                       // a string that is cut short
		{"823f", ErrTruncated},                           // an update that is cut short
		{"8220", ErrUpdate},                              // an update after a field (4.2)
		{"3fe21f", ErrUpdate},                            // 4097 bytes (6.3)
		{"008 5f2b24a84ff 8449509fff 01 61", ErrHuffman}, // padding of eight bits (5.2)
		{"0085f2b24a8480 0161", ErrHuffman},              // padding that is not ones
		{"0084ffffffff0161", ErrHuffman},                 // EOS
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(test.block, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		var m header.Map
		if _, err := newDecoder().Decode(b, &m); !errors.Is(err, test.want) {
			t.Errorf("Decode(%s) = %v, want %v", test.block, err, test.want)
		}
	}
}

// A bad field spoils its message, in the table too, and nothing else.
func TestFlaws(t *testing.T) {
	d := newDecoder()
	block := func(want Flaw, fields string, b ...byte) {
		t.Helper()
		var m header.Map
		flaw, err := d.Decode(b, &m)
		if flaw != want || err != nil {
			t.Errorf("%q: flaw %v, error %v, want %v", b, flaw, err, want)
		}
		if got := m.Len(); fields != "" && string(m.At(got-1).Name)+"="+string(m.At(got-1).Value) != fields {
			t.Errorf("%q: the last field is called %q, want %q", b, m.At(got-1).Name, fields)
		}
	}
	block(BadName, "A=b", []byte("\x40\x01A\x01b")...)
	block(BadName, "A=b", 0xbe)
	block(BadName, "A=c", []byte("\x7e\x01c")...)
	block(BadValue, "", []byte("\x40\x01a\x01\n")...)
	block(BadValue, "", 0xbe)
	block(0, "a=c", []byte("\x7e\x01c")...) // the name alone is good
	block(0, "a=c", 0xbe)
	block(BadName, "", []byte("\x00\x00\x00")...)
	block(BadName, "", []byte("\x00\x04:who\x00")...)

	d.MaxFields = 2
	block(TooLarge, "", 0x82, 0x84, 0x86)
	d.MaxFields, d.MaxBytes = 100, 10
	block(TooLarge, "", []byte("\x40\x05abcde\x06123456")...)
	d.MaxBytes = 11
	block(0, "abcde=123456", 0xbe) // it is in the table for all that
}

// A peer that was told of a smaller table must say that it obeys.
func TestSmallerTableIsOwed(t *testing.T) {
	var m header.Map
	d := newDecoder()
	d.Allow(100)
	if _, err := d.Decode([]byte{0x82}, &m); err != ErrUpdate {
		t.Errorf("a field before the update: %v, want %v", err, ErrUpdate)
	}
	d = newDecoder()
	d.Allow(100)
	if _, err := d.Decode([]byte{0x3f, 100 - 31, 0x82}, &m); err != nil {
		t.Errorf("the update: %v", err)
	}
	if _, err := d.Decode([]byte{0x3f, 101 - 31, 0x82}, &m); err != ErrUpdate {
		t.Errorf("a larger one: %v, want %v", err, ErrUpdate)
	}
}

var request = []peer.HeaderField{
	{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "reviews.prod:9080"},
	{Name: ":path", Value: "/reviews/17"}, {Name: "user-agent", Value: "curl/8.5.0"}, {Name: "accept", Value: "*/*"},
	{Name: "x-request-id", Value: "8f2b1c9e-4a1d-4f0e-9d2f-000000000000"}, {Name: "x-custom", Value: "constant"},
	{Name: "authorization", Value: "Bearer secret"}, {Name: "cookie", Value: "a=b"}, {Name: "x-mine", Value: "hidden", Sensitive: true},
	{Name: "proxy-authorization", Value: "Basic secret"},
}

// Secrets are in no table, and are marked so that no later hop puts them there; what differs
// from message to message is not indexed, only its name, once.
func TestEncodePolicy(t *testing.T) {
	e := NewEncoder(DefaultTable)
	first, second := encode(e, request), encode(e, request)
	d := peer.NewDecoder(DefaultTable, nil)
	if _, err := d.DecodeFull(first); err != nil {
		t.Fatal(err)
	}
	got, err := d.DecodeFull(second)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range got {
		switch f.Name {
		case "authorization", "cookie", "x-mine", "proxy-authorization":
			if !f.Sensitive {
				t.Errorf("%s is not marked as never to be indexed", f.Name)
			}
		}
		if f.Value != request[i].Value || f.Name != request[i].Name {
			t.Errorf("field %d is %v, want %v", i, f, request[i])
		}
	}
	for i := range e.table.n {
		x := e.table.at(i)
		switch name := string(e.table.name(x)); name {
		case ":path", "content-length", "authorization", "cookie", "x-mine", "proxy-authorization":
			t.Errorf("%s is in the table", name)
		}
	}
	if len(second) > 140 {
		t.Errorf("the second request takes %d bytes, want at most 140 (%q)", len(second), second)
	}
}

// A table that shrinks and grows again between two blocks is announced by its
// smallest and its final size.
func TestTableSizeUpdates(t *testing.T) {
	e := NewEncoder(8192)
	d := peer.NewDecoder(DefaultTable, nil)
	d.SetAllowedMaxDynamicTableSize(8192)
	for _, sizes := range [][]int{nil, {0}, {100, 4096}, {8192}, {64, 32, 2000, 1000}} {
		for _, n := range sizes {
			e.Resize(n)
		}
		for range 3 {
			got, err := d.DecodeFull(encode(e, request))
			if err != nil || len(got) != len(request) {
				t.Fatalf("after %v: %v, %v", sizes, got, err)
			}
		}
	}
}

// Two ends that talk for long agree, whatever fields, sizes and evictions come.
func TestLongConversation(t *testing.T) {
	for _, size := range []int{0, 64, 200, 4096, 20000} {
		rnd := rand.New(rand.NewPCG(1, uint64(size)))
		e, d, x := NewEncoder(size), newDecoder(), peer.NewDecoder(DefaultTable, nil)
		if size > DefaultTable {
			d.Allow(size)
			x.SetAllowedMaxDynamicTableSize(uint32(size))
			e.Resize(size)
		}
		var m header.Map
		for i := range 3000 {
			var fields []peer.HeaderField
			for range rnd.IntN(20) {
				switch k := rnd.IntN(6); k {
				case 0:
					fields = append(fields, request[rnd.IntN(len(request))])
				default:
					fields = append(fields, peer.HeaderField{Name: fmt.Sprint("x-", rnd.IntN(3<<k)), Value: strings.Repeat("v", rnd.IntN(40)) + fmt.Sprint(rnd.IntN(5))})
				}
			}
			block := encode(e, fields)
			want, err := x.DecodeFull(block)
			if err != nil {
				t.Fatalf("size %d, message %d: the peer says %v", size, i, err)
			}
			m.Reset()
			if flaw, err := d.Decode(block, &m); flaw != 0 || err != nil {
				t.Fatalf("size %d, message %d: flaw %v, %v", size, i, flaw, err)
			}
			if g, w := text(fieldsOf(&m)), text(want); g != w {
				t.Fatalf("size %d, message %d:\n%s\nwant\n%s", size, i, g, w)
			}
			if d.table.size > d.table.max || e.table.size > e.table.max || cap(d.table.buf) > 2*d.table.max+512 {
				t.Fatalf("size %d, message %d: tables of %d and %d bytes, buffer of %d", size, i, d.table.size, e.table.size, cap(d.table.buf))
			}
		}
	}
}

// Every symbol survives, and the code is that of the RFC as the peer has it.
func TestHuffman(t *testing.T) {
	var all [256]byte
	for i := range all {
		all[i] = byte(i)
	}
	coded := peer.AppendHuffmanString(nil, string(all[:]))
	out := make([]byte, maxDecoded(len(coded)))
	if n := huffman(out, coded); n != 256 || !bytes.Equal(out[:n], all[:]) {
		t.Errorf("huffman decodes %d bytes, want 256 in order", n)
	}
}

// FuzzDecode looks for blocks that the peer reads differently. Refusing is safe.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"), []byte{0xbe})
	f.Add(encode(NewEncoder(100), request), []byte{0x3f, 10, 0x20, 0xc0})
	one := []byte("\x40\x01a\x01b") // an entry of the table
	for _, b := range []string{
		"\x80", "\xbe", "\xbf", "\xff\x00", // of the tables: the entry 0, the only one, the next, and one far beyond
		"\x7f\x00\x01b", "\x0f\x30\x01b", // as a name
		"\x20", "\x3f\xe1\x1f", "\x3f\xe2\x1f", "\xbe\x20", "\x20\x3f\xe1\x1f\x20", // sizes: none, all, too large, too late, too many
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "\x7f\x80\x80\x80\x80\x00", "\xff", // integers: too large, with zeros in front, without an end
		"\x40", "\x40\x01", "\x40\x05a", "\x40\x01a", "\x40\x01a\x7f\xff", // texts that break off
		"\x40\x00\x00", "\x10\x01a\x01b", "\x00\x01A\x01b", // no name, never indexed, an upper-case name
		"\x40\x82\xff\xff\x00", "\x40\x81\x00\x00", "\x40\x84\xff\xff\xff\xff\x00", "\x40\x80\x00", // Huffman: too much padding, of zeros, EOS, nothing
	} {
		f.Add(one, []byte(b))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		d, x := newDecoder(), peer.NewDecoder(DefaultTable, nil)
		for _, block := range [][]byte{a, b} {
			var m header.Map
			if _, err := d.Decode(block, &m); err != nil {
				return
			}
			want, err := x.DecodeFull(block)
			if err != nil {
				t.Fatalf("we decode %q to %s; the peer says %v", block, text(fieldsOf(&m)), err)
			}
			if g, w := text(fieldsOf(&m)), text(want); g != w {
				t.Fatalf("%q:\n%s\nwant\n%s", block, g, w)
			}
		}
	})
}

// FuzzHuffman compares with the peer both ways.
func FuzzHuffman(f *testing.F) {
	f.Add([]byte{0xf1, 0xe3, 0xc2, 0xff})
	for _, code := range []string{
		"", "\x1f", "\x1f\xff", "\x18", "\x1f\xfe", "\xff", "\xff\xff\xff\xff", "\xff\xff\xff\xfc", // ends: right, a byte too much, of zeros, EOS, a code that breaks off
		"\xff\xff\xff\xf0\xff", "\x00\x00\x00\x00\x00\x00\x00\x00\x07", "\xff\xc0", "\xff\xfe\x3f", // the longest codes and the shortest
	} {
		f.Add([]byte(code))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out := make([]byte, maxDecoded(len(in)))
		n := huffman(out, in)
		want, err := peer.HuffmanDecodeToString(in)
		if (n < 0) != (err != nil) || n >= 0 && string(out[:n]) != want {
			t.Fatalf("huffman(%x) = %d %q; the peer %q, %v", in, n, out[:max(n, 0)], want, err)
		}
	})
}

// FuzzEncode looks for fields that the peer does not get back, over several messages.
func FuzzEncode(f *testing.F) {
	f.Add("x-a: 1\nx-b: 2\n:path: /", 128)
	f.Add("x: 1\nx: 1\nx: 2\nx: 1", 33)                       // an entry that does not fit beside another
	f.Add("x: "+strings.Repeat("y", 300), 64)                 // one that never fits
	f.Add("a: b", 0)                                          // a table of nothing
	f.Add(":status: 200\n: \nx: \ncookie: a\nX: Ä\x00", 4095) // what has a code of its own, and what needs none
	f.Fuzz(func(t *testing.T, in string, size int) {
		e, x := NewEncoder(size&0xfff), peer.NewDecoder(DefaultTable, nil)
		var fields []peer.HeaderField
		for line := range strings.Lines(in) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			fields = append(fields, peer.HeaderField{Name: name, Value: value})
		}
		for range 3 {
			got, err := x.DecodeFull(encode(e, fields))
			for i := range got {
				got[i].Sensitive = false
			}
			if g, w := text(got), text(fields); err != nil || g != w {
				t.Fatalf("the peer decodes\n%s%v, want\n%s", g, err, w)
			}
		}
	})
}

// conversation is an encoder and a decoder that have met, with the map of a request.
func conversation() (*Encoder, *Decoder, *header.Map) {
	e, d, m := NewEncoder(DefaultTable), newDecoder(), new(header.Map)
	for range 3 {
		m.Reset()
		d.Decode(encode(e, request), m)
	}
	return e, d, m
}

func appendMap(dst []byte, e *Encoder, m *header.Map) []byte {
	dst = e.Begin(dst)
	for i := range m.Fields() {
		f := m.At(i)
		dst = e.Append(dst, f.Token, f.Name, f.Value, f.Sensitive)
	}
	return dst
}

func TestAllocs(t *testing.T) {
	e, d, m := conversation()
	back := new(header.Map)
	block := make([]byte, 0, 1024)
	n := 0
	name, id := []byte("x-new"), []byte("0000")
	if allocs := testing.AllocsPerRun(1000, func() {
		n++ // a value that is new each time, so that the tables turn over
		id[0], id[1] = byte('a'+n%26), byte('a'+n/26%26)
		m.SetName(name, id)
		block = appendMap(block[:0], e, m)
		back.Reset()
		if _, err := d.Decode(block, back); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("a message allocates %v times, want 0", allocs)
	}
}

func BenchmarkEncode(b *testing.B) {
	e, _, m := conversation()
	dst := make([]byte, 0, 1024)
	for b.Loop() {
		dst = appendMap(dst[:0], e, m)
	}
}

func BenchmarkDecode(b *testing.B) {
	e, d, m := conversation()
	block := appendMap(nil, e, m)
	for b.Loop() {
		m.Reset()
		d.Decode(block, m)
	}
}
