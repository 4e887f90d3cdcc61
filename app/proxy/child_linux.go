package proxy

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	solSocket = unix.SOL_SOCKET
	soMark    = unix.SO_MARK
)

// diesWithUs has the kernel end a program when we are gone, however that comes. Signals to our group are not meant for it.
func diesWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// startAndWait runs a program. It stays on one thread: for the kernel that one is the parent.
func startAndWait(cmd *exec.Cmd, started, done chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	started <- err
	if err == nil {
		done <- cmd.Wait()
	}
}
