// Package filterstate is the HTTP filter set_filter_state: it gives names to values of a request, for
// filters, routes, hash policies and access logs that come later.
package filterstate

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config holds the values to set. It must not change.
type Config struct {
	Values  []Value
	Reroute bool // the route is picked once more afterwards
}

// A Value is one key with the format of its value.
type Value struct {
	Key         string
	Format      *access.Format
	SkipIfEmpty bool
}

type factory struct {
	name   string
	config *Config
}

// New returns the factory of filters with a name in the chain. c is used by all requests; a route's own follows it.
func New(name string, c *Config) stream.Factory { return &factory{name, c} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{f} }

type filter struct{ *factory }

// OnRequest sets the values.
func (f *filter) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	f.config.set(s)
	if c, ok := s.FilterConfig(f.name).(*Config); ok {
		c.set(s)
	}
	return stream.Continue
}

func (c *Config) set(s *stream.Stream) {
	for i := range c.Values {
		v := &c.Values[i]
		s.Rec.Scratch = v.Format.Append(s.Rec.Scratch[:0], &s.Rec)
		if len(s.Rec.Scratch) == 0 && v.SkipIfEmpty {
			continue
		}
		s.Rec.State.Set(v.Key, s.Rec.Scratch, false)
	}
	if c.Reroute {
		s.Reroute()
	}
}

// OnResponse has nothing to do.
func (f *filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }
