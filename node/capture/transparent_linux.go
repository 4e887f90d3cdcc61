package capture

import (
	"errors"
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/mallamesh/malla/node/nft"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What the kernel is told of packets that are the sidecar's though their addresses are others': a mark, and the
// table of routes (Istio's number) by which such a packet stays here. The mark is not that of the sidecar's
// sockets: those reach other pods.
const (
	answerMark  = 1338
	answerTable = 133
)

// transparent adds the rules and routes by which the sidecar stands between clients and the application
// without either of them seeing its address.
func (c Config) transparent(b *nft.Batch) error {
	in := b.Filter("transparent", nftables.ChainHookPrerouting, nftables.ChainPriorityMangle)
	in.Flush()
	in.Add(nft.InLoopback(), nft.Return()) // the sidecar speaks to the application
	c.inbound(in, append(nft.TProxy(c.InboundPort), nft.Accept()...))

	// The application answers to a client's address. Its answers are the sidecar's, who asked in the client's name.
	out := b.Reroute("answers", nftables.ChainPriorityMangle)
	out.Flush()
	tcp := nft.Proto(unix.IPPROTO_TCP)
	out.Add(tcp, nft.OutLoopback(), nft.Mark(c.Mark), nft.FromTransparent(), nft.SetConnMark(answerMark))
	out.Add(tcp, nft.NotDstType(unix.RTN_LOCAL), nft.ConnMark(answerMark), nft.SetMark(answerMark))
	return errors.Join(keepHere(unix.AF_INET, net.IPv4zero, 32), keepHere(unix.AF_INET6, net.IPv6zero, 128))
}

// keepHere has every address be this namespace's own for what has the mark of answers.
func keepHere(family int, zero net.IP, bits int) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	without6 := func(err error) bool {
		return family == unix.AF_INET6 && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EACCES))
	}
	rule := netlink.NewRule()
	rule.Family, rule.Mark, rule.Table = family, answerMark, answerTable
	if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		if without6(err) {
			return nil
		}
		return fmt.Errorf("add a rule for routes of mark %d: %w", answerMark, err)
	}
	err = netlink.RouteReplace(&netlink.Route{
		Family: family, Table: answerTable, LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST,
		Dst: &net.IPNet{IP: zero, Mask: net.CIDRMask(0, bits)},
	})
	if err != nil && !without6(err) {
		return fmt.Errorf("add the route of table %d: %w", answerTable, err)
	}
	return nil
}
