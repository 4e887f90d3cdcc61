// Package ondemand is the HTTP filter on_demand: a request for a host that its route table does not
// know waits until the control plane has been asked for the virtual host.
package ondemand

import (
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// Ask has the control plane asked for the virtual host of a host, in lower case. done is told
// whether the table in force has it; it is called on any goroutine.
type Ask func(table, host string, done func(found bool))

type factory struct {
	name string
	ask  Ask
}

// New returns the factory of filters with a name in the chain.
func New(name string, ask Ask) stream.Factory { return &factory{name, ask} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{f} }

type filter struct{ *factory }

// OnRequest holds a request that no virtual host is for, if there may be one. With one, the
// request begins anew: filters that came before see its route.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	if s.Route != nil || s.Table == nil || !s.Table.OnDemand {
		return stream.Continue
	}
	host, known := s.Table.Host(&s.Match)
	if known || len(host) == 0 {
		return stream.Continue // and answers 404
	}
	gen := s.Generation()
	f.ask(s.Table.Name, string(host), func(found bool) {
		s.Resume(gen, func(s *stream.Stream) {
			if found {
				s.Restart()
			}
		})
	})
	return stream.Stop
}

// OnResponse has nothing to do.
func (f *filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }
