// Package router is the last HTTP filter: it sends a request where its route says
// and brings the answer back.
//
// One [Router] handles one stream: it chooses host by host (package cluster), asks
// for connections (package pool), keeps the times (of the whole response, of a try), tries again
// where the route's policy allows it, and answers itself when there is nothing to bring, with
// Envoy's statuses, bodies, flags and details. Copies for mirrors go their own
// way and can neither delay nor fail the request.
//
// A request's body is kept for another try up to the buffer limit of its listener;
// beyond that it is tried no more. Besides the policy there is one try more than Envoy makes:
// when a connection that had been used before ends without a byte of a response, the
// request is sent once more if nothing of it had left us, or if its method is
// idempotent (RFC 9110, section 9.2.2): that is a race with a server that closes
// idle connections, and nobody's fault.
package router

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/forwardproxy"
	"github.com/mallamesh/malla/proxy/filter/upstream"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// Name is the filter's name in configurations.
const Name = "envoy.filters.http.router"

// Config describes the router of a connection manager.
type Config struct {
	SuppressEnvoyHeaders bool
	RespectExpected      bool            // respect_expected_rq_timeout: the client's idea of the timeout counts
	Strict               []header.Token  // strict_check_headers
	Upstream             *upstream.Chain // upstream_http_filters: of requests to clusters that have none of their own
	Logs                 Logs            // upstream_log
}

type factory struct{ config Config }

// New returns the factory of routers.
func New(c Config) stream.Factory { return &factory{c} }

func (f *factory) Name() string { return Name }

func (f *factory) New(w *pool.Worker) any {
	r := &Router{config: f.config, w: w}
	for i := range r.timers {
		r.timers[i].Handler, r.timers[i].Kind = r, int8(i)
	}
	r.first.init(r)
	r.cur = &r.first
	return r
}

const (
	timerResponse = iota // of the whole response
	timerBackoff
	numTimers
)

// A Router handles one stream at a time.
type Router struct {
	config Config
	w      *pool.Worker
	s      *stream.Stream

	forward *route.Forward
	rules   *route.Policies // the forward's, or merged
	merged  route.Policies  // of a cluster that has some of its own
	cluster *cluster.Cluster
	chain   *upstream.Chain
	limits  *cluster.Breakers
	prio    cluster.Priority
	timers  [numTimers]drive.Timer

	first  attempt
	cur    *attempt   // the latest try, or the one whose response goes to the client
	others []*attempt // whose time is up, and whose response still counts (hedging)
	spare  []*attempt

	set       settings
	policy    *route.RetryPolicy // nil: none applies to this request
	retries   uint32             // made under the policy
	tried     []*cluster.Host
	elsewhere cluster.Retry
	hash      uint64
	hasHash   bool
	wait      time.Duration    // what a response has said
	told      bool             // the next try waits for as long as a response has said
	late      bool             // the next try comes because a time is up
	named     *stats.Responses // below which responses count, too
	own       []*stats.Route   // of the route and of the virtual cluster, which count the request, too
	ownRoom   [2]*stats.Route
	vcluster  *route.VirtualCluster
	retrying  bool // holds a place among the cluster's retries
	replayed  bool // the try that needs no policy was made
	attempts  uint32
	began     int64 // when the request came

	body      []byte // of the request, kept for another try and for mirrors
	follows   bool   // redirects of the host may be followed
	keep      bool   // body holds all that has come so far
	ended     bool   // the whole request has come
	trailers  *header.Map
	begun     bool // an interim response was passed on
	responded bool
	untold    bool // how a gRPC call has ended stands in trailers, which have not come
	backed    bool // the host takes no more of the request
	mirrors   []*shadow
	number    [20]byte
}

