package cluster

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/mallamesh/malla/proxy/lb"
)

// A Pick is what one attempt to choose a host brings.
type Pick struct {
	Random   uint64
	Ahead    uint32 // see [Cluster.Foresee]
	Hash     uint64
	HasHash  bool
	Original netip.AddrPort // destination the client dialed, for OriginalDst, or named, for DynamicForward
	Named    []netip.Addr   // all addresses of what is named

	// Criteria choose the subset, nil: none are given.
	Criteria *Criteria

	// Override is a host that is asked for by its address, where it is well; Strict: that
	// or none.
	Override netip.AddrPort
	Strict   bool

	// Wanted are hosts that the request names for one try each, whatever their health; nil: it names none.
	Wanted *Wanted

	// Retry is set for a retry that would rather go elsewhere.
	Retry *Retry
}

// A Retry says which hosts a retry would rather not use.
type Retry struct {
	Tried    []*Host // by this request before
	Attempts int     // host_selection_retry_max_attempts: draws after the first; then any host will do

	PreviousHosts      bool  // not those tried
	OmitCanary         bool  // not those marked as canaries
	OmitHosts          []Has // not those that have all of these in their metadata
	PreviousPriorities int   // not the priorities tried, anew after so many tries; 0: off
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

// Hashes reports whether requests to the cluster need a hash.
func (c *Cluster) Hashes() bool { return c.Policy.Kind.Hashes() }

// Pick chooses a host.
func (c *Cluster) Pick(p *Pick) (*Host, Reason) {
	if c.ByAddress() {
		return c.pickOriginal(p.Original, p.Named)
	}
	set := c.hosts.Load()
	if p.Override.IsValid() {
		h := set.Find(p.Override)
		switch {
		case h != nil && c.OverrideHealth&(1<<h.seen()) != 0:
			return h, OK
		case p.Strict && h == nil:
			return nil, NoHosts
		case p.Strict:
			return nil, NoneHealthy
		}
	}
	if p.Wanted != nil {
		if h := p.Wanted.take(set); h != nil {
			return h, OK
		}
	}
	var h *Host
	if set.subsets == nil {
		h = c.pick(set.Levels, p)
	} else {
		h = c.pickSubset(set, p)
	}
	switch {
	case h != nil:
		return h, OK
	case len(set.All) == 0:
		return nil, NoHosts
	}
	return nil, NoneHealthy
}

// Foresee returns the host that the ahead-th pick from now on will bring, if it is given this random number; nil
// if nobody can tell. As in Envoy, that is for policies without a hash, and without subsets.
func (c *Cluster) Foresee(random uint64, ahead uint32) *Host {
	set := c.hosts.Load()
	if c.ByAddress() || c.Hashes() || set == nil || set.subsets != nil {
		return nil
	}
	return c.draw(set.Levels, &Pick{Random: random, Ahead: ahead}, random, 0)
}

// Healthy is how many hosts are well.
func (c *Cluster) Healthy() (n int) {
	for _, l := range c.hosts.Load().Levels {
		n += len(l.Healthy)
	}
	return n
}

// seen is a host's health with what checks and outlier detection have found. That detection has found it degraded does not count, as in
// Envoy.
func (h *Host) seen() Health {
	check := h.Check()
	switch {
	case h.Ejected() || check&CheckFailed != 0:
		return Unhealthy
	case h.Health == Unhealthy || h.Health == Draining || h.Health == HealthTimeout:
		return h.Health
	case check&CheckDegraded != 0:
		return Degraded
	}
	return h.Health
}

// pick chooses a host of some levels. A retry draws again while it is given what it would rather not use, as
// often as its policy says; then it takes what it gets, as Envoy's.
func (c *Cluster) pick(levels Levels, p *Pick) *Host {
	if p.Retry == nil {
		return c.draw(levels, p, p.Random, 0)
	}
	var h *Host
	random := p.Random
	for attempt := range p.Retry.Attempts + 1 {
		if h = c.draw(levels, p, random, uint32(attempt)); h == nil || !p.Retry.avoids(h) {
			return h
		}
		random = lb.Next(random)
	}
	return h
}

// draw chooses a host of some levels once.
func (c *Cluster) draw(levels Levels, p *Pick, random uint64, attempt uint32) *Host {
	choice := lb.Choice{Random: random, Hash: p.Random, Attempt: attempt, Ahead: p.Ahead}
	if p.HasHash {
		choice.Hash = p.Hash
	}
	hashes := c.Policy.Kind.Hashes()
	l, degraded := levels[0], false
	if len(levels) > 1 || levels[0].DegradedLoad > 0 {
		number := random
		if hashes {
			number = choice.Hash
		}
		if p.Retry == nil {
			l, degraded = levels.at(number)
		} else {
			l, degraded = levels.atOthers(number, p.Retry.Tried, p.Retry.PreviousPriorities)
		}
	}
	if l.Panic {
		if attempt == 0 || !hashes {
			c.Stats.LBHealthyPanic.Inc()
		}
		if c.FailOnPanic && !hashes {
			return nil
		}
		return l.all.pick(choice)
	}
	if hashes {
		return l.healthy.pick(choice)
	}
	var at *place
	switch chooser := l.chooser(degraded); {
	case chooser != nil:
		i := chooser.Pick(choice)
		if i < 0 {
			return nil
		}
		at = &l.places[i]
	default:
		var fail bool
		if at, fail = c.zoned(l, random); fail {
			return nil
		}
	}
	switch {
	case at != nil && degraded:
		return at.degraded.pick(choice)
	case at != nil:
		return at.healthy.pick(choice)
	case degraded:
		return l.degraded.pick(choice)
	}
	return l.healthy.pick(choice)
}

func (l *Level) chooser(degraded bool) lb.Balancer {
	if degraded {
		return l.chooseDegraded
	}
	return l.choose
}

// avoids reports whether a retry would rather not use a host.
func (r *Retry) avoids(h *Host) bool {
	if r.OmitCanary && h.Metadata.Canary || len(r.OmitHosts) > 0 && h.Metadata.hasAll(r.OmitHosts) {
		return true
	}
	if r.PreviousHosts {
		for _, t := range r.Tried {
			if t.State == h.State {
				return true
			}
		}
	}
	return false
}

// pickOriginal returns the host of the address that the client dialed.
func (c *Cluster) pickOriginal(addr netip.AddrPort, named []netip.Addr) (*Host, Reason) {
	if !addr.IsValid() {
		return nil, NoOriginal
	}
	if c.Override.Port != 0 {
		addr = netip.AddrPortFrom(addr.Addr(), c.Override.Port)
	}
	c.origMu.RLock()
	h := c.original[addr]
	c.origMu.RUnlock()
	if h == nil || len(named) > 1 && !slices.Equal(h.named, named) {
		h = c.addOriginal(addr, named)
	}
	if !h.recent.Load() {
		h.recent.Store(true)
	}
	return h, OK
}

// Known returns every host that there is now: those of the configuration, and of a cluster whose requests name their hosts
// those that were named lately, by address.
func (c *Cluster) Known() []*Host {
	c.origMu.RLock() // which requests wait for
	named := slices.AppendSeq(make([]*Host, 0, len(c.original)), maps.Values(c.original))
	c.origMu.RUnlock()
	slices.SortFunc(named, func(a, b *Host) int { return a.Addr.Compare(b.Addr) })
	return slices.Concat(c.Hosts().All, named)
}

func (c *Cluster) addOriginal(addr netip.AddrPort, named []netip.Addr) *Host {
	c.origMu.Lock()
	defer c.origMu.Unlock()
	old := c.original[addr]
	if old != nil && slices.Equal(old.named, named) {
		return old
	}
	e := Endpoint{Addr: addr, More: beside(addr, named)}
	if c.Kind == OriginalDst {
		e.Hostname = c.Name + addr.String() // as Envoy calls it
	}
	h := c.host(&e, old)
	if h == old { // which others are reading: the same addresses, named in another order
		again := *old
		h = &again
	}
	h.named = named
	c.original[addr] = h
	c.Stats.MembershipChange.Inc()
	c.Stats.MembershipTotal.Set(int64(len(c.original)))
	c.Stats.MembershipHealthy.Set(int64(len(c.original)))
	return h
}

// sweepOriginal forgets the destinations that nobody has used since the last sweep.
func (c *Cluster) sweepOriginal() {
	c.origMu.Lock()
	defer c.origMu.Unlock()
	before := len(c.original)
	for addr, h := range c.original {
		if !h.recent.Swap(false) && h.Active.Load() == 0 && h.Connections.Value() == 0 {
			delete(c.original, addr)
		}
	}
	if len(c.original) < before {
		c.Stats.MembershipChange.Inc()
	}
	c.Stats.MembershipTotal.Set(int64(len(c.original)))
	c.Stats.MembershipHealthy.Set(int64(len(c.original)))
}
