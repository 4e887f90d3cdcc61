package router

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mallamesh/malla/node/nft"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const table = "malla"

// Names in the table.
const (
	chainServices = "services"
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

// SetServices replaces what ClusterIPs mean, at once for all. Connections that
// exist keep their endpoints. An error names the first service that is wrong,
// or is the kernel's; nothing has changed then.
func (r *Router) SetServices(services []Service) error {
	if err := check(services); err != nil {
		return fmt.Errorf("set services: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := nft.NewBatchIn(r.ns, table)
	if err != nil {
		return err
	}
	chain := b.Chain(chainServices)
	chain.Flush()
	udp := make(map[udpTarget]struct{})
	for _, s := range services {
		for _, ip := range r.families(s.ClusterIPs) {
			for _, p := range s.Ports {
				r.servicePort(b, chain, ip, p, udp)
			}
		}
	}
	if err := b.Commit(); err != nil {
		return fmt.Errorf("set services: %w", err)
	}
	r.forgetUDP(udp)
	return nil
}

func (r *Router) servicePort(b *nft.Batch, chain *nft.Chain, ip netip.Addr, p ServicePort, udp map[udpTarget]struct{}) {
	var targets []netip.AddrPort
	for _, e := range p.Endpoints {
		if e.Addr().Is4() == ip.Is4() {
			targets = append(targets, e)
		}
	}
	if len(targets) == 0 {
		return // refused: the address is the router's own
	}
	slices.SortFunc(targets, netip.AddrPort.Compare)
	targets = slices.Compact(targets)
	proto := byte(unix.IPPROTO_TCP)
	if p.Protocol == "UDP" {
		proto = unix.IPPROTO_UDP
		for _, t := range targets {
			udp[udpTarget{netip.AddrPortFrom(ip, p.Port), t}] = struct{}{}
		}
	}
	chain.Add(nft.Dst(nft.Host(ip)), nft.Proto(proto), nft.DstPort(p.Port), b.Spread(targets))
}

func check(services []Service) error {
	type key struct {
		ip       netip.Addr
		port     uint16
		protocol string
	}
	seen := make(map[key]string)
	for _, s := range services {
		name := s.Namespace + "/" + s.Name
		for _, ip := range s.ClusterIPs {
			if !ServiceCIDR4.Contains(ip) && !ServiceCIDR6.Contains(ip) {
				return fmt.Errorf("service %s: cluster IP %s, want one of %s or %s", name, ip, ServiceCIDR4, ServiceCIDR6)
			}
			for _, p := range s.Ports {
				protocol := cmp.Or(strings.ToUpper(p.Protocol), "TCP")
				if protocol != "TCP" && protocol != "UDP" {
					return fmt.Errorf("service %s: port %d: protocol %s, want TCP or UDP", name, p.Port, p.Protocol)
				}
				k := key{ip, p.Port, protocol}
				if other, ok := seen[k]; ok {
					return fmt.Errorf("service %s: %s port %d of %s is %s's", name, protocol, p.Port, ip, other)
				}
				seen[k] = name
			}
		}
	}
	return nil
}

// A udpTarget is an endpoint of a UDP service's address.
type udpTarget struct {
	service, endpoint netip.AddrPort
}

// forgetUDP removes the conntrack entries of endpoints that are no more: a UDP
// client that goes on sending would be led to the dead one for as long as it
// does. The caller holds r.mu.
func (r *Router) forgetUDP(now map[udpTarget]struct{}) {
	for t := range r.udp {
		if _, ok := now[t]; ok {
			continue
		}
		family := netlink.InetFamily(unix.AF_INET)
		if t.service.Addr().Is6() {
			family = unix.AF_INET6
		}
		f := &netlink.ConntrackFilter{}
		_ = f.AddProtocol(unix.IPPROTO_UDP)
		_ = f.AddIP(netlink.ConntrackOrigDstIP, t.service.Addr().AsSlice())
		_ = f.AddPort(netlink.ConntrackOrigDstPort, t.service.Port())
		_ = f.AddIP(netlink.ConntrackReplySrcIP, t.endpoint.Addr().AsSlice())
		if _, err := r.nl.ConntrackDeleteFilters(netlink.ConntrackTable, family, f); err != nil {
			r.log.Debug("forget UDP endpoint", "endpoint", t.endpoint, "error", err)
		}
	}
	r.udp = now
}
