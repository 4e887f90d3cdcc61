package podinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// start builds a container on the calling thread and runs its command.
func (in *initd) start(id uint64, c Container, files []*os.File) (*launched, error) {
	if err := in.acceptable(c.Argv, c.TTY, files); err != nil {
		return nil, err
	}
	in.mu.Lock()
	_, running := in.containers[c.Name]
	stopping := in.stopping
	in.mu.Unlock()
	if running {
		return nil, fmt.Errorf("container %s runs already", c.Name)
	}
	if stopping {
		return nil, errors.New("the pod is ending")
	}
	if err := in.buildRoot(&c); err != nil {
		return nil, err
	}
	ct := &container{Container: c}
	var err error
	if ct.mounts, err = os.Open("/proc/thread-self/ns/mnt"); err == nil {
		ct.nsName, err = os.Readlink("/proc/thread-self/ns/mnt")
	}
	if err != nil {
		return nil, fmt.Errorf("hold mount namespace: %w", err)
	}
	l, err := in.run(&process{id: id, main: ct}, ct, c.Argv, c.Env, c.Dir, c.TTY, files)
	if err != nil {
		ct.mounts.Close()
	}
	return l, err
}

// exec joins a container's mount namespace on the calling thread and runs a
// command there.
func (in *initd) exec(id uint64, e Exec, files []*os.File) (*launched, error) {
	if err := in.acceptable(e.Argv, e.TTY, files); err != nil {
		return nil, err
	}
	in.mu.Lock()
	ct := in.containers[e.Container]
	mounts := -1
	if ct != nil {
		// A copy: the container may end, and its descriptor be closed, meanwhile.
		mounts, _ = unix.FcntlInt(ct.mounts.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	}
	in.mu.Unlock()
	if ct == nil || mounts < 0 {
		return nil, fmt.Errorf("container %s does not run", e.Container)
	}
	defer unix.Close(mounts)
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("leave the init's directory: %w", err)
	}
	if err := unix.Setns(mounts, unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("join container %s: %w", e.Container, err)
	}
	dir := e.Dir
	if dir == "" {
		dir = ct.Dir
	}
	env := override(ct.Env, e.Env)
	argv0, err := lookPath(e.Argv[0], env)
	if err != nil {
		return nil, err
	}
	argv := append([]string{argv0}, e.Argv[1:]...)
	return in.run(&process{id: id}, ct, argv, env, dir, e.TTY, files)
}

func (in *initd) acceptable(argv []string, tty bool, files []*os.File) error {
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

// run drops the calling thread's privileges and forks the command.
func (in *initd) run(p *process, ct *container, argv, env []string, dir string, tty bool, files []*os.File) (*launched, error) {
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
	err := drop(ct.Caps)
	if err == nil {
		for _, c := range ct.Caps {
			attr.Sys.AmbientCaps = append(attr.Sys.AmbientCaps, uintptr(c))
		}
		if err = in.fork(p, argv[0], argv, attr); err != nil {
			err = in.explain(err, argv[0], dir)
		}
	}
	if err != nil {
		if l.tty != nil {
			l.tty.Close()
		}
		return nil, err
	}
	l.pid = p.pid
	return l, nil
}

// explain tells which of a command and its directory is missing: the kernel
// says ENOENT for both, and for a script's missing interpreter.
func (in *initd) explain(err error, argv0, dir string) error {
	if _, e := os.Stat(dir); e != nil {
		return fmt.Errorf("run %s in directory %s: %w", argv0, dir, e)
	}
	if _, e := os.Stat(argv0); e == nil && errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("run %s: its interpreter is not in the pod", argv0)
	}
	return fmt.Errorf("run %s: %w", argv0, err)
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

// openTTY makes a terminal in the container's own devpts.
func openTTY() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	master = os.NewFile(uintptr(fd), "terminal")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("unlock terminal: %w", err)
	}
	sfd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		master.Close()
		return nil, nil, fmt.Errorf("open terminal: %w", errno)
	}
	// Programs measure the terminal before its user has said how large it is.
	_ = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	return master, os.NewFile(sfd, "terminal"), nil
}

// override returns env with the variables of more, which win.
func override(env, more []string) []string {
	set := make(map[string]bool, len(more))
	for _, kv := range more {
		k, _, _ := strings.Cut(kv, "=")
		set[k] = true
	}
	var out []string
	for _, kv := range env {
		if k, _, _ := strings.Cut(kv, "="); !set[k] {
			out = append(out, kv)
		}
	}
	return append(out, more...)
}

// lookPath finds a command in the PATH of env, as the calling thread sees it.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, kv := range env {
		list, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			p := filepath.Join(dir, name)
			if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && unix.Access(p, unix.X_OK) == nil {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("%s: command not found in the container's PATH", name)
}
