package lb

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
)

// hosts makes entries of given weights.
func hosts(weights ...uint32) []Entry {
	list := make([]Entry, len(weights))
	for i, w := range weights {
		list[i] = Entry{Weight: w, Active: new(atomic.Int32)}
	}
	return list
}

func must(t testing.TB, p Policy, list []Entry, old Balancer) Balancer {
	t.Helper()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	return New(p, list, old, 7)
}

// picks returns n turns as letters.
func picks(b Balancer, n int) string {
	var s strings.Builder
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		s.WriteByte('a' + byte(b.Pick(Choice{Random: random.Uint64()})))
	}
	return s.String()
}

// Round robin is strict: nobody gets a second turn before everybody has had a first.
func TestRoundRobin(t *testing.T) {
	b := must(t, Policy{}, hosts(1, 1, 1), nil)
	for range 10 {
		if got := picks(b, 3); !strings.Contains(got, "a") || !strings.Contains(got, "b") || !strings.Contains(got, "c") {
			t.Fatalf("a round is %s", got)
		}
	}
}

// A change of hosts goes on with the round.
func TestRoundRobinGoesOn(t *testing.T) {
	b := must(t, Policy{}, hosts(1, 1, 1), nil)
	n := [3]int{}
	for range 300 {
		n[b.Pick(Choice{})]++
		b = must(t, Policy{}, hosts(1, 1, 1), b) // as if health changed after every request
	}
	if n != [3]int{100, 100, 100} {
		t.Errorf("turns %v, want 100 each", n)
	}
}

// Weighted turns are as even as they can be, and exact in every period.
func TestWeightedRoundRobin(t *testing.T) {
	for _, test := range []struct {
		weights []uint32
		want    string // one period, from some point on
	}{
		{[]uint32{3, 1}, "aaba"},
		{[]uint32{5, 1, 1}, "aaaabca"},
		{[]uint32{2, 4}, "bba"}, // divided by their greatest common divisor
	} {
		got := picks(must(t, Policy{}, hosts(test.weights...), nil), 2*len(test.want))
		if !strings.Contains(got+got, test.want) && !rotation(got[:len(test.want)], test.want) {
			t.Errorf("%v: %s, want a rotation of %s", test.weights, got, test.want)
		}
		for i, w := range test.weights {
			if n := strings.Count(got, string(rune('a'+i))); n != 2*int(w)*len(test.want)/int(sum(test.weights)) {
				t.Errorf("%v: host %d had %d turns", test.weights, i, n)
			}
		}
	}
	// Weights too unlike to lay out.
	got := picks(must(t, Policy{}, hosts(10000, 30001), nil), 40000)
	if n := strings.Count(got, "a"); n < 9900 || n > 10100 {
		t.Errorf("10000:30001 gave the first %d of 40000", n)
	}
}

func rotation(a, b string) bool { return len(a) == len(b) && strings.Contains(a+a, b) }

func sum(w []uint32) (n uint32) {
	for _, v := range w {
		n += v
	}
	return n
}

// The list laid out is what the schedule yields.
func TestLayOutAgainstSchedule(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		list := hosts()
		for range 1 + random.IntN(6) {
			list = append(list, hosts(1<<random.Uint32N(5))...) // powers of two: exact in floating point
		}
		s := newSchedule(weightsOf(list))
		g := uint64(0)
		for i := range list {
			g = gcd(g, uint64(list[i].weight()))
		}
		for i, h := range layOut(list, g) {
			if want := s.pick(nil); int(h) != want {
				t.Fatalf("turn %d of %v is %d, want %d", i, weightsOf(list), h, want)
			}
		}
	}
}

func weightsOf(list []Entry) (w []float64) {
	for i := range list {
		w = append(w, float64(list[i].weight()))
	}
	return w
}

// The less busy of two wins, so the busiest of three is never taken while it is alone in that.
func TestLeastRequest(t *testing.T) {
	list := hosts(1, 1, 1)
	list[1].Active.Store(10)
	got := picks(must(t, Policy{Kind: LeastRequest}, list, nil), 3000)
	// Only if both draws fall on it: 1 in 9.
	if n := strings.Count(got, "b"); n < 250 || n > 420 {
		t.Errorf("the busy host got %d of 3000, want about 333", n)
	}
	if got := picks(must(t, Policy{Kind: LeastRequest, ChoiceCount: 20}, list, nil), 1000); strings.Contains(got, "b") {
		t.Error("with 20 draws the busy host still gets requests")
	}
	idle := picks(must(t, Policy{Kind: LeastRequest}, hosts(1, 1, 1), nil), 3000)
	for _, h := range "abc" {
		if n := strings.Count(idle, string(h)); n < 900 || n > 1100 {
			t.Errorf("idle host %c got %d of 3000", h, n)
		}
	}
}

