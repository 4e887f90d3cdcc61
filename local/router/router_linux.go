package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mallamesh/malla/node/dns"
	mdns "github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Router is the network namespace it was made in. It is safe for concurrent use.
type Router struct {
	cfg  Config
	log  *slog.Logger
	nl   *netlink.Handle
	ns   int  // a descriptor of the namespace: AttachPod's caller is in another
	v6   bool // the kernel has IPv6
	dns  *dns.Server
	out  *outside
	open []interface{ Close() error }

	pods sync.Map // the link of a pod's address

	mu       sync.Mutex // guards what follows, and one nftables change at a time
	seq      int
	attached map[string][]netip.Addr    // by link name
	services map[front][]netip.AddrPort // those with endpoints, as the kernel has them
	closed   bool
}

// New makes the calling process's network namespace the router of a mesh. The
// namespace must be fresh and the caller have CAP_NET_ADMIN in it.
func New(c Config) (*Router, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = time.Hour
	}
	if c.MaxOutside <= 0 {
		c.MaxOutside = 8192
	}
	if c.MaxOutsidePod <= 0 {
		c.MaxOutsidePod = max(1, c.MaxOutside/8)
	}
	r := &Router{cfg: c, log: c.Log, ns: -1, attached: make(map[string][]netip.Addr), services: make(map[front][]netip.AddrPort)}
	if err := enableIPv6(); err == nil {
		r.v6 = true
	} else {
		r.log.Warn("there is no IPv6 here: pods have IPv4 addresses only", "reason", err)
	}
	for _, step := range []func() error{r.handle, r.sysctls, r.loopback, r.routes, r.baseRules, r.serveDNS, r.serveOutside} {
		if err := step(); err != nil {
			r.Close()
			return nil, fmt.Errorf("router: %w", err)
		}
	}
	return r, nil
}

// Close stops the router's servers. Rules and routes go with the namespace.
func (r *Router) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for _, c := range r.open {
		c.Close()
	}
	if r.out != nil {
		r.out.close()
	}
	if r.nl != nil {
		r.nl.Close()
	}
	if r.ns >= 0 {
		unix.Close(r.ns)
	}
	return nil
}

func (r *Router) handle() (err error) {
	if r.ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	if r.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	return nil
}

// A sysctl is a setting below /proc/sys/net.
type sysctl struct{ path, value string }

// enableIPv6 switches IPv6 on in the router's namespace, where the machine's
// settings may have it off, and fails if there is none.
func enableIPv6() error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make an IPv6 socket: %w", err)
	}
	unix.Close(fd)
	for _, dev := range []string{"all", "default", "lo"} {
		path := "/proc/sys/net/ipv6/conf/" + dev + "/disable_ipv6"
		now, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read net.ipv6.conf.%s.disable_ipv6: %w", dev, err)
		}
		if strings.TrimSpace(string(now)) == "0" {
			continue
		}
		if err := os.WriteFile(path, []byte("0"), 0); err != nil {
			return fmt.Errorf("set net.ipv6.conf.%s.disable_ipv6 to 0: %w", dev, err)
		}
	}
	return nil
}

// Families keeps the addresses of the families that the mesh has.
func (r *Router) Families(addrs []netip.Addr) []netip.Addr { return r.families(addrs) }

// IPv6 reports whether pods have IPv6 addresses too.
func (r *Router) IPv6() bool { return r.v6 }

func (r *Router) sysctls() error {
	return setSysctls([]sysctl{
		{"ipv4/ip_forward", "1"},
		// Replies to a hairpin's or a service's client come from where no route leads back.
		{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/conf/all/send_redirects", "0"}, {"ipv4/conf/default/send_redirects", "0"},
		// A dead pod's peers must all hear of it, not a few a second.
		{"ipv4/icmp_ratemask", "0"},
		{"ipv6/conf/all/forwarding", "1"},
		{"ipv6/icmp/ratelimit", "0"},
		// Duplicate address detection costs two seconds; no two of us share a link.
		{"ipv6/conf/default/accept_dad", "0"}, {"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/default/addr_gen_mode", "1"},
	}, r.v6)
}

func setSysctls(list []sysctl, v6 bool) error {
	for _, s := range list {
		if !v6 && s.path[:4] == "ipv6" {
			continue
		}
		if err := os.WriteFile("/proc/sys/net/"+s.path, []byte(s.value), 0); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue // newer or older than this kernel
			}
			return fmt.Errorf("set net/%s: %w", s.path, err)
		}
	}
	return nil
}

// gateway4 and gateway6 are the router's own addresses: what pods send to is
// routed there, replies to them come from there.
var (
	gateway4 = netip.MustParseAddr("169.254.1.1")
	gateway6 = netip.MustParseAddr("fe80::1")
	// self6 is the router's source address; self4 is gateway4.
	self6 = netip.MustParseAddr("fd00:6d61:6c6c:2::f:ffff")
)

