package access

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

// memory is a file that tests can look into.
type memory struct {
	mu     sync.Mutex
	data   bytes.Buffer
	closed bool
	err    error
	block  chan struct{} // if set, writes wait for it
}

func (m *memory) Write(b []byte) (int, error) {
	if m.block != nil {
		<-m.block
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, m.err
	}
	return m.data.Write(b)
}

func (m *memory) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	return nil
}

func (m *memory) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data.String()
}

func code(t testing.TB) *Format {
	t.Helper()
	f, err := Compile("%RESPONSE_CODE%\n")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func sinkTo(t testing.TB, files ...*memory) (*Sink, *stats.Counter) {
	t.Helper()
	dropped := new(stats.Counter)
	s, err := newSink("x", 0, dropped, func() (io.WriteCloser, error) {
		if len(files) == 0 {
			return nil, errors.New("no such file")
		}
		f := files[0]
		files = files[1:]
		return f, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, dropped
}

// A line is written within a second, and at once when the sink is closed.
func TestSinkFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file memory
		s, _ := sinkTo(t, &file)
		a, b := s.NewBuffer(), s.NewBuffer()
		a.Log(code(t), &Record{Code: 200})
		b.Log(code(t), &Record{Code: 404})
		if file.String() != "" {
			t.Error("a single line was written at once: each costs a system call")
		}
		time.Sleep(1100 * time.Millisecond)
		if got := file.String(); got != "200\n404\n" {
			t.Errorf("after a second the file holds %q", got)
		}
		a.Log(code(t), &Record{Code: 503})
		s.Close()
		if got := file.String(); got != "200\n404\n503\n" || !file.closed {
			t.Errorf("after closing the file holds %q", got)
		}
		a.Log(code(t), &Record{Code: 503}) // too late, and harmless
		a.Close()
	})
}

// A full buffer does not wait for the second.
func TestSinkSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file memory
		s, _ := sinkTo(t, &file)
		defer s.Close()
		b := s.NewBuffer()
		for range chunkSize/4 + 1 {
			b.Log(code(t), &Record{Code: 200})
		}
		synctest.Wait()
		if n := len(file.String()); n < chunkSize {
			t.Errorf("%d bytes are written, want a full buffer", n)
		}
	})
}

// A reader that does not read costs lines, not requests.
func TestSinkDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := memory{block: make(chan struct{})}
		s, dropped := sinkTo(t, &file)
		b := s.NewBuffer()
		const total = 3 * maxQueued / 1000
		f, err := Compile(strings.Repeat("x", 999) + "\n")
		if err != nil {
			t.Fatal(err)
		}
		for range total {
			b.Log(f, &Record{Code: 200})
		}
		if s.queued > maxQueued || dropped.Value() == 0 {
			t.Errorf("%d bytes wait and %d lines are dropped, want at most %d bytes", s.queued, dropped.Value(), maxQueued)
		}
		close(file.block)
		s.Close()
		if n := strings.Count(file.String(), "\n") + int(dropped.Value()); n != total {
			t.Errorf("%d lines are written or counted as dropped, want %d", n, total)
		}
	})
}

// A full disk is counted.
func TestSinkErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dropped := sinkTo(t, &memory{err: errors.New("no space left on device")})
		b := s.NewBuffer()
		b.Log(code(t), &Record{})
		b.Log(code(t), &Record{})
		s.Close()
		if dropped.Value() != 2 {
			t.Errorf("%d lines are counted as dropped, want 2", dropped.Value())
		}
	})
}

func TestSinkReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var old, rotated memory
		s, _ := sinkTo(t, &old, &rotated)
		b := s.NewBuffer()
		b.Log(code(t), &Record{Code: 1})
		s.Reopen()
		synctest.Wait()
		b.Log(code(t), &Record{Code: 2})
		s.Reopen() // fails: there is no third file; the second stays
		synctest.Wait()
		b.Log(code(t), &Record{Code: 3})
		s.Close()
		if old.String() != "1\n" || !old.closed || rotated.String() != "2\n3\n" {
			t.Errorf("the old file holds %q, the new one %q", old.String(), rotated.String())
		}
	})
}

func TestOpenSink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	for range 2 { // the second time it appends
		s, err := OpenSink(path, 0o644, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.NewBuffer().Log(code(t), &Record{Code: 200})
		s.Close()
	}
	if got, _ := os.ReadFile(path); string(got) != "200\n200\n" {
		t.Errorf("the file holds %q", got)
	}
	if _, err := OpenSink(filepath.Join(path, "below", "a", "file"), 0o644, 0, nil); err == nil {
		t.Error("a path below a file was opened")
	}
}

func TestLogAllocs(t *testing.T) {
	var file memory
	s, _ := sinkTo(t, &file)
	defer s.Close()
	b, r := s.NewBuffer(), teapot()
	b.data = make([]byte, 0, chunkSize)
	f, _ := Named("istio")
	if n := testing.AllocsPerRun(50, func() { b.Log(f, r) }); n != 0 {
		t.Errorf("logging allocates %v times, want 0", n)
	}
}

func BenchmarkLog(b *testing.B) {
	var file discard
	s, err := newSink("x", 0, nil, func() (io.WriteCloser, error) { return file, nil })
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	f, _ := Named("istio")
	buf, r := s.NewBuffer(), teapot()
	for b.Loop() {
		buf.Log(f, r)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

// Who asks for lines soon has them soon, and a sink without lines never wakes.
func TestSinkWakesForLinesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file memory
		s, err := newSink("memory", 50*time.Millisecond, nil, func() (io.WriteCloser, error) { return &file, nil })
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b := s.NewBuffer()
		began := time.Now()
		for i := range 3 {
			time.Sleep(time.Hour) // with nothing to do, the clock of this test jumps to its end
			b.Log(code(t), &Record{Code: 200})
			b.Log(code(t), &Record{Code: 200})
			time.Sleep(51 * time.Millisecond)
			if got, want := file.String(), strings.Repeat("200\n", 2*i+2); got != want {
				t.Errorf("51 ms after a line the file holds %q, want %q", got, want)
			}
		}
		if d := time.Since(began); d < 3*time.Hour {
			t.Errorf("the test took %s of its own time", d)
		}
	})
}