func TestWeightedLeastRequest(t *testing.T) {
	list := hosts(1, 3)
	b := must(t, Policy{Kind: LeastRequest}, list, nil)
	if n := strings.Count(picks(b, 4000), "b"); n < 2990 || n > 3010 {
		t.Errorf("idle, weight 3 of 4 got %d of 4000", n)
	}
	list[1].Active.Store(2) // weighs 3/3
	if n := strings.Count(picks(b, 4000), "b"); n < 1990 || n > 2010 {
		t.Errorf("with two requests in flight it got %d of 4000, want half", n)
	}
	none := 0.0
	b = must(t, Policy{Kind: LeastRequest, Bias: &none}, list, nil)
	if n := strings.Count(picks(b, 4000), "b"); n < 2990 || n > 3010 {
		t.Errorf("with bias 0 it got %d of 4000, want 3000", n)
	}
}

func TestRandom(t *testing.T) {
	got := picks(must(t, Policy{Kind: Random}, hosts(1, 100, 1), nil), 9000)
	// Chi-squared with two degrees of freedom; weights do not count, as Envoy's.
	chi := 0.0
	for _, h := range "abc" {
		d := float64(strings.Count(got, string(h))) - 3000
		chi += d * d / 3000
	}
	if chi > 13.8 { // p = 0.001
		t.Errorf("uneven: chi-squared %v", math.Round(chi))
	}
}

func TestEmptyAndRefused(t *testing.T) {
	for _, kind := range []Kind{RoundRobin, LeastRequest, Random, RingHash, Maglev} {
		if i := must(t, Policy{Kind: kind}, nil, nil).Pick(Choice{}); i != -1 {
			t.Errorf("%v picks %d of nobody", kind, i)
		}
		if i := must(t, Policy{Kind: kind}, hosts(5), nil).Pick(Choice{Random: math.MaxUint64}); i != 0 {
			t.Errorf("%v picks %d of one", kind, i)
		}
	}
	for _, p := range []Policy{{Kind: Maglev, TableSize: 65536}, {Kind: RingHash, MinRing: 10, MaxRing: 9}, {Kind: Maglev, Balance: 99}} {
		if p.Check() == nil {
			t.Errorf("%+v is accepted", p)
		}
	}
}

func TestPickAllocs(t *testing.T) {
	for name, b := range map[string]Balancer{
		"round robin": must(t, Policy{}, hosts(1, 1), nil), "weighted": must(t, Policy{}, hosts(1, 2), nil),
		"scheduled": must(t, Policy{}, hosts(1, 100000), nil), "least request": must(t, Policy{Kind: LeastRequest}, hosts(1, 1), nil),
		"weighted least request": must(t, Policy{Kind: LeastRequest}, hosts(1, 2), nil),
	} {
		if n := testing.AllocsPerRun(100, func() { b.Pick(Choice{Random: 1}) }); n != 0 {
			t.Errorf("%s: Pick allocates %v times, want 0", name, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for name, bal := range map[string]Balancer{
		"rr": must(b, Policy{}, hosts(1, 1, 1), nil), "lr": must(b, Policy{Kind: LeastRequest}, hosts(1, 1, 1), nil),
		"scheduled": must(b, Policy{}, hosts(1, 100000), nil),
	} {
		b.Run(name, func(b *testing.B) {
			c := Choice{}
			for b.Loop() {
				c.Random += 0x9e3779b97f4a7c15
				bal.Pick(c)
			}
		})
	}
}

// What is foreseen comes, however far ahead it was, and foreseeing takes nobody's turn.
func TestForesee(t *testing.T) {
	for name, b := range map[string]Balancer{
		"round robin": must(t, Policy{}, hosts(1, 1, 1), nil), "weighted": must(t, Policy{}, hosts(1, 2, 4), nil),
		"scheduled": must(t, Policy{}, hosts(1, 100000, 7), nil), "random": must(t, Policy{Kind: Random}, hosts(1, 1, 1), nil),
		"weighted least request": must(t, Policy{Kind: LeastRequest}, hosts(1, 2, 3), nil),
	} {
		for range 10 {
			var want [5]int
			for i := range want {
				want[i] = b.Pick(Choice{Random: uint64(i) << 62, Ahead: uint32(i + 1)})
			}
			for i, w := range want {
				if got := b.Pick(Choice{Random: uint64(i) << 62}); got != w {
					t.Fatalf("%s: pick %d is %d, and %d was foreseen", name, i, got, w)
				}
			}
		}
	}
	for _, p := range []Policy{{Kind: LeastRequest}, {Kind: LeastRequest, FullScan: true}} {
		if got := must(t, p, hosts(1, 1), nil).Pick(Choice{Ahead: 1}); got != -1 {
			t.Errorf("%+v foresees %d, which nobody can", p, got)
		}
	}
}
