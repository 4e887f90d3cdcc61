package tcp

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/pool"
)

// A Forward has connections go to the host that the client's TLS hello names
// (envoy.filters.network.sni_dynamic_forward_proxy), for clusters that forward to any host.
type Forward struct {
	Port uint16 // of every host
}

// forward finds the host that the client names, and goes there. Without a name there is no host, as in Envoy.
func (s *session) forward(c *cluster.Cluster) {
	host := s.conn.SNI
	if v, ok := s.rec.State.Get(pool.WishHost); ok {
		host = string(v)
	}
	if s.config.Forward == nil || host == "" {
		s.try(c)
		return
	}
	if s.found(c, host) {
		return
	}
	switch c.Names.Ask(host, func() {
		s.w.Loop.Post(func() {
			if !s.over && s.up == nil && !s.found(c, host) {
				s.try(c) // forgotten already
			}
		})
	}) {
	case cluster.Full:
		s.fail(access.DNSResolutionFailed, "dns_cache_overflow")
	case cluster.Crowded:
		s.fail(access.UpstreamOverflow, "dynamic_forward_proxy_pending_request_overflow")
	}
}

// found goes to the host if its address is known, or known not to be: then the cluster has no host.
// It reports false if nobody knows yet.
func (s *session) found(c *cluster.Cluster, host string) bool {
	addrs, known := c.Names.Lookup(host)
	if !known {
		return false
	}
	s.named = addrs
	s.try(c)
	return true
}
