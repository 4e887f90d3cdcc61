// Package grpcstats is the HTTP filter that counts gRPC calls and their messages by
// cluster and, where that is asked for, by service and method.
package grpcstats

import (
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/access"
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
	State    bool            // emit_filter_state: others find how many messages there were
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
	call              bool // the request is gRPC's
	answered          bool // the response is
	shown             bool // others find what was counted
	began             int64

	requests, responses uint64 // messages
}

// OnRequest sees whether this is a call.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	if !header.IsGRPC(m.Get(header.ContentType)) {
		return stream.Continue
	}
	f.call, f.shown, f.requests, f.responses = true, false, 0, 0
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
func (f *filter) OnRequestData(s *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	if f.call {
		n := f.request.count(b.Bytes)
		f.requests += n
		if f.show(s); f.set != nil {
			f.set.RequestMessageCount.Add(n)
		}
	}
	return stream.Continue
}

// stateKey is where others find the object that AppendObject writes.
const stateKey = "envoy.filters.http.grpc_stats"

// show has others find how many messages there have been, once there was one.
func (f *filter) show(s *stream.Stream) {
	if f.config.State && !f.shown && f.requests+f.responses > 0 {
		f.shown = true
		s.Rec.State.SetLive(stateKey, f)
	}
}

// AppendObject writes how many messages there have been.
func (f *filter) AppendObject(dst []byte, form access.Form, _ string) ([]byte, bool) {
	switch form {
	case access.AsText:
		dst = append(strconv.AppendUint(dst, f.requests, 10), ',')
		return strconv.AppendUint(dst, f.responses, 10), true
	case access.AsJSON: // as protobuf has it: without what is 0, and numbers of 64 bits in quotes
		dst = append(dst, '{')
		if f.requests > 0 {
			dst = append(strconv.AppendUint(append(dst, `"requestMessageCount":"`...), f.requests, 10), '"')
		}
		if f.responses > 0 {
			if f.requests > 0 {
				dst = append(dst, ',')
			}
			dst = append(strconv.AppendUint(append(dst, `"responseMessageCount":"`...), f.responses, 10), '"')
		}
		return append(dst, '}'), true
	}
	return dst, false // Envoy's has no fields either
}

// OnResponse counts a response that has no more than a head.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	f.answered = f.call && header.IsGRPC(m.Get(header.ContentType)) && string(m.Get(header.Status)) == "200"
	if f.set == nil {
		return stream.Continue
	}
	Charge(f.set, m.Get(header.GrpcStatus))
	if s.ResponseEnds() {
		f.time(s)
	}
	return stream.Continue
}

// OnResponseData counts messages.
func (f *filter) OnResponseData(s *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	if f.answered {
		n := f.response.count(b.Bytes)
		f.responses += n
		if f.show(s); f.set != nil {
			f.set.ResponseMessageCount.Add(n)
		}
	}
	return stream.Continue
}

// Watches: bodies stay what they are.
func (f *filter) Watches() {}

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

// OnEnd forgets the stream, but for what logs are yet to be told of it.
func (f *filter) OnEnd(*stream.Stream) {
	f.set, f.call, f.answered, f.request, f.response = nil, false, false, frames{}, frames{}
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
