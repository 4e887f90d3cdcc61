package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"time"
)

// SetEndpoints replaces the endpoints. It is cheap if nothing has changed, and reports whether
// something has. Endpoints without an address are left out: they belong to DNS.
func (c *Cluster) SetEndpoints(endpoints []Endpoint) bool {
	return c.Assign(Assignment{Endpoints: endpoints})
}

// An Assignment is what the control plane says of a cluster's endpoints.
type Assignment struct {
	Endpoints     []Endpoint
	Overprovision uint32 // overprovisioning_factor in percent; 0: 140
	Drop          Part   // of the requests, which are refused because there are too many
}

// A Part is a share of all; the zero value is none.
type Part struct{ Numerator, Denominator uint32 }

// Drops reports whether some requests are refused because there are too many.
func (c *Cluster) Drops() bool { return c.drop.Load() != nil }

// Dropped reports whether a request with a random number is one of those that are refused, and whether all are.
func (c *Cluster) Dropped(random uint64) (dropped, all bool) {
	p := c.drop.Load()
	if p == nil {
		return false, false
	}
	return uint32(random%uint64(p.Denominator)) < p.Numerator, p.Numerator >= p.Denominator
}

// Assign is SetEndpoints with what else an assignment says.
func (c *Cluster) Assign(a Assignment) bool {
	c.building.Lock()
	defer c.building.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil { // a look-up that was under way
		return false
	}
	factor := a.Overprovision
	if factor == 0 {
		factor = defaultOverprovision
	}
	c.drop.Store(nil)
	if a.Drop.Numerator > 0 {
		c.drop.Store(&a.Drop)
	}
	same := factor == c.overprovision
	c.overprovision = factor
	return c.setEndpoints(a.Endpoints, same)
}

// showHeaviest sets the greatest weight of a host. Envoy shows that of the last priority that there ever was.
func (c *Cluster) showHeaviest(hosts []*Host) {
	if c.Kind != EDS && c.Kind != StrictDNS {
		return
	}
	if c.Kind == EDS {
		for _, h := range hosts {
			c.last = max(c.last, h.Priority)
		}
	}
	heaviest := uint32(1)
	for _, h := range hosts {
		if c.Kind == StrictDNS || h.Priority == c.last {
			heaviest = max(heaviest, h.given)
		}
	}
	c.Stats.MaxHostWeight.Set(int64(heaviest))
}

func (c *Cluster) setEndpoints(endpoints []Endpoint, sameFactor bool) bool {
	old := make(map[netip.AddrPort]*Host, len(c.hosts.Load().All))
	for _, h := range c.hosts.Load().All {
		old[h.Addr] = h
	}
	changed, levels := !sameFactor, map[uint32]bool{}
	hosts := make([]*Host, 0, len(endpoints))
	seen := make(map[netip.AddrPort]bool, len(endpoints))
	for i := range endpoints {
		e := &endpoints[i]
		if !e.Addr.IsValid() || seen[e.Addr] {
			continue
		}
		seen[e.Addr] = true
		h := c.host(e, old[e.Addr])
		if was := old[e.Addr]; h != was {
			changed = true
			if was == nil || was.Priority != h.Priority || was.Locality != h.Locality { // for Envoy another host
				levels[h.Priority] = true
			}
			if was != nil && was.Priority != h.Priority {
				levels[was.Priority] = true
			}
		}
		hosts = append(hosts, h)
	}
	for addr, h := range old {
		switch {
		case seen[addr]:
			h.leaving(false)
		case c.stays(h):
			h.leaving(true)
			hosts, seen[addr] = append(hosts, h), true
		default:
			levels[h.Priority] = true
		}
	}
	if !changed && len(hosts) == len(old) {
		c.Stats.UpdateNoRebuild.Inc()
		return false
	}
	c.Stats.MembershipChange.Add(uint64(len(levels))) // Envoy counts each priority whose hosts are others
	c.showHeaviest(hosts)
	if c.Reported != nil && len(old) > 0 { // of the first hosts, what configuration says counts until it is time, as in Envoy
		hosts, _ = c.reweigh(hosts, time.Now())
	}
	c.rebuild(hosts)
	for addr, h := range old { // until now it could have been taken out
		if !seen[addr] && h.ejected.Load() {
			c.uneject(h, time.Now())
		}
	}
	c.tell(hosts)
	return true
}

// host returns the host of an endpoint: the old one if nothing has changed, else a new one with the old one's state.
func (c *Cluster) host(e *Endpoint, old *Host) *Host {
	h := Host{
		Addr: e.Addr, Name: cmp.Or(e.Hostname, e.Name), Weight: max(e.Weight, 1), Priority: min(e.Priority, maxPriority),
		Locality: e.Locality, Health: e.Health, Metadata: e.Metadata, LocalityWeight: e.LocalityWeight, Target: e.Check,
		given: max(e.Weight, 1), tried: c.order(e),
	}
	if c.Reported != nil && old != nil {
		h.Weight = old.Weight
	}
	if h.Metadata == nil {
		h.Metadata = &noMetadata
	}
	h.Transport = c.transport(h.Metadata)
	if old != nil {
		if h.State = old.State; h.same(old) {
			return old // most endpoints of most updates: they cost nothing
		}
	} else {
		h.State = new(State)
		h.check.Store(uint32(c.newCheck(e)))
	}
	return h.copied()
}

func (h Host) copied() *Host { return &h }

var noMetadata Metadata

// maxPriority is the highest priority of Envoy's API; every level up to the highest costs memory.
const maxPriority = 128

func (h *Host) same(o *Host) bool {
	return h.Addr == o.Addr && h.Name == o.Name && h.Weight == o.Weight && h.given == o.given && h.Priority == o.Priority &&
		h.Locality == o.Locality && h.LocalityWeight == o.LocalityWeight && h.Health == o.Health && h.Transport == o.Transport && h.Metadata.same(o.Metadata) && sameAddresses(h, o) &&
		(h.Target == o.Target || h.Target != nil && o.Target != nil && *h.Target == *o.Target)
}

func (m *Metadata) same(o *Metadata) bool {
	return m == o || m.Peer == o.Peer && m.All == o.All && m.Around == o.Around && maps.Equal(m.Match, o.Match) &&
		m.HashKey == o.HashKey && m.Canary == o.Canary && maps.EqualFunc(m.LB, o.LB, Value.same)
}

func (c *Cluster) transport(m *Metadata) *Transport {
	if c.Transport != nil {
		i, ok := c.Transport.Match(m)
		if !ok {
			i = len(c.Transports) - 1
		}
		return &c.Transports[i]
	}
	for i := range c.Transports {
		if t := &c.Transports[i]; t.Matches(m.Match) {
			return t
		}
	}
	panic("cluster: no default transport") // New made sure that there is one
}
