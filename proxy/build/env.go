package build

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/resolve"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tap"
)

// An Env is what configuration is built into: the parts of the proxy that outlive it.
type Env struct {
	Node    *corev3.Node
	Stats   *stats.Registry
	Istio   *stats.Istio
	Secrets *Secrets
	Files   Files            // access logs
	Names   cluster.Resolver // for clusters of names
	// Resolver makes another one for a cluster that says whom to ask; nil: none is made.
	Resolver func(resolve.Config) cluster.Resolver
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // for health checks
	Log      *slog.Logger
	Shards   int // how many there are
	// Publish puts a runtime in force. It is called by one goroutine at a time.
	Publish func(*shard.Runtime)
	// Context ends with the proxy: it ends what resolves names.
	Context context.Context
	Now     func() time.Time // nil: time.Now

	// Extra are addresses that a listener gets beside its own; may be nil.
	Extra func(c *listen.Config) []netip.AddrPort

	// Drain is how long connections of a listener that has gone are served.
	Drain time.Duration

	// LocalCluster is the cluster of the proxy's own peers (local_cluster_name); empty: not known.
	LocalCluster string

	// OutlierLog takes in what outlier detection does; nil: nobody is told.
	OutlierLog cluster.Journal

	// Limits bound the connections of clients.
	Limits Limits

	// Values are what the runtime says of keys; nil: nothing.
	Values *Values

	// Taps know the filters that wait for somebody to ask for a tap; may be nil.
	Taps *tap.Registry

	// Failing says whether the proxy was told to fail its health checks; nil: never.
	Failing func() bool

	// Inside says that there may be listeners inside of the proxy (envoy.bootstrap.internal_listener).
	Inside bool

	// Bind says from where connections to hosts come whose cluster does not say it; may be nil.
	Bind *corev3.BindConfig

	// WholeWorld says that the control plane speaks the state-of-the-world form only.
	WholeWorld bool

	demand     *demand
	extensions map[string]*extensionEntry // the store's
	local      *cluster.Local             // where we run; nil without LocalCluster
	metrics    []*shardMetrics

	cachesMu sync.Mutex            // guards caches
	caches   map[string]namedCache // of names, by name
	buckets  sharedBuckets

	current atomic.Pointer[shard.Runtime]
}

// outside reports whether a cluster is not of the mesh: what is known of us is not
// told there. It is asked on the path of requests.
func (e *Env) outside(name string) bool {
	r := e.current.Load()
	if r == nil || special(name) != "" {
		return true
	}
	c := r.Cluster(name)
	return c == nil || c.Destination == nil
}

// shardMetrics returns the shards' part of Istio's metrics, which all listeners share.
// Listeners are read by one goroutine at a time.
func (e *Env) shardMetrics() []*shardMetrics {
	for len(e.metrics) < max(e.Shards, 1) {
		e.metrics = append(e.metrics, newShardMetrics(e.Istio))
	}
	return e.metrics
}
