// Package fault is the HTTP filter that delays requests, answers them in the upstream's
// place, and slows responses down, to see what applications make of it.
//
// What to do is part of the route ([Config] by the name of the filter); a
// configuration of the filter itself applies to routes that have none. Of all kinds
// of fault a request can have each: first the delay, then the answer. What is done may be left to headers of
// the request, within the share that the configuration sets.
package fault

import (
	"slices"
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/throttle"
)

// Name is the filter's usual name in configurations.
const Name = "envoy.filters.http.fault"

type factory struct {
	name   string
	config *Config
}

// New returns the factory of filters with a name in the chain. config is what routes without
// one of their own do; it may be nil.
func New(name string, config *Config) stream.Factory { return factory{name, config} }

func (f factory) Name() string { return f.name }

func (f factory) New(*pool.Worker) any {
	i := &injector{name: f.name, base: f.config}
	i.timer.Handler = i
	i.limit.Init(i, true)
	return i
}

// An injector handles one stream.
type injector struct {
	name   string
	base   *Config
	config *Config
	s      *stream.Stream
	timer  drive.Timer
	active bool // this stream counts as one that has a fault
	limit  throttle.Way
	bucket ratelimit.Bucket
}

// OnRequest delays, or answers, or neither.
func (i *injector) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	i.config = i.base
	if c, ok := s.FilterConfig(i.name).(*Config); ok {
		i.config = c
	}
	if i.config == nil || !i.meant(s, m) {
		return stream.Continue
	}
	i.s = s
	c := i.config
	if rate := c.rate(m); rate > 0 && i.hit(c.RateShare.lowered(c.RateHeader, m, ratePercent)) && i.begin() {
		i.slow(rate)
		if st := s.Config.Stats; st != nil {
			st.Fault.ResponseLimits.Inc()
		}
	}
	if d := c.delay(m); d > 0 && i.hit(c.DelayShare.lowered(c.DelayHeader, m, delayPercent)) && i.begin() {
		s.Rec.Flags.Set(access.DelayInjected)
		i.tell()
		if st := s.Config.Stats; st != nil {
			st.Fault.DelaysInjected.Inc()
		}
		s.Schedule(&i.timer, d)
		return stream.Stop
	}
	return i.abort()
}

// tryEvery is how often a response that waits is tried again.
const tryEvery = 50 * time.Millisecond

// slow limits the response to so many KiB a second. At first there is as much as comes between two tries.
func (i *injector) slow(rate uint64) {
	perSecond := float64(rate) * 1024
	i.bucket.Refill(perSecond, perSecond*tryEvery.Seconds(), i.s.Worker.Loop.Time())
	i.limit.Start(i.s, &i.bucket, tryEvery)
}

// meant reports whether the configuration is about this request.
func (i *injector) meant(s *stream.Stream, m *header.Map) bool {
	c := i.config
	if c.Upstream != "" && s.Cluster != c.Upstream || !c.Headers.All(&s.Match) {
		return false
	}
	if len(c.Nodes) == 0 {
		return true
	}
	node := m.Get(header.XEnvoyDownstreamServiceNode)
	return slices.ContainsFunc(c.Nodes, func(n string) bool { return n == string(node) })
}

func (i *injector) hit(share Share) bool { return share.hit(i.s.Worker.Random()) }

// begin counts the stream among those that have a fault, unless there are as many as there may be.
func (i *injector) begin() bool {
	st := i.s.Config.Stats
	if i.active || st == nil {
		return true
	}
	if limit := i.config.MaxActive; limit != nil && st.Fault.Active.Value() >= int64(*limit) {
		st.Fault.Overflow.Inc()
		return false
	}
	st.Fault.Active.Inc()
	i.active = true
	return true
}

// OnTimer ends the delay.
func (i *injector) OnTimer(*drive.Timer) {
	s := i.s
	if s != nil && i.abort() == stream.Continue {
		s.Proceed()
	}
}

// abort answers the configured share of requests in place of the upstream.
func (i *injector) abort() stream.Verdict {
	c, s := i.config, i.s
	m := &s.Request
	status, grpc, ok := c.answer(m)
	if !ok || !i.hit(c.AbortShare.lowered(c.AbortHeader, m, abortPercent)) || !i.begin() {
		return stream.Continue
	}
	if st := s.Config.Stats; st != nil {
		st.Fault.AbortsInjected.Inc()
	}
	i.tell()
	body := c.Body
	if body == "" {
		body = "fault filter abort"
	}
	if grpc >= 0 && s.GRPC {
		return s.ReplyWith(status, body, "fault_filter_abort", func(m *header.Map) {
			m.SetCopy(header.GrpcStatus, strconv.AppendInt(nil, int64(grpc), 10))
		}, access.FaultInjected)
	}
	return s.Reply(status, body, "fault_filter_abort", access.FaultInjected)
}

// tell makes what the configuration says about faults metadata of the request.
func (i *injector) tell() {
	if len(i.config.Metadata) > 0 {
		i.s.Rec.Dynamic.Merge(i.name, i.config.Metadata)
	}
}

// OnResponse has nothing to do.
func (i *injector) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }

// OnRequestData passes everything on.
func (i *injector) OnRequestData(*stream.Stream, *stream.Buffer, bool) stream.Verdict {
	return stream.Continue
}

// OnResponseData slows the response down, if it is to be.
func (i *injector) OnResponseData(_ *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	if !i.limit.On() {
		return stream.Continue
	}
	return i.limit.Data(b.Bytes, end)
}

// Watches: bodies stay what they are.
func (i *injector) Watches() {}

// Passing has nothing to count.
func (i *injector) Passing(*throttle.Way, int, int) {}

// Ending changes nothing.
func (i *injector) Ending(_ *throttle.Way, m *header.Map) *header.Map { return m }

// Held is how many bytes wait here.
func (i *injector) Held() int { return i.limit.Held() }

// OnRequestTrailers passes them on.
func (i *injector) OnRequestTrailers(*stream.Stream, *header.Map) stream.Verdict {
	return stream.Continue
}

// OnResponseTrailers holds trailers back until the body has gone.
func (i *injector) OnResponseTrailers(_ *stream.Stream, m *header.Map) stream.Verdict {
	if !i.limit.On() {
		return stream.Continue
	}
	return i.limit.Trailers(m)
}

// OnEnd stops what goes on.
func (i *injector) OnEnd(s *stream.Stream) {
	if i.active && s.Config.Stats != nil {
		s.Config.Stats.Fault.Active.Dec()
	}
	s.Worker.Loop.Cancel(&i.timer)
	i.limit.Stop()
	i.s, i.config, i.active = nil, nil, false
}
