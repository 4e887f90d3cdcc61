package drive

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// newPipe returns a pipe with room for a piece, nil if the system has none.
func newPipe() *pipe {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, 4*splicePiece) // in pages, which are seldom full
	return &pipe{r: fds[0], w: fds[1]}
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

func (s *fdSocket) spliceIn(p *pipe, n int) (int, error) { return splice(s.fd, p.w, n, true) }
func (s *fdSocket) spliceOut(p *pipe) (int, error)       { return splice(p.r, s.fd, p.n, false) }

// splice moves up to n bytes. in says that the end of input is io.EOF.
func splice(from, to, n int, in bool) (int, error) {
	moved, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return 0, errAgain
	case errno != 0:
		return 0, errno
	case moved == 0 && in:
		return 0, io.EOF
	}
	return int(moved), nil
}
