//go:build !linux

package capture

import (
	"errors"
	"net"
	"net/netip"
)

var errLinux = errors.New("capturing connections needs Linux")

// Install needs Linux.
func Install(Config) error { return errLinux }

// OriginalDst needs Linux.
func OriginalDst(*net.TCPConn) (netip.AddrPort, error) { return netip.AddrPort{}, errLinux }
