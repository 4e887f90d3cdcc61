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
	link // to its init

	born  chan answer   // what its init says first
	heard chan struct{} // closed when its init has nothing more to say
	began bool          // the main process has run; set before heard is closed
	exit  *Report       // how that ended, if its init told; set before heard is closed
	gone  chan struct{} // closed when its init has been reaped

	namespaces []*os.File // its PID and mount namespaces, for Exec; guarded by initd.mu
	open       bool       // Exec may join it; guarded by initd.mu
}

// An answer is a container's init's.
type answer struct {
	report Report
	files  []*os.File
}

// listen hears what the container's init says, until it ends.
func (ct *container) listen() {
	defer close(ct.heard)
	defer ct.conn.Close()
	for {
		var r Report
		files, err := fdmsg.Read(ct.conn, &r)
		switch {
		case err != nil:
			return
		case r.Exited:
			ct.exit = &r
		default:
			ct.began = r.Error == ""
			ct.born <- answer{r, files}
		}
	}
}

// start forks a container's init, which makes the container and runs its command.
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
	ct := &container{Container: c, link: link{conn: conn.(*net.UnixConn)},
		born: make(chan answer, 1), heard: make(chan struct{}), gone: make(chan struct{})}
	p := &process{id: id, main: ct}
	go ct.listen() // ends with the last copy of their end
	err = in.forkInit(p, theirs)
	theirs.Close()
	if err != nil {
		return nil, err
	}
	ct.send(Birth{Pod: in.pod, Container: c}, files...)
	select {
	case a := <-ct.born:
		return in.welcome(p, a)
	case <-ct.gone:
	}
	select {
	case a := <-ct.born: // it has begun, and ended, meanwhile
		return in.welcome(p, a)
	default:
		return nil, fmt.Errorf("the init of container %s was killed", c.Name)
	}
}

// welcome takes what a container's init says first.
func (in *initd) welcome(p *process, a answer) (*launched, error) {
	if a.report.Error != "" {
		<-p.main.gone // its name is free again
		return nil, errors.New(a.report.Error)
	}
	in.mu.Lock()
	p.main.open = true
	in.mu.Unlock()
	l := &launched{pid: p.pid}
	if len(a.files) > 0 {
		l.tty = a.files[0]
	}
	return l, nil
}

// forkInit forks the init of p's container.
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
		return fmt.Errorf("start the init of container %s: %w", p.main.Name, err)
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

// hold opens the namespaces of a container. Its init is not reaped before the
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

// containerMain is process 1 of a container.
func containerMain() int {
	signals := passedOn()
	conn, err := above()
	if err != nil {
		fmt.Fprintln(os.Stderr, "malla: error: container init:", err)
		return 1
	}
	// The application may have our user and must have nothing else of ours: not our
	// memory, our descriptors, or our root.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "malla: error: container init: hide from the application:", err)
		return 1
	}
	up := &link{conn: conn}
	l, err := raise(conn)
	if err != nil {
		up.send(Report{Error: err.Error()})
		return 1
	}
	m := &mainProcess{pid: l.pid}
	if l.tty != nil {
		up.send(Report{Pid: l.pid}, l.tty)
		l.tty.Close()
	} else {
		up.send(Report{Pid: l.pid})
	}
	go m.obey(conn)
	go func() {
		for s := range signals {
			m.signal(s.(syscall.Signal))
		}
	}()
	up.send(ended(m.wait()))
	return 0
}

// raise receives what the container is, makes it, and forks its command.
func raise(conn *net.UnixConn) (*launched, error) {
	var b Birth
	files, err := fdmsg.Read(conn, &b)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return nil, fmt.Errorf("receive container: %w", err)
	}
	unix.Umask(0o022)
	if err := buildRoot(&b.Pod, &b.Container); err != nil {
		return nil, err
	}
	fork := func(argv0 string, argv []string, attr *syscall.ProcAttr) (int, error) {
		return syscall.ForkExec(argv0, argv, attr)
	}
	c := &b.Container
	return onThread(func() (*launched, error) { return run(fork, c.Caps, c.Argv, c.Env, c.Dir, c.TTY, files) })
}

// onThread runs f on a thread that ends with it. Package init holds the main
// thread, so it is never that one.
func onThread[T any](f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		v, err := f()
		done <- result{v, err}
	}()
	r := <-done
	return r.v, r.err
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

// run drops the calling thread's privileges and forks a command.
func run(fork func(argv0 string, argv []string, attr *syscall.ProcAttr) (int, error), caps []uint, argv, env []string, dir string, tty bool, files []*os.File) (*launched, error) {
	attr := &syscall.ProcAttr{Dir: dir, Env: env, Sys: &syscall.SysProcAttr{Setsid: true}}
	l := &launched{}
	if tty {
		master, slave, err := openTTY()
		if err != nil {
			return nil, err
		}
		defer slave.Close()
		l.tty = master
		files = []*os.File{slave, slave, slave}
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	err := drop(caps)
	if err == nil {
		for _, c := range caps {
			attr.Sys.AmbientCaps = append(attr.Sys.AmbientCaps, uintptr(c))
		}
		if l.pid, err = fork(argv[0], argv, attr); err != nil {
			err = explain(err, argv[0], dir)
		}
	}
	if err != nil {
		if l.tty != nil {
			l.tty.Close()
		}
		return nil, err
	}
	return l, nil
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

// drop takes every capability but those in keep from the calling thread's
// children, for good: the bounding set has no others and no_new_privs keeps
// set-user-id programs from changing anything.
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
	if err := unix.Capset(&hdr, &caps[0]); err != nil {
		return fmt.Errorf("clear inheritable capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}
