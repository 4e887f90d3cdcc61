package pods

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	maxLog  = 10 << 20 // bytes of a log before it is turned over, once
	maxLine = 16 << 10 // longer ones are stored in pieces, which reading joins
)

// stampLayout is fixed in width, so that a line's text begins at a known place.
const stampLayout = "2006-01-02T15:04:05.000000000Z"

// textAt is where a stored line's text begins: time, space, tag, space. The tag
// is 'F' for a full line or the last piece of one, 'P' for a piece that goes on,
// as in the files of Kubernetes' container runtimes.
const textAt = len(stampLayout) + 3

func logName(p *corev1.Pod) string { return p.Namespace + "_" + p.Name + "_" + string(p.UID) }

func (w *worker) logDir() string { return filepath.Join(w.k.Dir, logName(w.object())) }

func (w *worker) logPath(container string) string { return filepath.Join(w.logDir(), container) }

func (w *worker) removeLogs() {
	if err := os.RemoveAll(w.logDir()); err != nil {
		w.k.Log.Warn("logs not removed", "pod", w.namespace+"/"+w.name, "reason", err)
	}
}

// A logFile is the log of one container over its runs: <dir>/<n>.log for the
// n-th, and <n>.log.1 for what was turned over. The run before the last is kept
// for --previous.
type logFile struct {
	dir   string
	grown signal // something was written, or the run or the pod has ended

	mu     sync.Mutex // guards what follows
	run    int        // -1: none yet
	over   bool       // the run has ended
	closed bool
	file   *os.File
	size   int
	part   []byte // the beginning of a line, less than maxLine
}

// newLogFile opens the log where an earlier life of the pod left it.
func newLogFile(dir string) *logFile {
	l := &logFile{dir: dir, run: -1, over: true}
	entries, _ := os.ReadDir(dir) // none: nothing ran yet
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".log")); err == nil {
			l.run = max(l.run, n)
		}
	}
	return l
}

// next begins the log of another run and returns where it goes.
func (l *logFile) next() io.Writer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return io.Discard
	}
	l.finish()
	l.run++
	l.over = false
	_ = os.Remove(l.path(l.run - 2))
	_ = os.Remove(l.path(l.run-2) + ".1")
	l.open()
	l.grown.notify()
	return l
}

func (l *logFile) path(run int) string { return filepath.Join(l.dir, fmt.Sprintf("%d.log", run)) }

// end marks the end of a run: who follows it has seen everything.
func (l *logFile) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finish()
	l.over = true
	l.grown.notify()
}

// close ends the log with its pod.
func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finish()
	l.over, l.closed = true, true
	l.grown.notify()
}

// finish stores what there is of a last line, and closes the file. The caller holds mu.
func (l *logFile) finish() {
	if len(l.part) > 0 {
		l.store(appendLine(nil, time.Now(), 'F', l.part))
		l.part = nil
	}
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// open begins a file. The caller holds mu.
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

func appendLine(dst []byte, at time.Time, tag byte, text ...[]byte) []byte {
	dst = at.UTC().AppendFormat(dst, stampLayout)
	dst = append(dst, ' ', tag, ' ')
	for _, t := range text {
		dst = append(dst, t...)
	}
	return append(dst, '\n')
}

// Write takes output as it comes and stores lines, and long lines in pieces.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []byte
	now := time.Now()
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxLine-len(l.part))
		if i := bytes.IndexByte(rest[:n], '\n'); i >= 0 {
			out = appendLine(out, now, 'F', l.part, rest[:i])
			l.part = l.part[:0]
			rest = rest[i+1:]
			continue
		}
		l.part = append(l.part, rest[:n]...)
		rest = rest[n:]
		if len(l.part) >= maxLine {
			out = appendLine(out, now, 'P', l.part)
			l.part = l.part[:0]
		}
	}
	l.store(out)
	return len(p), nil
}

// flush stores the beginning of a line, so that it can be read.
func (l *logFile) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.part) > 0 {
		l.store(appendLine(nil, time.Now(), 'P', l.part))
		l.part = l.part[:0]
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
	l.grown.notify()
}
