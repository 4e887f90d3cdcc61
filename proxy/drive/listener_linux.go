package drive

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	named "github.com/mallamesh/malla/base/pipe" // our pipe is a kernel's
)

// A Socket is a listening socket. Several loops may accept from one.
type Socket struct {
	fd   int
	addr netip.AddrPort

	mu        sync.Mutex
	accepting []*Listener // guarded by mu
}

// BindOptions say how a listening socket is made.
type BindOptions struct {
	Transparent bool // IP_TRANSPARENT, for TPROXY
	FreeBind    bool
	ReusePort   bool
	Backlog     int // 0: 4096
	Mark        int
	Mode        os.FileMode // of a Unix socket's file; 0: as the process makes files
	Options     []SocketOption
}

// Bind makes a listening socket. An IPv6 wildcard address takes IPv4 as well.
func Bind(addr netip.AddrPort, o BindOptions) (*Socket, error) {
	sa, family := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", named.String(addr), os.NewSyscallError("socket", err))
	}
	err = bind(fd, family, sa, o)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on %s: %w", named.String(addr), err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen on %s: %w", named.String(addr), err)
	}
	return &Socket{fd: fd, addr: addrPort(bound)}, nil
}

func bind(fd, family int, sa unix.Sockaddr, o BindOptions) error {
	if u, ok := sa.(*unix.SockaddrUnix); ok {
		return bindUnix(fd, u, o)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if family == unix.AF_INET6 {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	for _, opt := range []struct {
		on                 bool
		level, name, value int
		what               string
	}{
		{o.ReusePort, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"},
		{o.Transparent && family == unix.AF_INET, unix.SOL_IP, unix.IP_TRANSPARENT, 1, "IP_TRANSPARENT"},
		{o.Transparent && family == unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1, "IPV6_TRANSPARENT"},
		{o.FreeBind, unix.SOL_IP, unix.IP_FREEBIND, 1, "IP_FREEBIND"},
		{o.Mark != 0, unix.SOL_SOCKET, unix.SO_MARK, o.Mark, "SO_MARK"},
	} {
		if !opt.on {
			continue
		}
		if err := unix.SetsockoptInt(fd, opt.level, opt.name, opt.value); err != nil {
			return optionError(opt.what, err)
		}
	}
	if err := setOptions(fd, o.Options, BeforeBind); err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := setOptions(fd, o.Options, Bound); err != nil {
		return err
	}
	if err := listen(fd, o); err != nil {
		return err
	}
	return setOptions(fd, o.Options, Listening)
}

func listen(fd int, o BindOptions) error {
	backlog := o.Backlog
	if backlog == 0 {
		backlog = 4096
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

// bindUnix replaces a file that is there: usually it is what a proxy has left that was here before. The options
// are TCP's.
func bindUnix(fd int, sa *unix.SockaddrUnix, o BindOptions) error {
	abstract := sa.Name[0] == '@'
	if !abstract {
		unix.Unlink(sa.Name) // what is wrong with it, bind says
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if o.Mode != 0 && !abstract {
		if err := os.Chmod(sa.Name, o.Mode); err != nil {
			return err
		}
	}
	return listen(fd, o)
}

// optionError says which option could not be set, and what is missing if that is not allowed.
func optionError(what string, err error) error {
	failed := os.NewSyscallError("setsockopt "+what, err)
	if err == unix.EPERM {
		return fmt.Errorf("%w: it needs CAP_NET_ADMIN", failed)
	}
	return failed
}

// set sets one option.
func (o *SocketOption) set(fd int) error {
	var err error
	if o.Bytes != nil {
		err = unix.SetsockoptString(fd, o.Level, o.Name, string(o.Bytes))
	} else {
		err = unix.SetsockoptInt(fd, o.Level, o.Name, o.Value)
	}
	if err != nil {
		return fmt.Errorf("socket option %d/%d: %w", o.Level, o.Name, err)
	}
	return nil
}

// setOptions sets the options whose time has come.
func setOptions(fd int, options []SocketOption, when SocketState) error {
	for _, o := range options {
		if o.When != when {
			continue
		}
		if err := o.set(fd); err != nil {
			return err
		}
	}
	return nil
}

// SocketOf takes over a listening socket that somebody else has made: a broker,
// or the process that this one replaces. l is closed.
func SocketOf(l net.Listener) (*Socket, error) {
	f, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("listener %s of type %T has no descriptor", l.Addr(), l)
	}
	file, err := f.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	l.Close()
	return &Socket{fd: fd, addr: addrPort(sa)}, nil
}

// Addr is the address that the socket is bound to.
func (s *Socket) Addr() netip.AddrPort { return s.addr }

// File returns a duplicate of the descriptor, to be handed to another process.
func (s *Socket) File() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "listener "+s.addr.String()), nil
}

// Close closes the socket. Loops must have stopped accepting from it.
func (s *Socket) Close() error { return unix.Close(s.fd) }

// join and leave say whether the socket's connections may be given to a listener.
func (s *Socket) join(ln *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepting = append(s.accepting, ln)
}

func (s *Socket) leave(ln *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepting = slices.DeleteFunc(s.accepting, func(x *Listener) bool { return x == ln })
}

// calmest is who is to have a connection that ln has accepted. The system wakes the loop that has begun to wait last, which
// is the one with the least to do, and that takes all connections of a burst: of 64 often 50. Loops with as many do less
// work for each, because none of them has few and wakes up for every single event.
func (s *Socket) calmest(ln *Listener) *Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	least, most := ln, ln.loop.load.Load()-1 // to hand over is worth a difference of two
	for _, other := range s.accepting {
		if n := other.loop.load.Load(); n < most {
			least, most = other, n
		}
	}
	return least
}

// of is the listener of a loop; nil: it accepts nothing.
func (s *Socket) of(l *Loop) *Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.accepting, func(x *Listener) bool { return x.loop == l }); i >= 0 {
		return s.accepting[i]
	}
	return nil
}

