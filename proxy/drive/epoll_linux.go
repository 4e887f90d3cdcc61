package drive

import (
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	named "github.com/mallamesh/malla/base/pipe" // our pipe is a kernel's
)

// epoll is the backend for real sockets.
//
// Sockets are registered once, edge-triggered, for everything. Calls that cannot
// sleep, or not for longer than a nap, are made without telling Go's scheduler,
// which costs more than the call.
type epoll struct {
	fd, event int // the epoll and the eventfd that wakes it
	slots     []slot
	serial    int32
	events    [256]unix.EpollEvent
	n         int
	start     time.Time
	listeners map[int32]*Listener
}

// A slot tells whether an event is meant for the present owner of a descriptor.
type slot struct {
	conn   *Conn
	serial int32
}

// New returns a loop on epoll.
func New() (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	b := &epoll{fd: fd, event: event, start: time.Now(), listeners: map[int32]*Listener{}}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(event)}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, event, &ev); err != nil {
		unix.Close(event)
		unix.Close(fd)
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	return newLoop(b, b.start), nil
}

func (b *epoll) now() time.Duration { return time.Since(b.start) }
func (b *epoll) wall() time.Time    { return time.Now() }

func (b *epoll) close() {
	unix.Close(b.event)
	unix.Close(b.fd)
}

func (b *epoll) wake() {
	one := [8]byte{1}
	unix.Write(b.event, one[:]) // fails only if the counter is full: then it is awake
}

func (b *epoll) wait(d time.Duration) {
	var n uintptr
	var errno syscall.Errno
	first := uintptr(unsafe.Pointer(&b.events[0]))
	if d >= 0 && d <= nap {
		n, _, errno = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(b.fd), first, uintptr(len(b.events)), uintptr(milliseconds(d)), 0, 0)
	} else {
		n, _, errno = syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(b.fd), first, uintptr(len(b.events)), uintptr(milliseconds(d)), 0, 0)
	}
	b.n = int(n)
	if errno != 0 {
		b.n = 0
	}
}

// milliseconds is a wait as the system takes it, no shorter than d where there is room for it: the system looks at 32 bits. Who
// is woken after 24 days has nothing to do and waits again. Below 0 is for ever.
func milliseconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	d = min(d, math.MaxInt32*time.Millisecond)
	return int((d + time.Millisecond - 1) / time.Millisecond)
}

func (b *epoll) dispatch() {
	for i := range b.n {
		ev := &b.events[i]
		if ev.Pad == 0 {
			b.special(ev.Fd)
			continue
		}
		if int(ev.Fd) >= len(b.slots) {
			continue
		}
		s := &b.slots[ev.Fd]
		if s.conn == nil || s.serial != ev.Pad {
			continue // closed earlier in this turn
		}
		e := ev.Events
		s.conn.event(e&unix.EPOLLIN != 0, e&unix.EPOLLOUT != 0, e&unix.EPOLLRDHUP != 0, e&(unix.EPOLLERR|unix.EPOLLHUP) != 0)
	}
}

// special handles descriptors that are no connections.
func (b *epoll) special(fd int32) {
	if int(fd) == b.event {
		var count [8]byte
		unix.Read(b.event, count[:])
		return
	}
	if l := b.listeners[fd]; l != nil {
		l.accept()
	}
}

func (b *epoll) watch(c *Conn) error {
	s := c.sock.(*fdSocket)
	for len(b.slots) <= s.fd {
		b.slots = append(b.slots, slot{})
	}
	b.serial++
	if b.serial <= 0 {
		b.serial = 1
	}
	b.slots[s.fd] = slot{c, b.serial}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(s.fd), Pad: b.serial}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(b.fd, unix.EPOLL_CTL_ADD, s.fd, &ev))
}

func (b *epoll) unwatch(c *Conn) {
	if s, ok := c.bare().(*fdSocket); ok && s.slot < len(b.slots) && b.slots[s.slot].conn == c {
		b.slots[s.slot] = slot{}
	}
}

// fdSocket is a non-blocking socket.
type fdSocket struct {
	fd, slot int
}

func (s *fdSocket) read(p []byte) (int, error) {
	// Not read(2), which asks files first what a socket has no answer to: their position, and who watches them.
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	if errno != 0 {
		if errno == syscall.EAGAIN || errno == syscall.EINTR {
			return 0, errAgain
		}
		return 0, errno
	}
	if n == 0 {
		return 0, io.EOF
	}
	return int(n), nil
}

func (s *fdSocket) write(p []byte) (int, error) {
	// MSG_NOSIGNAL: a peer that has gone is an error, not a signal.
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		if errno == syscall.EAGAIN || errno == syscall.EINTR {
			return 0, errAgain
		}
		return 0, errno
	}
	return int(n), nil
}

func (s *fdSocket) closeWrite() { unix.Shutdown(s.fd, unix.SHUT_WR) }

func (s *fdSocket) close(reset bool) {
	if s.fd < 0 {
		return
	}
	if reset {
		unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	unix.Close(s.fd)
	s.fd = -1
}

func (s *fdSocket) connected() error {
	n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return syscall.Errno(n)
	}
	return nil
}

