// Package adaptiveconcurrency is the HTTP filter that lets as many requests be on their way at once as can be without
// their latency growing.
//
// Now and then a few requests at a time show what the lowest latency is. In between, the limit grows while latencies
// are near it, and shrinks when they are not (Envoy's gradient controller). What is over the limit is answered at once. All shards
// have one limit.
package adaptiveconcurrency

import (
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

type factory struct {
	name       string
	controller *controller
}

// New returns the factory of filters with a name in the chain.
func New(name string, config *Config, s *stats.Gradient) stream.Factory {
	return &factory{name, newController(config, s)}
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{controller: f.controller} }

// A filter handles one stream.
type filter struct {
	*controller
	entered bool
	began   int64
}

// now is a moment on which all shards agree.
func now(s *stream.Stream) int64 { return s.Worker.Loop.Time().UnixNano() }

// OnRequest lets the request through, or answers it. Checks of health are not counted: they would be too fast.
func (f *filter) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	if f.Off {
		return stream.Continue
	}
	f.began = now(s)
	f.advance(f.began)
	if s.Rec.HealthCheck {
		return stream.Continue
	}
	if !f.enter() {
		return s.Reply(f.Status, "reached concurrency limit", "reached_concurrency_limit")
	}
	f.entered = true
	return stream.Continue
}

// OnResponse has nothing to do.
func (f *filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }

// OnEnd notes how long the request took, if its response is complete.
func (f *filter) OnEnd(s *stream.Stream) {
	switch {
	case !f.entered:
	case s.Rec.DownstreamSent == 0:
		f.leave()
	default:
		f.done(f.began, now(s), s.Worker.Random())
	}
	f.entered = false
}
