package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"github.com/google/nftables"
	"github.com/mallamesh/malla/node/nft"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// table is ours in a pod's network namespace.
const table = "malla"

// hboneInbound is never redirected: it is the sidecar's own (Istio's ISTIO_INBOUND).
const hboneInbound = 15008

// Addresses of the loopback device. From inboundSource4 and 6 the sidecar dials
// its application, so that what it dials is not redirected to it again.
var (
	loopback4      = netip.MustParsePrefix("127.0.0.1/32")
	loopback6      = netip.MustParsePrefix("::1/128")
	inboundSource4 = netip.MustParsePrefix("127.0.0.6/32")
	inboundSource6 = netip.MustParsePrefix("::6/128")
)

// Install puts the rules into the network namespace of the calling thread, in
// place of what an earlier call put there. It needs CAP_NET_ADMIN.
func Install(c Config) error {
	if err := addInboundSource(); err != nil {
		return err
	}
	c = c.withDefaults()
	b, err := nft.NewBatch(table)
	if err != nil {
		return err
	}
	in := b.NAT("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	out := b.NAT("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	in.Flush()
	out.Flush()
	if c.Transparent {
		if err := c.transparent(b); err != nil {
			return err
		}
	} else {
		c.inbound(in, nft.Redirect(c.InboundPort))
	}
	c.outbound(out)
	return b.Commit()
}

// addInboundSource gives lo the address from which the sidecar dials its
// application over IPv6. 127.0.0.6 is there by itself (Istio's init does the same).
func addInboundSource() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: inboundSource6.Addr().AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}
	err = netlink.AddrAdd(lo, addr)
	if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EACCES) { // the last two: no IPv6 here
		return fmt.Errorf("give lo the address %s: %w", inboundSource6.Addr(), err)
	}
	return nil
}

// inbound is for connections from other pods, which go to the sidecar the way that is said. What comes over lo has
// been through output, and its translation is settled there.
func (c Config) inbound(chain *nft.Chain, to nft.Match) {
	tcp := nft.Proto(unix.IPPROTO_TCP)
	chain.Add(nft.NotProto(unix.IPPROTO_TCP), nft.Return())
	chain.Add(tcp, nft.DstPort(hboneInbound), nft.Return())
	for _, p := range c.ExcludeInbound {
		chain.Add(tcp, nft.DstPort(p), nft.Return())
	}
	for _, p := range c.IncludeInbound {
		chain.Add(tcp, nft.DstPort(p), to)
	}
	if len(c.IncludeInbound) == 0 {
		chain.Add(tcp, to)
	}
}

// outbound is for connections that start in the pod, in the order of Istio's
// ISTIO_OUTPUT.
func (c Config) outbound(chain *nft.Chain) {
	tcp := nft.Proto(unix.IPPROTO_TCP)
	for _, server := range c.DNSServers {
		for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			chain.Add(nft.NotMark(c.Mark), nft.Dst(nft.Host(server)), nft.Proto(proto), nft.DstPort(53), nft.Redirect(c.DNSPort))
		}
	}
	chain.Add(nft.NotProto(unix.IPPROTO_TCP), nft.Return())
	chain.Add(nft.Src(inboundSource4), nft.OutLoopback(), nft.Return())
	chain.Add(nft.Src(inboundSource6), nft.OutLoopback(), nft.Return())
	if c.Transparent { // the sidecar speaks to the application, from a client's address, which may be this pod's
		chain.Add(nft.OutLoopback(), nft.Mark(c.Mark), nft.FromTransparent(), nft.Return())
	}
	// The sidecar calls a service that led back to its own pod: as inbound.
	for _, lo := range []netip.Prefix{loopback4, loopback6} {
		chain.Add(nft.OutLoopback(), nft.NotDst(lo), tcp, nft.NotDstPort(hboneInbound), nft.Mark(c.Mark), nft.Redirect(c.InboundPort))
	}
	chain.Add(nft.OutLoopback(), nft.NotMark(c.Mark), nft.Return())
	chain.Add(nft.Mark(c.Mark), nft.Return())
	chain.Add(nft.Dst(loopback4), nft.Return())
	chain.Add(nft.Dst(loopback6), nft.Return())
	for _, p := range c.ExcludeOutbound {
		chain.Add(tcp, nft.DstPort(p), nft.Return())
	}
	for _, p := range c.ExcludeOutboundCIDRs {
		chain.Add(nft.Dst(p), nft.Return())
	}
	for _, p := range c.IncludeOutbound {
		chain.Add(tcp, nft.DstPort(p), nft.Redirect(c.OutboundPort))
	}
	if c.NoOutbound {
		return
	}
	for _, p := range c.IncludeOutboundCIDRs {
		chain.Add(nft.Dst(p), tcp, nft.Redirect(c.OutboundPort))
	}
	if len(c.IncludeOutboundCIDRs) == 0 {
		chain.Add(tcp, nft.Redirect(c.OutboundPort))
	}
}

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST.
const soOriginalDst = 80

// OriginalDst returns where a redirected connection wanted to go. The error of
// a connection that was not redirected is ENOENT or its own local address.
func OriginalDst(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	v4 := local.Addr().Unmap().Is4()
	var dst netip.AddrPort
	var opErr error
	err = raw.Control(func(fd uintptr) {
		if v4 {
			dst, opErr = originalDst4(fd)
		} else {
			dst, opErr = originalDst6(fd)
		}
	})
	if err == nil {
		err = opErr
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination of connection to %s: %w", local, err)
	}
	return dst, nil
}

func originalDst4(fd uintptr) (netip.AddrPort, error) {
	var sa unix.RawSockaddrInet4
	size := uint32(unsafe.Sizeof(sa))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_IP, soOriginalDst, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), networkOrder(sa.Port)), nil
}

func originalDst6(fd uintptr) (netip.AddrPort, error) {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_IPV6, soOriginalDst, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return netip.AddrPort{}, errno
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), networkOrder(sa.Port)), nil
}

func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}
