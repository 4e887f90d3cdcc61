package coding

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

var text = []byte(strings.Repeat("It was the best of times, it was the worst of times. ", 400))

func mustZstd(t testing.TB) (*Encoding, *Decoding) {
	t.Helper()
	e, err := NewZstd(3, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewUnzstd(nil)
	if err != nil {
		t.Fatal(err)
	}
	return e, d
}

func decoder(t testing.TB, k *Stock, of *Decoding) *Decoder {
	t.Helper()
	d := new(Decoder)
	if !d.Begin(k, of) {
		t.Fatal("no memory for a decoder")
	}
	return d
}

func pairs(t testing.TB) map[*Encoding]*Decoding {
	z, uz := mustZstd(t)
	return map[*Encoding]*Decoding{
		NewGzip(DefaultLevel, 0): NewGunzip(1000), NewGzip(9, 9): NewGunzip(1000), NewGzip(HuffmanOnly, 15): NewGunzip(1000),
		NewBrotli(3, 18): NewUnbrotli(), NewBrotli(11, 10): NewUnbrotli(), z: uz,
	}
}

// What was flushed can be read at once, whatever pieces it comes in, and the end is the end.
func TestPiecesComeThrough(t *testing.T) {
	for e, d := range pairs(t) {
		k := NewStock()
		for range 3 { // encoders and decoders are used again
			var wire bytes.Buffer
			if !k.Reserve(e) {
				t.Fatal("no memory")
			}
			w := k.Encoder(e, &wire)
			u := decoder(t, k, d)
			var got []byte
			for i := 0; i < len(text); i += 1000 {
				piece := text[i:min(len(text), i+1000)]
				w.Write(piece)
				last := i+1000 >= len(text)
				if last {
					w.Close()
				} else {
					w.Flush()
				}
				for b := wire.Bytes(); len(b) > 0; {
					n := min(len(b), 1+rand.IntN(50))
					var err error
					if got, err = u.Write(got, b[:n], last && n == len(b)); err != nil {
						t.Fatalf("%s: %v", e.Name, err)
					}
					b = b[n:]
				}
				wire.Reset()
				if !bytes.Equal(got, text[:min(len(text), i+1000)]) {
					t.Fatalf("%s: %d bytes were flushed and %d can be read", e.Name, i+len(piece), len(got))
				}
			}
			k.Return(e, w)
			u.Close()
		}
		if k.left != stockSize {
			t.Errorf("%s: %d bytes are lost", e.Name, stockSize-k.left)
		}
	}
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := stdgzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func TestBodiesThatAreNotWhatTheySay(t *testing.T) {
	z, uz := mustZstd(t)
	_ = z
	whole := gzipped(text)
	for _, test := range []struct {
		what string
		d    *Decoding
		in   []byte
		want error // nil: any
	}{
		{"no gzip", NewGunzip(100), []byte("this is no gzip"), nil},
		{"nothing", NewGunzip(100), nil, io.ErrUnexpectedEOF},
		{"cut", NewGunzip(1000), whole[:len(whole)-10], io.ErrUnexpectedEOF},
		{"another sum", NewGunzip(1000), append(whole[:len(whole)-8:len(whole)-8], make([]byte, 8)...), nil},
		{"a bomb", NewGunzip(100), gzipped(make([]byte, 10<<20)), ErrTooLarge},
		{"no brotli", NewUnbrotli(), []byte("\xff\xff\xff\xff"), nil},
		{"no zstd", uz, []byte("this is no zstd"), nil},
	} {
		k := NewStock()
		d := decoder(t, k, test.d)
		out, err := d.Write(nil, test.in, true)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.what, err, test.want)
		}
		if len(out) > 4<<20 {
			t.Errorf("%s: %d bytes came out", test.what, len(out))
		}
		if _, again := d.Write(nil, text, true); again == nil {
			t.Errorf("%s: and then it goes on", test.what)
		}
		d.Close()
	}
}