// OnRequest begins.
func (r *Router) OnRequest(s *stream.Stream, m *header.Map, end bool) {
	r.s, r.ended = s, end
	rt := s.Route
	st := s.Config.Stats
	if st != nil {
		st.RqTotal.Inc()
	}
	switch {
	case rt == nil:
		if st != nil {
			st.NoRoute.Inc()
		}
		s.Reply(404, "", "route_not_found", access.NoRouteFound)
		return
	case rt.Redirect != nil:
		if st != nil {
			st.RqDirectResponse.Inc() // rq_redirect is Envoy's old name for it, and stands still
		}
		location := rt.Redirect.AppendLocation(nil, &s.Match, &s.Rec)
		s.ReplyWith(int(rt.Redirect.Code), "", "direct_response", func(m *header.Map) { m.Add(header.Location, location) })
		return
	case rt.Direct != nil:
		if st != nil {
			st.RqDirectResponse.Inc()
		}
		r.direct(rt.Direct)
		return
	}
	r.forward = rt.Forward
	name := s.Cluster
	r.cluster = r.w.Source.Cluster(name)
	if r.cluster == nil {
		r.noCluster(name)
		return
	}
	s.Rec.Cluster, s.Rec.ClusterRaw = r.cluster.StatName, r.cluster.Name
	s.Rec.Destination = r.cluster.Destination
	r.counted(rt)
	if share := r.cluster.Maintenance; share > 0 && r.w.Random()%100 < uint64(share) {
		r.maintain()
		return
	}
	if r.cluster.Drops() {
		if dropped, all := r.cluster.Dropped(r.w.Random()); dropped {
			r.refuse(all)
			return
		}
	}
	if len(r.config.Strict) > 0 && !r.strict(m) {
		return
	}
	if r.rules = &r.forward.Policies; r.cluster.Policies != nil {
		r.merged = r.rules.Under(r.cluster.Policies.(*route.Policies))
		r.rules = &r.merged
	}
	if r.cluster.Hashes() && r.rules.HasHash() { // of the request as it came
		r.hash, r.hasHash = r.rules.Hash(&s.Match, true)
	}
	if s.Overload().Points[overload.FilterCheck].Hit(r.w) {
		if st != nil {
			st.RqOverloadLocalReply.Inc()
		}
		s.Rec.Attempts = 1
		s.ReplyOverloaded(false)
		return
	}
	r.prepare(s, m)
	r.try()
	if end {
		r.requestSent()
	}
}

// counted finds who counts the request besides the cluster.
func (r *Router) counted(rt *route.Route) {
	r.own, r.vcluster = r.ownRoom[:0], nil
	if rt.Stats != nil {
		r.own = append(r.own, rt.Stats.Route)
	}
	if v := rt.VHost.Cluster(&r.s.Match); v != nil {
		r.vcluster = v
		r.own = append(r.own, &v.Stats.Route)
		r.s.Rec.VirtualCluster = v.Logged
	}
}

func (r *Router) direct(d *route.Direct) {
	body := d.Body
	if d.Format != nil {
		r.s.Rec.LocalReplyBody = string(d.Body)
		body = d.Format.Append(nil, &r.s.Rec)
	}
	var edit func(*header.Map)
	var location []byte
	if d.Status == 201 || d.Status/100 == 3 { // what was made, or is to be asked for, is what the request names, as in Envoy
		location = r.address()
	}
	if location != nil || d.Format != nil {
		edit = func(m *header.Map) {
			if location != nil {
				m.Add(header.Location, location)
			}
			if d.Format != nil && d.ContentType != "" && len(body) > 0 {
				m.Add(header.ContentType, []byte(d.ContentType))
			}
		}
	}
	r.s.Direct(int(d.Status), body, edit)
}

// address is the request's URL.
func (r *Router) address() []byte {
	m := &r.s.Request
	return slices.Concat(m.Get(header.Scheme), []byte("://"), m.Get(header.Authority), m.Get(header.Path))
}

// maintain answers for a cluster of which the runtime says that it is being worked on.
func (r *Router) maintain() {
	r.cluster.Stats.UpstreamRqMaintenanceMode.Inc()
	r.charge(503)
	edit := stream.Overloaded
	if r.config.SuppressEnvoyHeaders {
		edit = nil
	}
	r.s.ReplyWith(503, "maintenance mode", "maintenance_mode", edit, access.UpstreamOverflow)
}

// refuse answers one of those requests of which the control plane says that they are too many.
func (r *Router) refuse(all bool) {
	r.charge(503)
	body, details, flag, field := "drop overload", "drop_overload", access.DropOverload, header.XEnvoyDropOverload
	if all {
		body, details, flag, field = "unconditional drop overload", "unconditional_drop_overload", access.UnconditionalDropOverload, header.XEnvoyUnconditionalDropOverload
	}
	var edit func(*header.Map)
	if !r.config.SuppressEnvoyHeaders {
		edit = func(m *header.Map) { m.Add(field, truth[true]) }
	}
	r.s.ReplyWith(503, body, details, edit, flag)
}

