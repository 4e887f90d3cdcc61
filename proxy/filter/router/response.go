package router

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stream"
)

// OnInformational passes on a 1xx response. From then on the answer is this host's: another one might not begin the same way, so
// that the request is not tried again, as by Envoy.
func (a *attempt) OnInformational(m *header.Map) {
	r := a.r
	a.resetIdle()
	r.charge(m.StatusCode())
	if !r.begun {
		r.win(a, a.up.Info())
		r.begun, r.policy, r.replayed = true, nil, true
	}
	r.w.Loop.Cancel(&a.timers[timerTry])
	r.s.Interim(m)
}

// OnHeaders takes a response, unless it is one to try again after, or one that others may better.
func (a *attempt) OnHeaders(m *header.Map, end bool) {
	r := a.r
	s, now := r.s, r.w.Loop.Now()
	r.w.Loop.Cancel(&a.timers[timerTry])
	a.resetIdle()
	info := a.up.Info()
	if end {
		a.up = nil
	}
	a.tally.answered(m)
	a.journal.headed(m, access.Mark(now+1))
	a.filters.Response(s, m)
	code := m.StatusCode()
	s.Rec.ResponseBegin = access.Mark(now + 1)
	h := a.host // also when what follows gives the try up
	r.takeReport(h, m)
	r.cluster.Answered(h, code, s.GRPC, m, r.w.Loop.Time())
	if m.Has(header.XEnvoyImmediateHealthCheckFail) {
		r.cluster.FailCheck(a.host)
	}
	bad := false
	if r.policy != nil && !s.Upgrade {
		bad = r.policy.OnResponse(r.policy.On, code, m)
		if bad {
			r.waitAsTold(m)
		}
		if !a.soft && r.retry(bad) {
			r.cluster.Stats.Retried(code)
			return
		}
		if bad && r.othersThan(a) {
			a.blame()
			a.drop()
			return
		}
	}
	if r.retries > 0 && !bad && !a.soft && r.policy != nil { // the answer is what the last try brought
		r.cluster.Stats.UpstreamRqRetrySuccess.Inc()
		for _, st := range r.own {
			st.UpstreamRqRetrySuccess.Inc()
		}
	}
	r.win(a, info)
	details := "via_upstream"
	if r.refusedHandshake(code, info) {
		details, end = "websocket_handshake_unsuccessful", true
		m = headOnly(m)
		a.stop()
	}
	if r.follow(a, m, code) {
		return
	}
	r.endTry()
	r.drop()
	r.responded = true
	r.charge(code)
	r.untold = h.Count(code, s.GRPC, m, end)
	if !r.config.SuppressEnvoyHeaders {
		if s.Rec.UpstreamSent != 0 {
			took := time.Duration(now + 1 - int64(s.Rec.RequestEnd))
			m.SetCopy(header.XEnvoyUpstreamServiceTime, strconv.AppendInt(r.number[:0], max(0, took.Milliseconds()), 10))
		}
	}
	if r.tellsAttempts() {
		r.tellAttempts(m, r.attempts)
	}
	for _, c := range s.Match.NewCookies {
		m.Add(header.SetCookie, c)
	}
	s.Rec.CodeDetails = details
	if end {
		r.complete()
	}
	s.Respond(m, end)
}

// takeReport takes note of what a host says of its load. As in Envoy the first report of a request is the only one, whichever host
// a later try goes to.
func (r *Router) takeReport(h *cluster.Host, m *header.Map) {
	if r.cluster.Reported != nil && !r.loadTold {
		r.loadTold = r.cluster.TakeReport(h, m, r.w.Loop.Time())
	}
}

// tellsAttempts reports whether a response is to say how often the request was tried.
func (r *Router) tellsAttempts() bool {
	v := r.s.Route.VHost
	return v != nil && v.AttemptCountInResponse
}

func (r *Router) tellAttempts(m *header.Map, n uint32) {
	m.SetCopy(header.XEnvoyAttemptCount, strconv.AppendUint(r.number[:0], uint64(n), 10))
}

