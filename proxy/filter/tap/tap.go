// Package tap is the HTTP filter that records streams which somebody wants to see; what is recorded, and for whom, is
// said by package proxy/tap.
package tap

import (
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/tap"
)

// A Config says what of a stream is noted beside its messages. It must not change.
type Config struct {
	Point      *tap.Point
	Times      bool // when headers came
	Downstream bool // the connections' ends
	Upstream   bool
}

type factory struct {
	name   string
	config *Config
	stats  *stats.Tap
}

// New returns the factory of filters with a name in the chain.
func New(name string, c *Config, s *stats.Tap) stream.Factory { return &factory{name, c, s} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{factory: f} }

// A filter handles one stream.
type filter struct {
	*factory
	recorder         tap.Recorder
	requestTrailers  *header.Map
	responseTrailers *header.Map
}

// OnRequest begins to record, if the point has a tap.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	c := f.config.Point.Current()
	if c == nil || c.Share != nil && !c.Share.Hit(s.Worker.Random()) {
		return stream.Continue
	}
	f.recorder.Start(c, s.Worker.Random(), f.config.Times)
	f.recorder.RequestHeaders(m, s.Worker.Loop.Wall())
	return stream.Continue
}

// OnRequestData notes a piece.
func (f *filter) OnRequestData(_ *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	if f.recorder.Recording() {
		f.recorder.RequestBody(b.Bytes)
	}
	return stream.Continue
}

// OnRequestTrailers notes them.
func (f *filter) OnRequestTrailers(_ *stream.Stream, m *header.Map) stream.Verdict {
	if f.recorder.Recording() {
		f.requestTrailers = m
		f.recorder.RequestTrailers(m)
	}
	return stream.Continue
}

// OnResponse notes the response's header fields.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	if f.recorder.Recording() {
		f.recorder.ResponseHeaders(m, s.Worker.Loop.Wall())
	}
	return stream.Continue
}

// OnResponseData notes a piece.
func (f *filter) OnResponseData(_ *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	if f.recorder.Recording() {
		f.recorder.ResponseBody(b.Bytes)
	}
	return stream.Continue
}

// OnResponseTrailers notes them.
func (f *filter) OnResponseTrailers(_ *stream.Stream, m *header.Map) stream.Verdict {
	if f.recorder.Recording() {
		f.responseTrailers = m
		f.recorder.ResponseTrailers(m)
	}
	return stream.Continue
}

// OnEnd ends the record. A whole stream has its header fields as they are now, with what other filters have made of them.
func (f *filter) OnEnd(s *stream.Stream) {
	if !f.recorder.Recording() {
		return
	}
	if f.recorder.End(func(t *tap.Trace) { f.finish(s, t) }) {
		f.stats.Tapped.Inc()
	}
	f.stats.Dropped.Add(f.recorder.Dropped)
	f.recorder.Stop()
	f.requestTrailers, f.responseTrailers = nil, nil
}

func (f *filter) finish(s *stream.Stream, t *tap.Trace) {
	t.Fill(&s.Request, f.requestTrailers, s.Response, f.responseTrailers)
	if f.config.Downstream {
		t.Downstream = &tap.Connection{Local: s.Rec.DownstreamLocal, Remote: s.Rec.DownstreamRemote}
	}
	if f.config.Upstream && s.Rec.UpstreamRemote.IsValid() {
		t.Upstream = &tap.Connection{Local: s.Rec.UpstreamLocal, Remote: s.Rec.UpstreamRemote}
	}
}
