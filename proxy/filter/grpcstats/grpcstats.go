// Package grpcstats is the HTTP filter that counts gRPC calls and their messages by
// cluster and, where that is asked for, by service and method.
package grpcstats

import (
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config describes the filter. It must not change.
type Config struct {
	All      bool            // every method has metrics of its own
	Methods  map[string]bool // or these, as "/service/method"
	Upstream bool            // enable_upstream_stats: the time that calls take
}

type factory struct {
	name     string
	config   *Config
	counters *Counters
}

// New returns the factory of filters with a name in the chain.
func New(name string, c *Config, counters *Counters) stream.Factory {
	return &factory{name, c, counters}
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(w *pool.Worker) any {
	return &filter{factory: f, cache: w.Local(f.counters, func() any { return f.counters.Cache() }).(*Cache)}
}

// A filter handles one stream.
type filter struct {
	*factory
	cache             *Cache
	set               *stats.GRPC // nil: this is no call, or it leads nowhere
	request, response frames
	answered          bool // the response is gRPC's
	began             int64
}

// OnRequest sees whether this is a call.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	if !header.IsGRPC(m.Get(header.ContentType)) {
		return stream.Continue
	}
	c := s.Worker.Source.Cluster(s.Cluster)
	if c == nil {
		return stream.Continue
	}
	path := m.Get(header.Path)
	switch {
	case f.config.All || f.config.Methods[string(path)]:
		f.set = f.cache.Method(c.StatName, path)
	default:
		if _, _, ok := split(path); ok {
			f.set = f.cache.Plain(c.StatName)
		}
	}
	f.began = s.Worker.Loop.Now()
	return stream.Continue
}

// OnRequestData counts messages.
func (f *filter) OnRequestData(_ *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	if f.set != nil {
		f.set.RequestMessageCount.Add(f.request.count(b.Bytes))
	}
	return stream.Continue
}

// OnResponse counts a response that has no more than a head.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	if f.set == nil {
		return stream.Continue
	}
	f.answered = header.IsGRPC(m.Get(header.ContentType)) && string(m.Get(header.Status)) == "200"
	Charge(f.set, m.Get(header.GrpcStatus))
	if s.ResponseEnds() {
		f.time(s)
	}
	return stream.Continue
}

// OnResponseData counts messages.
func (f *filter) OnResponseData(_ *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	if f.set != nil && f.answered {
		f.set.ResponseMessageCount.Add(f.response.count(b.Bytes))
	}
	return stream.Continue
}

// OnRequestTrailers has nothing to do.
func (f *filter) OnRequestTrailers(*stream.Stream, *header.Map) stream.Verdict {
	return stream.Continue
}

// OnResponseTrailers counts the call.
func (f *filter) OnResponseTrailers(s *stream.Stream, m *header.Map) stream.Verdict {
	if f.set != nil {
		Charge(f.set, m.Get(header.GrpcStatus))
		f.time(s)
	}
	return stream.Continue
}

func (f *filter) time(s *stream.Stream) {
	if f.config.Upstream {
		f.set.UpstreamRqTime.Record(uint64((s.Worker.Loop.Now() - f.began) / int64(time.Millisecond)))
	}
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) {
	f.set, f.answered, f.request, f.response = nil, false, frames{}, frames{}
}

// frames counts the messages in a body: each has a byte of flags, four of length, and that many more.
type frames struct {
	head int // bytes of the head that have come
	left uint32
}

func (f *frames) count(b []byte) (n uint64) {
	for len(b) > 0 {
		if f.head < 5 {
			switch {
			case f.head == 0:
				n++
				f.left = 0
			default:
				f.left = f.left<<8 | uint32(b[0])
			}
			f.head++
			b = b[1:]
		} else {
			k := min(uint64(f.left), uint64(len(b)))
			f.left -= uint32(k)
			b = b[k:]
		}
		if f.head == 5 && f.left == 0 {
			f.head = 0
		}
	}
	return n
}