func (r *Router) loopback() error {
	lo, err := r.nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := r.nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	addrs := []netip.Addr{gateway4, DNSIPs[0]}
	if r.v6 {
		// All of a local route's IPv4 addresses can be bound; of IPv6, only these.
		addrs = append(addrs, self6, DNSIPs[1], KubernetesIPs[1])
	}
	for _, a := range addrs {
		if err := r.nl.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(host(a)), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add address %s to lo: %w", a, err)
		}
	}
	return nil
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// routes makes the pod networks unreachable but for attached pods, and the
// service networks local: a ClusterIP port that no rule translates is refused
// by this namespace's own TCP, at once.
func (r *Router) routes() error {
	lo, err := r.nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	for _, p := range []netip.Prefix{PodCIDR4, PodCIDR6, ServiceCIDR4, ServiceCIDR6} {
		if p.Addr().Is6() && !r.v6 {
			continue
		}
		route := &netlink.Route{Dst: ipNet(p), Type: unix.RTN_UNREACHABLE, Priority: 1 << 20}
		if p == ServiceCIDR4 || p == ServiceCIDR6 {
			route = &netlink.Route{Dst: ipNet(p), Type: unix.RTN_LOCAL, LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}
		}
		if err := r.nl.RouteAdd(route); err != nil {
			return fmt.Errorf("add route to %s: %w", p, err)
		}
	}
	return nil
}

func (r *Router) serveDNS() error {
	r.dns = &dns.Server{Log: r.log, Client: r.podOf}
	if b := r.cfg.Broker; b != nil {
		r.dns.Forward = func(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) { return b.Resolve(ctx, q) }
	}
	r.SetNames(dns.NewTable([]string{ClusterDomain}, nil))
	for _, a := range DNSIPs {
		if a.Is6() && !r.v6 {
			continue
		}
		at := netip.AddrPortFrom(a, 53)
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return fmt.Errorf("serve DNS: %w", err)
		}
		r.open = append(r.open, udp)
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			return fmt.Errorf("serve DNS: %w", err)
		}
		r.open = append(r.open, tcp)
		go r.serving("udp", func() error { return r.dns.ServeUDP(udp) })
		go r.serving("tcp", func() error { return r.dns.ServeTCP(tcp) })
	}
	return nil
}

func (r *Router) serving(network string, serve func() error) {
	err := serve()
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if !closed {
		r.log.Error("DNS server ended", "network", network, "error", err)
	}
}

// SetNames replaces the names of the mesh. host.malla.internal is always
// there: it is added to what the table knows.
func (r *Router) SetNames(t *dns.Table) {
	r.dns.SetTable(t.With(HostName, dns.Record{Addrs: r.families(HostIPs)}))
}

// families keeps the addresses of families that this kernel has.
func (r *Router) families(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if a.Is4() || r.v6 {
			out = append(out, a)
		}
	}
	return out
}

// AttachPod gives the network namespace ns (a descriptor, which stays the
// caller's) the pod addresses ips on a device eth0, and connects it. The
// calling thread must be in that namespace, for its settings. It returns the
// name that DetachPod wants.
func (r *Router) AttachPod(ns int, ips []netip.Addr) (link string, err error) {
	ips = r.families(ips)
	for _, ip := range ips {
		if !PodCIDR4.Contains(ip) && !PodCIDR6.Contains(ip) {
			return "", fmt.Errorf("pod address %s, want one of %s or %s", ip, PodCIDR4, PodCIDR6)
		}
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return "", net.ErrClosed
	}
	r.seq++
	name := fmt.Sprintf("pod%d", r.seq)
	r.mu.Unlock()
	if err := r.podSettings(); err != nil {
		return "", err
	}
	pod, err := netlink.NewHandleAt(netns.NsHandle(ns), unix.NETLINK_ROUTE)
	if err != nil {
		return "", fmt.Errorf("open netlink in the pod: %w", err)
	}
	defer pod.Close()
	router, err := r.veth(name, ns)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = r.nl.LinkDel(router)
		}
	}()
	if err := r.podSide(pod, router, ips); err != nil {
		return "", err
	}
	if err := r.routerSide(router, ips); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.hairpins(ips, true); err != nil {
		return "", err
	}
	r.attached[name] = ips
	for _, ip := range ips {
		r.pods.Store(ip, name)
	}
	return name, nil
}

