package router

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

// The body of a request, which is kept as long as it may have to be sent again.

// mayRepeat reports whether the request could be sent once more: by the policy, or because
// the host turns out not to have taken it.
func (r *Router) mayRepeat() bool {
	info := r.cur.up.Info()
	return r.policy != nil || r.follows || !r.replayed && (info.Requests > 1 || info.Protocol == access.HTTP2)
}

// rareBody is how much of a body is kept for what seldom happens: that a host has not taken a request.
const rareBody = 64 << 10

// limit is how much of a body is kept.
func (r *Router) limit() int {
	if r.rare() {
		return rareBody
	}
	return r.s.Route.Buffer.Limit(r.s.BufferLimit())
}

// rare reports that neither a policy nor a mirror wants the body.
func (r *Router) rare() bool { return r.cur.up != nil && !r.wanted() }

// wanted reports whether somebody wants the body but the host.
func (r *Router) wanted() bool { return r.policy != nil || r.follows || r.mirrors != nil }

// drop lets go of what was kept of the body: the request can be sent no more.
func (r *Router) drop() {
	r.keep = false
	r.body = r.body[:0]
}

// OnRequestData sends a piece of the request's body.
func (r *Router) OnRequestData(b []byte, end bool) {
	r.ended = r.ended || end
	if r.s.Upgrade && len(b) > 0 {
		r.drop() // what goes into a tunnel goes once
	}
	if r.keep && !r.s.Upgrade {
		over := len(r.body)+len(b) > r.limit()
		if over && r.wanted() {
			r.cluster.Stats.RetryOrShadowAbandoned.Inc()
			r.policy, r.mirrors, r.follows = nil, nil, false
			if r.timers[timerBackoff].Armed() {
				r.reply(503, "exceeded request buffer limit while retrying upstream", "request_payload_exceeded_retry_buffer_limit", nil, access.NoFlag)
				return
			}
		}
		if over && r.cur.up != nil {
			r.drop()
		} else {
			r.body = append(r.body, b...)
		}
	}
	s := r.s
	if r.cur.up != nil {
		r.cur.tally.rqBody += uint64(len(b))
		r.cur.up.SendData(b, end)
		if !end && !r.backed && r.cur.up.Full() {
			r.backed = true
			r.cluster.Stats.UpstreamFlowControlBackedUp.Inc()
		}
		if end {
			s.Rec.UpstreamSent = access.Mark(r.w.Loop.Now() + 1)
			r.cur.journal.gone(s.Rec.UpstreamSent)
			r.cur.start()
		}
	}
	if end {
		r.sendMirrors()
		r.requestSent()
	}
}

// OnRequestTrailers ends the request's body.
func (r *Router) OnRequestTrailers(m *header.Map) {
	r.ended, r.trailers = true, m
	if r.cur.up != nil {
		r.cur.filters.RequestTrailers(r.s, m)
		r.cur.up.SendTrailers(m)
		r.s.Rec.UpstreamSent = access.Mark(r.w.Loop.Now() + 1)
		r.cur.journal.gone(r.s.Rec.UpstreamSent)
		r.cur.start()
	}
	r.sendMirrors()
	r.requestSent()
}

// Full says that the request's body should pause.
func (r *Router) Full() bool {
	if r.cur.up != nil {
		return r.cur.up.Full()
	}
	return r.s != nil && len(r.body) >= r.limit()
}

// Held is how many bytes of the request are kept here, and wait for the host.
func (r *Router) Held() int {
	n := cap(r.body)
	if r.cur.up != nil {
		n += r.cur.up.Held()
	}
	return n
}

// OnDrained lets the request's body flow again.
func (r *Router) OnDrained() { r.s.ResumeRequest() }

// PauseResponse stops the upstream: the client cannot take more.
func (r *Router) PauseResponse() {
	if r.cur.up != nil {
		r.cur.up.Pause()
	}
}

// ResumeResponse lets the upstream go on.
func (r *Router) ResumeResponse() {
	if r.cur.up != nil {
		r.cur.up.Resume()
	}
}
