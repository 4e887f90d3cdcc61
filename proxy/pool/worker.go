// Package pool keeps the upstream connections of one shard.
//
// A [Worker] is what the connections of a shard share: the loop, the configuration
// of the moment, random numbers, and pools of upstream connections by host and
// transport. A pool gives a request a connection that is idle, or makes one and lets the
// request wait, within the limits of the cluster (package cluster counts them for all
// shards). Connecting is asynchronous; a connection that fails to come up fails
// every request that waits for its host, as Envoy does, so that they can go elsewhere.
//
// A connection goes back only after a response that came whole, to a request that was sent whole,
// if both sides want it kept. What a request does when it is reset belongs to the router
// filter; [Reset] tells it enough to know whether sending again is safe.
package pool

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h2"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/route"
)

// A Source is the configuration of the moment. It is immutable.
type Source interface {
	Cluster(name string) *cluster.Cluster // nil: there is none
	Table(name string) *route.Table       // nil: there is none
	ScopesOf(source string) *route.Scopes // of connection managers; nil: there are none
	Node() *access.Node                   // nil: not known
}

// A Worker is what the connections of a shard share. Only the shard's thread uses it.
type Worker struct {
	Index  int
	Loop   *drive.Loop
	Source Source
	Mark   int // SO_MARK of upstream sockets, 0: none
	HTTP2  *h2.Shard
	Inside Inside // nil: there are none
	// Log is told of each connection and stream at debug; nil: nobody is.
	Log *slog.Logger
	// Failing says whether the proxy was told to fail its health checks; never nil.
	Failing *atomic.Bool
	// Overload says what the proxy has too much of; never nil.
	Overload *overload.State

	// Shadows is how many bytes the copies of requests that are under way to mirrors hold; it is the router's.
	Shadows int

	unmeasured access.Meter // of requests whose bytes nobody counts

	random    *rand.ChaCha8
	pools     map[poolKey]*Pool
	crowds    map[crowdKey]*crowd // of pools that are limited
	last      *Pool
	forecasts map[*cluster.Cluster]*forecast // of clusters whose hosts are foreseen
	locals    map[any]any
	sweep     drive.Timer
	connID    uint64
	atEnd     []func()
}

// A poolKey is what connections may be shared by: the address (its State lives as long as the cluster has it)
// and how to talk to it; name is the TLS server name where that follows the request, offer the ALPN that takes the place of
// the cluster's own.
type poolKey struct {
	state     *cluster.State
	transport *cluster.Transport
	priority  cluster.Priority
	name      string
	wish      string // what the request asks of TLS
	offers    Offers
	version   version
	origin    originKey
}

// Debugs reports whether somebody wants to be told of each connection and stream. It costs a look at the level.
func (w *Worker) Debugs() bool {
	return w.Log != nil && w.Log.Enabled(context.Background(), slog.LevelDebug)
}

// NewWorker returns the worker of a loop.
func NewWorker(index int, loop *drive.Loop, source Source) *Worker {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	w := &Worker{
		Index: index, Loop: loop, Source: source, Overload: &overload.Nothing, Failing: new(atomic.Bool),
		random: rand.NewChaCha8(seed), pools: map[poolKey]*Pool{}, crowds: map[crowdKey]*crowd{}, forecasts: map[*cluster.Cluster]*forecast{}, locals: map[any]any{},
		connID: uint64(index) << 48, HTTP2: h2.NewShard(loop.Now),
	}
	w.sweep.Handler = sweeper{w}
	loop.OnTurn(w.turnEnd)
	return w
}

// AtTurnEnd has f called once, at the end of this turn.
func (w *Worker) AtTurnEnd(f func()) { w.atEnd = append(w.atEnd, f) }

func (w *Worker) turnEnd() {
	for i := 0; i < len(w.atEnd); i++ { // f may add more
		w.atEnd[i]()
	}
	clear(w.atEnd)
	w.atEnd = w.atEnd[:0]
}

// Random returns a random number that nobody can guess.
func (w *Worker) Random() uint64 { return w.random.Uint64() }

// ClusterMetadata returns the metadata of a cluster, nil if there is none.
func (w *Worker) ClusterMetadata(name string) *metadata.Set {
	if c := w.Source.Cluster(name); c != nil {
		return c.Metadata
	}
	return nil
}

// ClusterSize is how many hosts a cluster has, and whether there is one.
func (w *Worker) ClusterSize(name string) (int, bool) {
	c := w.Source.Cluster(name)
	if c == nil {
		return 0, false
	}
	return int(c.Stats.MembershipTotal.Value()), true
}

// Node is what the proxy is called.
func (w *Worker) Node() *access.Node { return w.Source.Node() }

// LocalIP is the address of this machine that requests of our own making come from, and
// that stands in x-forwarded-for for clients on the loopback interface: the first
// of IPv4 that is not loopback, as Envoy chooses it.
var LocalIP = sync.OnceValue(func() netip.Addr {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr()
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
})

// ConnectionID numbers the connections of the proxy.
func (w *Worker) ConnectionID() uint64 {
	w.connID++
	return w.connID
}

// Local returns what belongs to a configuration on this shard, made by make at
// first. It lives until [Worker.Retain] is told that key is in use no more.
func (w *Worker) Local(key any, make func() any) any {
	v, ok := w.locals[key]
	if !ok {
		v = make()
		w.locals[key] = v
	}
	return v
}

// A Lasting key of [Worker.Local] knows itself whether it is in use: what is kept by it is no single filter's, and a bound on it
// would be none if each configuration began anew.
type Lasting interface{ InUse() bool }

// Retain drops what belongs to configurations that are not live. Connections that still use it keep it.
func (w *Worker) Retain(live map[any]bool) {
	for key := range w.locals {
		if l, ok := key.(Lasting); !live[key] && !(ok && l.InUse()) {
			delete(w.locals, key)
		}
	}
}

const sweepEvery = 2 * time.Second

// sweeper closes idle connections to hosts that their cluster no longer has.
type sweeper struct{ w *Worker }

func (s sweeper) OnTimer(t *drive.Timer) {
	w := s.w
	for key, p := range w.pools {
		p.retireIfGone(w)
		if p.empty() {
			p.uncount()
			delete(w.pools, key)
			if w.last == p {
				w.last = nil
			}
		}
	}
	w.sweepForecasts()
	if len(w.pools) > 0 {
		w.Loop.Schedule(t, sweepEvery)
	}
}

// Len is the number of pools.
func (w *Worker) Len() int { return len(w.pools) }
