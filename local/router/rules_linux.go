package router

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/mallamesh/malla/node/nft"
	"golang.org/x/sys/unix"
)

const table = "malla"

// Names in the table.
const (
	chainServices = "services"
	services4     = "services4"
	services6     = "services6"
	hairpin4      = "hairpin4"
	hairpin6      = "hairpin6"
)

// outsidePort is where connections to the outside are accepted, on the router's
// own addresses.
const outsidePort = 15001

// baseRules are those that do not depend on services.
func (r *Router) baseRules() error {
	b, err := nft.NewBatchIn(r.ns, table)
	if err != nil {
		return err
	}
	services := b.Chain(chainServices)
	services.Flush()
	services.Add(b.Dispatch(services4, true).To())
	if r.v6 {
		services.Add(b.Dispatch(services6, false).To())
	}
	r.preroutingRules(b)
	// The supervisor's own connections to services.
	out := b.NAT("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	out.Add(nft.Jump(chainServices))
	r.hairpinRules(b)
	if err := b.Commit(); err != nil {
		return err
	}
	if err := r.resetRules(); err != nil {
		// The routes say "unreachable" then, which clients may hear a second late.
		r.log.Warn("this kernel cannot reset connections to dead pods", "error", err)
	}
	return nil
}

// preroutingRules decide where a connection from a pod goes: a service, a pod,
// the router itself, or out.
func (r *Router) preroutingRules(b *nft.Batch) {
	pre := b.NAT("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	pre.Add(nft.Jump(chainServices))
	tcp, udp := nft.Proto(unix.IPPROTO_TCP), nft.Proto(unix.IPPROTO_UDP)
	for i, out := range r.outsideAddrs() {
		// Services that have no rule, the router's own servers, but not the host's address.
		pre.Add(nft.Dst(nft.Host(HostIPs[i])), tcp, nft.DNAT(out))
		pre.Add(nft.Dst([]netip.Prefix{ServiceCIDR4, ServiceCIDR6}[i]), nft.Return())
		pre.Add(nft.Dst([]netip.Prefix{PodCIDR4, PodCIDR6}[i]), nft.Return())
	}
	pre.Add(nft.DstType(unix.RTN_LOCAL), nft.Return())
	for i, out := range r.outsideAddrs() {
		all := netip.PrefixFrom(HostIPs[i], 0).Masked()
		pre.Add(nft.Dst(all), tcp, nft.DNAT(out))
		pre.Add(nft.Dst(all), udp, nft.DstPort(53), nft.DNAT(netip.AddrPortFrom(DNSIPs[i], 53)))
	}
}

// outsideAddrs are the outside listeners' addresses, IPv4's first.
func (r *Router) outsideAddrs() []netip.AddrPort {
	out := []netip.AddrPort{netip.AddrPortFrom(gateway4, outsidePort)}
	if r.v6 {
		out = append(out, netip.AddrPortFrom(self6, outsidePort))
	}
	return out
}

// hairpinRules give a pod that reaches itself by a ClusterIP the router as its
// peer: else its answer would not come this way back.
func (r *Router) hairpinRules(b *nft.Batch) {
	post := b.NAT("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	post.Add(b.Pairs(hairpin4, true).In(), nft.SNAT(gateway4))
	if r.v6 {
		post.Add(b.Pairs(hairpin6, false).In(), nft.SNAT(self6))
	}
}

// resetRules answer what comes for a pod that has gone with RST. For
// connections that exist: they end now and not by timeout. For new ones: an
// ICMP error that arrives while connect(2) still holds the socket is dropped,
// and between network namespaces of one machine it arrives that fast, so the
// client would wait a second for its next SYN; a RST is queued. reject in
// prerouting needs Linux 5.9.
func (r *Router) resetRules() error {
	b, err := nft.NewBatchIn(r.ns, table)
	if err != nil {
		return err
	}
	c := b.Filter("gone", nftables.ChainHookPrerouting, nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest+10))
	for _, p := range []netip.Prefix{PodCIDR4, PodCIDR6} {
		if p.Addr().Is4() || r.v6 {
			c.Add(nft.Dst(p), nft.Proto(unix.IPPROTO_TCP), nft.NoRoute(), nft.ResetTCP())
		}
	}
	return b.Commit()
}

// hairpins adds or removes a pod's pairs. The caller holds r.mu.
func (r *Router) hairpins(ips []netip.Addr, add bool) error {
	if len(ips) == 0 {
		return nil
	}
	b, err := nft.NewBatchIn(r.ns, table)
	if err != nil {
		return err
	}
	for _, ip := range ips {
		name := hairpin6
		if ip.Is4() {
			name = hairpin4
		}
		set := b.Pairs(name, ip.Is4())
		if add {
			b.AddPair(set, ip, ip)
		} else {
			b.RemovePair(set, ip, ip)
		}
	}
	return b.Commit()
}
