package cluster

import "math"

// defaultOverprovision is Envoy's overprovisioning factor in percent.
const defaultOverprovision = 140

// spread divides the requests among the levels and says which of them are in
// panic, by Envoy's rules and in its integers: a level takes as much as its healthy hosts, times the
// overprovisioning factor, can bear; what is left over goes to the next, and what
// healthy hosts of all levels cannot bear to the degraded ones. Panic is
// looked at only if all levels together cannot bear the whole.
func (c *Cluster) spread(levels Levels) {
	total := uint32(0)
	for _, l := range levels {
		l.health, l.degradedHealth = 0, 0
		if n := len(l.Hosts) - l.excluded; n > 0 {
			l.health = min(100, c.overprovision*uint32(len(l.Healthy))/uint32(n))
			l.degradedHealth = min(100, c.overprovision*uint32(len(l.Degraded))/uint32(n))
		}
		total += l.health + l.degradedHealth
	}
	total = min(total, 100)
	levels.share(total)
	threshold := c.panicThreshold()
	if threshold == 0 && total == 0 {
		levels[0].Load = 100 // nobody will be found there
		return
	}
	allPanic := true
	for _, l := range levels {
		l.Panic = total < 100 && l.usablePercent() < threshold
		allPanic = allPanic && l.Panic
	}
	if allPanic {
		levels.shareInPanic()
	}
}

// panicThreshold is healthy_panic_threshold, rounded as Envoy does.
func (c *Cluster) panicThreshold() float64 {
	if c.Panic == nil {
		return 50
	}
	return min(math.Round(*c.Panic), 100)
}

// usablePercent is the part of a level's hosts that are healthy or degraded.
func (l *Level) usablePercent() float64 {
	if len(l.Hosts) == l.excluded {
		return 0
	}
	n := float64(len(l.Hosts) - l.excluded)
	return 100*float64(len(l.Healthy))/n + 100*float64(len(l.Degraded))/n
}

// share divides 100 percent by what the levels can bear, total together.
func (levels Levels) share(total uint32) {
	if total == 0 {
		return // all is bad; panic decides
	}
	left := uint32(100)
	first, firstDegraded := -1, -1
	for i, l := range levels {
		if first < 0 && l.health > 0 {
			first = i
		}
		l.Load = min(left, l.health*100/total)
		left -= l.Load
	}
	for i, l := range levels {
		if firstDegraded < 0 && l.degradedHealth > 0 {
			firstDegraded = i
		}
		l.DegradedLoad = min(left, l.degradedHealth*100/total)
		left -= l.DegradedLoad
	}
	switch { // what rounding leaves
	case first >= 0:
		levels[first].Load += left
	case firstDegraded >= 0:
		levels[firstDegraded].DegradedLoad += left
	}
}

// shareInPanic divides 100 percent by the number of hosts, whatever their health.
func (levels Levels) shareInPanic() {
	hosts := 0
	for _, l := range levels {
		hosts += len(l.Hosts)
	}
	if hosts == 0 {
		levels[0].Load = 100
		return
	}
	left, first := uint32(100), -1
	for i, l := range levels {
		if first < 0 && len(l.Hosts) > 0 {
			first = i
		}
		l.Load, l.DegradedLoad = uint32(100*len(l.Hosts)/hosts), 0
		left -= l.Load
	}
	levels[first].Load += left
}

// at returns the level that a number falls on, and whether it is for the degraded hosts there.
func (levels Levels) at(random uint64) (l *Level, degraded bool) {
	n := uint32(random % 100)
	for _, l := range levels {
		if n < l.Load {
			return l, false
		}
		n -= l.Load
	}
	for _, l := range levels {
		if n < l.DegradedLoad {
			return l, true
		}
		n -= l.DegradedLoad
	}
	return levels[0], false
}

// atOthers is at for a retry that would rather go to other priorities than those that were
// tried (previous_priorities): every so often the priorities of the hosts tried so far are taken
// out, until none is left.
func (levels Levels) atOthers(random uint64, tried []*Host, every int) (*Level, bool) {
	if every <= 0 || len(tried) < every {
		return levels.at(random)
	}
	var out [maxPriority + 1]bool
	begin, total := 0, uint32(0)
	for n := every; n <= len(tried); n += every {
		for _, h := range tried[begin:n] {
			out[min(h.Priority, maxPriority)] = true
		}
		if total = levels.bear(&out); total == 0 {
			clear(out[:])
			begin, total = n, levels.bear(&out)
		}
	}
	if total == 0 {
		return levels.at(random)
	}
	n := uint32(random % 100)
	for { // again for what rounding leaves
		for _, degraded := range [...]bool{false, true} {
			for i, l := range levels {
				health := l.health
				if degraded {
					health = l.degradedHealth
				}
				if out[i] {
					continue
				}
				part := health * 100 / total
				if n < part {
					return l, degraded
				}
				n -= part
			}
		}
	}
}

// bear is what the levels that are not out can bear together.
func (levels Levels) bear(out *[maxPriority + 1]bool) (total uint32) {
	for i, l := range levels {
		if !out[i] {
			total += l.health + l.degradedHealth
		}
	}
	return min(total, 100)
}
