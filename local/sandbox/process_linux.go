package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mallamesh/malla/local/sandbox/internal/podinit"
	"golang.org/x/sys/unix"
)

// drainTime is how long we go on reading a process's output after its end:
// somebody outside the container may still hold the other side.
const drainTime = 2 * time.Second

// A Process is a container's main process, or one that Exec added.
type Process struct {
	pod   *Pod
	id    uint64
	pid   int
	stdin io.WriteCloser
	tty   *os.File // the terminal's master, or nil

	started chan struct{} // closed when the fields above are set
	pumps   sync.WaitGroup
	outputs []io.Closer
	ended   chan struct{} // closed when the process has ended
	done    chan struct{} // closed when, besides, its output has been read
	once    sync.Once
	status  ExitStatus
}

func newProcess(p *Pod) *Process {
	return &Process{pod: p, started: make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{})}
}

// Pid is the process's in the pod's PID namespace.
func (q *Process) Pid() int { return q.pid }

// Stdin is the process's input, or nil. Closing it is the end of its file;
// with a TTY it sends ^D.
func (q *Process) Stdin() io.WriteCloser { return q.stdin }

// Done is closed when the process has ended and its output has been handed over.
func (q *Process) Done() <-chan struct{} { return q.done }

// Wait waits for Done.
func (q *Process) Wait() ExitStatus {
	<-q.done
	return q.status
}

// Signal sends a signal, if the process is still there.
func (q *Process) Signal(s os.Signal) error {
	sig, ok := s.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal %v is none of Linux's", s)
	}
	select {
	case <-q.ended:
		return os.ErrProcessDone
	default:
	}
	return q.pod.send(podinit.Request{Signal: &podinit.Signal{Process: q.id, Signal: sig}})
}

// Resize tells the process's terminal its size.
func (q *Process) Resize(s TerminalSize) error {
	if q.tty == nil {
		return errors.New("the process has no terminal")
	}
	raw, err := q.tty.SyscallConn()
	if err != nil {
		return err
	}
	ioctlErr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Height, Col: s.Width})
	})
	return errors.Join(ioctlErr, err)
}

// finish records the end. What the process wrote is read to its end first.
func (q *Process) finish(s ExitStatus) {
	q.once.Do(func() {
		q.status = s
		close(q.ended)
		select {
		case <-q.started:
		case <-q.pod.done: // it never did
		case <-time.After(drainTime):
		}
		drained := make(chan struct{})
		go func() { q.pumps.Wait(); close(drained) }()
		select {
		case <-drained:
		case <-time.After(drainTime):
		}
		for _, c := range q.outputs {
			c.Close()
		}
		close(q.done)
	})
}

// Start runs a container's main process. When it ends, whatever it left behind
// in the container is killed, and the container's file system is gone; the
// volumes stay. ctx bounds only the start.
func (p *Pod) Start(ctx context.Context, c ContainerSpec) (*Process, error) {
	q, err := p.start(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", c.Name, err)
	}
	return q, nil
}

func (p *Pod) start(ctx context.Context, c ContainerSpec) (*Process, error) {
	if len(c.Argv) == 0 || !path.IsAbs(c.Argv[0]) {
		return nil, fmt.Errorf("command %q, want an absolute path first", c.Argv)
	}
	spec := podinit.Container{
		Name: c.Name, Argv: c.Argv, Env: p.environment(c.Env, c.TTY), Dir: c.Dir, Caps: p.runtime.caps, TTY: c.TTY,
	}
	if c.Sidecar {
		spec.Caps = []uint{unix.CAP_NET_ADMIN}
	}
	for _, m := range c.Mounts {
		if !path.IsAbs(m.Path) || !path.IsAbs(m.Source) {
			return nil, fmt.Errorf("mount %q at %q, want absolute paths", m.Source, m.Path)
		}
		spec.Mounts = append(spec.Mounts, podinit.Mount(m))
	}
	stdio := stdio{tty: c.TTY, stdin: c.Stdin, stdout: c.Log, stderr: c.Log}
	return p.launch(ctx, podinit.Request{Start: &spec}, stdio)
}

// Exec adds a process to a running container. It ends with the container. If
// the caller has no more interest in it, it should signal it: ctx bounds only
// the start.
func (p *Pod) Exec(ctx context.Context, container string, e ExecSpec) (*Process, error) {
	spec := podinit.Exec{Container: container, Argv: e.Argv, Env: e.Env, Dir: e.Dir, TTY: e.TTY}
	if e.TTY && !slices.ContainsFunc(e.Env, func(s string) bool { return strings.HasPrefix(s, "TERM=") }) {
		spec.Env = append(slices.Clone(e.Env), "TERM=xterm")
	}
	stdio := stdio{tty: e.TTY, stdin: e.Stdin != nil, stdout: e.Stdout, stderr: e.Stderr}
	q, err := p.launch(ctx, podinit.Request{Exec: &spec}, stdio)
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", container, err)
	}
	if e.Stdin != nil {
		go func() {
			_, _ = io.Copy(q.stdin, e.Stdin) // ends at the latest with the process: EPIPE
			q.stdin.Close()
		}()
	}
	if e.TTY && e.Resize != nil {
		go func() {
			for {
				select {
				case size, ok := <-e.Resize:
					if !ok {
						return
					}
					_ = q.Resize(size)
				case <-q.done:
					return
				}
			}
		}()
	}
	return q, nil
}

