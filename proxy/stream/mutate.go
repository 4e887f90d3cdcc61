package stream

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
)

var (
	httpScheme  = []byte("http")
	httpsScheme = []byte("https")
)

// prepare makes of a request as received the one that filters and routes see. It
// reports whether it goes on; otherwise the stream has answered. The order is
// Envoy's (conn_manager_impl.cc, conn_manager_utility.cc).
func (s *Stream) prepare() bool {
	c, m := s.Config, &s.Request
	s.GRPC = header.IsGRPC(m.Get(header.ContentType))
	if s.overloaded() {
		return false
	}
	if string(m.Get(header.Method)) == "QUERY" && !m.Has(header.ContentType) {
		s.Reply(400, "", "query_missing_content_type")
		return false
	}
	path := m.Get(header.Path)
	if len(path) > 0 && path[0] != '/' {
		if st := c.Stats; st != nil {
			st.DownstreamRqNonRelativePath.Inc()
		}
		s.Reply(404, "", "absolute_path_rejected")
		return false
	}
	if bytes.IndexByte(path, '#') >= 0 || !s.normalize() {
		s.closeAfter()
		if st := c.Stats; st != nil {
			st.DownstreamRqFailedPathNormalization.Inc()
		}
		s.Reply(400, "", "path_normalization_failed")
		return false
	}
	if s.responded {
		return false
	}
	s.authority()
	c.Early.Apply(m, &s.Rec)
	if !s.addresses() {
		return false
	}
	s.sanitize()
	s.introduce()
	s.clientCert()
	s.requestID()
	if c.Via != "" {
		appendVia(m, s.m.via)
	}
	s.match()
	if c.LogStart {
		s.logMoment(access.DownstreamStart)
	}
	return s.mayUpgrade()
}

// mayUpgrade refuses a request for another protocol that its route does not allow.
func (s *Stream) mayUpgrade() bool {
	if !s.Upgrade || s.upgradeAllowed() {
		return true
	}
	if s.Route == nil {
		s.Upgrade, s.lostUpgrade = false, true // the router will say 404
		return true
	}
	s.closeAfter()
	if st := s.Config.Stats; st != nil {
		st.DownstreamRqWSOnNonWSRoute.Inc()
	}
	s.Reply(403, "", "upgrade_failed")
	return false
}

// closeAfter has the connection end with this response.
func (s *Stream) closeAfter() {
	if v, ok := s.down.(*server); ok {
		v.closing = true
	}
}

// EndConnection has the client's connection end with this response, or lead to its end if it carries streams.
func (s *Stream) EndConnection() {
	if v, ok := s.down.(*exchange); ok {
		v.v.depart()
		return
	}
	s.closeAfter()
}

// match picks the route.
func (s *Stream) match() {
	m := &s.Request
	s.Table = s.m.routes()
	s.Match.Method, s.Match.Scheme = m.Get(header.Method), m.Get(header.Scheme)
	s.Match.Authority, s.Match.Path = m.Get(header.Authority), m.Get(header.Path)
	s.Match.Headers, s.Match.SNI, s.Match.Random = m, s.Conn.SNI, s.Random
	s.Match.State, s.Match.Metadata = &s.Rec.State, &s.Rec.Dynamic
	s.Match.Peer = route.Peer{Client: s.Rec.DownstreamRemote.Addr(), Remote: s.Conn.Remote, Local: s.Conn.Local}
	s.Match.NewCookies = nil
	if tls := s.Conn.TLS; tls != nil {
		s.Match.TLS = route.TLS{Presented: tls.Peer != nil, Validated: tls.Peer != nil && tls.Verified}
	} else {
		s.Match.TLS = route.TLS{}
	}
	if s.Route = nil; s.Table != nil {
		s.Route = s.Table.Match(&s.Match)
	}
	s.Cluster, s.Weighted = "", nil
	s.tellRoute(s.Route)
	if s.Route != nil && s.Route.Forward != nil {
		s.Cluster, s.Weighted = s.Route.Forward.PickCluster(&s.Match)
	}
	s.Rec.Cluster, s.Rec.ClusterRaw = s.Cluster, s.Cluster
}

func (s *Stream) upgradeAllowed() bool {
	kind := strings.ToLower(string(s.Request.Get(header.Upgrade)))
	if kind == "" && string(s.Request.Get(header.Method)) == "CONNECT" {
		kind = "connect"
	}
	if kind == "" || s.Route == nil {
		return false
	}
	if f := s.Route.Forward; f != nil && f.Upgrades != nil {
		if allowed, ok := f.Upgrades[kind]; ok {
			if allowed {
				s.upgraded(kind)
			}
			return allowed
		}
	}
	if slices.Contains(s.Config.Upgrades, kind) {
		s.upgraded(kind)
		return true
	}
	return false
}

// authority strips what the configuration says from the host.
func (s *Stream) authority() {
	c := s.Config
	if !c.StripAnyPort && !c.StripMatchingPort && !c.StripTrailingHostDot {
		return
	}
	host, port := splitPort(s.Request.Get(header.Authority))
	before := len(host) + len(port)
	if c.StripAnyPort || c.StripMatchingPort && len(port) > 0 && portNumber(port[1:]) == int(s.Conn.DirectLocal.Port()) {
		port = nil
	}
	dot := c.StripTrailingHostDot && bytes.HasSuffix(host, []byte{'.'})
	if dot {
		host = host[:len(host)-1]
	}
	switch {
	case len(host)+len(port) == before:
	case len(port) == 0:
		s.Request.Set(header.Authority, host)
	default:
		s.Request.SetCopy(header.Authority, append(append([]byte(nil), host...), port...))
	}
}

// splitPort cuts an authority before the colon of its port.
func splitPort(a []byte) (host, port []byte) {
	i := bytes.LastIndexByte(a, ':')
	if i < 0 || bytes.IndexByte(a[i:], ']') >= 0 {
		return a, nil
	}
	return a[:i], a[i:]
}