func TestGzipOfSeveralMembers(t *testing.T) {
	d := decoder(t, NewStock(), NewGunzip(100))
	defer d.Close()
	in := append(append(gzipped([]byte("one")), gzipped([]byte("two"))...), "not three"...)
	if got, err := d.Write(nil, in, true); string(got) != "onetwo" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	k, e := NewStock(), NewBrotli(9, 22)
	n := 0
	for ; n < 1000 && k.Reserve(e); n++ {
	}
	if n == 0 || n*e.memory > stockSize {
		t.Errorf("%d encoders of %d bytes", n, e.memory)
	}
	if d := new(Decoder); d.Begin(k, NewUnbrotli()) && k.left < 0 {
		t.Error("a decoder beyond the bound")
	}
}

// FuzzGzip compares our own framing with the standard library's reader, and our reader with that as well.
// A body that fits a packet is compressed as well as zlib compresses it, or nearly.
func TestSmallBodiesAreCompressed(t *testing.T) {
	for body, zlib := range map[string]int{
		strings.Repeat("a", 67):      6,
		strings.Repeat("hello ", 20): 11,
		`{"items":[{"id":1,"name":"one"},{"id":2,"name":"two"},{"id":3,"name":"three"}]}`: 52,
		"The quick brown fox jumps over the lazy dog. The quick brown fox.":               50,
	} {
		for _, level := range []int{DefaultLevel, 1, 9} {
			var wire bytes.Buffer
			w := NewGzip(level, 0).make()
			w.Reset(&wire)
			w.Write([]byte(body[:10]))
			w.Write([]byte(body[10:]))
			w.Close()
			const frame = 18
			if got := wire.Len() - frame; got > zlib+zlib/10+2 {
				t.Errorf("level %d makes %d bytes of %d, zlib %d", level, got, len(body), zlib)
			}
			if r, err := stdgzip.NewReader(&wire); err != nil {
				t.Error(err)
			} else if got, err := io.ReadAll(r); err != nil || string(got) != body {
				t.Errorf("%q comes back as %q, %v", body, got, err)
			}
		}
	}
}

func FuzzGzip(f *testing.F) {
	f.Add(gzipped([]byte("hello")), 3)
	f.Fuzz(func(t *testing.T, in []byte, at int) {
		k, e := NewStock(), NewGzip(6, 0)
		var wire bytes.Buffer
		w := k.Encoder(e, &wire)
		cut := max(0, min(at, len(in)))
		w.Write(in[:cut])
		w.Flush()
		w.Write(in[cut:])
		w.Close()
		if r, err := stdgzip.NewReader(&wire); err != nil {
			t.Fatal(err)
		} else if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, in) {
			t.Fatalf("%q became %q, %v", in, got, err)
		}
		want, wantErr := []byte(nil), error(nil)
		if r, err := stdgzip.NewReader(bytes.NewReader(in)); err != nil {
			wantErr = err
		} else {
			r.Multistream(false)
			want, wantErr = io.ReadAll(r)
		}
		d := decoder(t, k, NewGunzip(1032))
		defer d.Close()
		at = max(0, min(at, len(in)))
		got, err := d.Write(nil, in[:at], false)
		if err == nil {
			got, err = d.Write(got, in[at:], true)
		}
		if (err == nil) && wantErr != nil || err == nil && !bytes.HasPrefix(got, want) {
			t.Fatalf("%q, %v; the standard library says %q, %v", got, err, want, wantErr)
		}
		whole := decoder(t, k, NewGunzip(1032))
		defer whole.Close()
		if all, wholeErr := whole.Write(nil, in, true); (wholeErr == nil) != (err == nil) || err == nil && !bytes.Equal(all, got) {
			t.Fatalf("whole it is %q, %v; in two pieces %q, %v", all, wholeErr, got, err)
		}
	})
}

