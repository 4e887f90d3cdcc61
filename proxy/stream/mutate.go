package stream

import (
	"bytes"
	"slices"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
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
	s.Table = s.routes()
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
	s.tellHost(s.Table, s.Route)
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

// authority strips what the configuration says from the host. A CONNECT is for its port (RFC 9110, section 9.3.6), which stays.
func (s *Stream) authority() {
	c := s.Config
	if !c.StripAnyPort && !c.StripMatchingPort && !c.StripTrailingHostDot {
		return
	}
	host, port := splitPort(s.Request.Get(header.Authority))
	before := len(host) + len(port)
	connect := string(s.Request.Get(header.Method)) == "CONNECT"
	if !connect && (c.StripAnyPort || c.StripMatchingPort && len(port) > 0 && portNumber(port[1:]) == int(s.Conn.DirectLocal.Port())) {
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

// responseHeaders makes of a response as the filters left it the one that the client sees.
func (s *Stream) responseHeaders(m *header.Map) {
	c := s.Config
	s.status = m.StatusCode()
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
		s.status = m.StatusCode()
		s.Rec.Code = uint16(s.status)
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
		s.Rec.Code = uint16(m.StatusCode())
		s.finalize(m)
	}
}

// finalize applies the route's header operations, whose values may speak of the response.
func (s *Stream) finalize(m *header.Map) {
	s.Rec.Response = m
	s.Route.FinalizeResponse(m, &s.Rec, s.Weighted)
}
