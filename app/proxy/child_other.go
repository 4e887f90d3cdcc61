//go:build !linux

package proxy

import (
	"os/exec"
	"syscall"
)

// Values of Linux, for a bootstrap that is never used here: without SO_MARK nothing is marked.
const (
	solSocket = 1
	soMark    = 36
)

func diesWithUs() *syscall.SysProcAttr { return nil }

func startAndWait(cmd *exec.Cmd, started, done chan<- error) {
	err := cmd.Start()
	started <- err
	if err == nil {
		done <- cmd.Wait()
	}
}
