package lb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// named gives hosts keys.
func named(list []Entry) []Entry {
	for i := range list {
		list[i].Key = fmt.Sprintf("10.0.%d.%d:80", i>>8, i&255)
	}
	return list
}

// many makes n hosts with keys.
func many(n int) []Entry {
	weights := make([]uint32, n)
	for i := range weights {
		weights[i] = 1
	}
	return named(hosts(weights...))
}

// The values are those of libstdc++'s std::hash<std::string>, whose hash it is.
func TestMurmur(t *testing.T) {
	for _, test := range []struct {
		text string
		want uint64
	}{
		{"", 6142509188972423790},
		{"hello", 2762169579135187400},
		{"hello world", 5577293430985752569},
	} {
		if got := murmur2([]byte(test.text), murmurSeed); got != test.want {
			t.Errorf("murmur2(%q) = %d, want %d", test.text, got, test.want)
		}
	}
}

// The ten thousandth number after the default seed is given by the C++ standard (rand.predef).
func TestTwister(t *testing.T) {
	var p probe
	p.begin(5489, 1)
	var got uint32
	for range 10000 {
		got = p.draw()
	}
	if got != 4123659995 {
		t.Errorf("the ten thousandth number is %d, want 4123659995", got)
	}
}

// An order holds every host once, and one seed gives one order.
func TestProbeOrder(t *testing.T) {
	var p, q probe
	p.begin(7, 100)
	q.begin(7, 100)
	seen := map[int]bool{}
	for i := range 100 {
		k := p.next(i)
		if seen[k] || k != q.next(i) {
			t.Fatalf("the %d. is %d, which was there or is another the second time", i, k)
		}
		seen[k] = true
	}
}

// Without one of n hosts, only what it had goes elsewhere, or little more.
func TestHashesAreConsistent(t *testing.T) {
	for _, p := range []Policy{{Kind: RingHash}, {Kind: Maglev}} {
		before, after := must(t, p, many(10), nil), must(t, p, many(9), nil)
		random := rand.New(rand.NewPCG(1, 2))
		moved, n := 0, 10000
		for range n {
			c := Choice{Hash: random.Uint64()}
			if a, b := before.Pick(c), after.Pick(c); a != b && a != 9 {
				moved++
			}
		}
		if moved > n/10 { // a ring grows with its least host
			t.Errorf("%v: %d of %d moved besides those of the host that has gone", p.Kind, moved, n)
		}
	}
}

// Shares follow weights: chi-squared with three degrees of freedom stays below p = 0.001 for what is drawn at
// random; rings are not even, so they have room.
func TestHashDistribution(t *testing.T) {
	weights := []uint32{1, 2, 3, 4}
	for _, test := range []struct {
		p   Policy
		max float64
	}{
		{Policy{Kind: Maglev}, 16.3},
		{Policy{Kind: RingHash, MinRing: 1 << 16}, 200},
	} {
		b := must(t, test.p, named(hosts(weights...)), nil)
		random := rand.New(rand.NewPCG(3, 4))
		got := [4]int{}
		const n = 20000
		for range n {
			got[b.Pick(Choice{Hash: random.Uint64()})]++
		}
		chi := 0.0
		for i, w := range weights {
			want := n * float64(w) / 10
			chi += (float64(got[i]) - want) * (float64(got[i]) - want) / want
		}
		if chi > test.max {
			t.Errorf("%v: %v, chi-squared %.1f", test.p.Kind, got, chi)
		}
	}
}

// No host takes more than its bound; what is above goes to others, and the same hash to the same.
func TestBoundedLoad(t *testing.T) {
	list := many(4)
	total := int64(0)
	p := Policy{Kind: RingHash, Balance: 125, Total: func() int64 { return total }}
	b := must(t, p, list, nil)
	c := Choice{Hash: 42}
	for total = 0; total < 100; total++ {
		list[b.Pick(c)].Active.Add(1)
	}
	for i := range list {
		if n := list[i].Active.Load(); n > 33 || n == 0 { // 125 % of 25, and one
			t.Errorf("host %d has %d of 100, want at most 33", i, n)
		}
	}
	if a := b.Pick(c); a != b.Pick(c) {
		t.Error("the same hash goes to another host")
	}
}

