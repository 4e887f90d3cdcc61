// Package sink writes what taps record (package tap) as Envoy's messages: into files, or for a reader of the
// administration interface. It is the door at which protobuf begins; nothing here runs on a shard but handing over.
package sink

import (
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/tap"
)

// queued is how many traces wait for a sink; what comes beyond is dropped.
const queued = 256

// Files is a sink that writes a file for each stream. It has a goroutine as long as there is something to write.
type Files struct {
	prefix  string
	format  Format
	log     *slog.Logger // may be nil
	queue   chan *tap.Trace
	working atomic.Bool
}

// NewFiles returns a sink that writes to files whose names begin with prefix.
func NewFiles(prefix string, f Format, log *slog.Logger) *Files {
	return &Files{prefix: prefix, format: f, log: log, queue: make(chan *tap.Trace, queued)}
}

// Submit has a trace written, unless too many wait.
func (f *Files) Submit(t *tap.Trace) bool {
	select {
	case f.queue <- t:
	default:
		return false
	}
	if f.working.CompareAndSwap(false, true) {
		go f.work()
	}
	return true
}

func (f *Files) work() {
	for {
		select {
		case t := <-f.queue:
			f.write(t)
			continue
		default:
		}
		f.working.Store(false)
		if len(f.queue) == 0 || !f.working.CompareAndSwap(false, true) { // somebody else works, or whoever submits next will have it done
			return
		}
	}
}

func (f *Files) write(t *tap.Trace) {
	text, err := f.format.Encode(t)
	if err == nil {
		err = appendTo(f.prefix+"_"+strconv.FormatUint(t.ID, 10)+f.format.Extension(), text)
	}
	if err != nil && f.log != nil {
		f.log.Warn("write tap", "error", err)
	}
}

func appendTo(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) // bodies are nobody else's business
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if e := file.Close(); err == nil {
		err = e
	}
	return err
}

// A Reader is a sink that somebody reads: who has asked for a tap.
type Reader struct {
	Format  Format
	Max     uint64        // traces, after which there are no more; 0: without end
	Timeout time.Duration // after which there are no more; 0: never
	Block   bool          // traces are handed over together, at the end

	queue chan *tap.Trace
}

// NewReader returns a reader.
func NewReader(f Format) *Reader { return &Reader{Format: f, queue: make(chan *tap.Trace, queued)} }

// Submit hands a trace over, unless too many wait.
func (r *Reader) Submit(t *tap.Trace) bool {
	select {
	case r.queue <- t:
		return true
	default:
		return false
	}
}

// Traces is where traces come.
func (r *Reader) Traces() <-chan *tap.Trace { return r.queue }
