package stream

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
)

// Who a request comes from, and what it says of the way to here.

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
		remote = s.believed(xff)
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
	if c.SchemeOverwrite != "" {
		m.SetCopy(header.Scheme, []byte(c.SchemeOverwrite))
		m.Set(header.XForwardedProto, m.Get(header.Scheme))
		return true
	}
	m.Set(header.Scheme, s.scheme(proto))
	return true
}

// scheme is the one that the client has named, by HTTP/2 or by an absolute target of HTTP/1.1. If it is none of HTTP's, or there is
// none, it is what x-forwarded-proto says of the way to here, and then that of the connection.
func (s *Stream) scheme(connection []byte) []byte {
	m := &s.Request
	if s.absolute || s.Rec.Protocol == access.HTTP2 {
		if said := schemeOf(m.Get(header.Scheme)); said != nil {
			return said
		}
	}
	if before := schemeOf(m.Get(header.XForwardedProto)); before != nil {
		return before
	}
	return connection
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

// believed is who the client is where x-forwarded-for tells it: the peer if that field does not. Nobody is internal but
// whom it calls so as its only address: the peer's own address counts for nothing, since the field is missing or broken.
func (s *Stream) believed(xff []byte) netip.AddrPort {
	a, only, ok := fromForwarded(xff, s.Config.TrustedHops)
	if !ok {
		return s.Conn.Remote
	}
	s.internal = only && s.isInternal(a)
	return netip.AddrPortFrom(a, 0)
}

func (s *Stream) isInternal(a netip.Addr) bool {
	if !a.IsValid() { // of a Unix socket, or of the proxy itself
		return s.Config.InternalUnix && !s.Conn.Internal()
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
			a, ok := pipe.ParseAddr(string(item))
			return a, only, ok
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
	if t := s.routes(); t != nil {
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
