// Package health is the HTTP filter health_check: it answers those who ask whether this
// proxy's service is well.
//
// Without pass-through the filter answers itself: the proxy is well, or clusters have enough
// healthy members. With it, the application answers, and its last answer may be given for a while to everybody
// who asks. A proxy that was told to fail (by its admin interface) fails all of them, and says so in
// every other response, so that clients look elsewhere.
package health

import (
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config describes the filter. It must not change.
type Config struct {
	PassThrough bool
	CacheTime   time.Duration // 0: answers are not kept
	Minimum     []Minimum     // in the order in which they are looked at
	Headers     route.HeaderMatchers
	Cluster     string      // the proxy's own service cluster, told in answers
	Failed      func() bool // whether the proxy was told to fail; nil: never
}

// A Minimum is the percentage of a cluster's members that must be healthy.
type Minimum struct {
	Cluster string
	Percent float64
}

type factory struct {
	name    string
	config  *Config
	stats   *stats.HealthCheck
	cluster []byte
	// cached is the application's last answer, for all shards: the status, whether it is degraded,
	// and the period of CacheTime in which it was given.
	cached *atomic.Uint64
}

// New returns the factory of filters with a name in the chain.
func New(name string, c *Config, s *stats.HealthCheck) stream.Factory {
	return &factory{name, c, s, []byte(c.Cluster), new(atomic.Uint64)}
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{factory: f} }

// A filter handles one stream.
type filter struct {
	*factory
	asked bool // this is a health check
}

func (f *factory) failed() bool { return f.config.Failed != nil && f.config.Failed() }

// period numbers the spans in which an answer holds; never 0.
func (f *factory) period(s *stream.Stream) uint64 {
	return uint64(s.Worker.Loop.Time().UnixNano()/int64(f.config.CacheTime)) & (1<<40 - 1) << 16
}

// OnRequest answers, if it is the filter's turn to.
func (f *filter) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	if !f.config.Headers.All(&s.Match) {
		return stream.Continue
	}
	f.asked, s.Rec.HealthCheck = true, true
	f.stats.RequestTotal.Inc()
	if f.config.PassThrough && !f.failed() && f.fromCache(s) == 0 {
		return stream.Continue
	}
	if s.RequestEnded() {
		return f.answer(s)
	}
	return s.CollectRequest(0)
}

// fromCache returns what was cached in this period, 0 for nothing.
func (f *filter) fromCache(s *stream.Stream) uint64 {
	if f.config.CacheTime == 0 {
		return 0
	}
	v := f.cached.Load()
	if v == 0 || v&^0xffff != f.period(s) {
		return 0
	}
	return v
}

const degradedBit = 1 << 15

// answer answers in the application's place.
func (f *filter) answer(s *stream.Stream) stream.Verdict {
	status, degraded, details := 200, false, "health_check_ok"
	switch {
	case f.failed():
		status, details = 503, "health_check_failed"
	case f.config.CacheTime > 0:
		v := f.fromCache(s)
		status, degraded, details = int(v&(degradedBit-1)), v&degradedBit != 0, "health_check_cached"
		f.stats.CachedResponse.Inc()
	default:
		status, details = f.members(s)
	}
	if status/100 != 2 {
		s.Rec.Flags.Set(access.FailedLocalHealthCheck)
		f.stats.Failed.Inc()
	} else {
		f.stats.OK.Inc()
	}
	if degraded {
		f.stats.Degraded.Inc()
		return s.ReplyWith(status, "", details, func(m *header.Map) { m.Add(header.XEnvoyDegraded, nil) })
	}
	if f.failed() {
		return s.ReplyWith(status, "", details, func(m *header.Map) { m.Add(header.XEnvoyImmediateHealthCheckFail, immediateFail) })
	}
	return s.Reply(status, "", details)
}

var (
	checkedName   = []byte("x-envoy-upstream-healthchecked-cluster")
	immediateFail = []byte("true")
)

// members looks at the clusters.
func (f *filter) members(s *stream.Stream) (status int, details string) {
	for _, m := range f.config.Minimum {
		c := s.Worker.Source.Cluster(m.Cluster)
		if c == nil {
			f.stats.FailedClusterNotFound.Inc()
			return 503, "health_check_failed_no_cluster_found"
		}
		total := c.Stats.MembershipTotal.Value()
		if total == 0 {
			if m.Percent == 0 {
				continue
			}
			f.stats.FailedClusterEmpty.Inc()
			return 503, "health_check_failed_cluster_empty"
		}
		if float64(c.Stats.MembershipHealthy.Value()) < float64(total)*m.Percent/100 {
			f.stats.FailedClusterUnhealthy.Inc()
			return 503, "health_check_failed_cluster_unhealthy"
		}
	}
	if len(f.config.Minimum) > 0 {
		return 200, "health_check_ok_cluster_healthy"
	}
	return 200, "health_check_ok"
}

// OnRequestWhole answers a check that had a body.
func (f *filter) OnRequestWhole(s *stream.Stream, body []byte) []byte {
	f.answer(s)
	return body
}

// OnResponseWhole is never called: responses are not collected.
func (f *filter) OnResponseWhole(_ *stream.Stream, body []byte) []byte { return body }

// OnResponse keeps the application's answer.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	if !f.asked {
		if f.failed() {
			m.Set(header.XEnvoyImmediateHealthCheckFail, immediateFail)
		}
		return stream.Continue
	}
	if f.config.CacheTime > 0 {
		v := f.period(s) | uint64(m.StatusCode())
		if m.Has(header.XEnvoyDegraded) {
			v |= degradedBit
		}
		f.cached.Store(v)
	}
	m.SetName(checkedName, f.cluster)
	return stream.Continue
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) { f.asked = false }

// OnUnasked has nothing to prepare: no check has come.
func (f *filter) OnUnasked(*stream.Stream) {}