// A retry goes on from where its hash points.
func TestHashAttempts(t *testing.T) {
	for _, p := range []Policy{{Kind: RingHash}, {Kind: Maglev}} {
		b := must(t, p, many(10), nil)
		seen := map[int]bool{}
		for attempt := range uint32(30) {
			seen[b.Pick(Choice{Hash: 99, Attempt: attempt})] = true
		}
		if len(seen) < 5 {
			t.Errorf("%v: 30 attempts reach %d hosts", p.Kind, len(seen))
		}
	}
}

// A higher aggression gives a new host more, sooner.
func TestSlowStartAggression(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Policy{Kind: RoundRobin, SlowStart: &SlowStart{Window: 100 * time.Second, Aggression: 2, MinWeight: 0.1}}
		list := hosts(1, 1)
		for i := range list {
			list[i].Since = new(atomic.Int64)
		}
		must(t, p, list[:1], nil)
		time.Sleep(200 * time.Second)
		b := must(t, p, list, nil)
		time.Sleep(25 * time.Second) // a quarter of the window, whose root is a half
		for range 100 {
			b.Pick(Choice{})
		}
		n := 0
		for range 3000 {
			n += b.Pick(Choice{})
		}
		if math.Abs(float64(n)-1000) > 60 {
			t.Errorf("the new host gets %d of 3000, want 1000", n)
		}
	})
}

// A new host's weight grows with its age, from the least to its own.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, kind := range []Kind{RoundRobin, LeastRequest} {
			p := Policy{Kind: kind, SlowStart: &SlowStart{Window: 100 * time.Second, Aggression: 1, MinWeight: 0.1}}
			list := hosts(1, 1)
			for i := range list {
				list[i].Since = new(atomic.Int64)
			}
			must(t, p, list[:1], nil)
			time.Sleep(200 * time.Second) // the first is warm
			b := must(t, p, list, nil)
			for _, step := range []struct {
				age  time.Duration
				want float64 // of the second, beside the first's 1
			}{{0, 0.1}, {50 * time.Second, 0.5}, {50 * time.Second, 1}} {
				time.Sleep(step.age)
				for range 100 {
					b.Pick(Choice{}) // let go of what was planned before
				}
				n := 0
				for range 3000 {
					n += b.Pick(Choice{})
				}
				if want := 3000 * step.want / (1 + step.want); math.Abs(float64(n)-want) > 60 {
					t.Errorf("%v: at weight %v the new host gets %d of 3000, want %.0f", kind, step.want, n, want)
				}
			}
		}
	})
}

func TestFullScan(t *testing.T) {
	list := hosts(1, 1, 1, 1, 1)
	for i, n := range []int32{3, 1, 2, 1, 5} {
		list[i].Active.Store(n)
	}
	b := must(t, Policy{Kind: LeastRequest, FullScan: true}, list, nil)
	random := rand.New(rand.NewPCG(1, 2))
	got := [5]int{}
	for range 2000 {
		got[b.Pick(Choice{Random: random.Uint64()})]++
	}
	if got[1]+got[3] != 2000 || got[1] < 900 || got[3] < 900 {
		t.Errorf("%v, want the two least busy alike", got)
	}
}

func BenchmarkPickOf(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		list := many(n)
		weighted := many(n)
		for i := range weighted {
			weighted[i].Weight = uint32(1 + i%7)
		}
		for _, test := range []struct {
			name string
			p    Policy
			list []Entry
		}{
			{"roundrobin", Policy{}, list}, {"roundrobin-weighted", Policy{}, weighted},
			{"least", Policy{Kind: LeastRequest}, list}, {"least-weighted", Policy{Kind: LeastRequest}, weighted},
			{"least-scan", Policy{Kind: LeastRequest, FullScan: true}, list}, {"random", Policy{Kind: Random}, list},
			{"ring", Policy{Kind: RingHash}, list}, {"maglev", Policy{Kind: Maglev}, list},
			{"maglev-bounded", Policy{Kind: Maglev, Balance: 150, Total: func() int64 { return 0 }}, list},
		} {
			b.Run(fmt.Sprintf("%s/%d", test.name, n), func(b *testing.B) {
				bal := must(b, test.p, test.list, nil)
				c := Choice{}
				for b.Loop() {
					c.Random += 0x9e3779b97f4a7c15
					c.Hash = c.Random
					bal.Pick(c)
				}
			})
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		list := many(n)
		for _, p := range []Policy{{}, {Kind: RingHash}, {Kind: Maglev}} {
			b.Run(fmt.Sprintf("%v/%d", p.Kind, n), func(b *testing.B) {
				for b.Loop() {
					New(p, list, nil, 1)
				}
			})
		}
	}
}
