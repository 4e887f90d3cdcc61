package pool

import (
	"math"

	"github.com/mallamesh/malla/proxy/cluster"
)

// A version says which HTTP the connections of a pool speak.
type version uint8

const (
	http1  version = iota
	http2          // with prior knowledge, or by a TLS handshake that offers nothing else
	byALPN         // what the host chooses in the TLS handshake
	raw            // none
)

// versionFor returns how a cluster wants a request sent.
func versionFor(c *cluster.Cluster, rq *Pending) version {
	switch cameByHTTP2 := rq.HTTP2; {
	case rq.Raw:
		return raw
	case c.SameProtocol && cameByHTTP2, c.HTTP2:
		return http2
	case c.ALPN:
		return byALPN
	}
	return http1
}

// A carrier is a connection that can carry a request more.
type carrier interface {
	begin(h Handler, limits *cluster.Breakers, response *Message) Stream
}

// available returns a connection that can carry a request now, nil if there is none.
func (p *Pool) available() carrier {
	if c := p.idleConn(); c != nil {
		return c
	}
	for _, c := range p.open {
		if c.room() {
			return c
		}
	}
	p.retireStuck()
	return nil
}

// speak makes the codec of a connection that has come up.
func (p *Pool) speak(u *upstream) codec {
	if p.key.version == http2 || p.key.version == byALPN && u.info.ALPN == "h2" {
		p.single = false
		return newH2(u)
	}
	if p.key.version == raw {
		return &rawConn{upstream: u}
	}
	p.single = true
	return &h1Conn{upstream: u, parser: limits(u.pool.cluster)}
}

// offer is what a connection offers as ALPN in the place of the cluster's own list, empty for that list.
func (p *Pool) offer() string {
	o := p.key.offers
	switch {
	case p.key.version == raw:
		return ""
	case p.key.version == http1:
		return o.HTTP11
	case p.key.version == http2:
		return o.HTTP2
	case o.HTTP2 != "" && o.HTTP11 != "":
		return o.HTTP2 + "," + o.HTTP11
	}
	return o.HTTP2 + o.HTTP11
}

// fallback is the ALPN of a connection whose cluster has no list at all, as Envoy has it.
func (p *Pool) fallback() []string {
	switch p.key.version {
	case http2:
		return []string{"h2"}
	case byALPN:
		return []string{"h2", "http/1.1"}
	case raw:
		return nil
	}
	return []string{"http/1.1"}
}

// perConnection is how many requests a connection that is being made will carry at once.
func (p *Pool) perConnection() int {
	if p.key.version == http1 || p.key.version == raw || p.key.version == byALPN && p.single {
		return 1
	}
	n := uint32(1024)
	if m := p.cluster.HTTP2Options.MaxConcurrentStreams; m > 0 {
		n = m
	}
	if p.streams > 0 {
		n = min(n, p.streams)
	}
	if m := p.cluster.MaxRequestsPerConnection; m > 0 {
		n = min(n, m)
	}
	return int(min(n, math.MaxInt32))
}

// dialFor makes the connections that the requests that wait want, and those that are to be there
// before they are wanted.
func (p *Pool) dialFor(limits *cluster.Breakers) {
	for p.waits > p.dialing*p.perConnection() && p.dial(limits) {
	}
	if p.cluster.Preconnect > 1 {
		p.dialAhead(limits)
	}
}

// forget takes a connection that has ended off the lists.
func (p *Pool) forget(c codec) {
	switch c := c.(type) {
	case *h1Conn:
		p.unlinkIdle(c)
	case *h2Conn:
		p.unlinkOpen(c)
	}
}

// retireAll ends the connections, each as soon as no request is in flight on it.
func (p *Pool) retireAll() {
	for c := p.idleConn(); c != nil; c = p.idleConn() {
		c.retire()
	}
	for i := len(p.open) - 1; i >= 0; i-- {
		p.open[i].retire()
	}
}
