// Package ratelimitservice is the HTTP filter ratelimit: it asks a service, by Envoy's protocol
// (envoy.service.ratelimit.v3), whether a request is within its limits, and holds the request until it knows.
//
// What the service is asked about is said by routes, by virtual hosts or by the filter (package ratelimit); a request
// that has no descriptor is not asked about. When the service does not answer in time the request goes on, unless
// the configuration says otherwise. What the service says about a request (dynamic_metadata)
// becomes metadata of the request.
package ratelimitservice

import (
	"sync"
	"time"

	"github.com/mallamesh/malla/proxy/call"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// Kinds of requests that a filter asks about, by where they come from.
const (
	Both = iota
	Internal
	External
)

// A Config describes the filter. It must not change.
type Config struct {
	Domain    string
	Stage     uint32
	Kind      int
	Limits    []*ratelimit.Limit // empty: what routes say
	Cluster   string             // of the service
	Authority string
	Timeout   time.Duration // 0: none

	Enabled, Enforced route.Fraction
	Deny              route.Fraction // of the requests that nobody knows about

	Status, ErrorStatus int
	Exhausted           bool // gRPC calls are answered RESOURCE_EXHAUSTED in place of UNAVAILABLE
	Headers             bool // x-ratelimit-limit and others
	NoMark              bool // no x-envoy-ratelimited
	RetryAfter          bool
	Response            *route.Mutations // of answers

	Namespace string // of the service's metadata about requests
	Decode    func([]byte) (metadata.Struct, error)

	// Counters returns the statistics of the cluster that a request goes to.
	Counters func(cluster string) *stats.RateLimit
}

// A Word is what a route says to the filter.
type Word struct {
	Domain    string // "": the filter's
	Selection ratelimit.Selection
	Limits    []*ratelimit.Limit
}

type factory struct {
	name      string
	config    *Config
	authority []byte
	counters  sync.Map // cluster -> *stats.RateLimit
}

// New returns the factory of filters with a name in the chain.
func New(name string, c *Config) stream.Factory {
	return &factory{name: name, config: c, authority: []byte(c.Authority)}
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(w *pool.Worker) any {
	x := &filter{factory: f, w: w}
	x.call.Done = x.answered
	x.hit = func(share route.Fraction) bool { return share.Hit(w.Random()) }
	return x
}

// set returns the statistics of a cluster.
func (f *factory) set(cluster string) *stats.RateLimit {
	if v, ok := f.counters.Load(cluster); ok {
		return v.(*stats.RateLimit)
	}
	v, _ := f.counters.LoadOrStore(cluster, f.config.Counters(cluster))
	return v.(*stats.RateLimit)
}

// A filter handles one stream.
type filter struct {
	*factory
	w           *pool.Worker
	s           *stream.Stream
	counted     *stats.RateLimit
	descriptors ratelimit.Descriptors
	hit         func(share route.Fraction) bool // whether a limit that has a key in the runtime counts
	call        call.Call
	answer      answer
	tells       bool // the response tells what the service said
	over        bool
	later       bool // some limits count when the stream is over
	starting    bool
	verdict     stream.Verdict
}

var (
	method          = []byte("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")
	limitHeader     = []byte("x-ratelimit-limit")
	remainingHeader = []byte("x-ratelimit-remaining")
	resetHeader     = []byte("x-ratelimit-reset")
	exhausted       = []byte("8") // gRPC's RESOURCE_EXHAUSTED
	grpcType        = []byte("application/grpc")
	yes             = []byte("true")
)

// hitsKey is the filter state that says what a request counts for.
const hitsKey = "envoy.ratelimit.hits_addend"

// OnRequest asks about the request.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	c := f.config
	if !c.Enabled.Hit(f.w.Random()) || !f.meant(m) {
		return stream.Continue
	}
	to := f.w.Source.Cluster(s.Cluster)
	if s.Route == nil || s.Route.Forward == nil || to == nil {
		return stream.Continue
	}
	word, _ := s.FilterConfig(f.name).(*Word)
	f.descriptors.Reset()
	f.describe(s, word)
	f.later = f.descriptors.Later
	if len(f.descriptors.List) == 0 {
		return stream.Continue
	}
	f.s, f.counted = s, f.set(to.StatName)
	service := f.w.Source.Cluster(c.Cluster)
	if service == nil {
		f.verdict = stream.Continue
		f.failed()
		return f.verdict
	}
	f.ask(service, word)
	return f.verdict
}

// meant reports whether the filter asks about requests from where this one comes from.
func (f *filter) meant(m *header.Map) bool {
	internal := string(m.Get(header.XEnvoyInternal)) == "true"
	return f.config.Kind == Both || internal == (f.config.Kind == Internal)
}

func (f *filter) describe(s *stream.Stream, word *Word) {
	limits, selection := f.config.Limits, ratelimit.Override
	if word != nil {
		if selection = word.Selection; len(word.Limits) > 0 {
			limits = word.Limits
		}
	}
	if len(limits) == 0 {
		ratelimit.Of(&f.descriptors, f.config.Stage, selection, s.Route, &s.Match, &s.Rec, f.hit)
		return
	}
	for _, l := range limits {
		l.Add(&f.descriptors, &s.Match, &s.Rec)
	}
}
