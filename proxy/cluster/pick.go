package cluster

import (
	"net/netip"

	"github.com/mallamesh/malla/proxy/lb"
)

// A Pick is what one attempt to choose a host brings.
type Pick struct {
	Random   uint64
	Hash     uint64
	HasHash  bool
	Original netip.AddrPort // destination the client dialed, for OriginalDst

	// Tried are hosts that a retry would rather not use again (predicate
	// previous_hosts); after Attempts draws any host will do.
	Tried    []*Host
	Attempts int // host_selection_retry_max_attempts
}

// A Reason says why there is no host.
type Reason uint8

// The reasons.
const (
	OK          Reason = iota
	NoHosts            // the cluster has none
	NoneHealthy        // it has some, none may be used
	NoOriginal         // the original destination is not known
)

// String returns the reason in words.
func (r Reason) String() string {
	return [...]string{"ok", "no hosts", "no healthy hosts", "no original destination"}[r]
}

// Pick chooses a host.
func (c *Cluster) Pick(p *Pick) (*Host, Reason) {
	if c.Kind == OriginalDst {
		return c.pickOriginal(p.Original)
	}
	set := c.hosts.Load()
	l := set.Levels[0]
	if len(set.Levels) > 1 {
		l = set.level(uint32(p.Random % 100))
	}
	if len(l.using) == 0 {
		if len(set.All) == 0 {
			return nil, NoHosts
		}
		return nil, NoneHealthy
	}
	if l.Panic {
		c.Stats.LBHealthyPanic.Inc()
	}
	choice := lb.Choice{Random: p.Random, Hash: p.Hash, HasHash: p.HasHash}
	h := l.using[l.balancer.Pick(choice)]
	if len(p.Tried) == 0 || !p.tried(h) {
		return h, OK
	}
	return l.untried(p, h), OK
}

// untried draws again for a retry, as often as the policy says. If chance does not
// help (Envoy would now use a host that has just failed), it takes the first host that was not tried.
func (l *Level) untried(p *Pick, h *Host) *Host {
	random := p.Random
	for range p.Attempts {
		random = random*6364136223846793005 + 1442695040888963407
		h = l.using[l.balancer.Pick(lb.Choice{Random: random, Hash: p.Hash, HasHash: p.HasHash})]
		if !p.tried(h) {
			return h
		}
	}
	if p.Attempts > 0 {
		for _, other := range l.using {
			if !p.tried(other) {
				return other
			}
		}
	}
	return h
}

func (p *Pick) tried(h *Host) bool {
	for _, t := range p.Tried {
		if t.State == h.State {
			return true
		}
	}
	return false
}

// level returns the level that a number below 100 falls on.
func (s *HostSet) level(n uint32) *Level {
	for _, l := range s.Levels {
		if n < l.Load {
			return l
		}
		n -= l.Load
	}
	return s.Levels[0]
}

// pickOriginal returns the host of the address that the client dialed.
func (c *Cluster) pickOriginal(addr netip.AddrPort) (*Host, Reason) {
	if !addr.IsValid() {
		c.Stats.OriginalDstHostInvalid.Inc()
		return nil, NoOriginal
	}
	if c.Override.Port != 0 {
		addr = netip.AddrPortFrom(addr.Addr(), c.Override.Port)
	}
	c.origMu.RLock()
	h := c.original[addr]
	c.origMu.RUnlock()
	if h == nil {
		h = c.addOriginal(addr)
	}
	if !h.recent.Load() {
		h.recent.Store(true)
	}
	return h, OK
}

func (c *Cluster) addOriginal(addr netip.AddrPort) *Host {
	c.origMu.Lock()
	defer c.origMu.Unlock()
	if h := c.original[addr]; h != nil {
		return h
	}
	h := c.host(&Endpoint{Addr: addr}, nil)
	c.original[addr] = h
	c.Stats.MembershipTotal.Set(int64(len(c.original)))
	c.Stats.MembershipHealthy.Set(int64(len(c.original)))
	return h
}

// sweepOriginal forgets the destinations that nobody has used since the last sweep.
func (c *Cluster) sweepOriginal() {
	c.origMu.Lock()
	defer c.origMu.Unlock()
	for addr, h := range c.original {
		if !h.recent.Swap(false) && h.Active.Load() == 0 && h.Connections.Value() == 0 {
			delete(c.original, addr)
		}
	}
	c.Stats.MembershipTotal.Set(int64(len(c.original)))
	c.Stats.MembershipHealthy.Set(int64(len(c.original)))
}
