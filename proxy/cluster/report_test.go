package cluster

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stats"
)

// reporting is a cluster of n hosts that report their weights.
func reporting(t *testing.T, n int) *Cluster {
	t.Helper()
	c, err := New(Config{Name: "c", Kind: Static, Reported: &Reported{Blackout: 10 * time.Second, Expiration: time.Minute, Update: time.Second}}, stats.NewRegistry(false), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetEndpoints(addresses(n))
	return c
}

func addresses(n int) (list []Endpoint) {
	for i := range n {
		list = append(list, Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80), Weight: 7})
	}
	return list
}

// says has a host report what makes a weight of one for each request in a second.
func says(c *Cluster, host int, rate string, now time.Time) bool {
	m := new(header.Map)
	m.AddName([]byte("endpoint-load-metrics"), []byte("TEXT cpu_utilization=1,rps_fractional="+rate))
	return c.TakeReport(c.Hosts().All[host], m, now)
}

func weights(c *Cluster) (out []uint32) {
	for _, h := range c.Hosts().All {
		out = append(out, h.Weight)
	}
	return out
}

// at makes the weights of a time.
func at(t *testing.T, c *Cluster, now time.Time, want ...uint32) {
	t.Helper()
	c.weigh(now)
	if got := weights(c); !slices.Equal(got, want) {
		t.Errorf("weights %v, want %v", got, want)
	}
}

// A weight counts once its host has reported for as long as the blackout, and until there was no report for as long as it takes to
// expire; then the blackout begins anew. Hosts without one have the median.
func TestReportedWeights(t *testing.T) {
	c, now := reporting(t, 4), time.Now()
	at(t, c, now, 1, 1, 1, 1)
	says(c, 0, "10", now)
	says(c, 1, "40", now)
	at(t, c, now.Add(9*time.Second), 1, 1, 1, 1)
	at(t, c, now.Add(11*time.Second), 10, 40, 25, 25)
	says(c, 2, "1000", now.Add(11*time.Second))
	at(t, c, now.Add(12*time.Second), 10, 40, 25, 25)
	says(c, 0, "12", now.Add(30*time.Second))
	at(t, c, now.Add(31*time.Second), 12, 40, 1000, 40)
	at(t, c, now.Add(62*time.Second), 12, 506, 1000, 506)
	says(c, 1, "50", now.Add(63*time.Second))
	at(t, c, now.Add(64*time.Second), 12, 506, 1000, 506)
	at(t, c, now.Add(10*time.Minute), 1, 1, 1, 1)
}

// Who comes has the median at once, who stays keeps its weight, and what configuration says has no meaning.
func TestReportedWeightsAndEndpoints(t *testing.T) {
	c, now := reporting(t, 2), time.Now().Add(-20*time.Second)
	says(c, 0, "10", now)
	says(c, 1, "30", now)
	at(t, c, now.Add(11*time.Second), 10, 30)
	before := c.Hosts()
	if c.SetEndpoints(addresses(2)); c.Hosts() != before {
		t.Error("the same endpoints again make other hosts")
	}
	c.SetEndpoints(addresses(3))
	if got := weights(c); !slices.Equal(got, []uint32{10, 30, 20}) {
		t.Errorf("weights %v after a host has come, want 10, 30 and their median", got)
	}
	if n := c.Stats.MaxHostWeight.Value(); n != 0 {
		t.Errorf("max_host_weight of a static cluster is %d", n)
	}
}

// Weights are made when it is time and not before, aside, and nothing is published if they are as they were.
func TestWeighIsDue(t *testing.T) {
	c, now := reporting(t, 1), time.Now()
	if got := weights(c); got[0] != 7 {
		t.Errorf("the first weight is %d before it is time, want 7, the configured one", got[0])
	}
	c.weigh(now)
	made := 0
	c.Aside = func(f func()) { made++; f() }
	if next := c.Sweep(now); !next.Equal(now.Add(time.Second)) {
		t.Errorf("the first time is %v from now, want 1s", next.Sub(now))
	}
	c.Sweep(now.Add(999 * time.Millisecond))
	if made != 0 {
		t.Error("weights are made before it is time")
	}
	before := c.Hosts()
	c.Sweep(now.Add(time.Second))
	if made != 1 || c.Hosts() != before {
		t.Errorf("weights were made %d times, hosts are others: %v; want once, and the same hosts", made, c.Hosts() != before)
	}
}

// A response without a report costs nothing.
func TestTakeReportAllocs(t *testing.T) {
	c, now := reporting(t, 1), time.Now()
	h, m := c.Hosts().All[0], new(header.Map)
	if n := testing.AllocsPerRun(100, func() { c.TakeReport(h, m, now) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
