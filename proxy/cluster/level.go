package cluster

import (
	"slices"
	"sync/atomic"

	"github.com/mallamesh/malla/proxy/lb"
)

// Levels are the hosts of a cluster, or of a subset of it, by priority.
type Levels []*Level

// A Level is the hosts of one priority.
type Level struct {
	Hosts, Healthy, Degraded []*Host
	Panic                    bool   // too few are healthy: all are used
	Load, DegradedLoad       uint32 // percent of the requests, for its healthy and for its degraded hosts

	excluded               int    // hosts that do not count among those that could be healthy
	health, degradedHealth uint32 // percent of what it is for that these can bear

	all, healthy, degraded group // those that Load and Panic make use of
	places                 []place
	own                    bool        // the first place is the proxy's own locality
	choose, chooseDegraded lb.Balancer // of places, by weight; nil: no weights
	zone                   zoneCache
}

// A group is hosts among which a balancer picks.
type group struct {
	hosts    []*Host
	balancer lb.Balancer
}

func (g *group) pick(c lb.Choice) *Host {
	if len(g.hosts) == 0 || g.balancer == nil {
		return nil
	}
	if i := g.balancer.Pick(c); i >= 0 {
		return g.hosts[i]
	}
	return nil
}

// renew has the HostSet made anew, because some hosts are no longer what they were. The caller holds c.mu, and nothing
// else: it may be a shard, which has no time for that. Tables of a thousand hosts take milliseconds.
func (c *Cluster) renew() {
	switch {
	case c.renewing:
	case c.Aside != nil:
		c.renewing = true
		c.Aside(c.makeAnew)
	default:
		c.mu.Unlock()
		c.makeAnew()
		c.mu.Lock()
	}
}

func (c *Cluster) makeAnew() {
	c.building.Lock()
	defer c.building.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewing = false // whoever changes from now on may come too late for us
	if c.next == nil {
		c.rebuild(c.hosts.Load().All)
	}
}

// rebuild makes the HostSet of a list of hosts and publishes it. The caller holds c.building and c.mu, of which
// c.mu is let go meanwhile.
func (c *Cluster) rebuild(hosts []*Host) { c.rebuildAs(hosts, changes.Add(1)) }

// rebuildAs is rebuild for a change that may have had its number before.
func (c *Cluster) rebuildAs(hosts []*Host, change uint64) {
	c.mu.Unlock()
	set := c.hostSet(hosts)
	set.Change = change
	c.mu.Lock()
	c.hosts.Store(set)
}

// changes counts those of all clusters: one that takes the place of another does not begin with its numbers.
var changes atomic.Uint64

func (c *Cluster) hostSet(hosts []*Host) *HostSet {
	old := c.hosts.Load()
	if old.factor != c.overprovision {
		old = &HostSet{} // all shares change
	}
	set := &HostSet{All: hosts, factor: c.overprovision}
	set.Levels = c.levels(hosts, old.Levels, c.Subsets == nil || c.Subsets.LocalityWeightAware)
	if c.Subsets != nil {
		set.subsets = c.divide(set, old.subsets)
	}
	healthy, degraded, excluded := 0, 0, 0
	for _, l := range set.Levels {
		excluded += l.excluded
		healthy += len(l.Healthy)
		degraded += len(l.Degraded)
		c.showSpread(l)
	}
	c.Stats.MembershipTotal.Set(int64(len(hosts)))
	c.Stats.MembershipHealthy.Set(int64(healthy))
	c.Stats.MembershipDegraded.Set(int64(degraded))
	c.Stats.MembershipExcluded.Set(int64(excluded))
	return set
}

// showSpread sets the gauges of rings and tables.
func (c *Cluster) showSpread(l *Level) {
	g := &l.healthy
	if l.Panic {
		g = &l.all
	}
	s, ok := lb.SpreadOf(g.balancer)
	switch {
	case ok && c.Policy.Kind == lb.RingHash:
		c.ring.Size.Set(int64(s.Size))
		c.ring.MinHashesPerHost.Set(int64(s.Min))
		c.ring.MaxHashesPerHost.Set(int64(s.Max))
	case ok:
		c.table.MinEntriesPerHost.Set(int64(s.Min))
		c.table.MaxEntriesPerHost.Set(int64(s.Max))
	}
}

// levels divides hosts by priority. What is as it was in old is taken over: an update
// costs what it changes. weighted says that weights of localities count, if the cluster's policy wants them.
func (c *Cluster) levels(hosts []*Host, old Levels, weighted bool) Levels {
	highest := 0
	for _, h := range hosts {
		highest = max(highest, int(h.Priority))
	}
	levels := make(Levels, highest+1)
	for i := range levels {
		levels[i] = &Level{}
	}
	for _, h := range hosts {
		l := levels[h.Priority]
		l.Hosts = append(l.Hosts, h)
		if h.excluded() {
			l.excluded++
		}
		switch {
		case h.Well():
			l.Healthy = append(l.Healthy, h)
		case h.degraded():
			l.Degraded = append(l.Degraded, h)
		}
	}
	c.spread(levels)
	for i, l := range levels {
		var before *Level
		if i < len(old) {
			before = old[i]
		}
		c.balance(l, before, weighted)
	}
	return levels
}

// balance makes the balancers of a level.
func (c *Cluster) balance(l, before *Level, weighted bool) {
	if c.ByAddress() {
		return
	}
	if before != nil && l.like(before) {
		l.all, l.healthy, l.degraded = before.all, before.healthy, before.degraded
		l.places, l.own, l.choose, l.chooseDegraded = before.places, before.own, before.choose, before.chooseDegraded
		return
	}
	if before == nil {
		before = &Level{}
	}
	weighted = weighted && c.Localities.Weighted
	if l.Panic {
		l.all = c.group(l.Hosts, &before.all, weighted)
		return // nothing else is asked for
	}
	l.healthy = c.group(l.Healthy, &before.healthy, weighted)
	l.degraded = c.group(l.Degraded, &before.degraded, weighted)
	if !c.Policy.Kind.Hashes() && (weighted || c.Localities.Zone != nil) {
		c.places(l, before, weighted)
	}
}

// like reports whether balancers of o do for l.
func (l *Level) like(o *Level) bool {
	return l.Panic == o.Panic && slices.Equal(l.Hosts, o.Hosts) && slices.Equal(l.Healthy, o.Healthy) && slices.Equal(l.Degraded, o.Degraded)
}

// group makes the balancer of hosts; a list that is as before keeps its own.
func (c *Cluster) group(hosts []*Host, before *group, weighted bool) group {
	hashes := c.Policy.Kind.Hashes()
	if before.balancer != nil && slices.Equal(hosts, before.hosts) && !(hashes && weighted) {
		return *before
	}
	entries := make([]lb.Entry, len(hosts))
	for i, h := range hosts {
		entries[i] = lb.Entry{Weight: h.Weight, Active: &h.Active}
		if c.Policy.SlowStart != nil && h.Health != Degraded {
			entries[i].Since = &h.since
		}
		if hashes {
			entries[i].Key = h.key(c.HashByName)
		}
	}
	if hashes && weighted {
		hosts, entries = byLocality(hosts, entries)
	}
	return group{hosts, lb.New(c.Policy, entries, before.balancer, c.seeds.Uint64())}
}
