package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	maxLog  = 10 << 20 // bytes of a log before it is turned over, once
	maxLine = 16 << 10 // longer ones are cut into several, as the kubelet's runtime does
)

// stampLayout is fixed in width, so that a line's text begins at a known place.
const stampLayout = "2006-01-02T15:04:05.000000000Z"

func (w *worker) logDir() string {
	return filepath.Join(w.k.Dir, w.namespace+"_"+w.name+"_"+string(w.pod.UID))
}

func (w *worker) logPath(container string) string { return filepath.Join(w.logDir(), container) }

func (w *worker) removeLogs() { _ = os.RemoveAll(w.logDir()) }

// A logFile is the log of one container over its runs: <path>/<n>.log for the
// n-th, each line with its time. The run before the last is kept for --previous.
type logFile struct {
	dir string

	mu    sync.Mutex // guards what follows
	run   int
	file  *os.File
	size  int
	part  []byte // a line that has not ended
	grown chan struct{}
}

func newLogFile(dir string) *logFile { return &logFile{dir: dir, run: -1, grown: make(chan struct{})} }

// next begins the log of another run and returns where it goes.
func (l *logFile) next() io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	if l.file != nil {
		l.file.Close()
	}
	l.run++
	_ = os.RemoveAll(l.path(l.run - 2))
	_ = os.Remove(l.path(l.run-2) + ".1")
	l.open()
	return l
}

func (l *logFile) path(run int) string { return filepath.Join(l.dir, fmt.Sprintf("%d.log", run)) }

func (l *logFile) open() {
	l.size = 0
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		l.file = nil
		return
	}
	f, err := os.OpenFile(l.path(l.run), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		f = nil // a full disk loses lines; the application goes on
	}
	l.file = f
}

// Write takes output as it comes and stores whole lines.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []byte
	stamp := time.Now().UTC().Format(stampLayout)
	rest := p
	for len(rest) > 0 {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			l.part = append(l.part, rest...)
			break
		}
		out = append(append(append(append(append(out, stamp...), ' '), l.part...), rest[:i]...), '\n')
		l.part = l.part[:0]
		rest = rest[i+1:]
	}
	if len(l.part) >= maxLine {
		out = append(append(append(append(out, stamp...), ' '), l.part...), '\n')
		l.part = l.part[:0]
	}
	l.store(out)
	return len(p), nil
}

// flush stores a last line without an end. The caller holds mu.
func (l *logFile) flush() {
	if len(l.part) > 0 {
		out := append([]byte(time.Now().UTC().Format(stampLayout)+" "), l.part...)
		l.part = nil
		l.store(append(out, '\n'))
	}
}

