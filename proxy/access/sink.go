package access

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

// Bounds of a sink.
const (
	chunkSize  = 64 << 10    // a shard hands a buffer over at the latest when it is this full
	maxQueued  = 4 << 20     // bytes that may wait for the writer; lines beyond are dropped
	flushEvery = time.Second // unless another time is asked for
)

// A Sink writes lines to one file. Shards collect lines in buffers of their own and
// hand them to one goroutine, which alone touches the file: a disk or pipe that does
// not keep up costs lines, which are counted, and never a request.
type Sink struct {
	path    string
	open    func() (io.WriteCloser, error)
	dropped *stats.Counter
	every   time.Duration // lines wait for the writer at most so long

	mu      sync.Mutex // guards what follows
	buffers []*Buffer
	queue   [][]byte
	queued  int
	free    [][]byte
	closed  bool

	wake   chan struct{}
	first  chan struct{} // an empty buffer has a line now
	reopen atomic.Bool
	done   chan struct{}
}

// OpenSink opens a sink that appends to a file, which it makes, with that mode, if there is none. The paths
// /dev/stdout and /dev/stderr are the process's own streams, whatever they are. Lines reach
// the file after every at the latest, 0: a second. Dropped lines are counted in dropped.
func OpenSink(path string, mode os.FileMode, every time.Duration, dropped *stats.Counter) (*Sink, error) {
	return newSink(path, every, dropped, func() (io.WriteCloser, error) {
		switch path {
		case "/dev/stdout":
			return keepOpen{os.Stdout}, nil
		case "/dev/stderr":
			return keepOpen{os.Stderr}, nil
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, mode)
		if err != nil {
			return nil, fmt.Errorf("access log: %w", err)
		}
		return f, nil
	})
}

func newSink(path string, every time.Duration, dropped *stats.Counter, open func() (io.WriteCloser, error)) (*Sink, error) {
	if dropped == nil {
		dropped = new(stats.Counter)
	}
	if every <= 0 {
		every = flushEvery
	}
	s := &Sink{path: path, open: open, dropped: dropped, every: every, wake: make(chan struct{}, 1), first: make(chan struct{}, 1), done: make(chan struct{})}
	w, err := open()
	if err != nil {
		return nil, err
	}
	go s.run(w)
	return s, nil
}

// keepOpen is a stream that is not ours to close.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// Path is the path that the sink was opened with.
func (s *Sink) Path() string { return s.path }

// A Buffer collects the lines of one shard. Only its shard calls Log; the sink's own
// goroutine takes what is left some time after the first of them.
type Buffer struct {
	s *Sink

	mu   sync.Mutex // guards data; uncontended but for that
	data []byte
}

// NewBuffer returns a buffer for one shard.
func (s *Sink) NewBuffer() *Buffer {
	b := &Buffer{s: s, data: make([]byte, 0, 4096)}
	s.mu.Lock()
	s.buffers = append(s.buffers, b)
	s.mu.Unlock()
	return b
}

// Log formats one record into the buffer.
func (b *Buffer) Log(f *Format, r *Record) {
	b.mu.Lock()
	b.begin()
	b.data = f.Append(b.data, r)
	if len(b.data) >= chunkSize {
		b.handOver()
	}
	b.mu.Unlock()
}

// Append takes in a line that is formatted already, line end included.
func (b *Buffer) Append(line []byte) {
	b.mu.Lock()
	b.begin()
	b.data = append(b.data, line...)
	if len(b.data) >= chunkSize {
		b.handOver()
	}
	b.mu.Unlock()
}

// begin wakes the sink at the first line: what nobody uses costs nothing. The caller holds b.mu.
func (b *Buffer) begin() {
	if len(b.data) > 0 {
		return
	}
	select {
	case b.s.first <- struct{}{}:
	default:
	}
}

// Close hands over what is left and ends the buffer.
func (b *Buffer) Close() {
	b.mu.Lock()
	b.handOver()
	b.mu.Unlock()
	b.s.mu.Lock()
	for i, o := range b.s.buffers {
		if o == b {
			b.s.buffers = append(b.s.buffers[:i], b.s.buffers[i+1:]...)
			break
		}
	}
	b.s.mu.Unlock()
}

// handOver gives the lines to the writer, or drops them if it is too far behind. The
// caller holds b.mu.
func (b *Buffer) handOver() {
	if len(b.data) == 0 {
		return
	}
	s := b.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.queued+len(b.data) > maxQueued {
		s.dropped.Add(lines(b.data))
		b.data = b.data[:0]
		return
	}
	s.queue = append(s.queue, b.data)
	s.queued += len(b.data)
	if n := len(s.free); n > 0 {
		b.data, s.free = s.free[n-1][:0], s.free[:n-1]
	} else {
		b.data = make([]byte, 0, cap(b.data))
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func lines(b []byte) (n uint64) {
	for _, c := range b {
		if c == '\n' {
			n++
		}
	}
	return n
}

// Reopen makes the sink close its file and open the path again, for those who rotate
// logs. If that fails, it goes on with the old file.
func (s *Sink) Reopen() {
	s.reopen.Store(true)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close writes what the shards have logged and closes the file. A reader that never
// reads (a full pipe) is given up on after two seconds.
func (s *Sink) Close() {
	s.collect()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	select {
	case <-s.done:
	case <-t.C:
	}
}

// collect takes the lines out of all buffers.
func (s *Sink) collect() {
	s.mu.Lock()
	buffers := append([]*Buffer(nil), s.buffers...)
	s.mu.Unlock()
	for _, b := range buffers {
		b.mu.Lock()
		b.handOver()
		b.mu.Unlock()
	}
}

// run writes until the sink is closed.
func (s *Sink) run(w io.WriteCloser) {
	defer close(s.done)
	due := time.NewTimer(s.every)
	due.Stop()
	defer due.Stop()
	armed := false
	for {
		select {
		case <-s.wake:
		case <-s.first:
			if !armed {
				armed = true
				due.Reset(s.every)
			}
			continue
		case <-due.C:
			armed = false
			s.collect()
		}
		if s.reopen.Swap(false) {
			s.collect() // lines logged before belong into the old file
			s.drain(w)
			if n, err := s.open(); err == nil {
				w.Close()
				w = n
			}
		}
		if s.drain(w) {
			w.Close()
			return
		}
	}
}

// drain writes the queue and reports whether the sink was closed before.
func (s *Sink) drain(w io.Writer) bool {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			closed := s.closed
			s.mu.Unlock()
			return closed
		}
		chunk := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		if n, err := w.Write(chunk); err != nil {
			s.dropped.Add(lines(chunk[n:]))
		}
		s.mu.Lock()
		s.queued -= len(chunk)
		if len(s.free) < 4 && cap(chunk) <= 2*chunkSize {
			s.free = append(s.free, chunk)
		}
		s.mu.Unlock()
	}
}