func portNumber(b []byte) int {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' || n > 65535 {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// addresses settles who the client is: x-forwarded-for, x-forwarded-proto and scheme. It reports whether the
// request goes on.
func (s *Stream) addresses() bool {
	c, m := s.Config, &s.Request
	remote := s.Conn.Remote
	proto := httpScheme
	if s.Conn.Secure() {
		proto = httpsScheme
	}
	xff := m.Get(header.XForwardedFor)
	switch {
	case c.UseRemoteAddress:
		if c.TrustedHops > 0 {
			if a, _, ok := fromForwarded(xff, c.TrustedHops-1); ok {
				remote = netip.AddrPortFrom(a, 0)
			}
		}
		if !c.SkipXFFAppend && s.Conn.Remote.IsValid() { // not of a Unix socket
			m.SetCopy(header.XForwardedFor, s.appendForwarded(xff))
		}
		if c.TrustedHops == 0 || !m.Has(header.XForwardedProto) {
			m.Set(header.XForwardedProto, proto)
		}
	case len(c.Detectors) > 0:
		a, trusted, ok := s.detect()
		if !ok {
			return false
		}
		if a != remote.Addr() {
			remote = netip.AddrPortFrom(a, 0)
		}
		s.internal = trusted && s.isInternal(a)
		if !m.Has(header.XForwardedProto) {
			m.Set(header.XForwardedProto, proto)
		}
	default:
		if a, only, ok := fromForwarded(xff, c.TrustedHops); ok {
			remote = netip.AddrPortFrom(a, 0)
			s.internal = only && s.isInternal(a)
		} else if len(xff) == 0 {
			s.internal = s.isInternal(remote.Addr())
		}
		if !m.Has(header.XForwardedProto) {
			m.Set(header.XForwardedProto, proto)
		}
	}
	if c.ForwardedPort && s.Conn.Local.IsValid() && !(m.Has(header.XForwardedPort) && (!c.UseRemoteAddress || c.TrustedHops > 0)) {
		var port [5]byte
		m.SetCopy(header.XForwardedPort, strconv.AppendUint(port[:0], uint64(s.Conn.Local.Port()), 10))
	}
	if c.UseRemoteAddress {
		s.internal = len(xff) == 0 && s.isInternal(remote.Addr())
	}
	s.Rec.DownstreamRemote = remote
	joinProtos(m)
	switch p := schemeOf(m.Get(header.XForwardedProto)); {
	case c.SchemeOverwrite != "":
		m.SetCopy(header.Scheme, []byte(c.SchemeOverwrite))
		m.Set(header.XForwardedProto, m.Get(header.Scheme))
	case p != nil:
		m.Set(header.Scheme, p)
	default:
		m.Set(header.Scheme, proto)
	}
	return true
}

var protoName = []byte("x-forwarded-proto")

// joinProtos makes one field of several that say by which protocol a client came, which then say nothing that can be used.
func joinProtos(m *header.Map) {
	var room [4][]byte
	if list := m.Values(room[:0], protoName); len(list) > 1 {
		m.Set(header.XForwardedProto, bytes.Join(list, []byte{','}))
	}
}

var viaName = []byte("via")

// appendVia names a proxy after those that a message has passed before, in one field
// as Envoy does.
func appendVia(m *header.Map, name []byte) {
	before := m.Lookup(viaName)
	if before == nil {
		m.AddName(viaName, name)
		return
	}
	list := m.Grow(len(before) + len(", ") + len(name))[:0]
	list = append(append(append(list, before...), ", "...), name...)
	m.SetName(viaName, list)
}

// schemeOf is the scheme that somebody has named, nil if it is none of HTTP's.
func schemeOf(p []byte) []byte {
	switch {
	case bytes.EqualFold(p, httpScheme):
		return httpScheme
	case bytes.EqualFold(p, httpsScheme):
		return httpsScheme
	}
	return nil
}

func (s *Stream) isInternal(a netip.Addr) bool {
	if !a.IsValid() { // of a Unix socket
		return s.Config.InternalUnix
	}
	return within(s.Config.InternalAddresses, a)
}

// appendForwarded is x-forwarded-for with the peer's address added.
func (s *Stream) appendForwarded(xff []byte) []byte {
	remote := s.Conn.Remote.Addr().Unmap()
	b := s.scratch[:0]
	if len(xff) > 0 {
		b = append(append(b, xff...), ',')
	}
	if listen.Loopback(remote) {
		remote = pool.LocalIP()
	}
	return remote.AppendTo(b)
}

// fromForwarded returns the address that stands skip places before the end of
// x-forwarded-for, and whether it is the only one.
func fromForwarded(xff []byte, skip int) (a netip.Addr, only, ok bool) {
	if len(xff) == 0 {
		return a, false, false
	}
	only = bytes.IndexByte(xff, ',') < 0
	for {
		i := bytes.LastIndexByte(xff, ',')
		item := bytes.TrimSpace(xff[i+1:])
		if skip == 0 {
			a, err := netip.ParseAddr(string(item))
			return a, only, err == nil
		}
		if i < 0 {
			return a, only, false
		}
		xff, skip = xff[:i], skip-1
	}
}

// outside are fields by which internal clients steer a proxy. Nobody else may.
var outside = []header.Token{
	header.XEnvoyRetriableStatusCodes, header.XEnvoyRetriableHeaderNames, header.XEnvoyRetryOn, header.XEnvoyRetryGrpcOn,
	header.XEnvoyMaxRetries, header.XEnvoyUpstreamAltStatName, header.XEnvoyUpstreamRqTimeoutMs, header.XEnvoyUpstreamRqTimeoutAltResponse,
	header.XEnvoyUpstreamRqPerTryTimeoutMs, header.XEnvoyExpectedRqTimeoutMs, header.XEnvoyForceTrace,
	header.XEnvoyHedgeOnPerTryTimeout, header.XEnvoyInternal, header.XEnvoyUpstreamStreamDurationMs, header.XEnvoyIPTags, header.XEnvoyOriginalURL,
}

// atEdge are fields that must not come from outside the mesh.
var atEdge = []header.Token{
	header.XEnvoyDecoratorOperation, header.XEnvoyDownstreamServiceCluster, header.XEnvoyDownstreamServiceNode,
	header.XEnvoyOriginalHost, header.XEnvoyOriginalPath,
}

// sanitize removes what the client has no right to say.
func (s *Stream) sanitize() {
	m := &s.Request
	if s.internal {
		m.Set(header.XEnvoyInternal, trueValue)
		return
	}
	if t := s.m.routes(); t != nil {
		t.RemoveInternal(m)
	}
	if m.HasRange(header.XEnvoyAttemptCount, header.XEnvoyUpstreamStreamDurationMs) {
		for _, t := range outside {
			m.Remove(t)
		}
		if s.Config.UseRemoteAddress {
			for _, t := range atEdge {
				m.Remove(t)
			}
		}
	}
	if s.Config.UseRemoteAddress && s.Rec.DownstreamRemote.IsValid() {
		m.SetCopy(header.XEnvoyExternalAddress, s.Rec.DownstreamRemote.Addr().Unmap().AppendTo(s.scratch[:0]))
	}
}

// introduce tells the upstream who sends it the request.
func (s *Stream) introduce() {
	c, m := s.Config, &s.Request
	if c.UserAgent == nil {
		return
	}
	m.Set(header.XEnvoyDownstreamServiceCluster, c.UserAgent)
	if len(m.Get(header.UserAgent)) == 0 {
		m.Set(header.UserAgent, c.UserAgent)
	}
	if len(c.Node) > 0 {
		m.Set(header.XEnvoyDownstreamServiceNode, c.Node)
	}
}

// requestID makes an identifier if there is none that counts, and writes the decision
// about tracing into its 15th character, as Envoy's UUID extension does.
func (s *Stream) requestID() {
	c, m := s.Config, &s.Request
	if c.NoRequestID {
		s.Rec.RequestID = m.Get(header.XRequestID)
		return
	}
	edge := c.UseRemoteAddress && !s.internal
	if len(m.Get(header.XRequestID)) == 0 || edge && !c.PreserveRequestID {
		s.newID()
		m.Set(header.XRequestID, s.reqID[:])
	}
	if c.Tracing != nil {
		s.trace(m.Get(header.XRequestID))
	}
	s.Rec.RequestID = m.Get(header.XRequestID)
}

// newID writes a random UUID (RFC 9562, version 4).
func (s *Stream) newID() {
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:8], s.Worker.Random())
	binary.LittleEndian.PutUint64(u[8:], s.Worker.Random())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	d := s.reqID[:]
	hex.Encode(d, u[:4])
	hex.Encode(d[9:], u[4:6])
	hex.Encode(d[14:], u[6:8])
	hex.Encode(d[19:], u[8:10])
	hex.Encode(d[24:], u[10:])
	d[8], d[13], d[18], d[23] = '-', '-', '-', '-'
}

