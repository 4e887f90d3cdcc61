// Package resolve looks host names up, with the times that answers may be believed.
//
// It does what Envoy's resolver (c-ares) does: the hosts file first; localhost and what is below it is this host (RFC 6761, section 6.3); then the name servers of
// resolv.conf, or others that the configuration names, with search domains; addresses of both
// families at the same time; TCP where an answer does not fit into a datagram; another server, and
// another try, where one says nothing or fails.
//
// What a name that has no addresses means belongs to the caller: it is told that there
// are none, without an error. Only a name about which nothing could be learnt is an error.
// Nothing is kept but the files: who wants an answer again asks again.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/cluster"
)

// Config says whom to ask and how. The zero value is Envoy's default.
type Config struct {
	Servers  []netip.AddrPort // empty: those of resolv.conf
	Fallback bool             // Servers only if resolv.conf has none
	TCP      bool             // never ask by datagram
	NoSearch bool             // names are whole: no search domains
	Rotate   bool             // begin with another server each time
	Timeout  time.Duration    // for each server on its first try; 0: 5 s
	Tries    int              // questions in all, before giving up; 0: 4
	Payload  uint16           // the longest datagram (EDNS0); 0: 1232
	// Unroutable leaves out addresses of a family that no network interface has.
	Unroutable bool
}

// A Resolver looks names up. Its methods may be called from any goroutine.
type Resolver struct {
	c      Config
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	system *system
	turn   atomic.Uint32
}

// New returns a resolver that connects by d.
func New(c Config, d *net.Dialer) *Resolver {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Tries == 0 {
		c.Tries = 4
	}
	if c.Payload == 0 {
		c.Payload = 1232
	}
	return &Resolver{c: c, dial: d.DialContext, system: files}
}

// Resolve returns the addresses of a name that a cluster of the family uses, and the least of their
// times to live, 0 if that is not known.
func (r *Resolver) Resolve(ctx context.Context, name string, family cluster.Family) ([]netip.Addr, time.Duration, error) {
	if a, ok := pipe.ParseAddr(name); ok {
		return []netip.Addr{a}, 0, nil
	}
	known := r.system.hosts(name)
	if isLocal(name) {
		known = withLoopback(known)
	}
	if known = family.Choose(known); len(known) > 0 || isLocal(name) {
		return known, 0, nil
	}
	conf := r.system.conf()
	names := []string{dns.Fqdn(name)}
	if !r.c.NoSearch {
		names = conf.NameList(name)
	}
	for _, full := range names {
		answer, err := r.both(ctx, r.servers(conf), full, family)
		if err != nil {
			return nil, 0, fmt.Errorf("resolve %s: %w", name, err)
		}
		if len(answer.addrs) > 0 {
			return r.routable(answer.addrs), answer.ttl, nil
		}
	}
	return nil, 0, nil
}

// withLoopback gives a name of this host an address of each family. A file of hosts that knows one only leaves the other
// as it is everywhere (RFC 6761, section 6.3), so that AUTO is ::1 whatever the file says, as in Envoy.
func withLoopback(known []netip.Addr) []netip.Addr {
	for _, a := range [...]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		if !slices.ContainsFunc(known, func(k netip.Addr) bool { return k.Unmap().Is4() == a.Is4() }) {
			known = append(slices.Clip(known), a)
		}
	}
	return known
}

// isLocal reports whether a name is of this host, whatever name servers say.
func isLocal(name string) bool {
	key := hostKey(name)
	return key == "localhost" || strings.HasSuffix(key, ".localhost")
}

// servers lists whom to ask, in order.
func (r *Resolver) servers(conf *dns.ClientConfig) []string {
	var list []string
	for _, s := range r.c.Servers {
		list = append(list, s.String())
	}
	if len(list) == 0 || r.c.Fallback && len(conf.Servers) > 0 {
		list = nil
		for _, s := range conf.Servers {
			list = append(list, net.JoinHostPort(s, conf.Port))
		}
	}
	if r.c.Rotate && len(list) > 1 {
		n := int(r.turn.Add(1)) % len(list)
		list = append(list[n:len(list):len(list)], list[:n]...)
	}
	return list
}

// An answer is what is known of one name.
type answer struct {
	addrs []netip.Addr
	ttl   time.Duration
}

