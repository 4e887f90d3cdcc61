package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// captureMark is what the rules of node/capture let pass: connections of the proxy itself.
const captureMark = 1337

// markedDialer returns a dialer whose connections interception lets pass, and its questions for names too. Without the
// right to mark sockets there is no interception either: gateways, and proxies outside
// of a mesh.
func markedDialer(mark int) *net.Dialer {
	d := &net.Dialer{Timeout: dialTimeout}
	if mark == 0 {
		return d
	}
	d.Control = func(_, _ string, c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark) }); err != nil {
			return err
		}
		return failed
	}
	ask := *d
	d.Resolver = &net.Resolver{PreferGo: true, Dial: ask.DialContext} // else we would ask ourselves
	return d
}

// mayMark reports whether this process may mark its sockets.
func mayMark() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, captureMark) == nil
}
