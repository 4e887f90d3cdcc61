package router

import (
	"net/netip"
	"strconv"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/filter/forwardproxy"
	"github.com/mallamesh/malla/proxy/filter/upstream"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// One try of a request: where it goes, and what goes.

// prepare makes of the request the one that goes upstream, but for what differs between tries.
func (r *Router) prepare(s *stream.Stream, m *header.Map) {
	f := r.forward
	r.prio = cluster.Default
	if f.HighPriority {
		r.prio = cluster.High
	}
	r.limits = r.cluster.Limit(r.prio)
	r.settle(m)
	r.began = r.w.Loop.Now()
	r.attempts = 1
	r.expect(m)
	r.countAttempt(m, 1)
	s.Decorate()
	s.Route.FinalizeRequest(m, &s.Rec, s.Weighted, !r.config.SuppressEnvoyHeaders)
	r.keep, r.follows = true, f.Follow != nil
	r.chain = upstream.Of(r.cluster.HTTPFilters, r.config.Upstream)
	if n := r.cluster.Naming; n != nil {
		n.Want(&r.asksFor, m, &s.Rec.Dynamic)
	}
	r.mirror(m)
}

// countAttempt tells the upstream how often this request has been sent.
func (r *Router) countAttempt(m *header.Map, n uint32) {
	r.attempts = n
	r.s.Rec.Attempts = n
	for _, st := range r.own {
		st.UpstreamRqTotal.Inc()
	}
	if v := r.s.Route.VHost; v != nil && v.AttemptCountInRequest {
		m.SetCopy(header.XEnvoyAttemptCount, strconv.AppendUint(r.number[:0], uint64(n), 10))
	}
}

// try chooses a host and asks for a connection to it.
func (r *Router) try() {
	s := r.s
	pick := cluster.Pick{Random: r.w.RandomFor(r.cluster, s.Random+uint64(r.attempts-1)*0x9e3779b97f4a7c15), Hash: r.hash, HasHash: r.hasHash, Override: s.Host.Addr, Strict: s.Host.Strict}
	pick.Original, pick.Named = r.original()
	if pick.Criteria, _ = r.forward.MetadataMatch.(*cluster.Criteria); s.Weighted != nil && s.Weighted.MetadataMatch != nil {
		pick.Criteria, _ = s.Weighted.MetadataMatch.(*cluster.Criteria)
	}
	if asked, ok := s.Rec.Dynamic.Space(metadata.LB); ok && r.cluster.Subsets != nil {
		pick.Criteria = pick.Criteria.WithValues(asked)
	}
	if r.policy != nil && r.retries > 0 {
		pick.Retry = r.avoid()
	}
	if r.cluster.Naming != nil {
		pick.Wanted = &r.asksFor
	}
	h, reason := r.cluster.Pick(&pick)
	if reason != cluster.OK {
		r.cluster.Stats.UpstreamCxNoneHealthy.Inc()
		status := 503
		if s.Host.Strict && s.Host.Status != 0 && reason == cluster.NoHosts {
			status = s.Host.Status
		}
		r.noHost(status)
		return
	}
	if n := r.cluster.Naming; n != nil {
		n.Tell(&s.Rec.Dynamic, h)
	}
	a := r.cur
	a.pending.Offers, a.pending.HTTP2 = s.Config.UpstreamALPN, s.Rec.Protocol == access.HTTP2
	a.pending.Raw = r.forward.EndsHere(s.Request.Get(header.Method))
	a.pending.Origin = s.Conn.Origin()
	a.pending.Origin.State = &s.Rec.State
	a.pending.Wish = pool.WishOf(&s.Rec.State)
	authority := s.Request.Get(header.Authority) // by which the connection is chosen, whatever filters make of it
	if r.takesName(h) {
		a.name = append(a.name[:0], h.Name...)
		authority = a.name
	}
	name := authority
	if r.cluster.SNIHeader != "" {
		name = r.cluster.NameFor(&s.Request)
	}
	if !r.w.Admits(&a.pending, r.cluster, h, r.prio, name) {
		r.noHost(503)
		return
	}
	a.host, a.unasked, a.sent = h, false, false
	s.Rec.Asked, s.Rec.HostEnd = r.mark(), access.Closing{}
	s.Rec.UpstreamHost, s.Rec.UpstreamHostName, s.Rec.Configured[metadata.Host] = h.Addr, h.Name, h.Metadata.All
	s.Rec.Configured[metadata.Locality] = h.Metadata.Around
	s.Rec.Locality = &h.Locality
	s.Rec.UpstreamLocal, s.Rec.UpstreamConnID, s.Rec.Upstream, s.Rec.UpstreamState = netip.AddrPort{}, 0, nil, nil
	if h.Peer != nil {
		s.Rec.Peer = h.Peer
	}
	if h.Dest != nil {
		s.Rec.Destination = h.Dest
	}
	if s.Config.SchemeOfHost {
		s.Request.Set(header.Scheme, schemes[h.Transport.Socket != nil])
	}
	a.msg.Meter, a.msg.Helpings = &s.Rec.Up, s.Helpings()
	a.filters.Request(r.chain, s, &s.Request)
	a.begin()
	r.limits.Begin(r.w.Loop.Time())
	r.w.Open(&a.pending, r.cluster, h, r.prio, name, &a.msg, a)
}

// noHost answers a request that no host is there for, or no pool of connections to it.
func (r *Router) noHost(status int) {
	r.charge(503)
	r.endTry()
	r.reply(status, "no healthy upstream", "no_healthy_upstream", nil, access.NoHealthyUpstream)
}

// schemes are those of hosts that are spoken to over TLS, and of others.
var schemes = map[bool][]byte{false: []byte("http"), true: []byte("https")}

// avoid says which hosts a retry would rather not use.
func (r *Router) avoid() *cluster.Retry {
	p := r.policy
	omit, _ := p.OmitHosts.([]cluster.Has)
	r.elsewhere = cluster.Retry{
		Tried: r.tried, Attempts: p.HostAttempts, PreviousHosts: p.PreviousHosts,
		OmitCanary: p.OmitCanary, OmitHosts: omit, PreviousPriorities: p.PreviousPriorities,
	}
	return &r.elsewhere
}

// original is the destination that the client dialed, or that the request names, for clusters that go there.
func (r *Router) original() (netip.AddrPort, []netip.Addr) {
	switch r.cluster.Kind {
	case cluster.OriginalDst:
	case cluster.DynamicForward:
		return forwardproxy.Destination(r.cluster, r.s.Request.Get(header.Authority))
	default:
		return netip.AddrPort{}, nil
	}
	if wish, ok := pool.WishedDestination(&r.s.Rec.State); ok {
		return wish, nil
	}
	if key := r.cluster.Override.Metadata; key != nil {
		if v, ok := key.Find(&r.s.Rec.Dynamic); ok {
			text, _ := v.(string)
			if a, ok := pipe.ParseAddrPort(text); ok {
				return a, nil
			}
		}
	}
	if o := &r.cluster.Override; o.UseHeader {
		if v := r.s.Request.LookupString(o.Header); v != nil {
			if a, ok := pipe.ParseAddrPort(string(v)); ok {
				return a, nil
			}
			r.cluster.Stats.OriginalDstHostInvalid.Inc()
		}
	}
	if r.s.Conn.Restored {
		return r.s.Conn.Local, nil
	}
	return netip.AddrPort{}, nil
}

// OnReady sends the request as far as it has come.
func (a *attempt) OnReady(up pool.Stream) {
	r := a.r
	s := r.s
	a.up = up
	a.report(cluster.Result{Kind: cluster.ConnectOK})
	rec := &s.Rec
	r.note(up.Info())
	rec.UpstreamBegin = r.mark()
	rec.Placed = rec.UpstreamBegin
	a.journal.connected(a, up.Info())
	if r.set.duration > 0 {
		r.w.Loop.Schedule(&a.timers[timerLife], r.set.duration)
	}
	if r.refusesPart(a) {
		return
	}
	if r.takesName(a.host) { // up to here the request, and its line in the log, has its own; so in Envoy
		r.forward.SetHost(&s.Request, s.Request.Copy(a.name), !r.config.SuppressEnvoyHeaders)
	}
	bare := !r.hasBody()
	up.SendHeaders(&s.Request, bare && !a.pending.Raw)
	if a.pending.Raw {
		r.introduce(up, bare)
	}
	if !bare {
		if last := r.ended && r.trailers == nil; len(r.body) > 0 || last {
			a.tally.rqBody += uint64(len(r.body))
			up.SendData(r.body, last)
		}
		if r.trailers != nil {
			a.filters.RequestTrailers(s, r.trailers)
			up.SendTrailers(r.trailers)
		}
	}
	if r.ended {
		rec.UpstreamSent = rec.UpstreamBegin
		a.journal.gone(rec.UpstreamSent)
		a.start()
		return
	}
	if !r.mayRepeat() && r.mirrors == nil {
		r.drop()
	}
	if !r.Full() {
		s.ResumeRequest()
	}
}

// hasBody reports whether something follows the request's headers. As in Envoy these said so when they came: a body that has turned
// out to hold nothing by the time there is a connection is sent as one, like it is where the connection was there before.
func (r *Router) hasBody() bool { return !r.headOnly }

// takesName reports whether the request gets the name of a host.
func (r *Router) takesName(h *cluster.Host) bool { return r.forward.AutoHost && h.Name != "" }

// refusesPart answers a request that filters, of whatever kind, have taken a field from without which it is none. As in Envoy that is seen
// when there is a connection, which ends unused.
func (r *Router) refusesPart(a *attempt) bool {
	name := r.s.Request.Lacks()
	if name == "" || a.pending.Raw {
		return false
	}
	r.s.Reply(503, "missing required header: "+name, "filter_removed_required_request_headers{missing_required_header:_"+name+"}", access.DownstreamProtocolError)
	return true
}

// introduce tells a host that gets bytes only whose they are, and ends them if there are none.
func (r *Router) introduce(up pool.Stream, end bool) {
	var first []byte
	if p := r.forward.Connect.Proxy; p != nil {
		first = p.Header(r.s.Conn.Remote, r.s.Conn.Local, nil, nil, nil)
	}
	if len(first) > 0 || end {
		up.SendData(first, end)
	}
}

// mark is the present moment; never zero.
func (r *Router) mark() access.Mark { return access.Mark(r.w.Loop.Now() + 1) }

// requestSent starts the time of the response, which begins when the request has come whole, whatever has come of the response by then.
func (r *Router) requestSent() {
	if r.s == nil || r.forward == nil || r.responded && r.cur.up == nil {
		return
	}
	if r.set.timeout > 0 {
		r.w.Loop.Schedule(&r.timers[timerResponse], r.set.timeout)
	}
}
