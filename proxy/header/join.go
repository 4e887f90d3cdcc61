package header

// A Set is a set of tokens.
type Set [numTokens]bool

func setOf(list ...Token) *Set {
	s := new(Set)
	for _, t := range list {
		s[t] = true
	}
	return s
}

// What Envoy makes one field of, with commas between the values, wherever several come. So nobody reads the first of them for all that
// was said: the last address in x-forwarded-for is that of the nearest proxy, in whichever of the fields it stands.
var (
	JoinedInRequests = setOf(Accept, AcceptEncoding, Authorization, CacheControl, ContentEncoding, ContentType, Expect, GrpcTimeout, Origin, Referer, UserAgent, Via,
		XClientTraceID, XEnvoyAttemptCount, XEnvoyDecoratorOperation, XEnvoyDownstreamServiceCluster, XEnvoyDownstreamServiceNode, XEnvoyExpectedRqTimeoutMs, XEnvoyExternalAddress,
		XEnvoyForceTrace, XEnvoyHedgeOnPerTryTimeout, XEnvoyInternal, XEnvoyIPTags, XEnvoyIsTimeoutRetry, XEnvoyMaxRetries, XEnvoyOriginalHost, XEnvoyOriginalPath, XEnvoyOriginalURL,
		XEnvoyRetriableHeaderNames, XEnvoyRetriableStatusCodes, XEnvoyRetryGrpcOn, XEnvoyRetryOn, XEnvoyUpstreamAltStatName, XEnvoyUpstreamRqPerTryTimeoutMs,
		XEnvoyUpstreamRqTimeoutAltResponse, XEnvoyUpstreamRqTimeoutMs, XEnvoyUpstreamStreamDurationMs, XForwardedClientCert, XForwardedFor, XForwardedHost, XForwardedPort,
		XForwardedProto, XRequestID)
	JoinedInResponses = setOf(CacheControl, ContentEncoding, ContentType, Date, ETag, GrpcMessage, GrpcStatus, LastModified, Location, Server, Vary, Via,
		XEnvoyAttemptCount, XEnvoyDecoratorOperation, XEnvoyImmediateHealthCheckFail, XEnvoyRateLimited, XEnvoyUpstreamServiceTime, XRequestID)
)

// Join makes one field of several of a name, of the names of a set, for codecs that have filled the map by [Map.AddParsed]. An empty value
// adds nothing. What is added to the message from now on keeps to that. A message without such fields pays a look at a bool.
func (m *Map) Join(s *Set) {
	m.lists = s
	if !m.twice {
		return
	}
	m.twice = false
	for t, joined := range s {
		if joined && m.first[t] != 0 {
			m.join(Token(t))
		}
	}
}

// extend appends a value to the field of a token.
func (m *Map) extend(t Token, value []byte) {
	switch old := m.Get(t); {
	case len(value) == 0:
	case len(old) == 0:
		m.Set(t, value)
	default:
		m.Set(t, append(append(append(m.Grow(len(old) + 1 + len(value))[:0], old...), ','), value...))
	}
}

func (m *Map) join(t Token) {
	from := int(m.first[t]) - 1
	fields, size := 0, 0
	for i := from; i < len(m.fields); i++ {
		if m.fields[i].Token == t {
			fields++
			size += len(m.fields[i].Value) + 1
		}
	}
	if fields < 2 {
		return
	}
	all := m.Grow(size)[:0]
	for i := from; i < len(m.fields); i++ {
		f := &m.fields[i]
		if f.Token != t || len(f.Value) == 0 {
			continue
		}
		if len(all) > 0 {
			all = append(all, ',')
		}
		all = append(all, f.Value...)
	}
	m.Set(t, all)
}
