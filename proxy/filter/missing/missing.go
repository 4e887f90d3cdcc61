// Package missing stands in the place of an HTTP filter whose configuration has not come, or has gone (config_discovery): requests that
// come so far are answered with 500, since nobody knows what the filter would have done with them.
package missing

import (
	"net/http"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

type factory struct {
	name string
	last bool
}

// New returns the factory of what stands in a filter's place; last says that it is the end of its chain.
func New(name string, last bool) stream.Factory { return &factory{name, last} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any {
	if f.last {
		return terminal{}
	}
	return filter{}
}

// answer says that nobody knows; with neither a text nor details, as Envoy does.
func answer(s *stream.Stream) stream.Verdict {
	return s.Reply(http.StatusInternalServerError, "", "", access.NoFilterConfigFound)
}

type filter struct{}

func (filter) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict { return answer(s) }

func (filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }

type terminal struct{}

func (terminal) OnRequest(s *stream.Stream, _ *header.Map, _ bool) { answer(s) }
func (terminal) OnRequestData([]byte, bool)                        {}
func (terminal) OnRequestTrailers(*header.Map)                     {}
func (terminal) Full() bool                                        { return false }
func (terminal) PauseResponse()                                    {}
func (terminal) ResumeResponse()                                   {}
func (terminal) OnEnd(*stream.Stream)                              {}