// reply answers a request for which a host was looked for: like one of a host's, the answer may say how often.
func (r *Router) reply(status int, body, details string, edit func(*header.Map), flag access.Flag) {
	if r.tellsAttempts() {
		first, n := edit, r.attempts // which the end of the request's way here forgets
		edit = func(m *header.Map) {
			if first != nil {
				first(m)
			}
			r.tellAttempts(m, n)
		}
	}
	r.s.ReplyWith(status, body, details, edit, flag)
}

// refusedHandshake reports an answer to a WebSocket's handshake (RFC 6455, section 4) that is neither a switch of
// protocols nor an error. Its head is all that a client of WebSocket looks at, and what follows is nobody's, so that
// Envoy passes on the head and ends both sides.
func (r *Router) refusedHandshake(code int, info *pool.Info) bool {
	return r.s.Upgrade && code != 101 && code < 400 && info.Protocol < access.HTTP2 &&
		strings.EqualFold(string(r.s.Request.Get(header.Upgrade)), "websocket")
}

// headOnly is a copy of a response's head, which outlives the response, without what it says of a body.
func headOnly(m *header.Map) *header.Map {
	own := new(header.Map)
	own.CopyFrom(m)
	own.Remove(header.ContentLength)
	own.Remove(header.TransferEncoding)
	return own
}

// complete notes the end of a response.
func (r *Router) complete() {
	s := r.s
	r.cur.up = nil
	r.cur.cancelTimers()
	r.cur.account()
	r.w.Loop.Cancel(&r.timers[timerResponse])
	s.Rec.ResponseEnd = access.Mark(r.w.Loop.Now() + 1)
	if s.Rec.UpstreamBegin != 0 {
		took := uint64(time.Duration(s.Rec.ResponseEnd-s.Rec.UpstreamBegin) / time.Millisecond)
		r.cluster.Stats.Took(took, r.fromInside())
		if r.named != nil {
			r.named.Took(took, r.fromInside())
		}
		if r.vcluster != nil {
			r.vcluster.Stats.UpstreamRqTime.Record(took)
		}
	}
}

// OnData brings a piece of the response's body.
func (a *attempt) OnData(b []byte, end bool) {
	r := a.r
	s := r.s
	a.resetIdle()
	a.tally.rsBody += uint64(len(b))
	if s.Rec.BodyBegin == 0 && len(b) > 0 {
		s.Rec.BodyBegin = r.mark()
	}
	if end {
		if r.untold {
			a.host.CountEnd(nil)
		}
		r.complete()
	}
	s.Data(b, end)
}

// OnTrailers ends the response's body.
func (a *attempt) OnTrailers(m *header.Map) {
	r := a.r
	s := r.s
	a.journal.ended(m)
	r.complete()
	a.filters.ResponseTrailers(s, m)
	r.takeReport(a.host, m)
	if r.untold {
		a.host.CountEnd(m)
	}
	s.ResponseTrailers(m)
}

// OnFailure: there is no connection to be had.
func (a *attempt) OnFailure(l pool.Loss) {
	r, reason := a.r, l.Reset
	if !a.soft {
		r.s.Rec.HostEnd = l.End
	}
	a.unasked = reason == pool.Overflow || reason == pool.Shed
	switch {
	case a.unasked:
		r.s.Rec.UpstreamHost, r.s.Rec.UpstreamHostName, r.s.Rec.PoolFull = netip.AddrPort{}, "", true
	case reason != pool.ActiveOverflow: // each request that waited for the connection counts, as in Envoy
		a.report(cluster.Result{Kind: cluster.ConnectFailed})
	}
	r.s.Rec.Placed = r.mark()
	a.journal.failed(flags[reason], l.Why)
	a.account()
	r.failed(a, reason, l.Why, false)
}

// OnReset: the connection ended under way.
func (a *attempt) OnReset(l pool.Loss) {
	r := a.r
	a.up = nil
	a.journal.failed(flags[l.Reset], l.Why)
	a.account()
	s := r.s
	reason, why := l.Reset, l.Why
	if !a.soft {
		s.Rec.HostEnd = l.End
	}
	a.cancelTimers()
	a.report(cluster.Result{Kind: cluster.ConnectFailed})
	if r.responded {
		r.chargeAbort(a, failedCode(reason))
		s.Rec.UpstreamFailure = why
		s.Abort(flags[reason], "upstream_reset_after_response_started{"+underscored(reason.String(), "")+"}")
		return
	}
	if !a.soft && r.replay(reason, l.Seen) {
		return
	}
	r.failed(a, reason, why, l.Seen != pool.Unseen)
}

