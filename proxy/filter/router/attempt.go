package router

import (
	"net/http"
	"slices"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/upstream"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
)

// An attempt is one try of a request: its host, its place on a connection, its times. A request has
// one at a time, unless its route hedges: then a try whose time is up goes on
// beside the next, and the first good response wins.
type attempt struct {
	r       *Router
	host    *cluster.Host
	pending pool.Pending
	name    []byte // the host's, if the request gets it
	up      pool.Stream
	msg     pool.Message
	filters upstream.Filters
	timers  [4]drive.Timer
	tally   tally
	journal *journal // nil: no logs want one
	soft    bool     // its time was up, and the next has begun
	sent    bool     // the request has been sent whole, and the time without a sign of its response counts
	unasked bool     // a limit of ours has kept it from its host
}

const (
	timerTry  = iota // of the try
	timerIdle        // since something last came of its response
	timerLife        // of its stream
	timerLog         // until its logs are told again
)

func (a *attempt) init(r *Router) {
	a.r = r
	for i := range a.timers {
		a.timers[i].Handler, a.timers[i].Kind = a, int8(i)
	}
}

// start starts the times of a try, which begin when the request has been sent. A try whose response has begun by then is the last:
// it may take what time is left of the whole.
func (a *attempt) start() {
	if d := a.r.set.perTry; d > 0 && !a.r.answering() {
		a.r.w.Loop.Schedule(&a.timers[timerTry], d)
	}
	if d := a.r.set.tryIdle; d > 0 {
		a.r.w.Loop.Schedule(&a.timers[timerIdle], d)
		a.sent = true
	}
}

// resetIdle notes that something has come.
func (a *attempt) resetIdle() {
	if a.sent && (a.timers[timerIdle].Armed() || a.r.set.hedge) { // which goes on after its time, too
		a.r.w.Loop.Schedule(&a.timers[timerIdle], a.r.set.tryIdle)
	}
}

func (a *attempt) cancelTimers() {
	for i := range a.timers {
		a.r.w.Loop.Cancel(&a.timers[i])
	}
}

// inFlight reports whether something may come of the try.
func (a *attempt) inFlight() bool { return a.up != nil || a.pending.Waits() }

// stop gives the try up.
func (a *attempt) stop() {
	a.cancelTimers()
	a.waitNoMore()
	a.filters.End(a.r.s)
	a.account()
	if up := a.up; up != nil {
		if a == a.r.cur {
			a.r.s.Rec.HostEnd = up.Closing(access.EndLocalReset)
		}
		a.up = nil
		up.Cancel()
	}
	a.host, a.soft = nil, false
}

// waitNoMore gives up waiting for a connection.
func (a *attempt) waitNoMore() {
	if a == a.r.cur && a.pending.Waits() {
		a.r.s.Rec.HostEnd = a.pending.Closing(access.EndLocalReset)
	}
	a.pending.Cancel()
}

// giveUp ends a try after which another may come, which may avoid its host.
func (a *attempt) giveUp() {
	host := a.host
	a.stop()
	a.host = host
}

// drop gives up a try that others may better. It is none of those any more when its place on a connection is free: one of them may be
// the next to have it.
func (a *attempt) drop() {
	r := a.r
	i := slices.Index(r.others, a)
	if i >= 0 {
		r.others = slices.Delete(r.others, i, i+1)
	}
	a.stop()
	if i >= 0 {
		r.spare = append(r.spare, a)
	}
}

// blame counts a try for its host that was of no use.
func (a *attempt) blame() {
	if a.host != nil && !a.unasked {
		a.host.RqError.Inc()
	}
}

// report tells outlier detection how a try goes.
func (a *attempt) report(result cluster.Result) {
	a.r.cluster.Report(a.host, result, a.r.w.Loop.Time())
}

// OnDrained lets the request's body flow again.
func (a *attempt) OnDrained() {
	if r := a.r; a == r.cur {
		if r.backed {
			r.backed = false
			r.cluster.Stats.UpstreamFlowControlDrained.Inc()
		}
		r.s.ResumeRequest()
	}
}

// OnTimer is a time of the try that is up.
func (a *attempt) OnTimer(t *drive.Timer) {
	r := a.r
	switch {
	case r.s == nil:
	case t.Kind == timerIdle:
		r.tryTimedOut(a, "upstream_per_try_idle_timeout")
	case t.Kind == timerLife:
		r.expire(a)
	case t.Kind == timerLog:
		a.goOn()
	default:
		r.tryTimedOut(a, "upstream_per_try_timeout")
	}
}

