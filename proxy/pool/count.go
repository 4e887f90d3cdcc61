package pool

import "github.com/mallamesh/malla/proxy/cluster"

// Pools are counted where a cluster limits them (max_connection_pools), by priority and over all workers: a proxy that keeps
// connections for each client's address or server name has as many pools as somebody brings these. A pool counts from its
// first request until it has no connection any more. What is refused leaves nothing behind, and costs no more for those that were
// refused before it.

// A crowd is the pools of a worker that a limit counts together: those of one host and priority.
type crowd struct {
	pools []*Pool
	next  int // where to look for one that nobody uses
}

type crowdKey struct {
	state    *cluster.State
	priority cluster.Priority
}

func (key *poolKey) crowd() crowdKey { return crowdKey{key.state, key.priority} }

// Admits reports whether there is a pool for a request, or may be one more. If not, there is no host for it, as in Envoy; and
// that is counted. A pool of the same host that nobody uses makes room.
func (w *Worker) Admits(p *Pending, c *cluster.Cluster, h *cluster.Host, prio cluster.Priority, authority []byte) bool {
	limits := c.Limit(prio)
	if !limits.Pools.Limited() || p.Raw {
		return true
	}
	var key poolKey
	key.of(c, h, prio, authority, p)
	old := w.pools[key]
	if old != nil && old.counted == limits {
		return true
	}
	if limits.Pools.TryAcquire() || w.freeOne(&key, old) && limits.Pools.TryAcquire() {
		w.poolAt(&key, c, h, p).countedBy(limits)
		return true
	}
	c.Stats.UpstreamCxPoolOverflow.Inc()
	return false
}

// maxLooked is how many pools are looked at to find one that nobody uses. The next request looks at the next ones.
const maxLooked = 128

// freeOne ends a pool without requests of the same host and priority as a key has.
func (w *Worker) freeOne(key *poolKey, but *Pool) bool {
	all := w.crowds[key.crowd()]
	if all == nil {
		return false
	}
	for range min(len(all.pools), maxLooked) {
		if all.next++; all.next >= len(all.pools) {
			all.next = 0
		}
		if p := all.pools[all.next]; p != but && p.active == 0 && p.waits == 0 && p.dialing == 0 {
			p.retireAll()
			p.uncount()
			return true
		}
	}
	return false
}

// count has limits count the pool.
func (p *Pool) count(limits *cluster.Breakers) {
	if p.counted == limits || p.key.version == raw {
		return
	}
	limits.Pools.Acquire()
	p.countedBy(limits)
}

// countedBy notes that limits count the pool, and gives back its place among others: those of a configuration that was replaced.
func (p *Pool) countedBy(limits *cluster.Breakers) {
	p.uncount()
	p.counted = limits
	if !limits.Pools.Limited() {
		return
	}
	all := p.w.crowds[p.key.crowd()]
	if all == nil {
		all = &crowd{}
		p.w.crowds[p.key.crowd()] = all
	}
	p.place = len(all.pools)
	all.pools = append(all.pools, p)
}

// uncount gives its place back.
func (p *Pool) uncount() {
	if p.counted == nil {
		return
	}
	p.counted.Pools.Release()
	limited := p.counted.Pools.Limited()
	if p.counted = nil; !limited {
		return
	}
	all := p.w.crowds[p.key.crowd()]
	last := all.pools[len(all.pools)-1]
	all.pools[p.place], last.place = last, p.place
	all.pools[len(all.pools)-1] = nil
	if all.pools = all.pools[:len(all.pools)-1]; len(all.pools) == 0 {
		delete(p.w.crowds, p.key.crowd())
	}
}
