package lb

import (
	"math"
	"time"
)

// A SlowStart lets the weight of a new host grow over a window.
type SlowStart struct {
	Window     time.Duration
	Aggression float64 // the exponent's inverse; 0: 1, linear
	MinWeight  float64 // the share of its weight that a host begins with; 0 in Envoy's field is 0 too, unset is 0.1
}

var epoch = time.Now()

// monotonic is a time in nanoseconds that nobody sets; never 0.
func monotonic() int64 { return int64(time.Since(epoch)) | 1 }

// begin notes when hosts that are new came, and reports whether some are still within the window.
func (s *SlowStart) begin(hosts []Entry) (warming bool) {
	now := monotonic()
	for i := range hosts {
		since := hosts[i].Since
		if since == nil {
			continue
		}
		since.CompareAndSwap(0, now)
		warming = warming || now-since.Load() < int64(s.Window)
	}
	return warming
}

// factor is what a host's weight is multiplied with.
func (s *SlowStart) factor(e *Entry, now int64) float64 {
	if e.Since == nil {
		return 1
	}
	age := max(now-e.Since.Load(), int64(time.Millisecond))
	if age >= int64(s.Window) {
		return 1
	}
	f := float64(age) / float64(s.Window)
	if s.Aggression > 0 && s.Aggression != 1 {
		f = math.Pow(f, 1/s.Aggression)
	}
	return max(f, s.MinWeight)
}

// newWarming returns a schedule in which new hosts weigh less, for as long as the list lives:
// once all are warm it is an ordinary one.
func newWarming(p Policy, hosts []Entry) *scheduled {
	weight := func(i int) float64 { return float64(hosts[i].weight()) }
	if p.Kind == LeastRequest {
		weight = leastRequestWeight(p, hosts)
	}
	return newScheduled(len(hosts), func(i int) float64 {
		return weight(i) * p.SlowStart.factor(&hosts[i], monotonic())
	})
}