// podSettings are set before the pod has devices, so that these inherit them.
func (r *Router) podSettings() error {
	return setSysctls([]sysctl{
		{"ipv6/conf/all/disable_ipv6", "0"}, {"ipv6/conf/default/disable_ipv6", "0"}, // Docker's default is 1
		{"ipv6/conf/default/accept_dad", "0"}, {"ipv6/conf/default/accept_ra", "0"}, {"ipv6/conf/default/addr_gen_mode", "1"},
		{"ipv4/conf/default/rp_filter", "0"}, {"ipv4/conf/all/rp_filter", "0"},
	}, r.v6)
}

// Link addresses: any locally administered ones will do, since every pair is a
// network of its own.
var (
	routerMAC = net.HardwareAddr{0x02, 0x6d, 0x61, 0x6c, 0x00, 0x01}
	podMAC    = net.HardwareAddr{0x02, 0x6d, 0x61, 0x6c, 0x00, 0x02}
)

// veth makes a pair: name here, eth0 in the pod.
func (r *Router) veth(name string, ns int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Flags = name, routerMAC, net.FlagUp
	attrs.TxQLen = 1000
	v := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: podMAC, PeerNamespace: netlink.NsFd(ns)}
	if err := r.nl.LinkAdd(v); err != nil {
		return nil, fmt.Errorf("add veth pair: %w", err)
	}
	if v.Index == 0 {
		return r.nl.LinkByName(name)
	}
	return v, nil
}

// podSide configures lo and eth0 in the pod: the addresses, and one gateway,
// whose link address it is told, so that nobody ever asks for one.
func (r *Router) podSide(pod *netlink.Handle, _ netlink.Link, ips []netip.Addr) error {
	lo, err := pod.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo in the pod: %w", err)
	}
	eth, err := pod.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0 in the pod: %w", err)
	}
	for _, l := range []netlink.Link{lo, eth} {
		if err := pod.LinkSetUp(l); err != nil {
			return fmt.Errorf("bring %s up in the pod: %w", l.Attrs().Name, err)
		}
	}
	index := eth.Attrs().Index
	for _, ip := range ips {
		if err := pod.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(host(ip)), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add address %s to the pod: %w", ip, err)
		}
		gw, all := gateway4, netip.MustParsePrefix("0.0.0.0/0")
		if ip.Is6() {
			gw, all = gateway6, netip.MustParsePrefix("::/0")
		}
		if err := neighbor(pod, index, gw, routerMAC); err != nil {
			return err
		}
		route := &netlink.Route{LinkIndex: index, Dst: ipNet(all), Gw: gw.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := pod.RouteAdd(route); err != nil {
			return fmt.Errorf("add default route by %s to the pod: %w", gw, err)
		}
	}
	return nil
}

// routerSide leads the pod's addresses to its veth.
func (r *Router) routerSide(link netlink.Link, ips []netip.Addr) error {
	index := link.Attrs().Index
	if err := r.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring the router's veth up: %w", err)
	}
	for _, ip := range ips {
		if err := neighbor(r.nl, index, ip, podMAC); err != nil {
			return err
		}
		src := gateway4
		if ip.Is6() {
			src = self6
		}
		if err := r.nl.RouteAdd(&netlink.Route{LinkIndex: index, Dst: ipNet(host(ip)), Scope: netlink.SCOPE_LINK, Src: src.AsSlice()}); err != nil {
			return fmt.Errorf("add route to pod %s: %w", ip, err)
		}
	}
	return nil
}

func neighbor(h *netlink.Handle, link int, ip netip.Addr, mac net.HardwareAddr) error {
	family := unix.AF_INET
	if ip.Is6() {
		family = unix.AF_INET6
	}
	n := &netlink.Neigh{LinkIndex: link, Family: family, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac}
	if err := h.NeighSet(n); err != nil {
		return fmt.Errorf("set link address of %s: %w", ip, err)
	}
	return nil
}

// DetachPod makes a pod's addresses unreachable. It is no error if the kernel
// has removed the link already, with the pod's namespace.
func (r *Router) DetachPod(link string) error {
	r.mu.Lock()
	ips, ok := r.attached[link]
	delete(r.attached, link)
	for _, ip := range ips {
		r.pods.CompareAndDelete(ip, link) // a successor may have it
	}
	var err error
	if ok {
		err = r.hairpins(ips, false)
	}
	r.mu.Unlock()
	l, findErr := r.nl.LinkByName(link)
	if findErr != nil {
		return err
	}
	if delErr := r.nl.LinkDel(l); delErr != nil && !errors.Is(delErr, unix.ENODEV) {
		err = errors.Join(err, fmt.Errorf("delete link %s: %w", link, delErr))
	}
	return err
}

// podOf names the pod that has an address, "" if none has.
func (r *Router) podOf(a netip.Addr) string {
	link, _ := r.pods.Load(a)
	name, _ := link.(string)
	return name
}
