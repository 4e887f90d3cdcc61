package cluster

import (
	"slices"

	"github.com/mallamesh/malla/proxy/lb"
)

// Localities says what the localities of hosts mean.
type Localities struct {
	// Weighted gives every locality its weight's part of the requests, less what of its hosts is not healthy
	// (locality_weighted_lb_config).
	Weighted bool

	// Zone keeps requests in the proxy's own locality as far as that is fair; nil: off.
	Zone *Zone
}

// A place is the hosts of one level in one locality.
type place struct {
	locality          Locality
	weight            uint32
	hosts             int
	healthy, degraded group
}

// places divides a level's hosts by locality: the proxy's own first, the others by name.
func (c *Cluster) places(l, before *Level, weighted bool) {
	at := map[Locality]int{}
	for _, h := range l.Hosts {
		if _, ok := at[h.Locality]; !ok {
			at[h.Locality] = 0
			l.places = append(l.places, place{locality: h.Locality, weight: h.LocalityWeight})
		}
	}
	home, known := c.Localities.Zone.home()
	_, l.own = at[home]
	l.own = l.own && known
	slices.SortFunc(l.places, func(a, b place) int {
		if l.own && (a.locality == home) != (b.locality == home) {
			if a.locality == home {
				return -1
			}
			return 1
		}
		return a.locality.Compare(b.locality)
	})
	for i := range l.places {
		at[l.places[i].locality] = i
	}
	for _, h := range l.Hosts {
		p := &l.places[at[h.Locality]]
		p.hosts++
		switch {
		case h.Well():
			p.healthy.hosts = append(p.healthy.hosts, h)
		case h.degraded():
			p.degraded.hosts = append(p.degraded.hosts, h)
		}
	}
	for i := range l.places {
		p, was := &l.places[i], place{}
		for j := range before.places {
			if before.places[j].locality == p.locality {
				was = before.places[j]
			}
		}
		p.healthy = c.group(p.healthy.hosts, &was.healthy, false)
		p.degraded = c.group(p.degraded.hosts, &was.degraded, false)
	}
	if weighted {
		l.choose = c.byWeight(l, func(p *place) int { return len(p.healthy.hosts) }, before.choose)
		l.chooseDegraded = c.byWeight(l, func(p *place) int { return len(p.degraded.hosts) }, before.chooseDegraded)
	}
}

// chooser picks among some of a level's places.
type chooser struct {
	of       []int
	balancer lb.Balancer
}

func (c *chooser) Pick(choice lb.Choice) int {
	if i := c.balancer.Pick(choice); i >= 0 {
		return c.of[i]
	}
	return -1
}

// byWeight returns a balancer of places by weight, times how much of each is usable and the
// overprovisioning factor; nil if none has any weight.
func (c *Cluster) byWeight(l *Level, usable func(*place) int, before lb.Balancer) lb.Balancer {
	out := &chooser{}
	var weights []float64
	for i := range l.places {
		p := &l.places[i]
		w := float64(p.weight) * min(1, float64(c.overprovision)/100*float64(usable(p))/float64(p.hosts))
		if w > 0 {
			out.of, weights = append(out.of, i), append(weights, w)
		}
	}
	if len(weights) == 0 {
		return nil
	}
	var old lb.Balancer
	if b, ok := before.(*chooser); ok {
		old = b.balancer
	}
	out.balancer = lb.Weighted(weights, old, c.seeds.Uint64())
	return out
}

// byLocality orders hosts by locality and gives them their share of all requests for the
// consistent algorithms: the weight of the locality, divided by weight among its hosts. Hosts of localities without
// weight are left out; without any weight, there is nobody.
func byLocality(hosts []*Host, entries []lb.Entry) ([]*Host, []lb.Entry) {
	type local struct {
		hosts  uint64 // sum of weights
		weight uint32
	}
	sums, all := map[Locality]local{}, uint64(0)
	for _, h := range hosts {
		l, ok := sums[h.Locality]
		if !ok {
			l.weight = h.LocalityWeight
			all += uint64(l.weight)
		}
		l.hosts += uint64(h.Weight)
		sums[h.Locality] = l
	}
	order := make([]int, 0, len(hosts))
	for i, h := range hosts {
		if h.LocalityWeight > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return hosts[a].Locality.Compare(hosts[b].Locality) })
	outHosts, outEntries := make([]*Host, len(order)), make([]lb.Entry, len(order))
	for to, from := range order {
		h, e := hosts[from], entries[from]
		l := sums[h.Locality]
		e.Share = float64(h.Weight) * (float64(l.weight) / float64(all)) / float64(l.hosts)
		outHosts[to], outEntries[to] = h, e
	}
	return outHosts, outEntries
}
