package router

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mallamesh/malla/node/nft"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A front is a port of a ClusterIP.
type front struct {
	at  netip.AddrPort
	udp bool
}

func (f front) proto() byte {
	if f.udp {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// chain is the name of the front's chain.
func (f front) chain() string {
	if f.udp {
		return "udp " + f.at.String()
	}
	return "tcp " + f.at.String()
}

// SetServices replaces what ClusterIPs mean. Only what differs from the last
// call is touched; a port's endpoints change at once. Connections that exist
// keep their endpoints. The error of a wrong service is returned before
// anything has changed; after the kernel's, a call with the same services
// completes the change.
func (r *Router) SetServices(services []Service) error {
	if err := check(services); err != nil {
		return fmt.Errorf("set services: %w", err)
	}
	want := r.fronts(services)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fmt.Errorf("set services: the router is closed")
	}
	var changed []front
	for f, targets := range want {
		if !slices.Equal(r.services[f], targets) {
			changed = append(changed, f)
		}
	}
	for f := range r.services {
		if want[f] == nil {
			changed = append(changed, f)
		}
	}
	slices.SortFunc(changed, func(a, b front) int {
		return cmp.Or(a.at.Compare(b.at), strings.Compare(a.chain(), b.chain()))
	})
	astray := make(strays)
	defer func() { r.forget(astray) }()
	for len(changed) > 0 {
		n := fit(changed, want)
		if err := r.change(changed[:n], want, astray); err != nil {
			return fmt.Errorf("set services: %w", err)
		}
		changed = changed[n:]
	}
	return nil
}

// fronts are the ports that have endpoints, which are sorted. The others need
// no rule: their addresses are the router's own, where nobody listens.
func (r *Router) fronts(services []Service) map[front][]netip.AddrPort {
	out := make(map[front][]netip.AddrPort)
	for _, s := range services {
		for _, ip := range r.families(s.ClusterIPs) {
			for _, p := range s.Ports {
				var targets []netip.AddrPort
				for _, e := range p.Endpoints {
					if e.Addr().Is4() == ip.Is4() {
						targets = append(targets, e)
					}
				}
				if len(targets) > 0 {
					slices.SortFunc(targets, netip.AddrPort.Compare)
					out[front{netip.AddrPortFrom(ip, p.Port), isUDP(p.Protocol)}] = slices.Compact(targets)
				}
			}
		}
	}
	return out
}

func isUDP(protocol string) bool { return strings.EqualFold(protocol, "UDP") }

// A batch's size is bounded by the netlink socket's buffers, some 200 KB, which
// only the machine's root may raise: what we send (an endpoint is 80 bytes),
// and, sooner, the kernel's five or six acknowledgments of some 1 KB per front.
const (
	batchCost = 1500
	frontCost = 50
)

// fit returns how many of the changes fit into one batch, at least one.
func fit(changed []front, want map[front][]netip.AddrPort) int {
	cost := 0
	for i, f := range changed {
		cost += frontCost + len(want[f])
		if cost > batchCost && i > 0 {
			return i
		}
	}
	return len(changed)
}

// change brings the rules of some fronts to what is wanted, and adds to astray.
// The caller holds r.mu.
func (r *Router) change(fronts []front, want map[front][]netip.AddrPort, astray strays) error {
	b, err := nft.NewBatchIn(r.ns, table)
	if err != nil {
		return err
	}
	d4, d6 := b.Dispatch(services4, true), nft.Dispatch{}
	if r.v6 {
		d6 = b.Dispatch(services6, false)
	}
	for _, f := range fronts {
		d := d6
		if f.at.Addr().Is4() {
			d = d4
		}
		chain, old, targets := b.Chain(f.chain()), r.services[f], want[f]
		switch {
		case targets == nil:
			b.Unroute(d, f.at, f.proto())
			chain.Delete()
		case old != nil:
			chain.Flush()
			chain.Add(nft.Proto(f.proto()), b.Spread(targets))
		default:
			chain.Add(nft.Proto(f.proto()), b.Spread(targets))
			b.Route(d, f.at, f.proto(), f.chain())
		}
	}
	if err := b.Commit(); err != nil {
		return err
	}
	for _, f := range fronts {
		old, targets := r.services[f], want[f]
		if targets == nil {
			delete(r.services, f)
		} else {
			r.services[f] = targets
		}
		if f.udp {
			astray.add(f, old, targets)
		}
	}
	return nil
}

// strays are conntrack entries that lead a UDP client astray for as long as it
// goes on sending: to endpoints that are no more, and to the service's address
// itself from before it had one.
type strays map[stray]struct{}

type stray struct {
	service netip.AddrPort
	answers netip.Addr
}

func (s strays) add(f front, old, now []netip.AddrPort) {
	for _, e := range old {
		if !slices.Contains(now, e) {
			s[stray{f.at, e.Addr()}] = struct{}{}
		}
	}
	if old == nil {
		s[stray{f.at, f.at.Addr()}] = struct{}{}
	}
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s strays) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, ok := netip.AddrFromSlice(flow.Forward.DstIP)
	src, ok2 := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok || !ok2 {
		return false
	}
	_, found := s[stray{netip.AddrPortFrom(dst.Unmap(), flow.Forward.DstPort), src.Unmap()}]
	return found
}

// forget removes the entries. Looking through them takes some milliseconds, so
// it is done once for all.
func (r *Router) forget(s strays) {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		for e := range s {
			if e.answers.Is4() == (family == unix.AF_INET) {
				if _, err := r.nl.ConntrackDeleteFilters(netlink.ConntrackTable, family, s); err != nil {
					r.log.Debug("forget UDP connections", "error", err)
				}
				break
			}
		}
	}
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
