package podinit

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/mallamesh/malla/local/internal/fdmsg"
	"golang.org/x/sys/unix"
)

// controlFD is an init's end of the socketpair.
const controlFD = 3

// Main is process 1 of a pod.
func Main() int {
	// Before the supervisor hears that we are ready: a signal that nobody has asked
	// for would end us. Process 1 does not get others.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	in, err := enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "malla: error: pod init:", err)
		return 1
	}
	go in.reap()
	go in.forwardSignals(signals)
	in.serve()
	return 0
}

// An initd is the init's state.
type initd struct {
	pod Pod
	link

	// mu guards what follows. It is held while a process is forked and while one
	// is reaped, so that an end is never seen before its beginning.
	mu         sync.Mutex
	byPid      map[int]*process
	byID       map[uint64]*process
	containers map[string]*container // running ones, by name
	forked     chan struct{}         // wakes the reaper
	stopping   bool
}

// A link is one end of a socketpair.
type link struct {
	conn   *net.UnixConn
	sendMu sync.Mutex // one message at a time
}

// send sends a message. If that fails the peer is gone, which whoever reads from
// it sees as well.
func (l *link) send(v any, files ...*os.File) {
	l.sendMu.Lock()
	defer l.sendMu.Unlock()
	_ = fdmsg.Write(l.conn, v, files...)
}

// above is the link to who started an init.
func above() (*net.UnixConn, error) {
	if os.Getpid() != 1 {
		return nil, errors.New("this is a part of malla up and does not run by itself")
	}
	// Not only ours: whoever ran malla may have left it descriptors.
	if err := unix.CloseRange(controlFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("keep descriptors from containers: %w", err)
	}
	f := os.NewFile(controlFD, "above")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use descriptor %d: %w", controlFD, err)
	}
	return c.(*net.UnixConn), nil
}

// A process is one that the supervisor asked for: a container's process 1, or what
// was added to a container.
type process struct {
	id   uint64
	pid  int
	main *container // the container whose process 1 it is, or nil

	pending []syscall.Signal // to be delivered, in order; guarded by initd.mu
}

// enter makes the process an init and receives what its pod is.
func enter() (*initd, error) {
	c, err := above()
	if err != nil {
		return nil, err
	}
	in := &initd{
		link:  link{conn: c},
		byPid: make(map[int]*process), byID: make(map[uint64]*process),
		containers: make(map[string]*container), forked: make(chan struct{}, 1),
	}
	if _, err := fdmsg.Read(in.conn, &in.pod); err != nil {
		return nil, fmt.Errorf("receive pod: %w", err)
	}
	unix.Umask(0o022)
	if err := unix.Sethostname([]byte(in.pod.Hostname)); err != nil {
		return nil, fmt.Errorf("set host name %q: %w", in.pod.Hostname, err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range []string{in.pod.rootDir(), in.pod.skeletonDir()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make scratch directory: %w", err)
		}
	}
	in.send(Report{Ready: true})
	return in, nil
}

func (p *Pod) rootDir() string     { return p.Scratch + "/root" }
func (p *Pod) skeletonDir() string { return p.Scratch + "/skeleton" }

// serve carries out requests until the supervisor goes.
func (in *initd) serve() {
	for {
		var r Request
		files, err := fdmsg.Read(in.conn, &r)
		if err != nil {
			return
		}
		switch {
		case r.Start != nil:
			go in.launch(r.ID, files, func() (*launched, error) { return in.start(r.ID, *r.Start, files) })
		case r.Exec != nil:
			go in.launch(r.ID, files, func() (*launched, error) { return in.exec(r.ID, *r.Exec, files) })
		case r.Signal != nil:
			in.signal(r.Signal.Process, r.Signal.Signal)
		default:
			in.send(Report{ID: r.ID, Error: "unknown request"})
		}
	}
}

// launched is a process that runs, and the terminal it has.
type launched struct {
	pid int
	tty *os.File
}

// launch runs f on a thread that ends with it, because f may change what Linux
// keeps per thread, and reports. Package init holds the main thread, so this is
// never that one.
func (in *initd) launch(id uint64, files []*os.File, f func() (*launched, error)) {
	runtime.LockOSThread()
	l, err := f()
	for _, f := range files {
		f.Close()
	}
	switch {
	case err != nil:
		in.send(Report{ID: id, Error: err.Error()})
	case l.tty != nil:
		in.send(Report{ID: id, Pid: l.pid}, l.tty)
		l.tty.Close()
	default:
		in.send(Report{ID: id, Pid: l.pid})
	}
}

// forwardSignals passes on what the init itself is sent, and ends the pod after
// a SIGTERM when its containers have gone or the grace period is over.
func (in *initd) forwardSignals(signals <-chan os.Signal) {
	for s := range signals {
		in.mu.Lock()
		for _, p := range in.byID {
			if p.main != nil {
				in.deliver(p, s.(syscall.Signal))
			}
		}
		if s == unix.SIGTERM && !in.stopping {
			in.stopping = true
			time.AfterFunc(time.Duration(in.pod.GraceMS)*time.Millisecond, func() { os.Exit(0) })
			if len(in.containers) == 0 {
				os.Exit(0)
			}
		}
		in.mu.Unlock()
	}
}
