// Package setmetadata is the HTTP filter set_metadata: it gives every request the same metadata, for
// filters, routes, balancing and access logs that come later.
package setmetadata

import (
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// An Entry holds the values of a namespace.
type Entry struct {
	Namespace string
	Values    metadata.Struct
	Message   *metadata.Message // in place of values, beside what others say by values
	Overwrite bool              // the values update those that a request has in the namespace; else it keeps those
}

type factory struct {
	name    string
	entries []Entry
	stats   *stats.SetMetadata
}

// New returns the factory of filters with a name in the chain.
func New(name string, entries []Entry, s *stats.SetMetadata) stream.Factory {
	return &factory{name, entries, s}
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return f }

// OnRequest sets the values.
func (f *factory) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	d := &s.Rec.Dynamic
	for i := range f.entries {
		e := &f.entries[i]
		if e.Message != nil {
			if e.Overwrite || d.Message(e.Namespace) == nil {
				d.PutMessage(e.Namespace, e.Message)
			} else {
				f.stats.OverwriteDenied.Inc()
			}
			continue
		}
		old, there := d.Space(e.Namespace)
		switch {
		case !there:
			d.Put(e.Namespace, e.Values)
		case e.Overwrite:
			d.Put(e.Namespace, metadata.Updated(old, e.Values))
		default:
			f.stats.OverwriteDenied.Inc()
		}
	}
	return stream.Continue
}

// OnResponse has nothing to do.
func (f *factory) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }
