package cluster

import (
	"net/netip"
	"time"
)

// CheckPolicy says what active health checks mean for a cluster's hosts. The checks themselves
// are the work of package healthcheck.
type CheckPolicy struct {
	// OnRemoval takes hosts out at once that are no longer named (ignore_health_on_host_removal). Otherwise
	// a host that passes its checks stays until it fails one: a control plane that forgets hosts does not take them away.
	OnRemoval bool
	// IgnoreNew leaves hosts that were not checked yet out of what panic and priorities are computed of
	// (ignore_new_hosts_until_first_hc).
	IgnoreNew bool
}

// A CheckTarget is where and how a host is checked, if not as it is used.
type CheckTarget struct {
	Off  bool       // the host is not checked, and counts as healthy
	Addr netip.Addr // invalid: the host's
	Port uint16     // 0: the host's
	Name string     // host name for the check; empty: the host's
}

// A Check is what active health checks have found of a host, as a set.
type Check uint32

// What they find, with Envoy's health flags.
const (
	CheckFailed    Check = 1 << iota // failed_active_hc
	CheckPending                     // pending_active_hc: no result yet, with IgnoreNew
	CheckDegraded                    // degraded_active_hc
	CheckTimeout                     // active_hc_timeout
	CheckImmediate                   // excluded_via_immediate_hc_fail
	CheckLeaving                     // pending_dynamic_removal: no longer named, and healthy
)

// Check returns what is known.
func (s *State) Check() Check { return Check(s.check.Load()) }

// excluded reports whether the host does not count among those that could be healthy.
func (h *Host) excluded() bool {
	return h.Check()&(CheckPending|CheckImmediate) != 0 || h.Health == Draining
}

// newCheck is what a new host begins with: it is used once it has passed a check.
func (c *Cluster) newCheck(e *Endpoint) Check {
	switch {
	case c.Check == nil || e.Check != nil && e.Check.Off:
		return 0
	case c.Check.IgnoreNew:
		return CheckFailed | CheckPending
	}
	return CheckFailed
}

// stays reports whether a host that is no longer named remains, because it passes its checks.
func (c *Cluster) stays(h *Host) bool {
	dynamic := c.Kind == EDS || c.Kind == StrictDNS || c.Kind == LogicalDNS
	return c.Check != nil && !c.Check.OnRemoval && dynamic && !(h.Target != nil && h.Target.Off) && h.Check()&CheckFailed == 0 && h.Health != Unhealthy
}

// leaving notes whether the host is there only because it passes its checks.
func (s *State) leaving(yes bool) {
	if yes {
		s.check.Or(uint32(CheckLeaving))
	} else if s.Check()&CheckLeaving != 0 {
		s.check.And(^uint32(CheckLeaving))
	}
}

// SetCheck notes what a check has found: it sets and clears flags of the host with this
// state. uneject lets the host back in that outlier detection has taken out. It reports whether the host is still in the cluster.
func (c *Cluster) SetCheck(s *State, set, unset Check, uneject bool) bool {
	c.building.Lock()
	defer c.building.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	hosts := c.hosts.Load().All
	i := indexOf(hosts, s)
	if i < 0 || c.next != nil {
		return false
	}
	was := s.Check()
	now := was&^unset | set
	s.check.Store(uint32(now))
	if was&^now&CheckFailed != 0 {
		s.since.Store(0) // it starts slowly again
	}
	if now&^was&CheckFailed != 0 {
		s.failed()
	}
	changed := was != now
	if uneject && s.ejected.Load() {
		now := time.Now()
		c.uneject(hosts[i], now)
		c.tellUneject(hosts[i], now)
		changed = true
	}
	if now&CheckLeaving != 0 && now&CheckFailed != 0 {
		hosts = append(append([]*Host(nil), hosts[:i]...), hosts[i+1:]...)
		c.Stats.MembershipChange.Inc()
		c.rebuild(hosts)
		if s.ejected.Load() {
			c.uneject(&Host{State: s}, time.Now())
		}
		c.tell(hosts)
		return false
	}
	if changed {
		c.rebuild(hosts)
	}
	return true
}

func indexOf(hosts []*Host, s *State) int {
	for i, h := range hosts {
		if h.State == s {
			return i
		}
	}
	return -1
}

// Follow calls f with the hosts, now and whenever others are there, until another function, or nil, takes its
// place. f must return at once, and not call the cluster.
func (c *Cluster) Follow(f func(hosts []*Host)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow = f
	c.tell(c.hosts.Load().All)
}

// tell passes on which hosts there are. The caller holds c.mu.
func (c *Cluster) tell(hosts []*Host) {
	if c.follow != nil {
		c.follow(hosts)
	}
}

// FailCheck says that a host asked, in a response, to be left alone (x-envoy-immediate-health-check-fail).
// It counts only in a cluster whose hosts are checked.
func (c *Cluster) FailCheck(h *Host) {
	if f := c.passive.Load(); f != nil {
		(*f)(h.State)
	}
}

// OnFailCheck has f called for each [Cluster.FailCheck], from any goroutine; f must return at once.
func (c *Cluster) OnFailCheck(f func(*State)) { c.passive.Store(&f) }
