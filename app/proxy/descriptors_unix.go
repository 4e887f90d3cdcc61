//go:build unix

package proxy

import "syscall"

// descriptors is how many the process may have open.
func descriptors() (n uint64, ok bool) {
	var r syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r)
	return uint64(r.Cur), err == nil // signed on some systems
}
