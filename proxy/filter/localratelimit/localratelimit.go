// Package localratelimit is the HTTP filter that lets so many requests through and no more, counted in this
// process.
//
// A [Config] has a bucket for all requests, and buckets for requests with certain descriptors (package
// ratelimit). Each bucket is shared by all shards; a configuration may ask for buckets of each connection. What is
// over the limit is answered, or, where the limit is not enforced, marked with fields.
package localratelimit

import (
	"strconv"
	"sync"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config says what one level limits. It must not change.
type Config struct {
	Stats *stats.LocalRateLimit

	Enabled  route.Fraction // of the requests are counted
	Enforced route.Fraction // of those over the limit are answered

	HasDefault    bool // there is a bucket for all
	Fill          ratelimit.Fill
	AlwaysDefault bool // it counts also for requests that have another
	Rules         []Rule
	MaxDynamic    int // buckets that a rule with empty values keeps
	PerConnection bool
	Peers         *cluster.Local // the limits are those of all proxies there together; nil: of this one

	Limits    []*ratelimit.Limit // what requests are counted by; empty: what their routes say
	Stage     uint32
	Selection ratelimit.Selection

	Status     int
	Exhausted  bool // gRPC calls are answered RESOURCE_EXHAUSTED in place of UNAVAILABLE
	Headers    bool // x-ratelimit-limit and others
	RetryAfter bool
	Response   *route.Mutations // of answers
	Marks      *route.Mutations // of requests that are over the limit and go on

	once   sync.Once
	shared *limiter
}

// limiter returns the buckets for a stream.
func (c *Config) limiter(s *stream.Stream, now time.Time) *limiter {
	if c.PerConnection {
		return s.Conn.Keep(connectionKey{}, func() any { return newLimiter(c, now) }).(*limiter)
	}
	c.once.Do(func() { c.shared = newLimiter(c, now) })
	return c.shared
}

// cost is how many tokens what counts for one takes: as many as there are proxies with such a bucket.
func (c *Config) cost() float64 {
	if c.Peers == nil {
		return 1
	}
	return float64(c.Peers.Peers())
}

// connectionKey finds the buckets of a connection. As in Envoy it has one set, of the
// configuration that asked first.
type connectionKey struct{}

type factory struct {
	name   string
	config *Config
}

// New returns the factory of filters with a name in the chain. config is for routes without one of their own.
func New(name string, config *Config) stream.Factory { return &factory{name, config} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(w *pool.Worker) any {
	return &filter{factory: f, memory: w.Local(f, func() any { return new(memory) }).(*memory)}
}

// memory is what the filters of a shard use one after the other.
type memory struct {
	descriptors ratelimit.Descriptors
	scratch     scratch
}

// A filter handles one stream.
type filter struct {
	*factory
	*memory
	used   *Config
	bucket *ratelimit.Bucket // what the response tells of; nil: nothing
	tells  bool
}

var (
	limitHeader     = []byte("x-ratelimit-limit")
	remainingHeader = []byte("x-ratelimit-remaining")
	resetHeader     = []byte("x-ratelimit-reset")
	exhausted       = []byte("8") // gRPC's RESOURCE_EXHAUSTED
)

// OnRequest takes tokens for the request, or answers it.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	c := f.config
	if own, ok := s.FilterConfig(f.name).(*Config); ok {
		c = own
	}
	f.used = c
	if !c.Enabled.Hit(s.Worker.Random()) {
		return stream.Continue
	}
	c.Stats.Enabled.Inc()
	f.descriptors.Reset()
	if len(c.Rules) > 0 {
		f.describe(s)
	}
	now := s.Worker.Loop.Time()
	d := c.limiter(s, now).decide(&f.descriptors, &f.scratch, c.cost(), now)
	f.bucket, f.tells = d.bucket, d.headers == ratelimit.Draft03 || d.headers == ratelimit.ByFilter && c.Headers
	if d.allowed {
		c.Stats.OK.Inc()
		return stream.Continue
	}
	c.Stats.RateLimited.Inc()
	if d.bucket != nil && d.bucket.Shadow {
		c.Stats.ShadowMode.Inc()
		return stream.Continue
	}
	if !c.Enforced.Hit(s.Worker.Random()) {
		c.Marks.Apply(m, &s.Rec)
		return stream.Continue
	}
	c.Stats.Enforced.Inc()
	return s.ReplyWith(c.Status, "local_rate_limited", "local_rate_limited", func(m *header.Map) { f.answer(s, m, now) }, access.RateLimited)
}

// never: a limit that has a key in the runtime does not count here, whatever that says, as in Envoy.
func never(route.Fraction) bool { return false }

func (f *filter) describe(s *stream.Stream) {
	c := f.used
	if len(c.Limits) == 0 {
		f.descriptors.AnyAt = true // as Envoy does, which looks at that in the filter's own limits only
		ratelimit.Of(&f.descriptors, c.Stage, c.Selection, s.Route, &s.Match, &s.Rec, never)
		return
	}
	for _, l := range c.Limits {
		l.Add(&f.descriptors, &s.Match, &s.Rec)
	}
}

// answer adds fields to the answer of a request that is over the limit.
func (f *filter) answer(s *stream.Stream, m *header.Map, now time.Time) {
	c := f.used
	c.Response.Apply(m, &s.Rec)
	if c.Exhausted && s.GRPC {
		m.Set(header.GrpcStatus, exhausted)
	}
	if c.RetryAfter && c.Status == 429 && f.bucket != nil && !m.Has(header.RetryAfter) {
		var digits [20]byte
		m.AddCopy(header.RetryAfter, strconv.AppendInt(digits[:0], max(1, seconds(f.bucket, now)), 10))
	}
}

// seconds is how long it takes until there is a token.
func seconds(b *ratelimit.Bucket, now time.Time) int64 {
	return int64((b.NextIn(now) + time.Second - 1) / time.Second)
}

// OnResponse tells the state of the limit.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	if f.bucket == nil || !f.tells {
		return stream.Continue
	}
	now := s.Worker.Loop.Time()
	var digits [20]byte
	add := func(name []byte, n uint64) { m.AddName(name, m.Copy(strconv.AppendUint(digits[:0], n, 10))) }
	add(limitHeader, f.bucket.Max())
	add(remainingHeader, f.bucket.Left(now))
	add(resetHeader, uint64(seconds(f.bucket, now)))
	return stream.Continue
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) { f.used, f.bucket = nil, nil }
