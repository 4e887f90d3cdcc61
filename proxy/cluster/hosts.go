package cluster

import (
	"github.com/mallamesh/malla/proxy/lb"
)

// rebuild makes the HostSet of a list of hosts and publishes it. The caller holds c.mu.
func (c *Cluster) rebuild(hosts []*Host) {
	old := c.hosts.Load()
	set := &HostSet{All: hosts}
	for _, h := range hosts {
		for int(h.Priority) >= len(set.Levels) {
			set.Levels = append(set.Levels, &Level{})
		}
		l := set.Levels[h.Priority]
		l.Hosts = append(l.Hosts, h)
		if h.Usable() {
			l.Healthy = append(l.Healthy, h)
		}
	}
	if len(set.Levels) == 0 {
		set.Levels = []*Level{{}}
	}
	c.spread(set.Levels)
	healthy := 0
	for i, l := range set.Levels {
		healthy += len(l.Healthy)
		var before lb.Balancer
		if i < len(old.Levels) {
			before = old.Levels[i].balancer
		}
		c.balance(l, before)
	}
	c.Stats.MembershipTotal.Set(int64(len(hosts)))
	c.Stats.MembershipHealthy.Set(int64(healthy))
	c.hosts.Store(set)
}

// balance chooses the hosts that a level uses and makes their balancer.
func (c *Cluster) balance(l *Level, before lb.Balancer) {
	l.using = l.Healthy
	if l.Panic && !c.FailOnPanic {
		l.using = l.Hosts
	}
	if l.Panic && c.FailOnPanic {
		l.using = nil
	}
	if c.Kind == OriginalDst {
		return
	}
	entries := make([]lb.Entry, len(l.using))
	for i, h := range l.using {
		entries[i] = lb.Entry{Weight: h.Weight, Active: &h.Active}
	}
	b, err := lb.New(c.Policy, entries, before, c.random.Uint64())
	if err != nil {
		panic("cluster: policy was accepted by New and refused now: " + err.Error())
	}
	l.balancer = b
}

// spread divides the requests among the levels and says which of them are in
// panic, by Envoy's rules: a level takes as much as its healthy hosts, times the
// overprovisioning factor, can bear; what is left over goes to the next. Panic is
// looked at only if all levels together cannot bear the whole.
func (c *Cluster) spread(levels []*Level) {
	factor := float64(c.Overprovision)
	if factor == 0 {
		factor = 140
	}
	health := make([]uint32, len(levels))
	total, hosts := uint32(0), 0
	for i, l := range levels {
		if hosts += len(l.Hosts); len(l.Hosts) > 0 {
			health[i] = uint32(min(100, factor*float64(len(l.Healthy))/float64(len(l.Hosts))))
		}
		total += health[i]
	}
	total = min(total, 100)
	allPanic := true
	for _, l := range levels {
		l.Panic = total < 100 && c.panics(l)
		allPanic = allPanic && (l.Panic || len(l.Hosts) == 0)
	}
	switch {
	case allPanic && total < 100 && hosts > 0:
		share(levels, func(i int) uint32 { return uint32(100 * len(levels[i].Hosts) / hosts) })
	case total == 0:
		share(levels, func(int) uint32 { return 0 })
	default:
		share(levels, func(i int) uint32 { return health[i] * 100 / total })
	}
}

// share gives every level its part of the 100 percent; what rounding leaves goes to the
// first that has any, or to the first.
func share(levels []*Level, part func(i int) uint32) {
	left, first := uint32(100), -1
	for i, l := range levels {
		l.Load = min(left, part(i))
		left -= l.Load
		if first < 0 && l.Load > 0 {
			first = i
		}
	}
	levels[max(first, 0)].Load += left
}

func (c *Cluster) panics(l *Level) bool {
	threshold := 50.0
	if c.Panic != nil {
		threshold = *c.Panic
	}
	if len(l.Hosts) == 0 {
		return threshold > 0
	}
	return 100*float64(len(l.Healthy))/float64(len(l.Hosts)) < threshold
}
