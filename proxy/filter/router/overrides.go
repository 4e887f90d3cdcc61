package router

import (
	"net/http"
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
)

// What a trusted client says of its own request (Envoy's x-envoy fields) stands here. The connection
// manager has taken these fields from everybody else, so whoever has them may use them. They end here.

// settings are how this request is to be sent.
type settings struct {
	timeout  time.Duration // of the whole response; 0: none
	perTry   time.Duration // 0: none
	tryIdle  time.Duration // of a try on which nothing comes; 0: none
	hedge    bool          // a try whose time is up goes on, beside the next
	duration time.Duration // of the upstream stream; 0: none
	late     int           // the status that says that a time is up
}

// consumed are the fields that are for us only.
var consumed = []header.Token{
	header.XEnvoyUpstreamRqTimeoutMs, header.XEnvoyUpstreamRqPerTryTimeoutMs, header.XEnvoyUpstreamAltStatName,
	header.XEnvoyUpstreamRqTimeoutAltResponse, header.XEnvoyRetryOn, header.XEnvoyRetryGrpcOn, header.XEnvoyMaxRetries, header.XEnvoyRetriableStatusCodes,
	header.XEnvoyRetriableHeaderNames, header.XEnvoyHedgeOnPerTryTimeout, header.XEnvoyUpstreamStreamDurationMs,
}

// settle decides timeouts and the retry policy.
func (r *Router) settle(m *header.Map) {
	f := r.forward
	r.set = settings{timeout: f.Timeout, duration: r.cluster.MaxStreamDuration, late: http.StatusGatewayTimeout}
	if l := f.MaxStream; l != nil {
		switch {
		case !l.Response:
			r.set.timeout = 0
		case header.IsGRPC(m.Get(header.ContentType)):
			r.set.timeout, _ = l.GRPC(m.Get(header.GrpcTimeout))
		}
	}
	r.set.hedge = f.HedgeOnTimeout
	policy := r.rules.Retry
	if own := f.Retry; own != nil { // the times of a try are the route's, also where the cluster has a policy: as in Envoy
		r.set.perTry, r.set.tryIdle = own.PerTryTimeout, own.PerTryIdle
	}
	if m.HasRange(header.XEnvoyAttemptCount, header.XEnvoyUpstreamStreamDurationMs) { // one of them, or another of Envoy's
		if m.Has(header.XEnvoyRetryOn) || m.Has(header.XEnvoyRetryGrpcOn) ||
			policy != nil && (m.Has(header.XEnvoyMaxRetries) || m.Has(header.XEnvoyRetriableStatusCodes) || m.Has(header.XEnvoyRetriableHeaderNames)) {
			policy = policy.Overridden(m)
		}
		r.fromHeaders(m)
	}
	// A try that may last as long as all of them needs no time of its own.
	if r.set.timeout > 0 && r.set.perTry >= r.set.timeout {
		r.set.perTry = 0
	}
	if policy != nil && policy.On != 0 && policy.Retriable(&r.s.Match) {
		r.policy = policy
	}
}

func (r *Router) fromHeaders(m *header.Map) {
	t := header.XEnvoyUpstreamRqTimeoutMs
	if r.config.RespectExpected && m.Has(header.XEnvoyExpectedRqTimeoutMs) {
		t = header.XEnvoyExpectedRqTimeoutMs
	}
	if d, ok := milliseconds(m.Get(t)); ok {
		r.set.timeout = d
	}
	if d, ok := milliseconds(m.Get(header.XEnvoyUpstreamRqPerTryTimeoutMs)); ok {
		r.set.perTry = d
	}
	if d, ok := milliseconds(m.Get(header.XEnvoyUpstreamStreamDurationMs)); ok {
		r.set.duration = d
	}
	if m.Has(header.XEnvoyUpstreamRqTimeoutAltResponse) {
		r.set.late = http.StatusNoContent
	}
	if name := m.Get(header.XEnvoyUpstreamAltStatName); name != nil {
		r.named = r.cluster.Named(string(name))
	}
	switch string(m.Get(header.XEnvoyHedgeOnPerTryTimeout)) {
	case "true":
		r.set.hedge = true
	case "false":
		r.set.hedge = false
	}
	for _, t := range consumed {
		m.Remove(t)
	}
}

func milliseconds(v []byte) (time.Duration, bool) {
	if v == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(v), 10, 40)
	return time.Duration(n) * time.Millisecond, err == nil
}

// expect tells the upstream how long its answer may take: the time of a try, unless it goes on after that, or
// what is left of the whole.
func (r *Router) expect(m *header.Map) {
	left := r.set.perTry
	if r.set.hedge {
		left = 0
	}
	if whole := r.set.timeout; whole > 0 {
		if r.attempts > 1 {
			whole = max(time.Millisecond, whole-time.Duration(r.w.Loop.Now()-r.began))
		}
		if left == 0 || whole < left {
			left = whole
		}
	}
	if l := r.forward.MaxStream; left > 0 && l != nil && l.Response && header.IsGRPC(m.Get(header.ContentType)) {
		m.SetCopy(header.GrpcTimeout, route.AppendGRPCTimeout(r.number[:0], left))
	}
	if left > 0 && !r.config.SuppressEnvoyHeaders {
		m.SetCopy(header.XEnvoyExpectedRqTimeoutMs, strconv.AppendInt(r.number[:0], left.Milliseconds(), 10))
	}
}

// strict refuses a request one of whose fields does not say what it has to (strict_check_headers).
func (r *Router) strict(m *header.Map) bool {
	for _, t := range r.config.Strict {
		v := m.Get(t)
		if v == nil || valid(t, v) {
			continue
		}
		r.s.Reply(400, "invalid header '"+t.String()+"' with value '"+string(v)+"'", "request_headers_failed_strict_check{"+t.String()+"}", access.InvalidEnvoyRequestHeaders)
		return false
	}
	return true
}

func valid(t header.Token, v []byte) bool {
	switch t {
	case header.XEnvoyRetryOn, header.XEnvoyRetryGrpcOn:
		on, codes, err := route.ParseRetryOn(string(v))
		return err == nil && len(codes) == 0 && on == route.ParseRetryHeader(v, t == header.XEnvoyRetryGrpcOn)
	case header.XEnvoyMaxRetries:
		_, err := strconv.ParseUint(string(v), 10, 32)
		return err == nil
	}
	_, ok := milliseconds(v)
	return ok
}

// expire ends a try whose stream lasts longer than its sender allows.
func (r *Router) expire(a *attempt) {
	r.cluster.Stats.UpstreamRqMaxDurationReached.Inc()
	if r.responded {
		r.s.Abort(access.UpstreamMaxStreamDurationReached, "upstream_max_stream_duration_reached")
		return
	}
	soft := a.soft
	a.giveUp()
	if !soft && r.retry(r.policy != nil && r.policy.OnReset(r.policy.On, route.ResetByPeer, true)) {
		return
	}
	code := http.StatusGatewayTimeout
	if !r.ended {
		code = http.StatusRequestTimeout
	}
	r.reply(code, "upstream max stream duration reached", "upstream_max_stream_duration_reached", nil, access.UpstreamMaxStreamDurationReached)
}
