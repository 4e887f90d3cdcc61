package foreign

import (
	"syscall"
	"testing"
)

// reserve takes a port of 127.0.0.1 without listening on it, for as long as the test lasts.
func reserve(t *testing.T) (uint32, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return uint32(at.(*syscall.SockaddrInet4).Port), nil
}
