package stream

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/route"
)

// Beginning a request once more stands here: for a redirect that is followed in the client's place.

// RouteTo returns the route and the cluster that the request would have as its headers are now. It stays with what it has, but
// logs tell of these from now on, whether it then goes there or not, as Envoy's do.
func (s *Stream) RouteTo() (rt *route.Route, cluster string) {
	table, m := s.routes(), &s.Request
	if table != nil {
		q := s.Match
		q.Method, q.Scheme, q.Authority, q.Path = m.Get(header.Method), m.Get(header.Scheme), m.Get(header.Authority), m.Get(header.Path)
		if rt = table.Match(&q); rt != nil && rt.Forward != nil {
			cluster, _ = rt.Forward.PickCluster(&q)
		}
	}
	s.tellRoute(rt)
	s.tellHost(table, rt)
	return rt, cluster
}

// tellRoute has logs tell of a route.
func (s *Stream) tellRoute(rt *route.Route) {
	r := &s.Rec
	r.RouteName, r.VirtualHost, r.Routed = "", "", rt != nil
	r.Configured[metadata.Route], r.Configured[metadata.VirtualHost] = nil, nil
	if rt == nil {
		return
	}
	r.RouteName, r.Configured[metadata.Route] = rt.Name, rt.Metadata
	if rt.VHost != nil {
		r.VirtualHost, r.Configured[metadata.VirtualHost] = rt.VHost.Name, rt.VHost.Metadata
	}
}

// tellHost has logs tell of the virtual host of a request that has no route of one: it has none at all, or is to come by TLS.
func (s *Stream) tellHost(t *route.Table, rt *route.Route) {
	if t == nil || rt != nil && rt.VHost != nil && rt.VHost.Name != "" {
		return
	}
	if v := t.VirtualHost(&s.Match); v != nil {
		s.Rec.VirtualHost, s.Rec.Configured[metadata.VirtualHost] = v.Name, v.Metadata
	}
}

// Again leads the request through all filters as another one, with its headers as they are now and this
// body, in a later turn. answer is the response that it has got from its host and that nobody will see. It stands
// in the log of the request so far; what follows is logged, and counted, as a request
// of its own, as in Envoy. The request must have come whole, and no response may have begun.
func (s *Stream) Again(answer *header.Map, details string, body []byte) {
	gen := s.gen
	s.Worker.Loop.Post(func() {
		if s.gen == gen && !s.over && !s.responded {
			s.again(answer, details, body)
		}
	})
}

func (s *Stream) again(answer *header.Map, details string, body []byte) {
	s.status = answer.StatusCode()
	s.Response, s.responded = answer, true
	s.Rec.Code, s.Rec.CodeDetails = uint16(s.status), details
	s.unseen = true
	s.end()
	s.unseen = false
	s.gen++ // filters that wait for somebody wait no more

	was := access.Record{DownstreamRemote: s.Rec.DownstreamRemote, RequestID: s.Rec.RequestID, Protocol: s.Rec.Protocol,
		Down: s.Rec.Down, BytesReceived: s.Rec.BytesReceived}
	s.restart()
	s.m.count(was.Protocol)
	r := &s.Rec
	r.DownstreamRemote, r.RequestID, r.Protocol, r.Down = was.DownstreamRemote, was.RequestID, was.Protocol, was.Down
	r.BytesReceived = was.BytesReceived + uint64(len(body)) // as Envoy, which takes the body for one that comes
	path := s.Request.Get(header.Path)
	if bytes.IndexByte(path, '#') >= 0 || !s.normalize() {
		s.closeAfter()
		if st := s.Config.Stats; st != nil {
			st.DownstreamRqFailedPathNormalization.Inc()
		}
		s.Reply(400, "", "path_normalization_failed")
		return
	}
	if s.responded {
		return
	}
	s.authority()
	s.Reroute()
	if s.Config.LogStart {
		s.logMoment(access.DownstreamStart)
	}
	gen := s.gen
	if s.begin(len(body) == 0); len(body) > 0 && s.gen == gen && !s.over {
		s.requested, r.RequestEnd = true, s.mark()
		s.passData(0, body, true)
		s.checkOver()
	}
}

// restart makes the stream's memory ready for its request once more.
func (s *Stream) restart() {
	s.Trailers.Reset()
	s.local.Reset()
	s.Rec.Reset()
	s.reqHeld, s.respHeld = held{bytes: s.reqHeld.bytes[:0]}, held{bytes: s.respHeld.bytes[:0]}
	s.Response, s.buffer.Bytes = nil, nil
	s.at, s.reqWait, s.respWait, s.status = 0, -1, -1, 0
	s.responded, s.sent, s.finished, s.replied, s.over, s.started, s.passedEnd = false, false, false, false, false, false, false
	s.respEnds, s.reqPaused, s.respPaused, s.skip = false, 0, 0, 0
	s.Host, s.switched = HostWish{}, false
	s.open()
}

// open begins the account.
func (s *Stream) open() {
	w := s.Worker
	s.Random = w.Random()
	s.Rec.Type = access.DownstreamEnd
	s.Rec.Start, s.Rec.Began = w.Loop.Wall(), s.mark()
	s.Rec.Request = &s.Request
	s.Conn.Heard()
	s.Conn.Fill(&s.Rec)
	s.Rec.World = w
}

// count counts a request.
func (m *manager) count(p access.Protocol) {
	st := m.cfg.Stats
	if st == nil {
		return
	}
	st.DownstreamRqTotal.Inc()
	st.DownstreamRqActive.Inc()
	if p == access.HTTP2 {
		st.DownstreamRqHTTP2Total.Inc()
	} else {
		st.DownstreamRqHTTP1Total.Inc()
	}
}
