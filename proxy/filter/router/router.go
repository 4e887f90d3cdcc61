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
// request is sent once more if nothing of it had arrived, or if its method is
// idempotent (RFC 9110, section 9.2.2) and the end came before anybody can have worked
// on it ([pool.Raced]): that is a race with a server that closes idle connections, and
// nobody's fault.
package router

import (
	"slices"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/upstream"
	"github.com/mallamesh/malla/proxy/header"
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
	UncodedGRPC          bool            // suppress_grpc_request_failure_code_stats: calls of gRPC are counted without their status of HTTP
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
	asksFor   cluster.Wanted // hosts that the request names
	hash      uint64
	hasHash   bool
	wait      time.Duration    // what a response has said
	told      bool             // the next try waits for as long as a response has said
	late      bool             // the next try comes because a time is up
	named     *stats.Responses // below which responses count, too
	own       []*stats.Route   // of the route and of the virtual cluster, which count the request, too
	ownRoom   [2]*stats.Route
	vcluster  *route.VirtualCluster
	retrying  *cluster.Breakers // of which a place among the retries is held; nil: none
	replayed  bool              // the try that needs no policy was made
	attempts  uint32
	began     int64 // when the request came

	body      []byte // of the request, kept for another try and for mirrors
	follows   bool   // redirects of the host may be followed
	keep      bool   // body holds all that has come so far
	ended     bool   // the whole request has come
	headOnly  bool   // it is headers only
	trailers  *header.Map
	begun     bool // an interim response was passed on
	responded bool
	loadTold  bool // a report of a host's load has come
	untold    bool // how a gRPC call has ended stands in trailers, which have not come
	backed    bool // the host takes no more of the request
	mirrors   []*shadow
	number    [20]byte
}

// OnRequest begins.
func (r *Router) OnRequest(s *stream.Stream, m *header.Map, end bool) {
	r.s, r.ended, r.headOnly = s, end, end
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
		rt.Redirect.RewritePath(m, !r.config.SuppressEnvoyHeaders)
		s.Redirect(int(rt.Redirect.Code), location)
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

// OnEnd gives everything back.
func (r *Router) OnEnd(*stream.Stream) {
	for i := range r.timers {
		r.w.Loop.Cancel(&r.timers[i])
	}
	r.cur.waitNoMore()
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
	r.asksFor.Forget()
	r.replayed, r.keep, r.follows, r.ended, r.begun, r.responded, r.untold, r.backed, r.late, r.loadTold = false, false, false, false, false, false, false, false, false, false
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

// answering reports whether something of a response has gone to the client.
func (r *Router) answering() bool {
	return r.begun || r.responded
}

// chargeAbort counts a try that ends before its time: as the response that stands for it, if the client has been told of none, or as
// a gRPC call that does not come to say how it has ended.
func (r *Router) chargeAbort(a *attempt, code int) {
	if !r.answering() {
		r.charge(code)
		a.blame()
		return
	}
	if r.untold {
		a.blame()
		if st := r.s.Config.Stats; st != nil {
			st.RqResetAfterDownstreamResponseStarted.Inc()
		}
	}
}

// charge counts a response, ours or the upstream's, for the cluster.
func (r *Router) charge(code int) {
	internal := r.fromInside()
	told := code
	if r.s.GRPC && r.config.UncodedGRPC {
		told = 0
	}
	r.cluster.Stats.CountAs(told, code, internal)
	if r.named != nil {
		r.named.CountAs(told, code, internal)
	}
	for _, own := range r.own {
		own.UpstreamRq.Add(code)
		own.UpstreamRqCompleted.Inc()
	}
}
