package podinit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/mallamesh/malla/local/internal/fdmsg"
	"golang.org/x/sys/unix"
)

// A container is what the pod's init knows of one.
type container struct {
	Container
	conn *net.UnixConn // to its process 1, until that has become the command

	heard   chan struct{} // closed when process 1 has become the command, or has ended before
	ready   bool          // it was about to; set before heard is closed
	failure string        // why it could not; set before heard is closed
	tty     *os.File      // the terminal's master, or nil; set before heard is closed
	gone    chan struct{} // closed when process 1 has been reaped

	namespaces []*os.File     // its PID and mount namespaces, for Exec; guarded by initd.mu
	open       bool           // Exec may join it; guarded by initd.mu
	asked      syscall.Signal // what SIGKILL was sent in place of; guarded by initd.mu
}

// listen hears what the container's process 1 says, until it becomes the command:
// exec closes its end of the connection.
func (ct *container) listen() {
	defer close(ct.heard)
	defer ct.conn.Close()
	for {
		var r Report
		files, err := fdmsg.Read(ct.conn, &r)
		switch {
		case err != nil:
			return
		case r.Error != "":
			ct.failure = r.Error
		default:
			ct.ready = true
			if len(files) > 0 {
				ct.tty = files[0]
			}
		}
	}
}

// began reports whether the command has run. It is valid when heard is closed.
func (ct *container) began() bool { return ct.ready && ct.failure == "" }

// start forks a container's process 1, which makes the container and becomes its
// command.
func (in *initd) start(id uint64, c Container, files []*os.File) (*launched, error) {
	if err := acceptable(c.Argv, c.TTY, files); err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "container"), os.NewFile(uintptr(fds[1]), "pod")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		theirs.Close()
		return nil, fmt.Errorf("use socketpair: %w", err)
	}
	ct := &container{Container: c, conn: conn.(*net.UnixConn), heard: make(chan struct{}), gone: make(chan struct{})}
	p := &process{id: id, main: ct}
	go ct.listen() // ends with the last copy of their end
	err = in.forkInit(p, theirs)
	theirs.Close()
	if err != nil {
		return nil, err
	}
	_ = fdmsg.Write(ct.conn, Birth{Pod: in.pod, Container: c}, files...) // if that fails it has gone, which listen sees
	<-ct.heard
	if !ct.began() {
		<-ct.gone // its name is free again
		if ct.tty != nil {
			ct.tty.Close()
		}
		if ct.failure != "" {
			return nil, errors.New(ct.failure)
		}
		return nil, fmt.Errorf("process 1 of container %s was killed before its command began", c.Name)
	}
	in.mu.Lock()
	ct.open = true
	in.mu.Unlock()
	return &launched{pid: p.pid, tty: ct.tty}, nil
}

// forkInit forks process 1 of p's container.
func (in *initd) forkInit(p *process, control *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=1", "GOGC=50"},
		Files: []uintptr{null.Fd(), null.Fd(), os.Stderr.Fd(), control.Fd()},
		Sys:   &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Setsid: true},
	}
	if os.Getuid() != 0 { // only user 0 keeps capabilities over exec without help
		attr.Sys.AmbientCaps = allCaps()
	}
	argv := append([]string{"malla"}, ContainerArgs...)
	if err := in.fork(p, "/proc/self/exe", argv, attr); err != nil {
		return fmt.Errorf("start process 1 of container %s: %w", p.main.Name, err)
	}
	return nil
}

// allCaps are the capabilities of the calling thread.
func allCaps() (out []uintptr) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if unix.Capget(&hdr, &caps[0]) != nil {
		return nil
	}
	for c := range uintptr(64) {
		if caps[c/32].Permitted&(1<<(c%32)) != 0 {
			out = append(out, c)
		}
	}
	return out
}

// hold opens the namespaces of a container. Its process 1 is not reaped before the
// caller gives up in.mu.
func (ct *container) hold(pid int) error {
	for _, kind := range []string{"pid", "mnt"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			ct.close()
			return fmt.Errorf("hold the container's namespaces: %w", err)
		}
		ct.namespaces = append(ct.namespaces, f)
	}
	return nil
}

// close gives the namespaces back.
func (ct *container) close() {
	for _, f := range ct.namespaces {
		f.Close()
	}
	ct.namespaces = nil
}

