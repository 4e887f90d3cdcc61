package build

import (
	"context"
	"log/slog"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/stats"
)

// An Env is what configuration is built into: the parts of the proxy that outlive it.
type Env struct {
	Node    *corev3.Node
	Stats   *stats.Registry
	Istio   *stats.Istio
	Secrets *Secrets
	Files   Files            // access logs
	Names   cluster.Resolver // for clusters of names
	Log     *slog.Logger
	// Publish puts a runtime in force. It is called by one goroutine at a time.
	Publish func(*shard.Runtime)
	// Context ends with the proxy: it ends what resolves names.
	Context context.Context
	Now     func() time.Time // nil: time.Now
}
