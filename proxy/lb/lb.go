// Package lb chooses one host out of many.
//
// A [Balancer] is made for one list of hosts and never sees another: when the list
// changes, the owner makes a new one from the old ([New]), so that a round robin
// goes on where it was. Balancers are shared by all shards; picking allocates
// nothing, and takes a lock only where hosts of unlike weights need a schedule that
// cannot be laid out beforehand.
//
// The algorithms are Envoy's: round robin is strict for equal weights and a smooth
// earliest-deadline-first schedule otherwise; least request draws a few hosts (or looks
// at all) and takes the least busy one; ring hash and Maglev build the very rings and
// tables that Envoy builds, so that two proxies of either kind send one hash to one
// host, with or without bounded loads.
//
// Which hosts may be chosen (health, panic, priorities, localities, subsets, hosts that
// a retry avoids) is decided by package cluster.
package lb

import (
	"fmt"
	"sync/atomic"
)

// A Kind names an algorithm.
type Kind uint8

// The algorithms.
const (
	RoundRobin Kind = iota
	LeastRequest
	Random
	RingHash
	Maglev
	OriginalDst // the destination that the client dialed; package cluster does it
)

var kindNames = [...]string{"ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV", "CLUSTER_PROVIDED"}

// String returns Envoy's name.
func (k Kind) String() string { return kindNames[k] }

// Hashes reports whether a host is chosen by the request's hash.
func (k Kind) Hashes() bool { return k == RingHash || k == Maglev }

// A Policy says how a cluster balances.
type Policy struct {
	Kind Kind

	// ChoiceCount is the number of hosts that LeastRequest draws; 0 means 2.
	ChoiceCount uint32

	// FullScan makes LeastRequest look at all hosts.
	FullScan bool

	// Bias is the exponent of a host's active requests where LeastRequest has unlike
	// weights: weight / (active + 1) ^ bias. Nil means 1.
	Bias *float64

	// SlowStart lets new hosts of RoundRobin and LeastRequest warm up; nil: at once.
	SlowStart *SlowStart

	MinRing, MaxRing uint64 // of RingHash; 0: 1024, 8 Mi
	Murmur           bool   // RingHash places hosts by MurmurHash2 in place of xxHash
	TableSize        uint64 // of Maglev, a prime; 0: 65537

	// Balance bounds the load of a host under RingHash and Maglev, in percent of the
	// average (hash_balance_factor); 0: unbounded. Total is then the number of
	// requests in flight to the whole cluster.
	Balance uint32
	Total   func() int64
}

// The bounds of rings and tables, Envoy's.
const (
	defaultMinRing = 1024
	maxRing        = 8 << 20
	defaultTable   = 65537
	maxTable       = 5000011
)

// Check tells what is wrong with a policy.
func (p *Policy) Check() error {
	if p.Kind == RingHash && p.minRing() > p.maxRing() {
		return fmt.Errorf("ring hash: minimum_ring_size %d is above maximum_ring_size %d", p.minRing(), p.maxRing())
	}
	if p.Kind == RingHash && p.maxRing() > maxRing {
		return fmt.Errorf("ring hash: maximum_ring_size %d, want at most %d", p.maxRing(), maxRing)
	}
	if p.Kind == Maglev && (p.table() > maxTable || !prime(p.table())) {
		return fmt.Errorf("table_size %d, want a prime up to %d", p.table(), maxTable)
	}
	if p.Balance > 0 && p.Balance < 100 {
		return fmt.Errorf("hash_balance_factor %d, want at least 100", p.Balance)
	}
	return nil
}

func (p *Policy) minRing() uint64 { return orDefault(p.MinRing, defaultMinRing) }
func (p *Policy) maxRing() uint64 { return orDefault(p.MaxRing, maxRing) }
func (p *Policy) table() uint64   { return orDefault(p.TableSize, defaultTable) }

func orDefault(n, byDefault uint64) uint64 {
	if n == 0 {
		return byDefault
	}
	return n
}

func prime(n uint64) bool {
	for d := uint64(2); d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return n > 1
}

// An Entry is a host as a balancer sees it.
type Entry struct {
	Weight uint32        // 0 counts as 1
	Active *atomic.Int32 // its requests in flight, of all shards
	Key    string        // what RingHash and Maglev know it by
	Share  float64       // its share of all requests where weights of localities count; 0 in all: by Weight
	Since  *atomic.Int64 // when it came, by a clock of lb's own; 0: not yet known. For SlowStart
}

// A Choice is what one request brings.
type Choice struct {
	Random  uint64
	Hash    uint64 // for the consistent algorithms; without one, Random
	Attempt uint32 // the how manieth draw for one try this is, from 0

	// Ahead asks, if not 0, for what the so manieth pick from now on will be, and leaves everything as it is.
	// Random is then what that pick will be given.
	Ahead uint32
}

// A Balancer picks an index into the list that it was made for.
type Balancer interface {
	Pick(Choice) int // -1 if the list is empty, or if nobody can tell the pick that lies ahead
}

// New returns a balancer for hosts. Old is the one it replaces, or nil; seed is where a fresh round robin starts.
// The policy must pass Check.
func New(p Policy, hosts []Entry, old Balancer, seed uint64) Balancer {
	switch {
	case len(hosts) == 0:
		return empty{}
	case p.Kind == RingHash:
		s := newShares(hosts)
		return p.bounded(newRing(&p, hosts, s), hosts, s)
	case p.Kind == Maglev:
		s := newShares(hosts)
		return p.bounded(newTable(&p, hosts, s), hosts, s)
	case p.Kind == Random:
		return random(len(hosts))
	case p.SlowStart != nil && p.SlowStart.begin(hosts):
		return newWarming(p, hosts)
	case p.Kind == LeastRequest && equalWeights(hosts) && p.FullScan:
		return fullScan(hosts)
	case p.Kind == LeastRequest && equalWeights(hosts):
		return newLeastRequest(p, hosts)
	case p.Kind == LeastRequest:
		return newWeightedLeastRequest(p, hosts)
	case equalWeights(hosts):
		return newRoundRobin(len(hosts), old, seed)
	}
	return newWeightedRoundRobin(hosts, old, seed)
}

type empty struct{}

func (empty) Pick(Choice) int { return -1 }

// Random ignores weights, as Envoy's.
type random int

func (n random) Pick(c Choice) int { return below(c.Random, int(n)) }

// below maps a random number to [0, n) by its high bits, without the cost and the
// bias of a division.
func below(random uint64, n int) int {
	return int((random >> 32) * uint64(n) >> 32)
}

// Next is the next number of a stream of random numbers (splitmix64).
func Next(random uint64) uint64 {
	random += 0x9e3779b97f4a7c15
	random = (random ^ random>>30) * 0xbf58476d1ce4e5b9
	random = (random ^ random>>27) * 0x94d049bb133111eb
	return random ^ random>>31
}

func equalWeights(hosts []Entry) bool {
	for i := range hosts {
		if hosts[i].weight() != hosts[0].weight() {
			return false
		}
	}
	return true
}

func (e *Entry) weight() uint32 { return max(e.Weight, 1) }
