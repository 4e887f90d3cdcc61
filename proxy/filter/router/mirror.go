package router

import (
	"bytes"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/upstream"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
)

// A shadow is a copy of a request that goes to a mirror. It is on its own: it
// outlives the request's stream and nobody waits for its answer.
type shadow struct {
	w       *pool.Worker
	cluster *cluster.Cluster
	prio    cluster.Priority
	request header.Map
	body    []byte
	msg     pool.Message
	pending pool.Pending
	up      pool.Stream
	timer   drive.Timer
	timeout time.Duration
	cost    int // what it has of maxShadows
	books   upstream.Own
}

// maxShadows bounds what the copies of one shard that are under way may hold. Nobody waits for them, so a mirror that
// hangs slows nobody down: without a bound it would have us keep all that comes until their time is up.
const maxShadows = 64 << 20

// shadowCost is what a copy costs beside its body and fields.
const shadowCost = 2 << 10

// shadowTimeout ends copies whose route sets no time.
const shadowTimeout = 15 * time.Second

// mirror prepares the copies that this request asks for, and sends them if it has no body.
func (r *Router) mirror(m *header.Map) {
	if len(r.rules.Mirrors) == 0 || r.s.Upgrade {
		return
	}
	for i := range r.rules.Mirrors {
		mirror := &r.rules.Mirrors[i]
		if !mirror.Hit(r.s.Random, i) {
			continue
		}
		c := r.w.Source.Cluster(mirror.Target(&r.s.Match))
		if c == nil {
			continue
		}
		sh := &shadow{w: r.w, cluster: c, prio: r.prio, timeout: r.forward.Timeout}
		sh.timer.Handler = sh
		sh.pending.Offers, sh.pending.HTTP2 = r.s.Config.UpstreamALPN, r.s.Rec.Protocol == access.HTTP2
		sh.request.CopyFrom(m)
		mirror.Headers.Apply(&sh.request, &r.s.Rec)
		if len(mirror.Host) > 0 {
			sh.request.Set(header.Authority, mirror.Host)
		}
		if mirror.ShadowSuffix {
			sh.request.SetCopy(header.Authority, suffixed(m.Get(header.Authority)))
		}
		sh.request.Remove(header.Expect)
		sh.request.Set(header.XEnvoyInternal, yes) // as Envoy's own requests say
		sh.request.SetCopy(header.XForwardedFor, forwarded(m.Get(header.XForwardedFor)))
		r.mirrors = append(r.mirrors, sh)
	}
	if r.ended {
		r.sendMirrors()
	}
}

var yes = []byte("true")

// forwarded is x-forwarded-for with us at its end: the copy is a request of our own.
func forwarded(xff []byte) []byte {
	var b []byte
	if len(xff) > 0 {
		b = append(append(b, xff...), ',')
	}
	return pool.LocalIP().AppendTo(b)
}

// suffixed puts "-shadow" behind the host and before the port.
func suffixed(authority []byte) []byte {
	i := bytes.LastIndexByte(authority, ':')
	if i < 0 || bytes.IndexByte(authority[i:], ']') >= 0 {
		i = len(authority)
	}
	out := append(make([]byte, 0, len(authority)+7), authority[:i]...)
	return append(append(out, "-shadow"...), authority[i:]...)
}

// sendMirrors sends the copies, once the request has come whole.
func (r *Router) sendMirrors() {
	list := r.mirrors
	r.mirrors = nil
	if !r.keep {
		// The upstream answered before the request had ended, so its body is gone. A copy that
		// promises a length and sends none would leave its connection out of step.
		if len(list) > 0 {
			r.cluster.Stats.RetryOrShadowAbandoned.Inc()
		}
		return
	}
	for _, sh := range list {
		if sh.body = append([]byte(nil), r.body...); len(sh.body) > 0 && r.trailers != nil {
			sh.request.Remove(header.Trailer)
		}
		sh.send()
	}
}

func (sh *shadow) send() {
	cost := shadowCost + sh.request.Size() + len(sh.body)
	if sh.w.Shadows+cost > maxShadows {
		sh.cluster.Stats.RetryOrShadowAbandoned.Inc()
		return
	}
	h := sh.books.Begin(sh.w, sh.cluster, sh.prio, &sh.pending, &sh.request)
	if h == nil {
		return
	}
	sh.cost = cost
	sh.w.Shadows += cost
	if sh.timeout == 0 {
		sh.timeout = shadowTimeout
	}
	sh.w.Loop.Schedule(&sh.timer, sh.timeout)
	authority := sh.cluster.NameFor(&sh.request)
	upstream.BareOf(sh.cluster, sh.w, &sh.request)
	sh.w.Open(&sh.pending, sh.cluster, h, sh.prio, authority, &sh.msg, sh)
}

// OnReady sends the copy.
func (sh *shadow) OnReady(up pool.Stream) {
	sh.up = up
	sh.books.Ready()
	if sh.request.Lacks() != "" { // filters have taken it
		sh.w.Loop.Cancel(&sh.timer)
		sh.giveUp()
		return
	}
	up.SendHeaders(&sh.request, len(sh.body) == 0)
	if len(sh.body) > 0 {
		up.SendData(sh.body, true)
	}
}

// OnHeaders counts the answer.
func (sh *shadow) OnHeaders(m *header.Map, end bool) {
	sh.books.Headers(m, end)
	sh.done(end)
}

// OnData throws the answer away.
func (sh *shadow) OnData(_ []byte, end bool) {
	if end {
		sh.books.End(nil)
	}
	sh.done(end)
}

// OnTrailers ends the answer.
func (sh *shadow) OnTrailers(m *header.Map) {
	sh.books.End(m)
	sh.done(true)
}

// OnInformational throws an interim answer away.
func (sh *shadow) OnInformational(m *header.Map) { sh.books.Informational(m) }

// OnFailure ends the copy.
func (sh *shadow) OnFailure(l pool.Loss) {
	sh.books.Lost(l)
	sh.done(true)
}

// OnReset ends the copy.
func (sh *shadow) OnReset(l pool.Loss) { sh.OnFailure(l) }

// OnDrained does nothing: the body is here as a whole.
func (sh *shadow) OnDrained() {}

func (sh *shadow) done(end bool) {
	if end {
		sh.up = nil
		sh.w.Loop.Cancel(&sh.timer)
		sh.release()
	}
}

// release gives back what the copy has of maxShadows.
func (sh *shadow) release() {
	sh.w.Shadows -= sh.cost
	sh.cost = 0
}

// OnTimer gives up.
func (sh *shadow) OnTimer(*drive.Timer) {
	sh.books.TimedOut()
	sh.giveUp()
}

func (sh *shadow) giveUp() {
	sh.pending.Cancel()
	if sh.up != nil {
		sh.up.Cancel()
		sh.up = nil
	}
	sh.release()
}
