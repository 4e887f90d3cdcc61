//go:build !linux

package drive

import (
	"errors"
	"net"
	"net/netip"
	"os"
)

var errLinux = errors.New("the proxy's event loop needs Linux")

// New returns a loop on epoll, which only Linux has.
func New() (*Loop, error) { return nil, errLinux }

func newPipe() *pipe { return nil }

func (p *pipe) close() {}

// A Socket is a listening socket.
type Socket struct{}

// BindOptions say how a listening socket is made.
type BindOptions struct {
	Transparent, FreeBind, ReusePort bool
	Backlog, Mark                    int
	Mode                             os.FileMode
	Options                          []SocketOption
}

// Bind needs Linux.
func Bind(netip.AddrPort, BindOptions) (*Socket, error) { return nil, errLinux }

// SocketOf needs Linux.
func SocketOf(net.Listener) (*Socket, error) { return nil, errLinux }

// Addr is the address that the socket is bound to.
func (s *Socket) Addr() netip.AddrPort { return netip.AddrPort{} }

// File needs Linux.
func (s *Socket) File() (*os.File, error) { return nil, errLinux }

// OnBatch does nothing.
func (l *Listener) OnBatch(func(n int)) {}

// Close does nothing.
func (s *Socket) Close() error { return nil }

// A Listener is one loop's interest in a listening socket.
type Listener struct{}

// Listen needs Linux.
func (l *Loop) Listen(*Socket, func(*Conn)) (*Listener, error) { return nil, errLinux }

// Close does nothing.
func (ln *Listener) Close() {}

// Pause does nothing.
func (ln *Listener) Pause(bool) {}

// Socket is what the listener accepts from.
func (ln *Listener) Socket() *Socket { return nil }
