package xds

import (
	"cmp"
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mallamesh/malla/pki"
)

// Limits bound what clients may take of the server: a workload that is in somebody
// else's hands must not take the configuration from the others. They are far above
// what a large mesh needs.
type Limits struct {
	Streams         int // at a time
	IdentityStreams int // at a time, of one identity; a namespace's pods may all have the same
	Names           int // that one type's subscription asks for
	IdentityBytes   int // of what streams say of themselves and ask for, of one identity

	Opens     rate.Limit    // streams per second; more wait their turn
	OpenBurst int           // at once
	OpenWait  time.Duration // the longest wait

	Requests     rate.Limit // per second on one stream; more wait their turn
	RequestBurst int        // at once: a start asks for a lot
}

// DefaultLimits returns the limits that hold if none are given.
func DefaultLimits() *Limits {
	return &Limits{
		Streams: 50_000, IdentityStreams: 10_000, Names: 100_000, IdentityBytes: 2 << 30,
		Opens: 200, OpenBurst: 500, OpenWait: 10 * time.Second,
		Requests: 500, RequestBurst: 5_000,
	}
}

// maxName is the longest name of a resource that is looked at. Ours have a host of
// up to 253 bytes, a subset of 63 and a port.
const maxName = 1024

// nameCost is what a name that is asked for takes beside its bytes, in the maps of a watch.
const nameCost = 128

// nodeCost is how many bytes one byte of a node may become when it is read.
const nodeCost = 4

// maxNode is the largest node that is looked at. A pod's annotations, which Istio's agents tell us, have at most
// 256 KiB.
const maxNode = 512 << 10

// maxDetail is how much is kept of what a client says when it refuses something.
const maxDetail = 8 << 10

// shortNames checks the names of a request.
func shortNames[Request any](wire wire[Request], r Request) error {
	longest := 0
	wire.names(r, func(name string) { longest = max(longest, len(name)) })
	if longest > maxName {
		return status.Errorf(codes.InvalidArgument, "xds: %s: a name has %d bytes, at most %d are served", Short(wire.typeURL(r)), longest, maxName)
	}
	return nil
}

// A gate counts the streams that are open, and what they have us keep.
type gate struct {
	limits *Limits
	pace   *rate.Limiter

	mu   sync.Mutex
	all  int            // guarded by mu
	of   map[pki.ID]int // guarded by mu
	kept map[pki.ID]int // guarded by mu: bytes
}

func newGate(l *Limits) gate {
	return gate{limits: l, pace: rate.NewLimiter(l.Opens, l.OpenBurst), of: map[pki.ID]int{}, kept: map[pki.ID]int{}}
}

// A guest is a stream that was let in. It is used by one goroutine.
type guest struct {
	gate *gate
	who  pki.ID
	kept int // bytes
}

// keeps notes that the stream has us keep n bytes in all. It is an error if its identity
// has too many then.
func (v *guest) keeps(n int) error {
	g := v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.kept[v.who] += n - v.kept
	v.kept = n
	if all := g.kept[v.who]; all > g.limits.IdentityBytes {
		return status.Errorf(codes.ResourceExhausted, "xds: the streams of %s have %d bytes of nodes and names kept, at most %d are", named(v.who), all, g.limits.IdentityBytes)
	}
	return nil
}

// leave ends what enter began.
func (v *guest) leave() {
	g := v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.kept[v.who] -= v.kept; g.kept[v.who] == 0 {
		delete(g.kept, v.who)
	}
	g.leave(v.who)
}

func named(who pki.ID) string { return cmp.Or(who.String(), "plain-text clients") }

// enter lets one more stream in, until it leaves.
func (g *gate) enter(ctx context.Context, who pki.ID) (*guest, error) {
	if err := g.count(who); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, g.limits.OpenWait)
	defer cancel()
	v := &guest{gate: g, who: who}
	if err := g.pace.Wait(wait); err != nil {
		v.leave()
		return nil, status.Errorf(codes.ResourceExhausted, "xds: more than %v new streams a second for %s; try again later", g.limits.Opens, g.limits.OpenWait)
	}
	return v, nil
}

func (g *gate) count(who pki.ID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.all >= g.limits.Streams:
		return status.Errorf(codes.ResourceExhausted, "xds: %d streams are open, which is the limit; try again later", g.all)
	case g.of[who] >= g.limits.IdentityStreams:
		return status.Errorf(codes.ResourceExhausted, "xds: %d streams of %s are open, which is the limit for one identity", g.of[who], named(who))
	}
	g.all++
	g.of[who]++
	return nil
}

// leave is count undone. The caller holds mu.
func (g *gate) leave(who pki.ID) {
	g.all--
	if g.of[who]--; g.of[who] == 0 {
		delete(g.of, who)
	}
}