// containerMain is process 1 of a container until it becomes the container's
// command.
func containerMain() int {
	conn, err := above()
	if err != nil {
		fmt.Fprintln(os.Stderr, "malla: error: container init:", err)
		return 1
	}
	// Another pod's application may have our user and must have nothing of ours: not
	// our memory, our descriptors, or our root. Exec makes all of that new.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "malla: error: container init: hide from applications:", err)
		return 1
	}
	up := &link{conn: conn}
	up.send(Report{Error: become(up).Error()})
	return 1
}

// become receives what the container is, makes it, and is replaced by its command.
// It returns only if that fails.
func become(up *link) error {
	var b Birth
	sent, err := fdmsg.Read(up.conn, &b)
	if err != nil {
		return fmt.Errorf("receive container: %w", err)
	}
	unix.Umask(0o022)
	if err := buildRoot(&b.Pod, &b.Container); err != nil {
		return err
	}
	failed := make(chan error)
	go func() {
		// Of our threads the one that execs is kept, with what Linux keeps per thread.
		runtime.LockOSThread()
		failed <- replace(up, &b.Container, sent)
	}()
	return <-failed
}

// replace makes the process the container's command, without privileges.
func replace(up *link, c *Container, sent []*os.File) error {
	files, master, err := descriptors(c.TTY, sent)
	if err != nil {
		return err
	}
	if err := os.Chdir(c.Dir); err != nil {
		return explain(err, c.Argv[0], c.Dir)
	}
	if err := drop(c.Caps); err != nil {
		return err
	}
	for i, f := range files {
		if err := unix.Dup3(int(f.Fd()), i, 0); err != nil {
			return fmt.Errorf("set descriptor %d: %w", i, err)
		}
	}
	// The end of the connection, which exec closes, says that the command runs.
	if c.TTY {
		if err := unix.IoctlSetInt(0, unix.TIOCSCTTY, 0); err != nil {
			return fmt.Errorf("set controlling terminal: %w", err)
		}
		up.send(Report{Ready: true}, master)
	} else {
		up.send(Report{Ready: true})
	}
	return explain(syscall.Exec(c.Argv[0], c.Argv, c.Env), c.Argv[0], c.Dir)
}

// explain tells which of a command and its directory is missing: the kernel
// says ENOENT for both, and for a script's missing interpreter.
func explain(err error, argv0, dir string) error {
	if _, e := os.Stat(dir); e != nil {
		return fmt.Errorf("run %s in directory %s: %w", argv0, dir, e)
	}
	if _, e := os.Stat(argv0); e == nil && errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("run %s: its interpreter is not in the pod", argv0)
	}
	return fmt.Errorf("run %s: %w", argv0, err)
}

// acceptable judges a request for a process.
func acceptable(argv []string, tty bool, files []*os.File) error {
	want := 3
	if tty {
		want = 0
	}
	if len(files) != want {
		return fmt.Errorf("%d descriptors for a process, want %d", len(files), want)
	}
	if len(argv) == 0 || argv[0] == "" {
		return errors.New("no command")
	}
	return nil
}

// drop takes every capability but those in keep from what the calling thread
// execs, in a child or itself, for good: the bounding set has no others and
// no_new_privs keeps set-user-id programs from changing anything.
func drop(keep []uint) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for c := uint(0); c <= 63; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err == unix.EINVAL {
			break // the kernel has no more
		} else if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for i := range caps {
		caps[i].Inheritable = 0
	}
	for _, c := range keep {
		caps[c/32].Inheritable |= 1 << (c % 32)
	}
	if err := unix.Capset(&hdr, &caps[0]); err != nil {
		return fmt.Errorf("set inheritable capabilities: %w", err)
	}
	for _, c := range keep { // exec clears what is not ambient, unless the user is 0
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
			return fmt.Errorf("keep capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// descriptors are a command's stdin, stdout and stderr: those that were sent, or
// a terminal's, and then its other end.
func descriptors(tty bool, sent []*os.File) (files []*os.File, master *os.File, err error) {
	if !tty {
		return sent, nil, nil
	}
	master, slave, err := openTTY()
	if err != nil {
		return nil, nil, err
	}
	return []*os.File{slave, slave, slave}, master, nil
}
