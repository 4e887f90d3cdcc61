package translate

import (
	"cmp"
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/mallamesh/malla/model"
)

// policyFor returns what the proxy keeps to on one port of a service, with the
// mesh's baseline where nobody said anything.
func policyFor(v *model.View, d *model.DestinationRule, subset model.Subset, port uint16) model.TrafficPolicy {
	var p model.TrafficPolicy
	if d != nil {
		p = subset.Policy.On(port, d.Policy.On(port, p))
	}
	if p.Pool == nil {
		p.Pool = v.Mesh.Config.Pool
	}
	if p.Outlier == nil {
		p.Outlier = v.Mesh.Config.Outlier
	}
	return p
}

// limits are the circuit breakers. Envoy's own defaults (1024) are not used:
// nothing is limited that nobody limited.
func limits(p *model.ConnectionPool) *clusterv3.CircuitBreakers {
	value := func(n uint32) uint32 { return cmp.Or(n, math.MaxUint32) }
	if p == nil {
		p = &model.ConnectionPool{}
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: u32(value(p.MaxConnections)), MaxPendingRequests: u32(value(p.MaxPending)),
		MaxRequests: u32(value(p.MaxRequests)), MaxRetries: u32(value(p.MaxRetries)), TrackRemaining: true,
	}}}
}

// setPool puts a connection pool's settings into a cluster.
func setPool(v *model.View, c *clusterv3.Cluster, p *model.ConnectionPool) {
	c.CircuitBreakers = limits(p)
	c.ConnectTimeout = span(v.Mesh.Config.ConnectTimeout)
	keepalive := v.Mesh.Config.Keepalive
	if p != nil {
		if p.ConnectTimeout > 0 {
			c.ConnectTimeout = span(p.ConnectTimeout)
		}
		if p.Keepalive != nil {
			keepalive = p.Keepalive
		}
	}
	if keepalive != nil {
		seconds := func(d time.Duration) uint32 { return uint32((d + time.Second - 1) / time.Second) }
		c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveProbes: u32If(keepalive.Probes), KeepaliveTime: u32If(seconds(keepalive.Time)), KeepaliveInterval: u32If(seconds(keepalive.Interval)),
		}}
	}
}

// setOutlier puts outlier detection into a cluster. As soon as there is any, an
// unhealthy majority does not make the proxy ignore health (panic threshold 0),
// unless the author asks for another threshold.
func setOutlier(c *clusterv3.Cluster, o *model.OutlierDetection) {
	if o == nil {
		return
	}
	out := &clusterv3.OutlierDetection{
		EnforcingSuccessRate: u32(0), Interval: spanIf(o.Interval), BaseEjectionTime: spanIf(o.BaseEjection),
		SplitExternalLocalOriginErrors: o.SplitLocalOrigin,
	}
	enforce := func(n uint32) uint32 {
		if n == 0 {
			return 0
		}
		return 100
	}
	if n := o.Consecutive5xx; n != nil {
		out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = u32(*n), u32(enforce(*n))
	}
	if n := o.ConsecutiveGateway; n != nil {
		out.ConsecutiveGatewayFailure, out.EnforcingConsecutiveGatewayFailure = u32(*n), u32(enforce(*n))
	}
	if o.SplitLocalOrigin {
		out.EnforcingLocalOriginSuccessRate = u32(0)
		if n := o.ConsecutiveLocalOrigin; n != nil {
			out.ConsecutiveLocalOriginFailure, out.EnforcingConsecutiveLocalOriginFailure = u32(*n), u32(enforce(*n))
		}
	}
	if o.MaxEjectionPercent != nil {
		out.MaxEjectionPercent = u32(*o.MaxEjectionPercent)
	}
	c.OutlierDetection = out
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: float64(o.MinHealthPercent)}}
}

// setBalance chooses how endpoints are picked.
func setBalance(c *clusterv3.Cluster, l *model.LoadBalancer) {
	if c.GetType() == clusterv3.Cluster_ORIGINAL_DST {
		c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
		return
	}
	c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	if l == nil {
		return
	}
	if l.Hash != nil {
		setHash(c, l.Hash)
		return
	}
	switch l.Balance {
	case model.RoundRobin:
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
		if s := slowStart(l.Warmup); s != nil {
			c.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{SlowStartConfig: s}}
		}
	case model.Random:
		c.LbPolicy = clusterv3.Cluster_RANDOM
	case model.LeastRequest:
		if s := slowStart(l.Warmup); s != nil {
			c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: s}}
		}
	}
}

// slowStart gives a new endpoint less for a while.
func slowStart(w *model.Warmup) *clusterv3.Cluster_SlowStartConfig {
	if w == nil {
		return nil
	}
	out := &clusterv3.Cluster_SlowStartConfig{SlowStartWindow: span(w.Window), MinWeightPercent: &typev3.Percent{Value: 10}}
	if w.MinimumPercent != nil {
		out.MinWeightPercent.Value = *w.MinimumPercent
	}
	if w.Aggression != nil {
		out.Aggression = &corev3.RuntimeDouble{DefaultValue: *w.Aggression, RuntimeKey: "upstream.slow_start.aggression"}
	}
	return out
}

// setBudget limits retries by what is under way, in place of a number.
func setBudget(c *clusterv3.Cluster, b *model.RetryBudget) {
	if b == nil {
		return
	}
	out := &clusterv3.CircuitBreakers_Thresholds_RetryBudget{BudgetPercent: &typev3.Percent{Value: 20}, MinRetryConcurrency: u32(cmp.Or(b.MinConcurrency, 3))}
	if b.Percent != nil {
		out.BudgetPercent.Value = *b.Percent
	}
	out.BudgetInterval = spanIf(b.Interval)
	c.CircuitBreakers.Thresholds[0].RetryBudget = out
}
