package cluster

import "time"

// Hosts that say in their responses (x-envoy-degraded) that they are not at their best are used last for a while
// (detect_degraded_hosts). Unlike an ejection that leaves nobody without a host, so that no share of them limits it. The two know
// nothing of each other: a host may be both, and then it is out.

// FoundDegraded reports whether outlier detection has found the host degraded.
func (s *State) FoundDegraded() bool { return s.lastResort.Load() }

// degrade notes a response that says so. What comes while the host is degraded makes its time no longer. Who is under way
// through a cluster that was replaced tells its successor, as of what ejects.
func (c *Cluster) degrade(h *Host, now time.Time) {
	if h.lastResort.Load() {
		return
	}
	c.mu.Lock()
	if next := c.next; next != nil {
		c.mu.Unlock()
		if next.Outlier != nil && next.Outlier.DetectDegraded {
			next.degrade(h, now)
		}
		return
	}
	defer c.mu.Unlock()
	if h.lastResort.Load() || !c.member(h) { // another shard was here first
		return
	}
	c.Stats.Outlier.EjectionsDetectedDegradation.Inc()
	h.outlier.lastResort.begin(c, now)
	h.lastResort.Store(true)
	c.tellEject(h, finding{by: byDegradation}, true, now)
	c.renew()
}

// undegrade has the host be as good as others again. The caller holds the cluster's mu and has the host set made anew.
func (s *State) undegrade(now time.Time) {
	s.lastResort.Store(false)
	s.outlier.lastResort.ended = now
}