// outOfTime accounts for a try that the time of the whole response ends.
func (a *attempt) outOfTime() {
	if !a.inFlight() {
		return
	}
	r := a.r
	r.cluster.Stats.UpstreamRqTimeout.Inc()
	for _, st := range r.own {
		st.UpstreamRqTimeout.Inc()
	}
	if a.pending.Waits() { // a host that there is no connection to yet is not to blame, as in Envoy
		if !r.answering() {
			r.charge(r.set.late)
		}
		return
	}
	a.host.RqTimeout.Inc()
	if r.responded {
		return
	}
	if !a.soft {
		a.report(cluster.Result{Kind: cluster.Timeout})
	}
	r.chargeAbort(a, r.set.late)
}

// tryTimedOut ends one try, or begins another beside it.
func (r *Router) tryTimedOut(a *attempt, details string) {
	switch {
	case r.set.hedge && !r.responded:
		r.hedge(a)
		return
	case r.set.hedge: // nothing can be tried beside a response that has begun, and it is not broken off either, as by Envoy
		a.report(cluster.Result{Kind: cluster.Timeout})
		return
	}
	if details == "upstream_per_try_timeout" {
		r.cluster.Stats.UpstreamRqPerTryTimeout.Inc()
	} else {
		r.cluster.Stats.UpstreamRqPerTryIdleTimeout.Inc()
	}
	if a.inFlight() {
		a.host.RqTimeout.Inc()
		a.report(cluster.Result{Kind: cluster.Timeout})
	}
	a.journal.failed(access.UpstreamRequestTimeout, "")
	a.giveUp()
	if r.late = !r.responded; r.late && r.retry(r.policy != nil && r.policy.OnReset(r.policy.On, route.ResetPerTryTimeout, true)) {
		return
	}
	r.chargeAbort(a, r.set.late)
	if r.responded {
		r.s.Abort(access.UpstreamRequestTimeout, details)
		return
	}
	r.tooLate(details)
}

// tooLate tells the client that a time is up.
func (r *Router) tooLate(details string) {
	body := "upstream request timeout"
	if r.set.late == http.StatusNoContent {
		body = ""
	}
	r.reply(r.set.late, body, details, nil, access.UpstreamRequestTimeout)
}

// hedge begins another try beside one whose time is up.
func (r *Router) hedge(a *attempt) {
	if a.soft {
		return
	}
	r.w.Loop.Cancel(&a.timers[timerTry])
	r.w.Loop.Cancel(&a.timers[timerIdle]) // and its stream lasts no longer than any other
	a.report(cluster.Result{Kind: cluster.Timeout})
	a.soft = true
	r.late = true
	if r.policy == nil || !r.schedule(nil) {
		return
	}
	if r.tries() {
		r.tried = append(r.tried, a.host)
	}
	r.others = append(r.others, a)
	if n := len(r.spare); n > 0 {
		r.cur, r.spare = r.spare[n-1], r.spare[:n-1]
	} else {
		r.cur = new(attempt)
		r.cur.init(r)
	}
}

// othersThan reports whether a response may still come of another try, begun or about to be.
func (r *Router) othersThan(a *attempt) bool {
	if r.timers[timerBackoff].Armed() || a != r.cur && r.cur.inFlight() {
		return true
	}
	for _, o := range r.others {
		if o != a {
			return true
		}
	}
	return false
}

// win makes a try the one whose response goes to the client.
func (r *Router) win(a *attempt, info *pool.Info) {
	if len(r.others) == 0 && a == r.cur {
		return
	}
	r.w.Loop.Cancel(&r.timers[timerBackoff])
	s := r.s
	s.Rec.UpstreamHost, s.Rec.UpstreamHostName, s.Rec.Configured[metadata.Host] = a.host.Addr, a.host.Name, a.host.Metadata.All
	s.Rec.Configured[metadata.Locality] = a.host.Metadata.Around
	s.Rec.Locality = &a.host.Locality
	r.note(info)
	if a != r.cur {
		for i, o := range r.others {
			if o == a {
				r.others[i], r.cur = r.cur, a
			}
		}
	}
	r.onlyOne()
}

// onlyOne gives up all tries but the present one. Those that wait are first: what another gives back they would be given.
func (r *Router) onlyOne() {
	for _, o := range r.others {
		o.waitNoMore()
	}
	for _, o := range r.others {
		o.stop()
		r.spare = append(r.spare, o)
	}
	clear(r.others)
	r.others = r.others[:0]
}

// note records the connection that a try has got.
func (r *Router) note(info *pool.Info) {
	rec := &r.s.Rec
	rec.UpstreamLocal, rec.UpstreamRemote, rec.UpstreamConnID = info.Local, info.Remote, info.ConnID
	rec.UpstreamProtocol, rec.Upstream, rec.UpstreamState = info.Protocol, info.TLS, info.State
	rec.Dial = info.Dial
}

var _ pool.Handler = (*attempt)(nil)
