package podinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// exec joins a container's namespaces on the calling thread and runs a command
// there.
func (in *initd) exec(id uint64, e Exec, files []*os.File) (*launched, error) {
	if err := acceptable(e.Argv, e.TTY, files); err != nil {
		return nil, err
	}
	ct, namespaces, err := in.running(e.Container)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, fd := range namespaces {
			unix.Close(fd)
		}
	}()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("leave the init's directory: %w", err)
	}
	for i, kind := range []int{unix.CLONE_NEWPID, unix.CLONE_NEWNS} {
		if err := unix.Setns(namespaces[i], kind); err != nil {
			return nil, fmt.Errorf("join container %s: %w", e.Container, err)
		}
	}
	dir := e.Dir
	if dir == "" {
		dir = ct.Dir
	}
	if dir == "" {
		dir = "/"
	}
	env := override(ct.Env, e.Env)
	argv0, err := lookPath(e.Argv[0], env)
	if err != nil {
		return nil, err
	}
	stdio, master, err := descriptors(e.TTY, files)
	if err != nil {
		return nil, err
	}
	attr := &syscall.ProcAttr{Dir: dir, Env: env, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: e.TTY}}
	for _, f := range stdio {
		attr.Files = append(attr.Files, f.Fd())
	}
	p := &process{id: id}
	if err = drop(ct.Caps); err == nil {
		err = in.fork(p, argv0, append([]string{argv0}, e.Argv[1:]...), attr)
		switch {
		case errors.Is(err, unix.ENOMEM): // pid_namespaces(7): its process 1 has ended meanwhile
			err = fmt.Errorf("container %s does not run: %w", e.Container, err)
		case err != nil:
			err = explain(err, argv0, dir)
		}
	}
	if e.TTY {
		stdio[0].Close()
		if err != nil {
			master.Close()
		}
	}
	return &launched{pid: p.pid, tty: master}, err
}

// running returns a container and copies of the descriptors of its namespaces:
// it may end, and its own be closed, meanwhile.
func (in *initd) running(name string) (*container, []int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	ct := in.containers[name]
	if ct == nil || !ct.open {
		return nil, nil, fmt.Errorf("container %s does not run", name)
	}
	var fds []int
	for _, f := range ct.namespaces {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return nil, nil, fmt.Errorf("copy descriptor: %w", err)
		}
		fds = append(fds, fd)
	}
	return ct, fds, nil
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
