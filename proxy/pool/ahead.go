package pool

import (
	"slices"

	"github.com/mallamesh/malla/proxy/cluster"
)

// maxAhead is how many connections are made ahead at a time, as Envoy does it.
const maxAhead = 3

// A demand is what some connections have to carry, and how much more they could.
type demand struct{ requests, places int }

// exceeds reports whether the requests, times a ratio, are more than there is place for.
func (d demand) exceeds(ratio float64) bool {
	return float64(d.requests)*ratio > float64(d.places)
}

// demand is what the pool has to carry. A connection that is being made has place for as many requests as it will carry.
func (p *Pool) demand() demand {
	d := demand{p.waits + p.active, p.dialing*p.perConnection() + p.idles + p.active}
	for _, c := range p.open {
		d.places += max(0, p.perConnection()-c.active)
	}
	return d
}

// dialAhead makes connections for as many requests as the present ones times the ratio. A host that is not well is
// spared that.
func (p *Pool) dialAhead(limits *cluster.Breakers) {
	for range maxAhead {
		if !p.host.Well() || !p.demand().exceeds(p.cluster.Preconnect) || !p.dial(limits) {
			return
		}
	}
}

// A forecast is what a worker knows of the hosts that a cluster will choose next, for clusters whose connections
// are made before a host is chosen (predictive_preconnect_ratio).
type forecast struct {
	// random are the numbers that the next picks will be given, because a host was foreseen with each.
	random []uint64
	pools  []*Pool
}

// forecast returns that of a cluster.
func (w *Worker) forecast(c *cluster.Cluster) *forecast {
	f := w.forecasts[c]
	if f == nil {
		f = &forecast{}
		w.forecasts[c] = f
	}
	return f
}

// RandomFor returns the random number for a pick of a cluster's: the one with which it was foreseen, or else
// the one that is given.
func (w *Worker) RandomFor(c *cluster.Cluster, otherwise uint64) uint64 {
	if c.PreconnectNext <= 1 {
		return otherwise
	}
	f := w.forecast(c)
	if len(f.random) == 0 {
		return otherwise
	}
	random := f.random[0]
	f.random = append(f.random[:0], f.random[1:]...)
	return random
}

// dialNext makes connections to the hosts that will be chosen after the one of a request that is about to begin, while
// all requests of the cluster, times the ratio, are more than its connections could carry. No host is foreseen for more
// picks than there are healthy ones.
func (w *Worker) dialNext(rq *Pending, c *cluster.Cluster, prio cluster.Priority, authority []byte) {
	limits := c.Limit(prio)
	f := w.forecast(c)
	for range maxAhead {
		all := demand{requests: 1} // the one that is about to begin
		for _, p := range f.pools {
			d := p.demand()
			all.requests += d.requests
			all.places += d.places
		}
		if !all.exceeds(c.PreconnectNext) || len(f.random) >= c.Healthy() {
			return
		}
		random := w.Random()
		h := c.Foresee(random, uint32(len(f.random)+1))
		if h == nil {
			return
		}
		f.random = append(f.random, random)
		if !w.Admits(rq, c, h, prio, authority) {
			return
		}
		p := w.pool(c, h, prio, authority, rq)
		own := p.demand()
		own.requests++ // the one that is foreseen
		if !h.Well() || !own.exceeds(c.PreconnectNext) || !p.dial(limits) {
			return
		}
		p.count(limits)
	}
}

// joins puts a new pool on the list of its cluster's.
func (f *forecast) joins(p *Pool) { f.pools = append(f.pools, p) }

// sweepForecasts forgets pools that are empty, and clusters that there are no more.
func (w *Worker) sweepForecasts() {
	for c, f := range w.forecasts {
		f.pools = slices.DeleteFunc(f.pools, func(p *Pool) bool { return w.pools[p.key] != p })
		if len(f.pools) == 0 && (w.Source == nil || w.Source.Cluster(c.Name) != c) {
			delete(w.forecasts, c)
		}
	}
}
