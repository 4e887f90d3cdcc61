package stream

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
)

const (
	timerRequest = iota
	timerMaxStream
	timerLog
)

// startTimers begins what bounds the life of a stream, once its route is known.
func (s *Stream) startTimers(whole bool) {
	if t := s.Config.RequestTimeout; t > 0 && !whole {
		s.Worker.Loop.Schedule(&s.arriving, t)
	}
	switch t, bounded := s.maxDuration(); {
	case t > 0:
		s.Worker.Loop.Schedule(&s.timer, t)
	case bounded: // nothing is left, and no host need hear of the request
		gen := s.gen
		s.Worker.Loop.Post(func() {
			if s.gen == gen {
				s.OnTimer(&s.timer)
			}
		})
	}
	if t := s.Config.LogEvery; t > 0 {
		s.Worker.Loop.Schedule(&s.telling, t)
	}
}

// maxDuration is how long the stream may live, and whether there is such a bound. What the caller of a gRPC method
// allows counts if the route says so, within the route's own limit, and the host is told what is left of it.
func (s *Stream) maxDuration() (d time.Duration, bounded bool) {
	d = s.Config.MaxStream
	if s.Route == nil || s.Route.Forward == nil || s.Route.Forward.MaxStream == nil {
		return d, d > 0
	}
	limit, told := s.Route.Forward.MaxStream, true
	if limit.Response {
		return d, d > 0 // the router's
	}
	if limit.MaxDuration != nil {
		d = *limit.MaxDuration
	}
	bounded = d > 0
	if limit.GRPCTimeoutMax != nil {
		asked, ok := limit.Stream(s.Request.Get(header.GrpcTimeout))
		if told = ok; ok {
			d, bounded = asked, true
		}
	}
	switch {
	case !s.GRPC:
	case bounded:
		s.Request.SetCopy(header.GrpcTimeout, route.AppendGRPCTimeout(s.scratch[:0], d))
	case told: // what nobody can read goes on as it is
		s.Request.Remove(header.GrpcTimeout)
	}
	return d, bounded
}

// late is the status of a reply for want of time: whose fault it is depends on whether the request has come whole.
func (s *Stream) late() int {
	if s.requested {
		return 504
	}
	return 408
}

// deadlineExceeded is an edit of ReplyWith: callers of gRPC methods are told that their time is up.
func deadlineExceeded(m *header.Map) {
	if m.Has(header.GrpcStatus) {
		m.Set(header.GrpcStatus, []byte("4"))
	}
}

// arrived reports whether nobody waits for the rest of the request any more: it has come, or its answer has begun. As in Envoy, whoever is
// answered meanwhile, as in a call that streams both ways, may take its time.
func (s *Stream) arrived() bool { return s.requested || s.responded }

// OnTimer ends streams that last too long.
func (s *Stream) OnTimer(t *drive.Timer) {
	if s.over {
		return
	}
	st := s.Config.Stats
	switch t.Kind {
	case timerRequest:
		if s.arrived() {
			return
		}
		if st != nil {
			st.DownstreamRqTimeout.Inc()
		}
		s.Reply(s.late(), "request timeout", "request_overall_timeout", access.NoFlag)
	case timerLog:
		s.logMoment(access.DownstreamPeriodic)
		s.Worker.Loop.Schedule(t, s.Config.LogEvery)
	case timerMaxStream:
		if st != nil {
			st.DownstreamRqMaxDurationReached.Inc()
		}
		if s.responded {
			s.instead(s.late(), "downstream duration timeout", "max_duration_timeout", deadlineExceeded)
			return
		}
		s.ReplyWith(s.late(), "downstream duration timeout", "max_duration_timeout", deadlineExceeded)
	}
}