// The characters that say whether a request is traced, and why.
const (
	notTraced     = '4'
	tracedSampled = '9'
	tracedService = 'a'
	tracedClient  = 'b'
)

// traceAt is where an identifier has that character.
const traceAt = 14

// trace decides about tracing unless somebody before us has, and counts.
func (s *Stream) trace(id []byte) {
	why := byte(notTraced)
	if len(id) == 36 {
		if why = id[traceAt]; why == notTraced {
			if why = s.pick(); s.Config.Tracing.Pack {
				id[traceAt] = why
			}
		}
	}
	s.Rec.ForceTraced = why == tracedService
	st := s.Config.Stats
	if st == nil {
		return
	}
	switch why {
	case tracedClient:
		st.TracingClientEnabled.Inc()
	case tracedService:
		st.TracingServiceForced.Inc()
	case tracedSampled:
		st.TracingRandomSampling.Inc()
	default:
		st.TracingNotTraceable.Inc()
	}
}

// pick decides about tracing.
func (s *Stream) pick() byte {
	t := s.Config.Tracing
	chance := float64(s.Worker.Random()>>11) / (1 << 53) * 100
	switch {
	case s.Request.Has(header.XClientTraceID) && chance < t.Client:
		return tracedClient
	case s.Request.Has(header.XEnvoyForceTrace):
		return tracedService
	case chance < min(t.Random, t.Overall):
		return tracedSampled
	}
	return notTraced
}

