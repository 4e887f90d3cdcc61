// Package buffer is the HTTP filter that sends a request on only once all of it has come, so
// that slow clients do not occupy what is behind.
//
// A request that is larger than allowed is answered with 413. A route may have another limit, or none.
package buffer

import (
	"strconv"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Limit is how many bytes of a body are waited for, at the level of the filter or of a route.
type Limit int

// Off says that a route's requests are not waited for.
const Off Limit = -1

type factory struct {
	name  string
	limit Limit
}

// New returns the factory of filters with a name in the chain.
func New(name string, limit Limit) stream.Factory { return factory{name, limit} }

func (f factory) Name() string { return f.name }

func (f factory) New(*pool.Worker) any { return &filter{f} }

type filter struct{ factory }

// OnRequest waits for the rest of a request that has one.
func (f *filter) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	if s.RequestEnded() || s.Upgrade {
		return stream.Continue
	}
	limit := f.limit
	if l, ok := s.FilterConfig(f.name).(Limit); ok {
		limit = l
	}
	if limit == Off {
		return stream.Continue
	}
	return s.CollectRequest(int(limit))
}

// OnRequestWhole gives a request that came in chunks its length.
func (f *filter) OnRequestWhole(s *stream.Stream, body []byte) []byte {
	if !s.Request.Has(header.ContentLength) {
		var digits [20]byte
		s.Request.AddCopy(header.ContentLength, strconv.AppendInt(digits[:0], int64(len(body)), 10))
	}
	return body
}

// OnResponseWhole is never called: responses are not collected.
func (f *filter) OnResponseWhole(_ *stream.Stream, body []byte) []byte { return body }

// OnResponse has nothing to do.
func (f *filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }
