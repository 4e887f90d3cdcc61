// Package lb chooses one host out of many.
//
// A [Balancer] is made for one list of hosts and never sees another: when the list
// changes, the owner makes a new one from the old ([New]), so that a round robin
// goes on where it was. Balancers are shared by all shards; picking allocates
// nothing, and takes a lock only where hosts of unlike weights need a schedule that
// cannot be laid out beforehand.
//
// The algorithms are Envoy's: round robin is strict for equal weights and a smooth
// earliest-deadline-first schedule otherwise; least request draws two hosts and
// takes the less busy one. Ring hash and Maglev have their place in [Choice] and
// [Policy] and are refused for now.
//
// Which hosts may be chosen (health, panic, priorities, hosts that a retry avoids) is
// decided by package cluster.
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

// A Policy says how a cluster balances.
type Policy struct {
	Kind Kind

	// ChoiceCount is the number of hosts that LeastRequest draws; 0 means 2.
	ChoiceCount uint32

	// Bias is the exponent of a host's active requests where LeastRequest has unlike
	// weights: weight / (active + 1) ^ bias. Nil means 1.
	Bias *float64
}

// An Entry is a host as a balancer sees it.
type Entry struct {
	Weight uint32        // 0 counts as 1
	Active *atomic.Int32 // its requests in flight, of all shards
}

// A Choice is what one request brings.
type Choice struct {
	Random  uint64
	Hash    uint64 // for the consistent algorithms
	HasHash bool
}

// A Balancer picks an index into the list that it was made for.
type Balancer interface {
	Pick(Choice) int // -1 if the list is empty
}

// New returns a balancer for hosts. Old is the one it replaces, or nil; seed is where a fresh round robin starts.
func New(p Policy, hosts []Entry, old Balancer, seed uint64) (Balancer, error) {
	switch {
	case p.Kind == RingHash || p.Kind == Maglev:
		return nil, fmt.Errorf("load balancing policy %s is not supported yet, want ROUND_ROBIN, LEAST_REQUEST or RANDOM", p.Kind)
	case p.Kind == OriginalDst:
		return nil, fmt.Errorf("load balancing policy %s has no list of hosts to pick from", p.Kind)
	case len(hosts) == 0:
		return empty{}, nil
	case p.Kind == Random:
		return random(len(hosts)), nil
	case p.Kind == LeastRequest && equalWeights(hosts):
		return newLeastRequest(p, hosts), nil
	case p.Kind == LeastRequest:
		return newWeightedLeastRequest(p, hosts), nil
	case equalWeights(hosts):
		return newRoundRobin(len(hosts), old, seed), nil
	}
	return newWeightedRoundRobin(hosts, old, seed), nil
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

// next is the next number of a stream of random numbers (splitmix64).
func next(random uint64) uint64 {
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