// environment completes a container's.
func (p *Pod) environment(env []string, tty bool) []string {
	defaults := []string{"PATH=" + containerPath(), "HOME=" + p.runtime.home, "HOSTNAME=" + p.spec.Hostname}
	if tty {
		defaults = append(defaults, "TERM=xterm")
	}
	out := slices.Clone(env)
	for _, d := range defaults {
		key, _, _ := strings.Cut(d, "=")
		if !slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, key+"=") }) {
			out = append(out, d)
		}
	}
	return out
}

// containerPath is our own PATH and the places of system programs, which users' PATHs often lack.
func containerPath() string {
	var dirs []string
	for d := range strings.SplitSeq(os.Getenv("PATH")+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ":") {
		if path.IsAbs(d) && !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return strings.Join(dirs, ":")
}

// stdio is what a process's descriptors lead to.
type stdio struct {
	tty, stdin     bool
	stdout, stderr io.Writer
}

// launch asks the init for a process and connects its descriptors.
func (p *Pod) launch(ctx context.Context, r podinit.Request, s stdio) (*Process, error) {
	q := newProcess(p)
	defer close(q.started)
	var theirs, ours []*os.File
	closeAll := func(files []*os.File) {
		for _, f := range files {
			f.Close()
		}
	}
	defer func() { closeAll(theirs) }()
	if !s.tty {
		var err error
		if theirs, ours, err = q.pipes(s); err != nil {
			return nil, err
		}
	}
	a, err := p.ask(ctx, q, r, theirs...)
	if err != nil {
		closeAll(ours)
		return nil, err
	}
	q.pid = a.report.Pid
	if s.tty {
		if len(a.files) != 1 {
			closeAll(a.files)
			return nil, errors.New("the init sent no terminal")
		}
		q.attachTTY(a.files[0], s)
		return q, nil
	}
	if s.stdin {
		q.stdin = ours[0]
		ours = ours[1:]
	}
	q.pump(ours[0], s.stdout)
	if len(ours) > 1 {
		q.pump(ours[1], s.stderr)
	}
	return q, nil
}

// pipes makes a process's three descriptors, and our ends of them: stdin if
// wanted, output, and errors if they go elsewhere.
func (q *Process) pipes(s stdio) (theirs, ours []*os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range append(theirs, ours...) {
				f.Close()
			}
		}
	}()
	if s.stdin {
		r, w, err := os.Pipe()
		if err != nil {
			return theirs, ours, err
		}
		theirs, ours = append(theirs, r), append(ours, w)
	} else {
		null, err := os.Open("/dev/null")
		if err != nil {
			return theirs, ours, err
		}
		theirs = append(theirs, null)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return theirs, ours, err
	}
	theirs, ours = append(theirs, w), append(ours, r)
	if sameWriter(s.stdout, s.stderr) {
		return append(theirs, duplicate(w)), ours, nil
	}
	r, w, err = os.Pipe()
	if err != nil {
		return theirs, ours, err
	}
	return append(theirs, w), append(ours, r), nil
}

// duplicate returns f again: descriptors that are sent need not be different.
func duplicate(f *os.File) *os.File { return f }

// sameWriter compares as os/exec does: writers of uncomparable types differ.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() {
		if recover() != nil {
			same = false
		}
	}()
	return a == b
}

// pump copies output to w, or nowhere, until its end.
func (q *Process) pump(r *os.File, w io.Writer) {
	if w == nil {
		w = io.Discard
	}
	q.outputs = append(q.outputs, r)
	q.pumps.Go(func() {
		if _, err := io.Copy(w, r); err != nil {
			_, _ = io.Copy(io.Discard, r) // the writer's trouble must not block the process
		}
	})
}

// attachTTY connects a terminal. Reading it ends with EIO when the last process
// that has it open is gone.
func (q *Process) attachTTY(master *os.File, s stdio) {
	if err := unix.SetNonblock(int(master.Fd()), true); err == nil {
		// As a new file, it is polled, so that closing it ends a read.
		if fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			_ = unix.SetNonblock(fd, true)
			master.Close()
			master = os.NewFile(uintptr(fd), "terminal")
		}
	}
	q.tty = master
	if s.stdin {
		q.stdin = ttyInput{master}
	}
	q.pump(master, s.stdout)
}

// ttyInput is a terminal's input: its end is a character, ^D (VEOF).
type ttyInput struct{ *os.File }

func (t ttyInput) Close() error {
	_, err := t.Write([]byte{4})
	return err
}
