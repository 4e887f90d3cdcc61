//go:build !linux

package process

import "syscall"

func diesWithUs() *syscall.SysProcAttr { return nil }