// replay sends a request once more that lost a race with the end of an idle connection, or that
// the host says it has not begun.
func (r *Router) replay(reason pool.Reset, seen pool.Seen) bool {
	if r.replayed || reason != pool.ConnectionTerminated && reason != pool.RemoteRefused || !r.keep {
		return false
	}
	if seen == pool.MaybeSeen || seen == pool.Raced && !pool.Idempotent(r.s.Request.Get(header.Method)) {
		return false
	}
	if p := r.policy; reason == pool.RemoteRefused && p != nil && p.OnReset(p.On, route.ResetRefused, true) && r.retries < *p.NumRetries {
		return false // the policy has it sent again anyway, and counts that
	}
	r.replayed = true
	r.once()
	return true
}

// flags and reasons by kind of reset.
var (
	flags = map[pool.Reset]access.Flag{
		pool.LocalReset: access.LocalReset, pool.RemoteReset: access.UpstreamRemoteReset,
		pool.ConnectFailed: access.UpstreamConnectionFailure, pool.LocalConnectFailed: access.UpstreamConnectionFailure, pool.ConnectTimedOut: access.UpstreamConnectionFailure,
		pool.ConnectionTerminated: access.UpstreamConnectionTermination, pool.Overflow: access.UpstreamOverflow, pool.ActiveOverflow: access.UpstreamOverflow, pool.Shed: access.UpstreamOverflow,
		pool.ProtocolError: access.UpstreamProtocolError, pool.RemoteRefused: access.UpstreamRemoteReset,
	}
	resets = map[pool.Reset]route.ResetReason{
		pool.LocalReset: route.ResetByPeer, pool.RemoteReset: route.ResetByPeer, pool.ConnectFailed: route.ResetConnectFailure, pool.LocalConnectFailed: route.ResetConnectFailure,
		pool.ConnectTimedOut: route.ResetConnectFailure, pool.ConnectionTerminated: route.ResetByPeer,
		pool.Overflow: route.ResetOverflow, pool.ActiveOverflow: route.ResetOverflow, pool.Shed: route.ResetOverflow, pool.ProtocolError: route.ResetByPeer, pool.RemoteRefused: route.ResetRefused,
	}
)

// failed tries again or answers in the upstream's place.
func (r *Router) failed(a *attempt, reason pool.Reset, why string, sent bool) {
	s := r.s
	s.Rec.UpstreamFailure = strings.ReplaceAll(why, " ", "_")
	if !a.soft && r.retry(r.policy != nil && !s.Upgrade && r.policy.OnReset(r.policy.On, resets[reason], sent)) {
		return
	}
	code := failedCode(reason)
	r.chargeAbort(a, code)
	if r.othersThan(a) {
		a.drop()
		return
	}
	body := "upstream connect error or disconnect/reset before headers. "
	if r.retries > 0 {
		body += "retried and the latest reset reason: "
	} else {
		body += "reset reason: "
	}
	details := "upstream_reset_before_response_started{" + underscored(reason.String(), why) + "}"
	if r.begun {
		details = "upstream_reset_after_response_started{" + underscored(reason.String(), why) + "}"
	}
	switch reason {
	case pool.Overflow, pool.ActiveOverflow:
		edit := stream.Overloaded
		if r.config.SuppressEnvoyHeaders {
			edit = nil
		}
		r.reply(code, body+reason.String(), details, edit, flags[reason])
	case pool.Shed:
		r.reply(code, body+reason.String(), details, stream.OverloadedHere, flags[reason])
	default:
		r.reply(code, body+reason.String(), details, nil, flags[reason])
	}
}

// failedCode is the status that stands for a reset.
func failedCode(reason pool.Reset) int {
	if reason == pool.ProtocolError {
		return 502
	}
	return 503
}

// underscored is a reason, with what the transport says, without spaces.
func underscored(reason, why string) string {
	if why != "" {
		reason += "|" + why
	}
	return strings.ReplaceAll(reason, " ", "_")
}
