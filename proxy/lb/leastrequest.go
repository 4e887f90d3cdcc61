package lb

import "math"

// A leastRequest draws a few hosts at random and takes the one with the fewest
// requests in flight. Two draws are nearly as good as looking at all and do not
// make a crowd run to the same host.
type leastRequest struct {
	hosts   []Entry
	choices int
}

func newLeastRequest(p Policy, hosts []Entry) *leastRequest {
	choices := int(p.ChoiceCount)
	if choices == 0 {
		choices = 2
	}
	return &leastRequest{hosts: hosts, choices: choices}
}

func (l *leastRequest) Pick(c Choice) int {
	if c.Ahead > 0 {
		return -1 // who will be least busy then?
	}
	random := c.Random
	best := below(random, len(l.hosts))
	load := l.hosts[best].Active.Load()
	for i := 1; i < l.choices; i++ {
		random = Next(random)
		host := below(random, len(l.hosts))
		if n := l.hosts[host].Active.Load(); n < load {
			best, load = host, n
		}
	}
	return best
}

// A fullScan looks at all hosts; of several that are equally idle, each has the same chance
// (reservoir sampling), so that the first of the list are not everybody's first choice.
type fullScan []Entry

func (l fullScan) Pick(c Choice) int {
	if c.Ahead > 0 {
		return -1
	}
	random, best, tied := c.Random, 0, 1
	load := l[0].Active.Load()
	for i := 1; i < len(l); i++ {
		n := l[i].Active.Load()
		switch {
		case n < load:
			best, load, tied = i, n, 1
		case n == load:
			tied++
			if random = Next(random); below(random, tied) == 0 {
				best = i
			}
		}
	}
	return best
}

// newWeightedLeastRequest returns a schedule in which a host's weight shrinks with its
// requests in flight, Envoy's rule for hosts of unlike weights.
func newWeightedLeastRequest(p Policy, hosts []Entry) *scheduled {
	return newScheduled(len(hosts), leastRequestWeight(p, hosts))
}

func leastRequestWeight(p Policy, hosts []Entry) func(i int) float64 {
	bias := 1.0
	if p.Bias != nil {
		bias = *p.Bias
	}
	return func(i int) float64 {
		w := float64(hosts[i].weight())
		active := float64(max(hosts[i].Active.Load(), 0) + 1)
		if bias == 1 {
			return w / active
		}
		return w / math.Pow(active, bias)
	}
}
