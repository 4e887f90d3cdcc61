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

// OnInformational passes on a 1xx response.
func (r *Router) OnInformational(m *header.Map) { r.s.Interim(m) }

// OnHeaders takes a response, unless it is one to try again after.
func (r *Router) OnHeaders(m *header.Map, end bool) {
	s, now := r.s, r.w.Loop.Now()
	r.w.Loop.Cancel(&r.timers[timerTry])
	if end {
		r.up = nil
	}
	code := status(m.Get(header.Status))
	s.Rec.ResponseBegin = access.Mark(now + 1)
	r.report(cluster.Result{Kind: cluster.Response, Code: code})
	if code >= 500 {
		r.host.RqError.Inc()
	} else {
		r.host.RqSuccess.Inc()
	}
	if r.policy != nil && !s.Upgrade && r.retry(r.policy.OnResponse(r.policy.On, code, m)) {
		return
	}
	if r.retries > 0 && code < 500 {
		r.cluster.Stats.UpstreamRqRetrySuccess.Inc()
	}
	r.endTry()
	r.drop()
	r.responded = true
	r.charge(code)
	if !r.config.SuppressEnvoyHeaders {
		if s.Rec.UpstreamSent != 0 {
			took := time.Duration(now + 1 - int64(s.Rec.RequestEnd))
			m.SetCopy(header.XEnvoyUpstreamServiceTime, strconv.AppendInt(r.number[:0], max(0, took.Milliseconds()), 10))
		}
		if v := s.Route.VHost; v != nil && v.AttemptCountInResponse {
			m.SetCopy(header.XEnvoyAttemptCount, strconv.AppendUint(r.number[:0], uint64(r.attempts), 10))
		}
	}
	for _, c := range s.Match.NewCookies {
		m.Add(header.SetCookie, c)
	}
	s.Rec.CodeDetails = "via_upstream"
	if end {
		r.complete()
	}
	s.Respond(m, end)
}

// complete notes the end of a response.
func (r *Router) complete() {
	s := r.s
	r.up = nil
	r.w.Loop.Cancel(&r.timers[timerResponse])
	r.w.Loop.Cancel(&r.timers[timerStream])
	s.Rec.ResponseEnd = access.Mark(r.w.Loop.Now() + 1)
	if s.Rec.UpstreamBegin != 0 {
		r.cluster.Stats.UpstreamRqTime.Record(uint64(time.Duration(s.Rec.ResponseEnd-s.Rec.UpstreamBegin) / time.Millisecond))
	}
}

// OnData brings a piece of the response's body.
func (r *Router) OnData(b []byte, end bool) {
	s := r.s
	if end {
		r.complete()
	}
	s.Data(b, end)
}

// OnTrailers ends the response's body.
func (r *Router) OnTrailers(m *header.Map) {
	s := r.s
	r.complete()
	s.ResponseTrailers(m)
}

// OnFailure: there is no connection to be had.
func (r *Router) OnFailure(reason pool.Reset, why string) {
	if reason == pool.Overflow {
		r.s.Rec.UpstreamHost, r.s.Rec.UpstreamHostName = netip.AddrPort{}, ""
	}
	r.failed(reason, why, false)
}

// OnReset: the connection ended under way.
func (r *Router) OnReset(reason pool.Reset, why string, seen pool.Seen) {
	r.up = nil
	s := r.s
	r.w.Loop.Cancel(&r.timers[timerTry])
	r.host.RqError.Inc()
	r.report(cluster.Result{Kind: cluster.ConnectFailed})
	if r.responded {
		s.Rec.UpstreamFailure = why
		s.Abort(flags[reason], "upstream_reset_after_response_started{"+underscored(reason.String(), "")+"}")
		return
	}
	if r.replay(reason, seen) {
		return
	}
	r.failed(reason, why, seen != pool.Unseen)
}

// replay sends a request once more that lost a race with the end of an idle connection, or that
// the host says it has not begun.
func (r *Router) replay(reason pool.Reset, seen pool.Seen) bool {
	if r.replayed || reason != pool.ConnectionTerminated && reason != pool.RemoteRefused || r.s.Upgrade || !r.keep {
		return false
	}
	if seen == pool.MaybeSeen || seen == pool.Raced && !idempotent(r.s.Request.Get(header.Method)) {
		return false
	}
	if p := r.policy; reason == pool.RemoteRefused && p != nil && p.OnReset(p.On, route.ResetRefused, true) && r.retries < *p.NumRetries {
		return false // the policy has it sent again anyway, and counts that
	}
	r.replayed = true
	r.try()
	return true
}

