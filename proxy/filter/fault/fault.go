// Package fault is the HTTP filter that delays requests and answers them in the
// upstream's place, to see what applications make of it.
//
// What to do is part of the route ([Config] by the name of the filter); a
// configuration of the filter itself applies to routes that have none. Of both kinds
// of fault a request can have both: first the delay, then the answer.
package fault

import (
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// Name is the filter's name in configurations.
const Name = "envoy.filters.http.fault"

// A Share is a part of the requests: Numerator of Denominator.
type Share struct{ Numerator, Denominator uint32 }

// A Config says what to do to requests.
type Config struct {
	Delay      time.Duration // 0: none
	DelayShare Share

	Status     int // of the answer; 0: none
	GRPCStatus int // instead of Status, if HasGRPC
	HasGRPC    bool
	AbortShare Share

	Upstream string // only requests to this cluster; "": all
}

type factory struct{ config *Config }

// New returns the factory of filters. config is what routes without one of their own do; it may be nil.
func New(config *Config) stream.Factory { return factory{config} }

func (f factory) Name() string { return Name }

func (f factory) New(*pool.Worker) any {
	i := &injector{base: f.config}
	i.timer.Handler = i
	return i
}

// An injector handles one stream.
type injector struct {
	base   *Config
	config *Config
	s      *stream.Stream
	timer  drive.Timer
}

// OnRequest delays, or answers, or neither.
func (i *injector) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	i.config = i.base
	if c, ok := s.FilterConfig(Name).(*Config); ok {
		i.config = c
	}
	if i.config == nil || !i.meant(s) {
		return stream.Continue
	}
	i.s = s
	if i.config.Delay > 0 && i.hit(i.config.DelayShare) {
		s.Rec.Flags.Set(access.DelayInjected)
		if st := s.Config.Stats; st != nil {
			st.FaultDelaysInjected.Inc()
			st.FaultActive.Inc()
		}
		s.Schedule(&i.timer, i.config.Delay)
		return stream.Stop
	}
	return i.abort()
}

// meant reports whether the configuration is about this request.
func (i *injector) meant(s *stream.Stream) bool {
	return i.config.Upstream == "" || s.Rec.ClusterRaw == i.config.Upstream
}

func (i *injector) hit(share Share) bool {
	return share.Denominator > 0 && i.s.Worker.Random()%uint64(share.Denominator) < uint64(share.Numerator)
}

// OnTimer ends the delay.
func (i *injector) OnTimer(*drive.Timer) {
	s := i.s
	if s == nil {
		return
	}
	i.active(-1)
	if i.abort() == stream.Continue {
		s.Proceed()
	}
}

func (i *injector) active(n int64) {
	if st := i.s.Config.Stats; st != nil {
		st.FaultActive.Add(n)
	}
}

// abort answers the configured share of requests in place of the upstream.
func (i *injector) abort() stream.Verdict {
	c, s := i.config, i.s
	if c.Status == 0 && !c.HasGRPC || !i.hit(c.AbortShare) {
		return stream.Continue
	}
	if st := s.Config.Stats; st != nil {
		st.FaultAbortsInjected.Inc()
	}
	if c.HasGRPC {
		return s.ReplyWith(200, "fault filter abort", "fault_filter_abort", func(m *header.Map) {
			m.SetCopy(header.GrpcStatus, strconv.AppendInt(nil, int64(c.GRPCStatus), 10))
		}, access.FaultInjected)
	}
	return s.Reply(c.Status, "fault filter abort", "fault_filter_abort", access.FaultInjected)
}

// OnResponse has nothing to do.
func (i *injector) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }

// OnEnd stops a delay.
func (i *injector) OnEnd(s *stream.Stream) {
	if i.s != nil && i.timer.Armed() {
		i.active(-1)
	}
	s.Worker.Loop.Cancel(&i.timer)
	i.s, i.config = nil, nil
}
