package stream

import (
	"strconv"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

// A ProxyStatus says how responses tell what went wrong here (RFC 9209).
type ProxyStatus struct {
	Name                              string // of this proxy
	NoDetails, NoTermination, NoFlags bool   // what details leave out
	SetCode                           bool   // the status is the one that the RFC recommends
}

var proxyStatus = []byte("proxy-status")

// A problem is a type of error of RFC 9209, section 2.3, and the status that is recommended for it; 0: none.
type problem struct {
	name string
	code int
}

var (
	dnsError               = problem{"dns_error", 502}
	destinationNotFound    = problem{"destination_not_found", 500}
	destinationUnavailable = problem{"destination_unavailable", 503}
	connectionRefused      = problem{"connection_refused", 502}
	connectionTerminated   = problem{"connection_terminated", 502}
	connectionTimeout      = problem{"connection_timeout", 504}
	connectionLimitReached = problem{"connection_limit_reached", 503}
	requestError           = problem{"http_request_error", 0}
	protocolError          = problem{"http_protocol_error", 502}
	responseTimeout        = problem{"http_response_timeout", 504}
	configurationError     = problem{"proxy_configuration_error", 500}
)

// problems are what Envoy makes of its flags; the first that is set counts.
var problems = []struct {
	flag access.Flag
	is   problem
}{
	{access.FailedLocalHealthCheck, destinationUnavailable},
	{access.NoHealthyUpstream, destinationUnavailable},
	{access.UpstreamRequestTimeout, responseTimeout},
	{access.LocalReset, connectionTimeout},
	{access.UpstreamRemoteReset, connectionTerminated},
	{access.UpstreamConnectionFailure, connectionRefused},
	{access.UpstreamConnectionTermination, connectionTerminated},
	{access.UpstreamOverflow, connectionLimitReached},
	{access.NoRouteFound, destinationNotFound},
	{access.RateLimited, connectionLimitReached},
	{access.RateLimitServiceError, connectionLimitReached},
	{access.UpstreamRetryLimitExceeded, destinationUnavailable},
	{access.StreamIdleTimeout, responseTimeout},
	{access.InvalidEnvoyRequestHeaders, requestError},
	{access.DownstreamProtocolError, requestError},
	{access.UpstreamMaxStreamDurationReached, responseTimeout},
	{access.NoFilterConfigFound, configurationError},
	{access.UpstreamProtocolError, protocolError},
	{access.NoClusterFound, destinationUnavailable},
	{access.DNSResolutionFailed, dnsError},
}

// apply adds to a response what went wrong, if anything did, and reports whether its status has changed.
func (p *ProxyStatus) apply(m *header.Map, r *access.Record) bool {
	for i := range problems {
		if !r.Flags.Has(problems[i].flag) {
			continue
		}
		is := problems[i].is
		b := m.Lookup(proxyStatus)
		list := make([]byte, 0, len(b)+256)
		if len(b) > 0 {
			list = append(append(list, b...), ", "...)
		}
		m.SetName(proxyStatus, p.text(list, is, r))
		if !p.SetCode || is.code == 0 {
			return false
		}
		m.SetCopy(header.Status, strconv.AppendInt(nil, int64(is.code), 10))
		return true
	}
	return false
}

var escaped = strings.NewReplacer("\n", `\n`, "\r", `\r`, "\t", `\t`, `"`, `\"`)

// text is one member of the list.
func (p *ProxyStatus) text(b []byte, is problem, r *access.Record) []byte {
	b = append(append(append(b, p.Name...), "; error="...), is.name...)
	if p.NoDetails || r.CodeDetails == "" {
		return b
	}
	b = append(append(b, `; details="`...), escaped.Replace(r.CodeDetails)...)
	if !p.NoTermination && r.Termination != "" {
		b = append(append(b, "; "...), escaped.Replace(r.Termination)...)
	}
	if !p.NoFlags {
		b = r.Flags.Append(append(b, "; "...))
	}
	return append(b, '"')
}