// both asks for the addresses that a family may use, and chooses. An answer of the preferred
// family does not wait for the other.
func (r *Resolver) both(ctx context.Context, servers []string, name string, family cluster.Family) (answer, error) {
	first, second := dns.TypeAAAA, dns.TypeA
	switch family {
	case cluster.V4Only:
		return r.ask(ctx, servers, name, dns.TypeA)
	case cluster.V6Only:
		return r.ask(ctx, servers, name, dns.TypeAAAA)
	case cluster.V4Preferred:
		first, second = second, first
	}
	type result struct {
		answer
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	other := make(chan result, 1)
	go func() {
		a, err := r.ask(ctx, servers, name, second)
		other <- result{a, err}
	}()
	a, err := r.ask(ctx, servers, name, first)
	if len(a.addrs) > 0 && family != cluster.All {
		return a, nil
	}
	b := <-other
	switch {
	case len(a.addrs) > 0 && len(b.addrs) > 0:
		return answer{append(a.addrs, b.addrs...), min(a.ttl, b.ttl)}, nil
	case len(b.addrs) > 0:
		return b.answer, nil
	case len(a.addrs) > 0:
		return a, nil
	}
	return answer{}, errors.Join(err, b.err)
}

// ask asks one question, server after server.
func (r *Resolver) ask(ctx context.Context, servers []string, name string, kind uint16) (answer, error) {
	if len(servers) == 0 {
		return answer{}, errors.New("there is no name server")
	}
	q := new(dns.Msg)
	q.SetQuestion(name, kind)
	q.SetEdns0(r.c.Payload, false)
	var last error
	for try := range r.c.Tries {
		timeout := r.c.Timeout << (try / len(servers)) // each round is twice as patient
		reply, err := r.exchange(ctx, servers[try%len(servers)], q, timeout)
		if err == nil {
			return addresses(reply, name, kind), nil
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return answer{}, last
}

// exchange asks one server, by TCP if the answer does not fit into a datagram.
func (r *Resolver) exchange(ctx context.Context, server string, q *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !r.c.TCP {
		reply, err := r.over(ctx, "udp", server, q)
		if err != nil || !reply.Truncated {
			return reply, err
		}
	}
	return r.over(ctx, "tcp", server, q)
}

func (r *Resolver) over(ctx context.Context, network, server string, q *dns.Msg) (*dns.Msg, error) {
	c, err := r.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	q = q.Copy()
	q.Id = dns.Id()
	conn := &dns.Conn{Conn: c, UDPSize: r.c.Payload}
	if err := conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		reply, err := conn.ReadMsg()
		switch {
		case err != nil && network == "udp" && ctx.Err() == nil && !gone(err):
			continue // anybody can send a datagram
		case err != nil:
			return nil, fmt.Errorf("ask %s: %w", server, err)
		case !answers(reply, q):
			if network == "udp" {
				continue
			}
			return nil, fmt.Errorf("ask %s: the answer is to another question", server)
		}
		switch reply.Rcode {
		case dns.RcodeSuccess, dns.RcodeNameError:
			return reply, nil
		case dns.RcodeFormatError, dns.RcodeNotImplemented:
			if opt := q.IsEdns0(); opt != nil { // a server from before EDNS0 (RFC 6891, section 6.2.2)
				q.Extra = nil
				return r.over(ctx, network, server, q)
			}
		}
		return nil, fmt.Errorf("ask %s: it says %s", server, dns.RcodeToString[reply.Rcode])
	}
}

// gone reports whether a socket is of no use any more.
func gone(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

// answers reports whether a message is the answer to a question.
func answers(m, q *dns.Msg) bool {
	return m.Response && m.Id == q.Id && len(m.Question) == 1 && m.Question[0].Qtype == q.Question[0].Qtype && m.Question[0].Qclass == q.Question[0].Qclass &&
		equalNames(m.Question[0].Name, q.Question[0].Name)
}

func equalNames(a, b string) bool { return dns.CanonicalName(a) == dns.CanonicalName(b) }

// maxAliases bounds how many names a name may stand for in turn.
const maxAliases = 16

// maxTTL is the longest time to live that there is: RFC 2181, section 8, takes a longer one for zero, lest an answer that is wrong stay for ever.
const maxTTL = 1<<31 - 1

// addresses reads the addresses of a name out of an answer, by the names that it stands for.
func addresses(m *dns.Msg, name string, kind uint16) answer {
	out := answer{ttl: -1}
	least := func(h *dns.RR_Header) {
		t := time.Duration(h.Ttl) * time.Second
		if h.Ttl > maxTTL {
			t = 0
		}
		if out.ttl < 0 || t < out.ttl {
			out.ttl = t
		}
	}
	for range maxAliases {
		next := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if !equalNames(h.Name, name) {
				continue
			}
			switch rr := rr.(type) {
			case *dns.A:
				if a, ok := netip.AddrFromSlice(rr.A.To4()); ok && kind == dns.TypeA {
					out.addrs = append(out.addrs, a)
					least(h)
				}
			case *dns.AAAA:
				if a, ok := netip.AddrFromSlice(rr.AAAA); ok && kind == dns.TypeAAAA {
					out.addrs = append(out.addrs, a.Unmap())
					least(h)
				}
			case *dns.CNAME:
				next = rr.Target
				least(h)
			}
		}
		if next == "" || len(out.addrs) > 0 {
			break
		}
		name = next
	}
	if len(out.addrs) == 0 {
		return answer{}
	}
	return out
}

// routable leaves out what no interface can reach, if the configuration wants that.
func (r *Resolver) routable(addrs []netip.Addr) []netip.Addr {
	if !r.c.Unroutable {
		return addrs
	}
	v4, v6 := interfaceFamilies()
	var out []netip.Addr
	for _, a := range addrs {
		if a.Is4() && v4 || a.Is6() && v6 {
			out = append(out, a)
		}
	}
	return out
}

// interfaceFamilies are the families of which an interface has an address that is not loopback.
func interfaceFamilies() (v4, v6 bool) {
	list, _ := net.InterfaceAddrs()
	for _, l := range list {
		p, err := netip.ParsePrefix(l.String())
		if err != nil || p.Addr().IsLoopback() {
			continue
		}
		v4, v6 = v4 || p.Addr().Is4(), v6 || p.Addr().Is6() && !p.Addr().IsLinkLocalUnicast()
	}
	return v4, v6
}
