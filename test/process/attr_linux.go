package process

import "syscall"

// diesWithUs has the kernel end a program whose test was killed.
func diesWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
