package pool

import "github.com/mallamesh/malla/proxy/cluster"

// Pools are counted where a cluster limits them (max_connection_pools), by priority and over all workers: a proxy that keeps
// connections for each client's address or server name has as many pools as somebody brings these. A pool counts from its
// first request until it has no connection any more.

// Admits reports whether there is a pool for a request, or may be one more. If not, there is no host for it, as in Envoy; and
// that is counted. A pool of the same host that nobody uses makes room.
func (w *Worker) Admits(p *Pending, c *cluster.Cluster, h *cluster.Host, prio cluster.Priority, authority []byte) bool {
	limits := c.Limit(prio)
	if !limits.Pools.Limited() || p.Raw {
		return true
	}
	pool := w.pool(c, h, prio, authority, p)
	if pool.counted == limits {
		return true
	}
	if limits.Pools.TryAcquire() || w.freeOne(pool) && limits.Pools.TryAcquire() {
		pool.uncount() // by the limits of a configuration that is replaced
		pool.counted = limits
		return true
	}
	c.Stats.UpstreamCxPoolOverflow.Inc()
	return false
}

// freeOne ends a pool without requests of the same host and priority.
func (w *Worker) freeOne(than *Pool) bool {
	for key, p := range w.pools {
		if p != than && p.counted != nil && key.state == than.key.state && key.priority == than.key.priority && p.active == 0 && p.waits == 0 && p.dialing == 0 {
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
	p.uncount()
	limits.Pools.Acquire()
	p.counted = limits
}

// uncount gives its place back.
func (p *Pool) uncount() {
	if p.counted != nil {
		p.counted.Pools.Release()
		p.counted = nil
	}
}
