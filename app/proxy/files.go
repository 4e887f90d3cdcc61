package proxy

import (
	"os"
	"sync"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/stats"
)

// files are the access logs that are open.
type files struct {
	shards  int
	every   time.Duration // lines reach a file at the latest after this; 0: the default
	dropped *stats.Counter

	mu   sync.Mutex
	open map[string]*file // guarded by mu
}

// file is one access log with a buffer for each shard.
type file struct {
	sink    *access.Sink
	buffers []*access.Buffer
	events  *access.Buffer // of what happens outside the shards
}

// Open opens a file, or finds it open.
func (f *files) Open(path string) (build.Lines, error) { return f.openAs(path, 0o644) }

// OpenPrivate is Open for a file that is nobody's business but its owner's.
func (f *files) OpenPrivate(path string) (build.Lines, error) { return f.openAs(path, 0o600) }

func (f *files) openAs(path string, mode os.FileMode) (build.Lines, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.open[path]; l != nil {
		return l, nil
	}
	sink, err := access.OpenSink(path, mode, f.every, f.dropped)
	if err != nil {
		return nil, err
	}
	l := &file{sink: sink, events: sink.NewBuffer()}
	for range f.shards {
		l.buffers = append(l.buffers, sink.NewBuffer())
	}
	if f.open == nil {
		f.open = map[string]*file{}
	}
	f.open[path] = l
	return l, nil
}

// Reopen opens the files anew: somebody has moved them away.
func (f *files) Reopen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.open {
		l.sink.Reopen()
	}
}

// Close writes out what is buffered. No shard may run any more.
func (f *files) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.open {
		for _, b := range append(l.buffers, l.events) {
			b.Close()
		}
		l.sink.Close()
	}
	f.open = nil
}

// Write takes a line in on the thread of a shard.
func (l *file) Write(shard int, format *access.Format, r *access.Record) {
	if shard < len(l.buffers) {
		l.buffers[shard].Log(format, r)
	}
}

// Append takes a finished line in on any goroutine.
func (l *file) Append(line []byte) { l.events.Append(line) }
