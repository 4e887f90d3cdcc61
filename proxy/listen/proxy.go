package listen

import (
	"errors"

	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/proxyproto"
)

// readProxy reads the PROXY protocol's header at the beginning of b. It returns how much of b that is,
// and whether the connection goes on.
func (c *Conn) readProxy(b []byte) (n int, done bool) {
	p := c.Listener.Proxy
	one, two := !p.DisallowV1 && proxyproto.Begins(b, proxyproto.V1), !p.DisallowV2 && proxyproto.Begins(b, proxyproto.V2)
	if p.Optional && !one && !two {
		p.Stats.NotFoundAllowed.Inc()
		return 0, true
	}
	h, n, err := proxyproto.Parse(b)
	if errors.Is(err, proxyproto.ErrMore) {
		return 0, false
	}
	version := &p.Stats.V1
	if h.Version == proxyproto.V2 {
		version = &p.Stats.V2
	}
	if err != nil {
		if h.Version == 0 {
			p.Stats.NotFoundDisallowed.Inc()
		} else {
			version.Error.Inc()
		}
		c.refuse()
		return len(b), false
	}
	version.Found.Inc()
	if h.Version == proxyproto.V1 && p.DisallowV1 || h.Version == proxyproto.V2 && p.DisallowV2 {
		version.Disallowed.Inc()
		c.refuse()
		return len(b), false
	}
	if !h.Local && !c.take(&h) {
		version.Error.Inc()
		c.refuse()
		return len(b), false
	}
	return n, true
}

// Origin tells those who connect to hosts for whom they do it.
func (c *Conn) Origin() pool.Origin {
	o := pool.Origin{Source: c.Remote, Destination: c.Local, TLVs: c.TLVs}
	if src := c.Listener.OriginalSrc; src != nil && c.Remote.Addr().IsValid() {
		o.Transparent, o.Mark = true, src.Mark
	}
	return o
}

// refuse closes a connection whose first bytes are wrong, by a reset, as a close with unread bytes is.
func (c *Conn) refuse() {
	c.Release()
	c.Worker.Loop.Cancel(&c.timer)
	c.Reset()
}

// take gives the connection the header's addresses.
func (c *Conn) take(h *proxyproto.Header) bool {
	if h.Source.Addr().Is4() != h.Destination.Addr().Is4() {
		return false
	}
	p := c.Listener.Proxy
	c.Remote = h.Source
	if !p.KeepLocal || !c.Restored {
		if c.Local != h.Destination {
			c.Local, c.Restored = h.Destination, true
		}
	}
	if p.Pass == nil || len(h.TLVs) == 0 {
		return true
	}
	list, err := proxyproto.SplitTLVs(h.TLVs)
	for _, t := range list {
		if p.Pass(t.Type) {
			c.TLVs = proxyproto.AppendTLV(c.TLVs, t)
		}
	}
	return err == nil
}
