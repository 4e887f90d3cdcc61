package coding

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// zstded is text as one frame of zstd, with what its encoder is told.
func zstded(t testing.TB, body []byte, options ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, append([]zstd.EOption{zstd.WithEncoderConcurrency(1)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(body)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// windowOf is what the library reads in a frame's header.
func windowOf(t testing.TB, frame []byte) int {
	t.Helper()
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		t.Fatal(err)
	}
	if h.SingleSegment {
		return max(int(h.FrameContentSize), 1<<10)
	}
	return int(h.WindowSize)
}

var skipped = []byte{0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5}

func TestEachFrameOfZstdSaysItsWindow(t *testing.T) {
	blank := make([]byte, 300<<10) // a block that is one byte, so many times
	kinds := [][]byte{
		zstded(t, text[:1000], zstd.WithWindowSize(1<<10)),
		zstded(t, text, zstd.WithWindowSize(64<<10), zstd.WithEncoderCRC(false)),
		zstded(t, text[:100], zstd.WithSingleSegment(true)),
		zstded(t, text[:1000], zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true)),
		zstded(t, blank, zstd.WithWindowSize(1<<20)),
		zstded(t, nil, zstd.WithZeroFrames(true)),
		zstded(t, noise(200<<10), zstd.WithSingleSegment(true)),
		zstded(t, text, zstd.WithWindowSize(8<<20)),
	}
	for _, step := range []int{1, 2, 3, 7, 100, 1 << 20} {
		var body []byte
		var want []int
		for i, k := range kinds {
			if i%2 == 1 {
				body = append(body, skipped...)
			}
			body, want = append(body, k...), append(want, windowOf(t, k))
		}
		var f frames
		var got []int
		for rest := body; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			if n := f.next(rest[:min(step, len(rest))]); n > 0 {
				got = append(got, n)
			}
		}
		if f.lost || f.state != nil || f.pass != 0 {
			t.Errorf("steps of %d: it has lost its way", step)
		}
		if step > 100 { // all in one piece: the largest counts
			want = []int{8 << 20}
		}
		if step <= 7 && !equal(got, want) {
			t.Errorf("steps of %d: windows %v, want %v", step, got, want)
		}
		if largest(got) != 8<<20 {
			t.Errorf("steps of %d: windows %v, want 8 MiB among them", step, got)
		}
	}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func largest(all []int) (n int) {
	for _, i := range all {
		n = max(n, i)
	}
	return n
}

// noise cannot be compressed.
func noise(n int) []byte {
	out, x := make([]byte, n), uint32(1)
	for i := range out {
		x = x*1664525 + 1013904223
		out[i] = byte(x >> 24)
	}
	return out
}

// mixed can be compressed a little, so that decoders have all that they ever need.
var mixed = func() []byte {
	out := noise(200 << 10)
	for i := range out {
		out[i] &= 0x1f
	}
	return out
}()

// begun is a body of which there is more to come, of a window, as far as it has come.
func begun(t testing.TB, k *Stock, of *Decoding, window int) (*Decoder, error) {
	t.Helper()
	var wire bytes.Buffer
	w, err := zstd.NewWriter(&wire, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Write(mixed)
	w.Flush()
	d := new(Decoder)
	if !d.Begin(k, of) {
		return nil, nil
	}
	got, err := d.Write(nil, wire.Bytes(), false)
	if err == nil && !bytes.Equal(got, mixed) {
		t.Fatalf("a window of %d: %d bytes", window, len(got))
	}
	return d, err
}

// A thousand bodies that are open hold what they said they would need, and no more than a worker may have for bodies: neither 16 MiB
// each, nor only so many that there would be memory for if each were the largest.
func TestAThousandBodiesOfZstd(t *testing.T) {
	for _, test := range []struct{ window, least, most int }{
		{16 << 10, 1000, 1000},
		{64 << 10, 640, 680},
		{512 << 10, 150, 180},
		{8 << 20, 25, 27},
	} {
		_, of := mustZstd(t)
		k := NewStock()
		before := held()
		var open []*Decoder
		for range 1000 {
			d, err := begun(t, k, of, test.window)
			if d != nil && err == nil {
				open = append(open, d)
			}
		}
		if n := len(open); n < test.least || n > test.most {
			t.Errorf("windows of %d: %d bodies are open, want %d to %d", test.window, n, test.least, test.most)
		}
		taken, charged := held()-before, stockSize-k.left
		if taken > charged+charged/8 {
			t.Errorf("windows of %d: %d bodies hold %d MiB, %d are set aside", test.window, len(open), taken>>20, charged>>20)
		}
		for _, d := range open {
			d.Close()
		}
		if k.left != stockSize {
			t.Errorf("windows of %d: %d bytes are left of %d", test.window, k.left, stockSize)
		}
	}
}

// held is what the heap has in use.
func held() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A later frame may look further back than the first. It has what it needs, or the body ends.
func TestALaterFrameWithAWiderWindow(t *testing.T) {
	_, of := mustZstd(t)
	small, large := zstded(t, mixed, zstd.WithWindowSize(16<<10)), zstded(t, mixed, zstd.WithWindowSize(8<<20))
	k := NewStock()
	d := decoder(t, k, of)
	if _, err := d.Write(nil, small, false); err != nil {
		t.Fatal(err)
	}
	before := k.left
	got, err := d.Write(nil, large, false)
	if err != nil || !bytes.Equal(got, mixed) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if want := windowMemory(8<<20) - windowMemory(16<<10); before-k.left != want {
		t.Errorf("the second frame took %d bytes, want %d", before-k.left, want)
	}
	d.Close()

	k = NewStock() // nor is there a decoder that has it from before
	d = decoder(t, k, of)
	if _, err := d.Write(nil, small, false); err != nil {
		t.Fatal(err)
	}
	rest := k.left
	k.left = 1 << 20
	if got, err := d.Write(nil, large, false); err != ErrNoMemory || len(got) != 0 {
		t.Errorf("without memory for its window: %d bytes, %v, want %v", len(got), err, ErrNoMemory)
	}
	k.left += rest - 1<<20
	d.Close()
	if k.left != stockSize {
		t.Errorf("%d bytes are left of %d", k.left, stockSize)
	}
}

// What a frame is said to need is what the library thinks, whatever stands there.
func FuzzFrames(f *testing.F) {
	for _, window := range []int{1 << 10, 64 << 10, 8 << 20} {
		f.Add(zstded(f, text, zstd.WithWindowSize(window)), 3)
	}
	f.Add(zstded(f, text[:300], zstd.WithSingleSegment(true)), 1)
	f.Add(skipped, 2)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		step = max(step, 1)
		var f frames
		first := 0
		for rest := b; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			n := f.next(rest[:min(step, len(rest))])
			if n < 0 || n > maxWindow {
				t.Fatalf("a window of %d", n)
			}
			if first == 0 {
				first = n
			}
		}
		var h zstd.Header
		if step > 1 || h.Decode(b) != nil || h.Skippable || h.FirstBlock.OK && f.lost && first == 0 {
			return
		}
		want := uint64(h.WindowSize)
		if h.SingleSegment {
			want = h.FrameContentSize
		}
		if want = min(max(want, 1<<10), maxWindow); first != int(want) {
			t.Errorf("a window of %d, the library says %d", first, want)
		}
	})
}