// store appends lines and turns the file over when it is full. The caller holds mu.
func (l *logFile) store(out []byte) {
	if len(out) == 0 || l.file == nil {
		return
	}
	n, _ := l.file.Write(out) // a full disk loses lines; the application goes on
	if l.size += n; l.size > maxLog {
		l.file.Close()
		_ = os.Rename(l.path(l.run), l.path(l.run)+".1")
		l.open()
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

// Logs implements the API server's backend.
func (k *Kubelet) Logs(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	w, err := k.find(namespace, pod)
	if err != nil {
		return nil, err
	}
	c := w.byName(o.Container)
	if c == nil {
		return nil, fmt.Errorf("container %s is not valid for pod %s", o.Container, pod)
	}
	c.log.mu.Lock()
	run := c.log.run
	c.log.flush()
	c.log.mu.Unlock()
	if o.Previous {
		run--
	}
	if run < 0 {
		if o.Previous {
			return nil, fmt.Errorf("previous terminated container %q in pod %q not found", o.Container, pod)
		}
		return nil, fmt.Errorf("container %q in pod %q is waiting to start: %s", o.Container, pod, c.why())
	}
	r, out := io.Pipe()
	go func() { out.CloseWithError(c.log.stream(ctx, out, run, o)) }()
	return r, nil
}

func (w *worker) byName(name string) *container {
	for _, c := range append(append([]*container{}, w.containers...), w.init...) {
		if c.name == name || name == "" && len(w.containers) == 1 {
			return c
		}
	}
	return nil
}

// why says what a container waits for.
func (c *container) why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.state.Waiting; s != nil {
		if s.Message != "" {
			return s.Reason + ": " + s.Message
		}
		return s.Reason
	}
	return "it has not written anything"
}

// stream copies the log of a run, and with o.Follow what comes after.
func (l *logFile) stream(ctx context.Context, out io.Writer, run int, o *corev1.PodLogOptions) error {
	text, _ := os.ReadFile(l.path(run) + ".1") // the part that was turned over
	live, err := os.Open(l.path(run))
	if err != nil {
		return fmt.Errorf("the log is gone: %w", err)
	}
	defer live.Close()
	more, err := io.ReadAll(live)
	if err != nil {
		return err
	}
	shaper := &shaper{out: out, o: o, left: -1}
	if o.LimitBytes != nil {
		shaper.left = *o.LimitBytes
	}
	if err := shaper.write(tail(since(append(text, more...), o), o.TailLines)); err != nil {
		return endOfLimit(err)
	}
	if !o.Follow {
		return nil
	}
	for {
		l.mu.Lock()
		grown, current := l.grown, l.run
		l.mu.Unlock()
		more, err := io.ReadAll(live)
		if err != nil {
			return err
		}
		if len(more) > 0 {
			if err := shaper.write(more); err != nil {
				return endOfLimit(err)
			}
			continue
		}
		if current != run {
			return nil // the container runs anew; kubectl ends here too
		}
		select {
		case <-grown:
			if next, err := os.Open(l.path(run)); err == nil { // it may have been turned over
				a, errA := live.Stat()
				b, errB := next.Stat()
				if errA == nil && errB == nil && !os.SameFile(a, b) {
					live.Close()
					live = next
				} else {
					next.Close()
				}
			}
		case <-time.After(time.Second): // or it is gone
			if _, err := os.Stat(l.dir); err != nil {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

var errLimit = errors.New("limitBytes reached")

func endOfLimit(err error) error {
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// since drops the lines before the time that was asked for.
func since(text []byte, o *corev1.PodLogOptions) []byte {
	var from time.Time
	switch {
	case o.SinceSeconds != nil:
		from = time.Now().Add(-time.Duration(*o.SinceSeconds) * time.Second)
	case o.SinceTime != nil:
		from = o.SinceTime.Time
	default:
		return text
	}
	limit := []byte(from.UTC().Format(stampLayout))
	for len(text) > 0 {
		if len(text) >= len(limit) && bytes.Compare(text[:len(limit)], limit) >= 0 {
			return text
		}
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			return nil
		}
		text = text[i+1:]
	}
	return nil
}

// tail keeps the last n lines.
func tail(text []byte, n *int64) []byte {
	if n == nil {
		return text
	}
	at, left := len(text), *n
	for at > 0 && left >= 0 {
		i := bytes.LastIndexByte(text[:at-1], '\n')
		if left--; left < 0 {
			break
		}
		at = i + 1
	}
	return text[at:]
}

// shaper takes the times off the lines unless they were asked for, and keeps to
// a limit of bytes.
type shaper struct {
	out  io.Writer
	o    *corev1.PodLogOptions
	left int64  // -1: no limit
	part []byte // of a line whose end is not written yet
}

func (s *shaper) write(text []byte) error {
	text = append(s.part, text...)
	end := bytes.LastIndexByte(text, '\n') + 1
	s.part = bytes.Clone(text[end:])
	var b []byte
	for line := range bytes.Lines(text[:end]) {
		if !s.o.Timestamps && len(line) > len(stampLayout) {
			line = line[len(stampLayout)+1:]
		}
		b = append(b, line...)
	}
	if s.left >= 0 && int64(len(b)) >= s.left {
		if _, err := s.out.Write(b[:s.left]); err != nil {
			return err
		}
		return errLimit
	}
	if s.left >= 0 {
		s.left -= int64(len(b))
	}
	_, err := s.out.Write(b)
	return err
}