// idempotent methods may be sent twice (RFC 9110, section 9.2.2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// flags and reasons by kind of reset.
var (
	flags = map[pool.Reset]access.Flag{
		pool.LocalReset: access.LocalReset, pool.RemoteReset: access.UpstreamRemoteReset,
		pool.ConnectFailed: access.UpstreamConnectionFailure, pool.ConnectTimedOut: access.UpstreamConnectionFailure,
		pool.ConnectionTerminated: access.UpstreamConnectionTermination, pool.Overflow: access.UpstreamOverflow, pool.ActiveOverflow: access.UpstreamOverflow,
		pool.ProtocolError: access.UpstreamProtocolError, pool.RemoteRefused: access.UpstreamRemoteReset,
	}
	resets = map[pool.Reset]route.ResetReason{
		pool.LocalReset: route.ResetByPeer, pool.RemoteReset: route.ResetByPeer, pool.ConnectFailed: route.ResetConnectFailure,
		pool.ConnectTimedOut: route.ResetConnectFailure, pool.ConnectionTerminated: route.ResetByPeer,
		pool.Overflow: route.ResetOverflow, pool.ActiveOverflow: route.ResetOverflow, pool.ProtocolError: route.ResetByPeer, pool.RemoteRefused: route.ResetRefused,
	}
)

// failed tries again or answers in the upstream's place.
func (r *Router) failed(reason pool.Reset, why string, sent bool) {
	s := r.s
	s.Rec.UpstreamFailure = strings.ReplaceAll(why, " ", "_")
	if r.retry(r.policy != nil && !s.Upgrade && r.policy.OnReset(r.policy.On, resets[reason], sent)) {
		return
	}
	body := "upstream connect error or disconnect/reset before headers. "
	if r.retries > 0 {
		body += "retried and the latest reset reason: "
	} else {
		body += "reset reason: "
	}
	code := 503
	if reason == pool.ProtocolError {
		code = 502
	}
	details := "upstream_reset_before_response_started{" + underscored(reason.String(), why) + "}"
	r.charge(code)
	if reason == pool.Overflow || reason == pool.ActiveOverflow {
		s.ReplyWith(code, body+reason.String(), details, stream.Overloaded, flags[reason])
		return
	}
	s.Reply(code, body+reason.String(), details, flags[reason])
}

// underscored is a reason, with what the transport says, without spaces.
func underscored(reason, why string) string {
	if why != "" {
		reason += "|" + why
	}
	return strings.ReplaceAll(reason, " ", "_")
}

// retry has the request sent once more after a while, if it is wanted and allowed.
func (r *Router) retry(wanted bool) bool {
	r.endTry()
	if !wanted {
		return false
	}
	st := r.cluster.Stats
	switch {
	case r.retries >= *r.policy.NumRetries:
		st.UpstreamRqRetryLimitExceeded.Inc()
		r.s.Rec.Flags.Set(access.UpstreamRetryLimitExceeded)
		return false
	case !r.keep:
		return false
	case !r.limits.TryRetry():
		st.UpstreamRqRetryOverflow.Inc()
		r.s.Rec.Flags.Set(access.UpstreamOverflow)
		return false
	}
	if r.up != nil { // a response that nobody will see
		up := r.up
		r.up = nil
		up.Cancel()
	}
	r.retries++
	r.retrying = true
	st.UpstreamRqRetry.Inc()
	st.UpstreamRqRetryBackoffExponential.Inc()
	if (r.policy.PreviousHosts || r.policy.PreviousPriorities > 0) && r.host != nil {
		r.tried = append(r.tried, r.host)
	}
	r.w.Loop.Schedule(&r.timers[timerBackoff], r.policy.Backoff(r.retries, r.w.Random()))
	return true
}

// endTry gives back the place among the cluster's retries.
func (r *Router) endTry() {
	if r.retrying {
		r.retrying = false
		r.limits.EndRetry()
	}
}

// again is the next try, after the back-off.
func (r *Router) again() {
	r.s.Rec.UpstreamFailure = ""
	r.countAttempt(&r.s.Request, r.attempts+1)
	r.expect(&r.s.Request)
	r.try()
}

func status(b []byte) int {
	n, _ := strconv.Atoi(string(b))
	return n
}
