package podinit

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reap collects every process that ends in the pod, ours and orphans.
func (in *initd) reap() {
	for {
		// WNOWAIT leaves the zombie, and so its pid, until we hold the lock.
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
		switch err {
		case nil:
			in.collect()
		case unix.EINTR:
		default: // ECHILD: wait for the next fork
			<-in.forked
		}
	}
}

func (in *initd) collect() {
	in.mu.Lock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if err != nil || pid <= 0 {
		in.mu.Unlock()
		return
	}
	p := in.byPid[pid]
	if p == nil {
		in.mu.Unlock()
		return // an orphan
	}
	delete(in.byPid, pid)
	delete(in.byID, p.id)
	r := ended(status)
	if c := p.main; c != nil {
		delete(in.containers, c.Name)
		c.close()
		if c.asked != 0 && r.Signal == unix.SIGKILL {
			r.Signal, r.Code = c.asked, 128+int(c.asked)
		}
		in.mu.Unlock()
		<-c.heard // it has gone, so this is the end of what it sent
		close(c.gone)
		in.mu.Lock()
	}
	last := in.stopping && len(in.containers) == 0
	in.mu.Unlock()

	if p.main == nil || p.main.began() { // else start answers with an error
		r.ID = p.id
		in.send(r)
	}
	if last {
		os.Exit(0)
	}
}

// ended says how a process ended. The code follows the shell.
func ended(status unix.WaitStatus) Report {
	r := Report{Exited: true, Code: status.ExitStatus()}
	if status.Signaled() {
		r.Signal = status.Signal()
		r.Code = 128 + int(r.Signal)
	}
	return r
}

// fork starts a process from the calling thread, with everything that thread
// has become, and registers it.
func (in *initd) fork(p *process, argv0 string, argv []string, attr *syscall.ProcAttr) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if p.main != nil {
		switch {
		case in.containers[p.main.Name] != nil:
			return fmt.Errorf("container %s runs already", p.main.Name)
		case in.stopping:
			return errors.New("the pod is ending")
		}
	}
	pid, err := syscall.ForkExec(argv0, argv, attr)
	if err != nil {
		return err
	}
	p.pid = pid
	in.byPid[pid] = p
	in.byID[p.id] = p
	select {
	case in.forked <- struct{}{}:
	default:
	}
	if p.main == nil {
		return nil
	}
	in.containers[p.main.Name] = p.main
	if err = p.main.hold(pid); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return err
}
