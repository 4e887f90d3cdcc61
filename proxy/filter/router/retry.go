package router

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/filter/upstream"
	"github.com/mallamesh/malla/proxy/header"
)

// Whether, and when, a request is sent once more stands here.

// retry has the request sent once more after a while, if it is wanted and allowed.
func (r *Router) retry(wanted bool) bool {
	r.endTry()
	if !wanted {
		r.late = false
		return false
	}
	if !r.schedule(&r.wait) {
		return false
	}
	a := r.cur
	if r.tries() && a.host != nil {
		r.tried = append(r.tried, a.host)
	}
	a.blame()
	a.stop() // a response that nobody will see
	return true
}

// tries reports whether it matters which hosts were tried.
func (r *Router) tries() bool { return r.policy.PreviousHosts || r.policy.PreviousPriorities > 0 }

// schedule takes a place among the cluster's retries and sets the time of the next try: what the
// response has said if wait is given and not 0, else by the policy's back-off.
func (r *Router) schedule(wait *time.Duration) bool {
	told := time.Duration(0)
	if wait != nil {
		told, *wait = *wait, 0
	}
	r.endTry()
	st := r.cluster.Stats
	switch {
	case r.retries >= *r.policy.NumRetries:
		st.UpstreamRqRetryLimitExceeded.Inc()
		for _, own := range r.own {
			own.UpstreamRqRetryLimitExceeded.Inc()
		}
		r.s.Rec.Flags.Set(access.UpstreamRetryLimitExceeded)
		return false
	case !r.keep:
		return false
	case !r.limits.TryRetry(r.w.Loop.Time()):
		st.UpstreamRqRetryOverflow.Inc()
		for _, own := range r.own {
			own.UpstreamRqRetryOverflow.Inc()
		}
		r.s.Rec.Flags.Set(access.UpstreamOverflow)
		return false
	}
	r.retries++
	r.retrying = r.limits
	r.told = told > 0
	if r.told {
		// A little later than told, and not all at once.
		r.w.Loop.Schedule(&r.timers[timerBackoff], told+time.Duration(r.w.Random()%uint64(max(1, told/2))))
		return true
	}
	r.w.Loop.Schedule(&r.timers[timerBackoff], r.policy.Backoff(r.retries, r.w.Random()))
	return true
}

// waitAsTold notes how long a response asks to wait before the next try.
func (r *Router) waitAsTold(m *header.Map) {
	r.wait = 0
	if len(r.policy.ResetHeaders) > 0 {
		r.wait = r.policy.Told(m, r.w.Loop.Wall())
	}
}

// endTry gives back the place among the cluster's retries.
func (r *Router) endTry() {
	if r.retrying != nil {
		r.retrying.EndRetry()
		r.retrying = nil
	}
}

// again is the next try, after the back-off. It counts from now on: one for which there was no time is none.
func (r *Router) again() {
	st := r.cluster.Stats
	st.UpstreamRqRetry.Inc()
	for _, own := range r.own {
		own.UpstreamRqRetry.Inc()
	}
	if r.told {
		st.UpstreamRqRetryBackoffRatelimited.Inc()
	} else {
		st.UpstreamRqRetryBackoffExponential.Inc()
	}
	m := &r.s.Request
	r.s.Rec.UpstreamFailure = ""
	r.countAttempt(m, r.attempts+1)
	if v := r.s.Route.VHost; v != nil && v.TimeoutRetryInRequest {
		m.Set(header.XEnvoyIsTimeoutRetry, truth[r.late])
	}
	r.late = false
	r.expect(m)
	r.once()
}

// once tries once more, with the cluster as it is now: since the request came it may have other hosts and limits, or have gone.
func (r *Router) once() {
	c := r.w.Source.Cluster(r.cluster.Name)
	if c == nil {
		r.noHost(503)
		return
	}
	if c != r.cluster {
		r.cluster, r.limits = c, c.Limit(r.prio)
		r.chain = upstream.Of(c.HTTPFilters, r.config.Upstream)
		r.s.Rec.Cluster, r.s.Rec.Destination = c.StatName, c.Destination
	}
	r.try()
}

var truth = map[bool][]byte{false: []byte("false"), true: []byte("true")}
