package cluster

import (
	"sync/atomic"

	"github.com/mallamesh/malla/proxy/lb"
)

// A Zone configures zone-aware routing: every proxy keeps its requests in its own
// locality as far as that does not overload the hosts there, which it knows from where its own
// peers run (local_cluster_name).
type Zone struct {
	Local       *Local
	Percent     uint32 // routing_enabled
	MinHosts    uint32 // min_cluster_size
	FailOnPanic bool   // fail_traffic_on_panic
	ByWeight    bool   // locality_basis HEALTHY_HOSTS_WEIGHT
}

// A Local is where the proxy runs and the cluster of its peers, once that is there.
type Local struct {
	Locality Locality
	cluster  atomic.Pointer[Cluster]
}

// Set says which cluster the proxy is of.
func (l *Local) Set(c *Cluster) { l.cluster.Store(c) }

// Peers is how many proxies there are in that cluster, at least 1.
func (l *Local) Peers() int {
	if c := l.cluster.Load(); c != nil {
		return max(1, len(c.Hosts().All))
	}
	return 1
}

func (z *Zone) home() (Locality, bool) {
	if z == nil || z.Local == nil || z.Local.Locality == (Locality{}) {
		return Locality{}, false
	}
	return z.Local.Locality, true
}

// A zoneCache is the plan of a level for the peers of the moment.
type zoneCache struct{ plan atomic.Pointer[zonePlan] }

// A zonePlan says where the requests of this proxy go.
type zonePlan struct {
	peers    *HostSet
	off      bool // hosts are picked from all localities alike
	direct   bool // all stay at home
	local    uint64
	residual []uint64 // ascending: the room of the others, in parts of 10,000
}

// zoned returns the place for a request, or nil if localities do not matter to it; fail is for no host at all.
func (c *Cluster) zoned(l *Level, random uint64) (p *place, fail bool) {
	z := c.Localities.Zone
	if z == nil || z.Local == nil || l.Panic {
		return nil, false
	}
	local := z.Local.cluster.Load()
	if local == nil || local.Name == c.Name {
		return nil, false
	}
	peers := local.hosts.Load()
	plan := l.zone.plan.Load()
	if plan == nil || plan.peers != peers {
		plan = c.plan(l, peers)
		l.zone.plan.Store(plan)
	}
	if plan.off || z.Percent < 100 && uint32(random>>8%100) >= z.Percent {
		return nil, false
	}
	if peers.Levels[0].usablePercent() < local.panicThreshold() {
		c.Stats.LBLocalClusterNotOK.Inc()
		return nil, z.FailOnPanic
	}
	if plan.direct {
		c.Stats.LBZoneRoutingAllDirectly.Inc()
		return &l.places[0], false
	}
	random = lb.Next(random)
	if random%10000 < plan.local {
		c.Stats.LBZoneRoutingSampled.Inc()
		return &l.places[0], false
	}
	c.Stats.LBZoneRoutingCrossZone.Inc()
	room := plan.residual[len(plan.residual)-1]
	random = lb.Next(random)
	if room == 0 { // possible by rounding only
		c.Stats.LBZoneNoCapacityLeft.Inc()
		return &l.places[random%uint64(len(l.places))], false
	}
	at, i := random%room, 0
	for at > plan.residual[i] {
		i++
	}
	return &l.places[i], false
}

// plan weighs the locality's part of the hosts against its part of the peers.
func (c *Cluster) plan(l *Level, peers *HostSet) *zonePlan {
	c.Stats.LBRecalculateZone.Inc()
	z, plan := c.Localities.Zone, &zonePlan{peers: peers}
	if len(l.places) < 2 {
		plan.off = true
		return plan
	}
	if len(l.Healthy) < int(z.MinHosts) {
		c.Stats.LBZoneClusterTooSmall.Inc()
		plan.off = true
		return plan
	}
	size := func(h *Host) uint64 {
		if z.ByWeight {
			return uint64(h.Weight)
		}
		return 1
	}
	ours, all := map[Locality]uint64{}, uint64(0)
	for _, h := range peers.Levels[0].Healthy {
		ours[h.Locality] += size(h)
		all += size(h)
	}
	total := uint64(0)
	theirs := make([]uint64, len(l.places))
	for i := range l.places {
		for _, h := range l.places[i].healthy.hosts {
			theirs[i] += size(h)
		}
		total += theirs[i]
	}
	type parts struct{ local, upstream uint64 }
	part := func(i int) (p parts) {
		if theirs[i] == 0 {
			return p // Envoy does not look at the peers there either
		}
		if all > 0 {
			p.local = 10000 * ours[l.places[i].locality] / all
		}
		p.upstream = 10000 * theirs[i] / total
		return p
	}
	if home := part(0); l.own && home.upstream > 0 && home.upstream >= home.local {
		plan.direct = true
		return plan
	} else if l.own && home.local > 0 {
		plan.local = home.upstream * 10000 / home.local
	}
	room := uint64(0)
	for i := range l.places {
		if p := part(i); (i > 0 || !l.own) && p.upstream > p.local {
			room += p.upstream - p.local
		}
		plan.residual = append(plan.residual, room)
	}
	return plan
}
