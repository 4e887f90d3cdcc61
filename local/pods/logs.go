package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
)

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
	c.log.flush()
	view, err := c.log.view(o.Previous)
	switch {
	case err != nil && o.Previous:
		return nil, fmt.Errorf("previous terminated container %q in pod %q not found", c.name, pod)
	case err != nil:
		return nil, fmt.Errorf("container %q in pod %q is waiting to start: %s", c.name, pod, c.why())
	}
	ctx, cancel := context.WithCancel(ctx)
	r, out := io.Pipe()
	go func() {
		defer cancel()
		defer view.close()
		out.CloseWithError(view.stream(ctx, out, o))
	}()
	return &logReader{r, cancel}, nil
}

// A logReader ends its writer, which may wait for more, when it is closed.
type logReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (r *logReader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}

// byName returns a container; without a name, the only one.
func (w *worker) byName(name string) *container {
	for _, c := range w.all() {
		if c.name == name {
			return c
		}
	}
	if name == "" && len(w.containers) == 1 {
		return w.containers[0]
	}
	return nil
}

// why says what a container waits for.
func (c *container) why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state.Waiting
	switch {
	case s == nil:
		return "it has not written anything"
	case s.Message != "":
		return s.Reason + ": " + s.Message
	}
	return s.Reason
}

// A logView is the log of one run, from its beginning to where it was when it was
// opened, and what comes after.
type logView struct {
	l      *logFile
	run    int
	turned *os.File // what was turned over, or nil
	live   *os.File
	sizes  [2]int64 // of both
}

// view opens the log of the last run, or of the one before.
func (l *logFile) view(previous bool) (*logView, error) {
	l.mu.Lock() // so that the file is not turned over between the two
	defer l.mu.Unlock()
	v := &logView{l: l, run: l.run}
	if previous {
		v.run--
	}
	if v.run < 0 {
		return nil, os.ErrNotExist
	}
	var err error
	if v.live, v.sizes[1], err = openLog(l.path(v.run)); err != nil {
		return nil, err
	}
	if v.turned, v.sizes[0], err = openLog(l.path(v.run) + ".1"); err != nil {
		v.turned = nil
	}
	return v, nil
}

func openLog(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	s, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, s.Size(), nil
}

func (v *logView) close() {
	v.live.Close()
	if v.turned != nil {
		v.turned.Close()
	}
}

// past reads what was there when the view was opened.
func (v *logView) past() io.Reader {
	live := io.NewSectionReader(v.live, 0, v.sizes[1])
	if v.turned == nil {
		return live
	}
	return io.MultiReader(io.NewSectionReader(v.turned, 0, v.sizes[0]), live)
}

// stream copies the log, and with o.Follow what comes after until the run ends.
func (v *logView) stream(ctx context.Context, out io.Writer, o *corev1.PodLogOptions) error {
	s := &shaper{out: out, stamps: o.Timestamps, left: -1, since: since(o)}
	if o.LimitBytes != nil {
		s.left = *o.LimitBytes
	}
	if o.TailLines != nil {
		count := &shaper{out: io.Discard, left: -1, since: s.since}
		if err := count.copy(v.past()); err != nil {
			return err
		}
		s.skip = count.lines - *o.TailLines
	}
	if err := s.copy(v.past()); err != nil {
		return endOfLimit(err)
	}
	s.skip = 0
	if !o.Follow {
		return nil
	}
	if _, err := v.live.Seek(v.sizes[1], io.SeekStart); err != nil {
		return err
	}
	return endOfLimit(v.follow(ctx, s))
}

func (v *logView) follow(ctx context.Context, s *shaper) error {
	for {
		grown := v.l.grown.next()
		v.l.mu.Lock()
		over := v.l.run != v.run || v.l.over
		v.l.mu.Unlock()
		if err := s.copy(v.live); err != nil {
			return err
		}
		if turned, err := v.turn(); err != nil || turned {
			if err != nil {
				return nil // the log has gone with its pod
			}
			continue
		}
		if over { // as the kubelet: a run that has ended is not followed by the next
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil
		}
	}
}

// turn changes to the new file if the log was turned over. The old one has been
// read to what was its end a moment ago, and perhaps not to its very end.
func (v *logView) turn() (bool, error) {
	v.l.mu.Lock() // in the middle of turning it over there is no file
	next, err := os.Open(v.l.path(v.run))
	v.l.mu.Unlock()
	if err != nil {
		return false, err
	}
	a, errA := v.live.Stat()
	b, errB := next.Stat()
	at, errC := v.live.Seek(0, io.SeekCurrent)
	if err := errors.Join(errA, errB, errC); err != nil {
		next.Close()
		return false, err
	}
	if os.SameFile(a, b) {
		next.Close()
		return false, nil
	}
	if at < a.Size() { // read its rest first
		next.Close()
		return true, nil
	}
	v.live.Close()
	v.live = next
	return true, nil
}

var errLimit = errors.New("limitBytes reached")

func endOfLimit(err error) error {
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// since returns the time that lines must not be older than, "" for any.
func since(o *corev1.PodLogOptions) string {
	switch {
	case o.SinceSeconds != nil:
		return time.Now().Add(-time.Duration(*o.SinceSeconds) * time.Second).UTC().Format(stampLayout)
	case o.SinceTime != nil:
		return o.SinceTime.UTC().Format(stampLayout)
	}
	return ""
}

// A shaper turns stored lines into what was asked for: without the times, without
// what is too old, the pieces of long lines joined, up to a number of bytes.
type shaper struct {
	out    io.Writer
	stamps bool
	since  string
	skip   int64 // lines to leave out first
	left   int64 // bytes; -1: no limit

	lines  int64  // so far
	inside bool   // the last stored line was a piece that goes on
	drop   bool   // of a line that is left out
	part   []byte // of a stored line whose end was not read yet
	buf    []byte
}

// copy reads r to its end.
func (s *shaper) copy(r io.Reader) error {
	in := make([]byte, 32<<10)
	for {
		n, err := r.Read(in)
		if werr := s.write(in[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *shaper) write(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	s.part = append(s.part, text...)
	end := bytes.LastIndexByte(s.part, '\n') + 1
	s.buf = s.buf[:0]
	for line := range bytes.Lines(s.part[:end]) {
		if len(line) > textAt {
			s.line(line)
		}
	}
	s.part = append(s.part[:0], s.part[end:]...)
	b := s.buf
	if s.left >= 0 && int64(len(b)) >= s.left {
		if _, err := s.out.Write(b[:s.left]); err != nil {
			return err
		}
		return errLimit
	}
	if s.left >= 0 {
		s.left -= int64(len(b))
	}
	if len(b) == 0 {
		return nil
	}
	_, err := s.out.Write(b)
	return err
}

// line appends one stored line to buf.
func (s *shaper) line(line []byte) {
	goesOn := line[textAt-2] == 'P'
	if !s.inside {
		s.drop = string(line[:min(len(line), len(s.since))]) < s.since
		if !s.drop {
			s.lines++
			s.drop = s.lines <= s.skip
		}
		if s.stamps && !s.drop {
			s.buf = append(s.buf, line[:len(stampLayout)+1]...)
		}
	}
	s.inside = goesOn
	if s.drop {
		return
	}
	text := line[textAt:]
	if goesOn {
		text = text[:len(text)-1]
	}
	s.buf = append(s.buf, text...)
}
