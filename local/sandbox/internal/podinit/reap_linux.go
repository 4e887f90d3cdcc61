package podinit

import (
	"os"
	"strconv"
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
	if c := p.main; c != nil {
		delete(in.containers, c.Name)
		in.killRest(c)
		c.mounts.Close()
	}
	last := in.stopping && len(in.containers) == 0
	in.mu.Unlock()

	r := Report{ID: p.id, Exited: true, Code: status.ExitStatus()}
	if status.Signaled() {
		r.Signal = status.Signal()
		r.Code = 128 + int(r.Signal)
	}
	in.send(r)
	if last {
		os.Exit(0)
	}
}

// killRest ends what a container's main process left behind, as the end of
// process 1 does in a container with a PID namespace of its own. They are known
// by the container's mount namespace (what left it by a user namespace of its
// own ends with the pod). Processes that fork while we look are found in the
// next round.
func (in *initd) killRest(c *container) {
	for range 100 {
		found := false
		dir, err := os.Open("/proc")
		if err != nil {
			return
		}
		names, _ := dir.Readdirnames(-1)
		dir.Close()
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil || pid == 1 {
				continue
			}
			if ns, err := os.Readlink("/proc/" + name + "/ns/mnt"); err == nil && ns == c.nsName {
				_ = unix.Kill(pid, unix.SIGKILL)
				found = true
			}
		}
		if !found {
			return
		}
	}
}

// fork starts a process from the calling thread, with everything that thread
// has become, and registers it.
func (in *initd) fork(p *process, argv0 string, argv []string, attr *syscall.ProcAttr) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	pid, err := syscall.ForkExec(argv0, argv, attr)
	if err != nil {
		return err
	}
	p.pid = pid
	in.byPid[pid] = p
	in.byID[p.id] = p
	if p.main != nil {
		in.containers[p.main.Name] = p.main
	}
	select {
	case in.forked <- struct{}{}:
	default:
	}
	return nil
}
