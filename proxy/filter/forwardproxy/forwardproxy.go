// Package forwardproxy is the HTTP filter that looks up the host that a request names
// (envoy.filters.http.dynamic_forward_proxy), for clusters that forward to any host.
//
// A request whose host is not known yet waits for the answer; the cluster then finds it in
// the cache that both share. Which cache a cluster has is its own configuration.
package forwardproxy

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Rewrite is what a route says to the filter: another host for the request.
type Rewrite struct {
	Literal string
	Header  string // lower case: the field that names it
}

type factory struct{ name string }

// New returns the factory of filters with a name in the chain.
func New(name string) stream.Factory { return factory{name} }

func (f factory) Name() string { return f.name }

func (f factory) New(*pool.Worker) any { return &filter{name: f.name} }

// A filter handles one stream.
type filter struct{ name string }

// OnRequest has the request wait until its host is known.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	c := s.Worker.Source.Cluster(s.Cluster)
	if c == nil || c.Kind != cluster.DynamicForward {
		return stream.Continue
	}
	if r, ok := s.FilterConfig(f.name).(*Rewrite); ok {
		switch {
		case r.Literal != "":
			m.SetCopy(header.Authority, []byte(r.Literal))
		default:
			if v := m.LookupString(r.Header); len(v) > 0 {
				m.SetCopy(header.Authority, v)
			}
		}
	}
	host, _ := Split(m.Get(header.Authority))
	if len(host) == 0 {
		return f.failed(s, false)
	}
	if addrs, known := c.Names.Lookup(string(host)); known {
		if len(addrs) == 0 {
			return f.failed(s, c.Names.Late(string(host)))
		}
		return stream.Continue
	}
	gen, name := s.Generation(), string(host)
	switch c.Names.Ask(name, func() { s.Resume(gen, func(s *stream.Stream) { f.known(s, c, name) }) }) {
	case cluster.Full:
		return s.Reply(503, "DNS cache overflow", "dns_cache_overflow")
	case cluster.Crowded:
		return s.Reply(503, "Dynamic forward proxy pending request overflow", "dynamic_forward_proxy_pending_request_overflow")
	}
	return stream.Stop
}

// known goes on, or answers, once there is an answer.
func (f *filter) known(s *stream.Stream, c *cluster.Cluster, host string) {
	if addrs, _ := c.Names.Lookup(host); len(addrs) == 0 {
		f.failed(s, c.Names.Late(host))
	}
}

// failed answers a request whose host has no address. Envoy's words are those of its resolver, but for one that nobody answers
// in time.
func (f *filter) failed(s *stream.Stream, late bool) stream.Verdict {
	details := "dns_resolution_failure"
	if late {
		details = "dns_resolution_failure{resolve_timeout}"
	}
	return s.Reply(503, "DNS resolution failure", details, access.DNSResolutionFailed)
}

// OnResponse passes responses on.
func (f *filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }

// Split cuts an authority into host, without the brackets of an address, and port, 0 if it
// has none.
func Split(authority []byte) (host []byte, port uint16) {
	host = authority
	if i := bytes.LastIndexByte(authority, ':'); i >= 0 && bytes.IndexByte(authority[i:], ']') < 0 {
		n, err := strconv.ParseUint(string(authority[i+1:]), 10, 16)
		if err != nil {
			return nil, 0
		}
		host, port = authority[:i], uint16(n)
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	return host, port
}

// Destination is where a request to a cluster that forwards goes, and all addresses of its host; invalid if it is not known.
func Destination(c *cluster.Cluster, authority []byte) (netip.AddrPort, []netip.Addr) {
	host, port := Split(authority)
	addrs, known := c.Names.Lookup(string(host))
	if !known || len(addrs) == 0 {
		return netip.AddrPort{}, nil
	}
	if port == 0 {
		port = 80
		if c.Secure() {
			port = 443
		}
	}
	return netip.AddrPortFrom(addrs[0], port), addrs
}