// A dictionary is needed on both sides.
func TestDictionary(t *testing.T) {
	contents := make([][]byte, 0, 100)
	for i := range 100 {
		contents = append(contents, bytes.ToUpper(text[i:i+100]), text[i:i+200])
	}
	dictionary, err := zstd.BuildDict(zstd.BuildDictOptions{ID: 7, Contents: contents, History: text[:1000], Offsets: [3]int{1, 4, 8}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewZstd(3, false, dictionary)
	if err != nil {
		t.Fatal(err)
	}
	k := NewStock()
	var wire bytes.Buffer
	w := k.Encoder(e, &wire)
	w.Write(text[:300])
	w.Close()
	for _, known := range [][][]byte{{dictionary}, nil} {
		d, err := NewUnzstd(known)
		if err != nil {
			t.Fatal(err)
		}
		u := decoder(t, k, d)
		got, err := u.Write(nil, wire.Bytes(), true)
		if ok := err == nil && bytes.Equal(got, text[:300]); ok != (known != nil) {
			t.Errorf("with %d dictionaries: %q, %v", len(known), got, err)
		}
		u.Close()
	}
	if _, err := NewZstd(3, false, []byte("no dictionary")); err == nil {
		t.Error("anything is taken for a dictionary")
	}
}

// Many bodies wait for their first byte, and few have one at a time: an encoder is made for those only.
func TestEncodersAreForBodiesThatHaveBegun(t *testing.T) {
	k, e := NewStock(), NewGzip(DefaultLevel, 0)
	for range 100 {
		if !k.Reserve(e) {
			t.Fatal("no memory for 100 bodies")
		}
	}
	first := k.Encoder(e, io.Discard)
	k.Return(e, first)
	if again := k.Encoder(e, io.Discard); again != first {
		t.Error("the next body has a new encoder although the last one's is free")
	}
	for range 99 {
		k.Release(e)
	}
	if k.left != stockSize {
		t.Errorf("%d bytes are left of %d", k.left, stockSize)
	}
}

// Many requests wait for their answers with their bodies decompressed: the library's decoder is the next body's by then.
func TestDecodersAreForBodiesThatHaveBegun(t *testing.T) {
	for e, of := range pairs(t) {
		k := NewStock()
		var wire bytes.Buffer
		k.Reserve(e)
		w := k.Encoder(e, &wire)
		w.Write(text[:100])
		w.Close()
		k.Return(e, w)
		var waiting [100]Decoder
		for i := range waiting {
			if !waiting[i].Begin(k, of) {
				t.Fatalf("%s: no memory for body %d", of.Name, i)
			}
			if i > 0 {
				of.make = nil // the first one's is enough
			}
			if got, err := waiting[i].Write(nil, wire.Bytes(), true); err != nil || !bytes.Equal(got, text[:100]) {
				t.Fatalf("%s: %q, %v", of.Name, got, err)
			}
		}
		for i := range waiting {
			waiting[i].Close()
		}
		if k.left != stockSize {
			t.Errorf("%s: %d bytes are left of %d", of.Name, k.left, stockSize)
		}
	}
}

// A brotli body takes what its first byte says. When there is not enough for the largest window, the next body is told so before anything
// of it is taken.
func TestBrotliTakesWhatItsWindowNeeds(t *testing.T) {
	k, of := NewStock(), NewUnbrotli()
	begin := func(bits int) (d *Decoder, ok bool) {
		d = new(Decoder)
		if !d.Begin(k, of) {
			return d, false
		}
		var wire bytes.Buffer
		w := NewBrotli(3, bits).make()
		w.Reset(&wire)
		w.Write(text[:1000])
		w.Flush()
		got, err := d.Write(nil, wire.Bytes(), false)
		if err != nil || !bytes.Equal(got, text[:1000]) {
			t.Fatalf("a window of %d bits: %d bytes, %v", bits, len(got), err)
		}
		return d, true
	}
	var open []*Decoder
	for range 200 {
		d, ok := begin(18)
		if !ok {
			t.Fatalf("no memory for body %d", len(open))
		}
		open = append(open, d)
	}
	n := 0
	for ; n < 100; n++ {
		d, ok := begin(24)
		if !ok {
			break
		}
		open = append(open, d)
	}
	if n == 0 || n > 16 {
		t.Errorf("%d bodies with the largest window have decoders, want some and at most 16", n)
	}
	for bits := 10; bits <= 24; bits++ {
		if d, ok := begin(bits); ok {
			open = append(open, d)
		}
	}
	for _, d := range open {
		d.Close()
	}
	if k.left != stockSize {
		t.Errorf("%d bytes are left of %d", k.left, stockSize)
	}
}

// What is kept for the next body is bounded, however many kinds there have been: each change of a listener makes new ones.
func TestKeptIsBounded(t *testing.T) {
	k := NewStock()
	for range 100 {
		e, of := NewGzip(DefaultLevel, 0), NewUnbrotli()
		for range 3 {
			k.Reserve(e)
		}
		for _, w := range []Encoder{k.Encoder(e, io.Discard), k.Encoder(e, io.Discard), k.Encoder(e, io.Discard)} {
			k.Return(e, w)
		}
		d := decoder(t, k, of)
		d.Write(nil, []byte("not brotli"), true)
		d.Close()
	}
	if n, size := len(k.encoders.idle), k.encoders.size; size > shelfSize || n > shelfSize>>20 || n < 2 {
		t.Errorf("%d encoders of %d bytes are kept", n, size)
	}
	if n, size := len(k.readers.idle), k.readers.size; size > shelfSize || n > shelfSize/leastMemory || n < 2 {
		t.Errorf("%d decoders of %d bytes are kept", n, size)
	}
}

func BenchmarkSmallBody(b *testing.B) {
	z, err := NewZstd(3, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range []*Encoding{NewGzip(DefaultLevel, 0), NewBrotli(3, 18), z} {
		b.Run(e.Name, func(b *testing.B) {
			k := NewStock()
			for b.Loop() {
				k.Reserve(e)
				w := k.Encoder(e, io.Discard)
				w.Write(text[:50])
				w.Close()
				k.Return(e, w)
			}
		})
	}
}

func BenchmarkSmallBodyDecoded(b *testing.B) {
	for e, of := range pairs(b) {
		b.Run(of.Name, func(b *testing.B) {
			k := NewStock()
			var wire bytes.Buffer
			w := k.Encoder(e, &wire)
			w.Write(text[:50])
			w.Close()
			var d Decoder
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				d.Begin(k, of)
				out, _ = d.Write(out[:0], wire.Bytes(), true)
				d.Close()
			}
		})
	}
}

// What a piece was may stand in memory that is used again for the next.
func TestMemoryOfPiecesIsUsedAgain(t *testing.T) {
	for e, of := range pairs(t) {
		t.Run(e.Name, func(t *testing.T) {
			k := NewStock()
			var wire bytes.Buffer
			if !k.Reserve(e) {
				t.Fatal("no memory")
			}
			w := k.Encoder(e, &wire)
			var want []byte
			for i := range 2000 {
				want = fmt.Appendf(want, "line %d of %x\n", i, i*i*7919)
			}
			w.Write(want)
			w.Close()
			for _, size := range []int{1, 7, 100, 3000} {
				var got, out []byte
				d := decoder(t, k, of)
				for b := wire.Bytes(); len(b) > 0; {
					n := min(len(b), size)
					var err error
					if out, err = d.Write(out[:0], b[:n], n == len(b)); err != nil {
						t.Fatalf("pieces of %d bytes: %v", size, err)
					}
					got = append(got, out...)
					b = b[n:]
				}
				d.Close()
				if !bytes.Equal(got, want) {
					t.Fatalf("pieces of %d bytes: %d bytes came out, other ones than the %d that went in", size, len(got), len(want))
				}
			}
		})
	}
}

// A decoder may be ended wherever it waits.
func TestClosedAnywhere(t *testing.T) {
	for e, of := range pairs(t) {
		k := NewStock()
		var wire bytes.Buffer
		if !k.Reserve(e) {
			t.Fatal("no memory")
		}
		w := k.Encoder(e, &wire)
		w.Write(text[:2000])
		w.Close()
		for i := range wire.Len() {
			d := decoder(t, k, of)
			if _, err := d.Write(nil, wire.Bytes()[:i], false); err != nil {
				t.Fatalf("%s: %d bytes: %v", e.Name, i, err)
			}
			d.Close()
		}
	}
}