func (r *Router) noCluster(name string) {
	if st := r.s.Config.Stats; st != nil {
		st.NoCluster.Inc()
	}
	r.s.Rec.Cluster, r.s.Rec.ClusterRaw = "", ""
	status := 503
	if r.forward.NotFound != 0 {
		status = int(r.forward.NotFound)
	}
	r.s.Reply(status, "", "cluster_not_found", access.NoClusterFound)
}

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
	h, reason := r.cluster.Pick(&pick)
	if reason != cluster.OK {
		r.cluster.Stats.UpstreamCxNoneHealthy.Inc()
		r.charge(503)
		r.endTry()
		status := 503
		if s.Host.Strict && s.Host.Status != 0 && reason == cluster.NoHosts {
			status = s.Host.Status
		}
		r.reply(status, "no healthy upstream", "no_healthy_upstream", nil, access.NoHealthyUpstream)
		return
	}
	a := r.cur
	a.host = h
	a.pending.Offers, a.pending.HTTP2 = s.Config.UpstreamALPN, s.Rec.Protocol == access.HTTP2
	a.pending.Raw = r.forward.EndsHere(s.Request.Get(header.Method))
	s.Rec.Asked, s.Rec.HostEnd = r.mark(), access.Closing{}
	s.Rec.UpstreamHost, s.Rec.UpstreamHostName, s.Rec.Configured[metadata.Host] = h.Addr, h.Name, h.Metadata.All
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
	if r.forward.AutoHost && h.Name != "" {
		r.forward.SetHost(&s.Request, []byte(h.Name))
	}
	a.pending.Origin, a.msg.Meter, a.msg.Helpings = s.Conn.Origin(), &s.Rec.Up, s.Helpings()
	a.pending.Origin.State = &s.Rec.State
	a.pending.Wish = pool.WishOf(&s.Rec.State)
	authority := s.Request.Get(header.Authority) // by which the connection is chosen, whatever filters make of it
	a.filters.Request(r.chain, s, &s.Request)
	a.begin()
	r.limits.Begin(r.w.Loop.Time())
	r.w.Open(&a.pending, r.cluster, h, r.prio, authority, &a.msg, a)
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
			if a, err := netip.ParseAddrPort(text); err == nil {
				return a, nil
			}
		}
	}
	if o := &r.cluster.Override; o.UseHeader {
		if v := r.s.Request.LookupString(o.Header); v != nil {
			if a, err := netip.ParseAddrPort(string(v)); err == nil {
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
	bare := r.ended && len(r.body) == 0 && r.trailers == nil
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

// mayRepeat reports whether the request could be sent once more: by the policy, or because
// the host turns out not to have taken it.
func (r *Router) mayRepeat() bool {
	info := r.cur.up.Info()
	return r.policy != nil || r.follows || !r.replayed && (info.Requests > 1 || info.Protocol == access.HTTP2)
}

// requestSent starts the time of the response, which begins when the request has come whole.
func (r *Router) requestSent() {
	if r.s == nil || r.forward == nil || r.responded {
		return
	}
	if r.set.timeout > 0 {
		r.w.Loop.Schedule(&r.timers[timerResponse], r.set.timeout)
	}
}

// rareBody is how much of a body is kept for what seldom happens: that a host has not taken a request.
const rareBody = 64 << 10

// limit is how much of a body is kept.
func (r *Router) limit() int {
	if r.rare() {
		return rareBody
	}
	n := 1 << 20
	if own := r.s.Conn.Listener.BufferLimit; own > 0 {
		n = own
	}
	return r.s.Route.Buffer.Limit(n)
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

// OnEnd gives everything back.
func (r *Router) OnEnd(*stream.Stream) {
	for i := range r.timers {
		r.w.Loop.Cancel(&r.timers[i])
	}
	r.onlyOne()
	r.cur.stop()
	r.endTry()
	if r.cluster != nil && r.attempts > 0 {
		r.spent()
	}
	r.s, r.forward, r.rules, r.cluster, r.chain, r.limits, r.policy, r.named, r.trailers, r.mirrors = nil, nil, nil, nil, nil, nil, nil, nil, nil, nil
	r.retries, r.attempts, r.merged = 0, 0, route.Policies{}
	r.own, r.vcluster, r.ownRoom = nil, nil, [2]*stats.Route{}
	r.elsewhere, r.hash, r.hasHash = cluster.Retry{}, 0, false
	clear(r.tried)
	r.tried = r.tried[:0]
	r.replayed, r.keep, r.follows, r.ended, r.begun, r.responded, r.untold, r.backed, r.late = false, false, false, false, false, false, false, false, false
	if cap(r.body) > 64<<10 {
		r.body = nil
	}
	r.body = r.body[:0]
}

// OnTimer is a time that is up.
func (r *Router) OnTimer(t *drive.Timer) {
	if r.s == nil {
		return
	}
	switch t.Kind {
	case timerResponse:
		r.timedOut()
	case timerBackoff:
		r.again()
	}
}

// timedOut ends a request whose response does not come, or does not end, in time.
func (r *Router) timedOut() {
	for _, a := range r.others {
		a.outOfTime()
	}
	r.cur.outOfTime()
	if r.responded {
		r.s.Abort(access.UpstreamRequestTimeout, "response_timeout")
		return
	}
	r.tooLate("response_timeout")
}

// fromInside reports whether the request comes from inside of the mesh.
func (r *Router) fromInside() bool { return string(r.s.Request.Get(header.XEnvoyInternal)) == "true" }

// charge counts a response, ours or the upstream's, for the cluster.
func (r *Router) charge(code int) {
	internal := r.fromInside()
	r.cluster.Stats.Count(code, internal)
	if r.named != nil {
		r.named.Count(code, internal)
	}
	for _, own := range r.own {
		own.UpstreamRq.Add(code)
		own.UpstreamRqCompleted.Inc()
	}
}
