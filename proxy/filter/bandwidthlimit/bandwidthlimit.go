// Package bandwidthlimit is the HTTP filter that bounds how many bytes of bodies a second go each way.
//
// All requests of one [Config], and all their responses, share the bytes of a second, over all shards. A route may have a
// configuration of its own, and then has bytes of its own. How bodies wait is package throttle's.
package bandwidthlimit

import (
	"strconv"
	"sync"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/throttle"
)

// A Config says what one level limits. It must not change.
type Config struct {
	Requests, Responses bool // which are limited
	Rate                uint64
	Every               time.Duration // after which a body that waits is tried again
	Since               time.Time     // when bytes began to come: the configuration was read
	Trailers            *Trailers     // of responses; nil: none
	Stats               *stats.BandwidthLimit

	once   sync.Once
	bucket ratelimit.Bucket
}

// Trailers are the names of trailers that tell, in milliseconds, how long bodies have taken, and how long
// of it they waited here.
type Trailers struct {
	Request, Response, RequestWait, ResponseWait []byte
}

// shared returns the bytes that requests of c share: as many as come between two tries at first, and no more than those of a second.
func (c *Config) shared() *ratelimit.Bucket {
	c.once.Do(func() { c.bucket.Refill(float64(c.Rate), float64(c.Rate)*c.Every.Seconds(), c.Since) })
	return &c.bucket
}

type factory struct {
	name   string
	config *Config
}

// New returns the factory of filters with a name in the chain. config is for routes without one of their own.
func New(name string, config *Config) stream.Factory { return &factory{name, config} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any {
	out := &filter{factory: f}
	out.request.Init(out, false)
	out.response.Init(out, true)
	return out
}

// A filter handles one stream.
type filter struct {
	*factory
	used     *Config
	s        *stream.Stream
	request  direction
	response direction
	trailers header.Map // of a response that has none of its own
}

// A direction is a body on its way.
type direction struct {
	throttle.Way
	began  int64 // when its first piece came, on the shard's clock; 0: not yet
	took   time.Duration
	waited time.Duration
}

// finish ends the account of a body.
func (d *direction) finish(now int64, took *stats.Histogram, pending *stats.Gauge) {
	if d.began == 0 {
		return
	}
	d.took = time.Duration(now + 1 - d.began)
	d.began = 0
	took.Record(uint64(d.took.Milliseconds()))
	pending.Dec()
}

// OnRequest begins with the request, if it is to be limited.
func (f *filter) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	f.OnUnasked(s)
	if c := f.used; c.Requests {
		c.Stats.RequestEnabled.Inc()
		f.request.Start(s, c.shared(), c.Every)
	}
	return stream.Continue
}

// OnUnasked finds out which limit is the stream's.
func (f *filter) OnUnasked(s *stream.Stream) {
	f.used, f.s = f.config, s
	if own, ok := s.FilterConfig(f.name).(*Config); ok {
		f.used = own
	}
}

// OnRequestData has a piece wait for its turn.
func (f *filter) OnRequestData(s *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	if !f.request.On() {
		return stream.Continue
	}
	st := f.used.Stats
	f.request.begin(s, len(b.Bytes), &st.RequestPending, &st.RequestIncomingSize, &st.RequestIncomingTotal)
	return f.request.Data(b.Bytes, end)
}

func (d *direction) begin(s *stream.Stream, n int, pending, size *stats.Gauge, total *stats.Counter) {
	if d.began == 0 {
		d.began = s.Worker.Loop.Now() + 1
		pending.Inc()
	}
	size.Set(int64(n))
	total.Add(uint64(n))
}

// OnRequestTrailers has trailers wait for the body.
func (f *filter) OnRequestTrailers(_ *stream.Stream, m *header.Map) stream.Verdict {
	if !f.request.On() {
		return stream.Continue
	}
	return f.request.Trailers(m)
}

// OnResponse begins with the response, if it is to be limited.
func (f *filter) OnResponse(s *stream.Stream, _ *header.Map) stream.Verdict {
	if c := f.used; c.Responses {
		c.Stats.ResponseEnabled.Inc()
		f.response.Start(s, c.shared(), c.Every)
	}
	return stream.Continue
}

// OnResponseData has a piece wait for its turn.
func (f *filter) OnResponseData(s *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	if !f.response.On() {
		return stream.Continue
	}
	st := f.used.Stats
	f.response.begin(s, len(b.Bytes), &st.ResponsePending, &st.ResponseIncomingSize, &st.ResponseIncomingTotal)
	return f.response.Data(b.Bytes, end)
}

// OnResponseTrailers has trailers wait for the body.
func (f *filter) OnResponseTrailers(_ *stream.Stream, m *header.Map) stream.Verdict {
	if !f.response.On() {
		return stream.Continue
	}
	return f.response.Trailers(m)
}

// Passing counts what goes on. A body of which something stays waits for one interval more.
func (f *filter) Passing(w *throttle.Way, n, left int) {
	d, st := &f.request, f.used.Stats
	size, total, enforced := &st.RequestAllowedSize, &st.RequestAllowedTotal, &st.RequestEnforced
	if w == &f.response.Way {
		d = &f.response
		size, total, enforced = &st.ResponseAllowedSize, &st.ResponseAllowedTotal, &st.ResponseEnforced
	}
	size.Set(int64(n))
	total.Add(uint64(n))
	if left > 0 {
		enforced.Inc()
		d.waited += f.used.Every
	}
}

// Ending ends the account of a body; a response's trailers tell of it.
func (f *filter) Ending(w *throttle.Way, m *header.Map) *header.Map {
	now, st := f.s.Worker.Loop.Now(), f.used.Stats
	if w == &f.request.Way {
		f.request.finish(now, &st.RequestTransferDuration, &st.RequestPending)
		return m
	}
	began := f.response.began != 0
	f.response.finish(now, &st.ResponseTransferDuration, &st.ResponsePending)
	t := f.used.Trailers
	if t == nil || !began {
		return m
	}
	if m == nil {
		f.trailers.Reset() // and not when the stream ends: its log reads them
		m = &f.trailers
	}
	tell(m, t.Request, f.request.took)
	tell(m, t.Response, f.response.took)
	tell(m, t.RequestWait, f.request.waited)
	tell(m, t.ResponseWait, f.response.waited)
	return m
}

// tell writes a duration of a millisecond or more.
func tell(m *header.Map, name []byte, d time.Duration) {
	if ms := d.Milliseconds(); ms > 0 {
		var digits [20]byte
		m.SetNameCopy(name, strconv.AppendInt(digits[:0], ms, 10))
	}
}

// Held is how many bytes wait here.
func (f *filter) Held() int { return f.request.Held() + f.response.Held() }

// OnEnd forgets the stream; what waits has been given up.
func (f *filter) OnEnd(s *stream.Stream) {
	if st := f.used.Stats; f.request.began != 0 {
		st.RequestPending.Dec()
	}
	if st := f.used.Stats; f.response.began != 0 {
		st.ResponsePending.Dec()
	}
	for _, d := range []*direction{&f.request, &f.response} {
		d.Stop()
		d.began, d.took, d.waited = 0, 0, 0
	}
	f.used, f.s = nil, nil
}
