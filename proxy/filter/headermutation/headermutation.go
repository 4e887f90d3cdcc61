// Package headermutation is the HTTP filter that changes header fields, trailers and query
// parameters in the middle of the chain, where the header operations of routes come at its end.
//
// A filter has changes of its own ([Config]); those of route tables, virtual hosts and routes follow,
// the most specific one last if the filter says so, else first.
package headermutation

import (
	"slices"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config holds the changes of one level. It must not change.
type Config struct {
	Request, Response, RequestTrailers, ResponseTrailers *route.Mutations // nil: none
	Query                                                []Parameter
}

type factory struct {
	name     string
	config   *Config
	specific bool
}

// New returns the factory of filters with a name in the chain. specificLast has the most specific level
// make its changes last, so that they win.
func New(name string, c *Config, specificLast bool) stream.Factory {
	return &factory{name, c, specificLast}
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{factory: f} }

// A filter handles one stream.
type filter struct {
	*factory
	levels []*Config // in the order of their changes
}

// OnRequest changes the request.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	f.OnUnasked(s)
	for _, c := range f.levels {
		c.Request.Apply(m, &s.Rec)
		if len(c.Query) > 0 {
			c.query(m, &s.Rec)
		}
	}
	return stream.Continue
}

// OnUnasked finds out what is to be changed.
func (f *filter) OnUnasked(s *stream.Stream) {
	f.levels = append(f.levels[:0], f.config)
	f.levels = stream.FilterConfigs(s, f.levels, f.name)
	if f.specific {
		slices.Reverse(f.levels[1:])
	}
}

// OnResponse changes the response.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	before := s.Rec.Response
	s.Rec.Response = m
	for _, c := range f.levels {
		c.Response.Apply(m, &s.Rec)
	}
	s.Rec.Response = before
	return stream.Continue
}

// OnRequestTrailers changes the request's trailers.
func (f *filter) OnRequestTrailers(s *stream.Stream, m *header.Map) stream.Verdict {
	for _, c := range f.levels {
		c.RequestTrailers.Apply(m, &s.Rec)
	}
	return stream.Continue
}

// OnResponseTrailers changes the response's trailers.
func (f *filter) OnResponseTrailers(s *stream.Stream, m *header.Map) stream.Verdict {
	for _, c := range f.levels {
		c.ResponseTrailers.Apply(m, &s.Rec)
	}
	return stream.Continue
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) {
	clear(f.levels)
	f.levels = f.levels[:0]
}