// Decorate names the operation, for Envoy's decorator headers; the router calls it
// once the route is final.
func (s *Stream) Decorate() {
	t := s.Config.Tracing
	if t == nil || s.Route == nil {
		return
	}
	s.wantedByUs = s.Request.Has(header.XEnvoyDecoratorOperation)
	if t.Egress {
		if s.Route.Decorator != "" {
			s.Request.SetCopy(header.XEnvoyDecoratorOperation, []byte(s.Route.Decorator))
		}
		return
	}
	s.Request.Remove(header.XEnvoyDecoratorOperation)
}

// responseHeaders makes of a response as the filters left it the one that the client sees.
func (s *Stream) responseHeaders(m *header.Map) {
	c := s.Config
	s.status = statusOf(m.Get(header.Status))
	s.Rec.Code = uint16(s.status)
	if s.status < 200 && s.status != 101 {
		return
	}
	if s.status != 101 {
		ownHop(m)
	}
	if !m.Has(header.Date) {
		m.Add(header.Date, s.m.now())
	}
	if c.Server == Overwrite || c.Server == AppendIfAbsent && !m.Has(header.Server) {
		m.Set(header.Server, s.m.server)
	}
	if t := c.Tracing; t != nil && s.Route != nil {
		if t.Egress {
			m.Remove(header.XEnvoyDecoratorOperation)
		} else if s.Route.Decorator != "" && !s.wantedByUs {
			m.SetCopy(header.XEnvoyDecoratorOperation, []byte(s.Route.Decorator))
		}
	}
	s.tellID(m)
	if c.Via != "" {
		appendVia(m, s.m.via)
	}
	if p := c.ProxyStatus; p != nil && p.apply(m, &s.Rec) {
		s.status = statusOf(m.Get(header.Status))
		s.Rec.Code = uint16(s.status)
	}
}

// tellID has a response name its request, if that is wanted.
func (s *Stream) tellID(m *header.Map) {
	if (s.Config.AlwaysSetRequestID || s.Request.Has(header.XEnvoyForceTrace)) && s.Rec.RequestID != nil {
		m.Set(header.XRequestID, s.Rec.RequestID)
	}
}

// ownHop takes away what says how a message is framed and what becomes of the connection: no route and no filter
// does, only who writes it. What the upstream said of its own connection has been read, and is not there.
func ownHop(m *header.Map) {
	m.Remove(header.Connection)
	m.Remove(header.TransferEncoding)
	m.Remove(header.ProxyConnection)
}

// finalizeResponse applies the route's header operations to a response of the upstream, before the filters see it, as Envoy's
// router does: what filters add is theirs.
func (s *Stream) finalizeResponse(m *header.Map) {
	if s.Route != nil {
		s.Rec.Code = uint16(statusOf(m.Get(header.Status)))
		s.finalize(m)
	}
}

// finalize applies the route's header operations, whose values may speak of the response.
func (s *Stream) finalize(m *header.Map) {
	s.Rec.Response = m
	s.Route.FinalizeResponse(m, &s.Rec, s.Weighted)
}

func statusOf(b []byte) int {
	if len(b) != 3 {
		return 0
	}
	return int(b[0]-'0')*100 + int(b[1]-'0')*10 + int(b[2]-'0')
}