func (s *fdSocket) unacked() int {
	n, err := unix.IoctlGetInt(s.fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

func (s *fdSocket) localAddr() netip.AddrPort {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	if _, _, errno := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(s.fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.AddrPort{}
	}
	return rawAddrPort(&sa)
}

func (s *fdSocket) originalDst() (netip.AddrPort, error) { return originalDst(s.fd, s.localAddr()) }

// accept4 is unix.Accept4 without its question, for every connection, which protocol the socket speaks.
func accept4(listener int) (int, netip.AddrPort, syscall.Errno) {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	fd, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(fd), rawAddrPort(&sa), 0
}

// rawAddrPort is addrPort for what the system writes.
func rawAddrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), networkOrder(v4.Port))
	case unix.AF_INET6:
		v6 := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(v6.Addr).Unmap(), networkOrder(v6.Port))
	case unix.AF_UNIX:
		return unixAddr((*unix.RawSockaddrUnix)(unsafe.Pointer(sa)))
	}
	return netip.AddrPort{}
}

// unixAddr is the address of a Unix socket; of a client's, which usually has no name, it is not valid.
func unixAddr(sa *unix.RawSockaddrUnix) netip.AddrPort {
	name := make([]byte, 0, len(sa.Path))
	for i, c := range sa.Path {
		if c == 0 && i > 0 {
			break
		}
		name = append(name, byte(c))
	}
	if len(name) > 0 && name[0] == 0 {
		if name[0] = '@'; len(name) == 1 {
			return netip.AddrPort{}
		}
	}
	return named.Addr(string(name))
}

// networkOrder reads a port as it stands in a sockaddr.
func networkOrder(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// addrPort is the address in a sockaddr; v4 in v6 becomes v4.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	case *unix.SockaddrUnix:
		return named.Addr(sa.Name)
	}
	return netip.AddrPort{}
}

func sockaddr(a netip.AddrPort) (unix.Sockaddr, int) {
	if path, ok := named.Path(a); ok {
		return &unix.SockaddrUnix{Name: path}, unix.AF_UNIX
	}
	if a.Addr().Is4() || a.Addr().Is4In6() {
		return &unix.SockaddrInet4{Addr: a.Addr().Unmap().As4(), Port: int(a.Port())}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}, unix.AF_INET6
}

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, which have one number.
const soOriginalDst = 80

// originalDst asks conntrack for the destination before REDIRECT. Without one
// (TPROXY, or a connection that nobody redirected) the local address is the original.
func originalDst(fd int, local netip.AddrPort) (netip.AddrPort, error) {
	if local.Addr().Is4() {
		var sa syscall.RawSockaddrInet4
		size := uint32(unsafe.Sizeof(sa))
		if errno := getsockopt(fd, unix.SOL_IP, soOriginalDst, unsafe.Pointer(&sa), &size); errno != 0 {
			return local, errno
		}
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), networkOrder(sa.Port)), nil
	}
	var sa syscall.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	if errno := getsockopt(fd, unix.SOL_IPV6, soOriginalDst, unsafe.Pointer(&sa), &size); errno != 0 {
		return local, errno
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), networkOrder(sa.Port)), nil
}

func getsockopt(fd, level, name int, value unsafe.Pointer, size *uint32) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(value), uintptr(unsafe.Pointer(size)), 0)
	return errno
}

func (b *epoll) dial(o Dial) (socket, bool, error) {
	sa, family := sockaddr(o.Addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, false, os.NewSyscallError("socket", err)
	}
	if err := prepare(fd, o); err != nil {
		unix.Close(fd)
		return nil, false, &UnreadyError{err}
	}
	err = unix.Connect(fd, sa)
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, false, &ImmediateError{o.Addr, err}
	}
	return &fdSocket{fd, fd}, err == nil, nil
}

// pair makes two Unix sockets that are connected to each other.
func (b *epoll) pair() (socket, socket, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return &fdSocket{fds[0], fds[0]}, &fdSocket{fds[1], fds[1]}, nil
}

// prepare sets what must be set before connect.
func prepare(fd int, o Dial) error {
	if _, ok := named.Path(o.Addr); ok {
		return nil
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	for _, option := range o.Options {
		if err := option.set(fd); err != nil {
			return err
		}
	}
	if o.Mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, o.Mark); err != nil {
			return optionError("SO_MARK", err)
		}
	}
	if !o.Source.IsValid() || o.Source.Is4() != o.Addr.Addr().Unmap().Is4() {
		return nil
	}
	if o.Transparent {
		level, name, what := unix.SOL_IP, unix.IP_TRANSPARENT, "IP_TRANSPARENT"
		if o.Source.Is6() {
			level, name, what = unix.SOL_IPV6, unix.IPV6_TRANSPARENT, "IPV6_TRANSPARENT"
		}
		if err := unix.SetsockoptInt(fd, level, name, 1); err != nil {
			return optionError(what, err)
		}
	}
	// Istio's ::6, unlike 127.0.0.6, is an address that no interface has.
	unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
	unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	sa, _ := sockaddr(netip.AddrPortFrom(o.Source, 0))
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}