// hand gives a connection that another loop has accepted to ln's. If ln is closed by then, its successor on the same loop has it;
// without one ln itself, as if it had come a moment earlier.
func (ln *Listener) hand(fd int, remote netip.AddrPort) {
	ln.loop.load.Add(1) // at once, so that a burst is divided
	ln.loop.Post(func() {
		ln.loop.load.Add(-1)
		to := ln
		if next := ln.socket.of(ln.loop); ln.closed && next != nil {
			to = next
		}
		to.fn(to.loop.accepted(&fdSocket{fd, fd}, remote))
	})
}

// A Listener is one loop's interest in a listening socket.
type Listener struct {
	loop   *Loop
	socket *Socket
	fn     func(*Conn)
	batch  func(n int) // nil: nobody asks
	closed bool
	paused bool
	timer  Timer
}

// Listen has the loop accept from a socket. accept sets the connection's handler
// before it returns.
func (l *Loop) Listen(s *Socket, accept func(*Conn)) (*Listener, error) {
	b, ok := l.back.(*epoll)
	if !ok {
		return nil, errors.New("a loop in memory has no listening sockets")
	}
	ln := &Listener{loop: l, socket: s, fn: accept}
	ln.timer.Handler = ln
	if err := ln.arm(); err != nil {
		return nil, err
	}
	b.listeners[int32(s.fd)] = ln
	s.join(ln)
	return ln, nil
}

func (ln *Listener) arm() error {
	// Exclusive: one loop is woken per connection, not all.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(ln.socket.fd)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(ln.loop.back.(*epoll).fd, unix.EPOLL_CTL_ADD, ln.socket.fd, &ev))
}

func (ln *Listener) disarm() {
	unix.EpollCtl(ln.loop.back.(*epoll).fd, unix.EPOLL_CTL_DEL, ln.socket.fd, nil)
}

// OnBatch has f told how many connections an event has brought.
func (ln *Listener) OnBatch(f func(n int)) { ln.batch = f }

// Socket is what the listener accepts from.
func (ln *Listener) Socket() *Socket { return ln.socket }

// Close stops accepting; the socket stays open.
func (ln *Listener) Close() {
	if ln.closed {
		return
	}
	ln.closed = true
	ln.loop.Cancel(&ln.timer)
	b := ln.loop.back.(*epoll)
	ln.disarm()
	delete(b.listeners, int32(ln.socket.fd))
	ln.socket.leave(ln)
}

// Pause stops accepting, or goes on; what comes meanwhile waits in the system's queue.
func (ln *Listener) Pause(on bool) {
	if ln.closed || ln.paused == on {
		return
	}
	if ln.paused = on; on {
		ln.loop.Cancel(&ln.timer)
		ln.disarm()
		ln.socket.leave(ln)
		return
	}
	ln.arm()
	ln.socket.join(ln)
}

// maxAccepts bounds what one turn accepts, so that those who are served already are not starved.
const maxAccepts = 64

func (ln *Listener) accept() {
	if ln.paused {
		return // an event of the same turn
	}
	n := 0
	defer func() {
		if n > 0 && ln.batch != nil {
			ln.batch(n)
		}
	}()
	for range maxAccepts {
		fd, remote, err := accept4(ln.socket.fd)
		switch err {
		case 0:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			if short(err) {
				ln.loop.shortage.Accepts.Add(1)
			}
			ln.rest()
			return
		default:
			return
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		n++
		if to := ln.socket.calmest(ln); to != ln {
			to.hand(fd, remote)
			continue
		}
		ln.fn(ln.loop.accepted(&fdSocket{fd, fd}, remote))
		if ln.closed || ln.paused {
			return
		}
	}
}

// rest stops accepting for a moment when the process has no descriptors left;
// otherwise the loop would spin on a socket that stays readable.
func (ln *Listener) rest() {
	ln.disarm()
	ln.loop.Schedule(&ln.timer, 100*time.Millisecond)
}

// OnTimer accepts again after a rest.
func (ln *Listener) OnTimer(*Timer) {
	if !ln.closed && !ln.paused {
		ln.arm()
	}
}
