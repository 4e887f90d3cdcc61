package header

import "strings"

// A Token stands for a name that the proxy knows, so that hot code compares one
// byte instead of a string. None stands for every other name.
type Token uint8

// The names that the proxy itself reads or writes, pseudo headers first.
const (
	None Token = iota

	Authority
	Method
	Path
	Scheme
	Status
	Protocol

	Accept
	AcceptEncoding
	AcceptLanguage
	Authorization
	B3
	Baggage
	CacheControl
	Connection
	ContentEncoding
	ContentLength
	ContentType
	Cookie
	Date
	EndpointLoadMetrics
	EndpointLoadMetricsBin
	ETag
	Expect
	GrpcMessage
	GrpcStatus
	GrpcTimeout
	Host
	HTTP2Settings
	KeepAlive
	LastModified
	Location
	Origin
	ProxyConnection
	Referer
	RetryAfter
	Server
	SetCookie
	TE
	TraceParent
	TraceState
	Trailer
	TransferEncoding
	Upgrade
	UserAgent
	Vary
	Via
	XB3Flags
	XB3ParentSpanID
	XB3Sampled
	XB3SpanID
	XB3TraceID
	XClientTraceID
	XEnvoyAttemptCount
	XEnvoyDecoratorOperation
	XEnvoyDegraded
	XEnvoyDownstreamServiceCluster
	XEnvoyDownstreamServiceNode
	XEnvoyDropOverload
	XEnvoyExpectedRqTimeoutMs
	XEnvoyExternalAddress
	XEnvoyForceTrace
	XEnvoyHedgeOnPerTryTimeout
	XEnvoyImmediateHealthCheckFail
	XEnvoyInternal
	XEnvoyIPTags
	XEnvoyIsTimeoutRetry
	XEnvoyLocalOverloaded
	XEnvoyMaxRetries
	XEnvoyOriginalDstHost
	XEnvoyOriginalHost
	XEnvoyOriginalPath
	XEnvoyOriginalURL
	XEnvoyOverloaded
	XEnvoyPeerMetadata
	XEnvoyPeerMetadataID
	XEnvoyRateLimited
	XEnvoyRetriableHeaderNames
	XEnvoyRetriableStatusCodes
	XEnvoyRetryGrpcOn
	XEnvoyRetryOn
	XEnvoyUnconditionalDropOverload
	XEnvoyUpstreamAltStatName
	XEnvoyUpstreamRqPerTryTimeoutMs
	XEnvoyUpstreamRqTimeoutAltResponse
	XEnvoyUpstreamRqTimeoutMs
	XEnvoyUpstreamServiceTime
	XEnvoyUpstreamStreamDurationMs
	XForwardedClientCert
	XForwardedFor
	XForwardedHost
	XForwardedPort
	XForwardedProto
	XRequestID

	numTokens
)

// names holds the lower-case name of every token; the order is that of the constants.
var names = [numTokens]string{
	Authority: ":authority",
	Method:    ":method",
	Path:      ":path",
	Scheme:    ":scheme",
	Status:    ":status",
	Protocol:  ":protocol",

	Accept:                             "accept",
	AcceptEncoding:                     "accept-encoding",
	AcceptLanguage:                     "accept-language",
	Authorization:                      "authorization",
	B3:                                 "b3",
	Baggage:                            "baggage",
	CacheControl:                       "cache-control",
	Connection:                         "connection",
	ContentEncoding:                    "content-encoding",
	ContentLength:                      "content-length",
	ContentType:                        "content-type",
	Cookie:                             "cookie",
	Date:                               "date",
	EndpointLoadMetrics:                "endpoint-load-metrics",
	EndpointLoadMetricsBin:             "endpoint-load-metrics-bin",
	ETag:                               "etag",
	Expect:                             "expect",
	GrpcMessage:                        "grpc-message",
	GrpcStatus:                         "grpc-status",
	GrpcTimeout:                        "grpc-timeout",
	Host:                               "host",
	HTTP2Settings:                      "http2-settings",
	KeepAlive:                          "keep-alive",
	LastModified:                       "last-modified",
	Location:                           "location",
	Origin:                             "origin",
	ProxyConnection:                    "proxy-connection",
	Referer:                            "referer",
	RetryAfter:                         "retry-after",
	Server:                             "server",
	SetCookie:                          "set-cookie",
	TE:                                 "te",
	TraceParent:                        "traceparent",
	TraceState:                         "tracestate",
	Trailer:                            "trailer",
	TransferEncoding:                   "transfer-encoding",
	Upgrade:                            "upgrade",
	UserAgent:                          "user-agent",
	Vary:                               "vary",
	Via:                                "via",
	XB3Flags:                           "x-b3-flags",
	XB3ParentSpanID:                    "x-b3-parentspanid",
	XB3Sampled:                         "x-b3-sampled",
	XB3SpanID:                          "x-b3-spanid",
	XB3TraceID:                         "x-b3-traceid",
	XClientTraceID:                     "x-client-trace-id",
	XEnvoyAttemptCount:                 "x-envoy-attempt-count",
	XEnvoyDecoratorOperation:           "x-envoy-decorator-operation",
	XEnvoyDegraded:                     "x-envoy-degraded",
	XEnvoyDownstreamServiceCluster:     "x-envoy-downstream-service-cluster",
	XEnvoyDownstreamServiceNode:        "x-envoy-downstream-service-node",
	XEnvoyExpectedRqTimeoutMs:          "x-envoy-expected-rq-timeout-ms",
	XEnvoyExternalAddress:              "x-envoy-external-address",
	XEnvoyForceTrace:                   "x-envoy-force-trace",
	XEnvoyHedgeOnPerTryTimeout:         "x-envoy-hedge-on-per-try-timeout",
	XEnvoyImmediateHealthCheckFail:     "x-envoy-immediate-health-check-fail",
	XEnvoyInternal:                     "x-envoy-internal",
	XEnvoyIPTags:                       "x-envoy-ip-tags",
	XEnvoyIsTimeoutRetry:               "x-envoy-is-timeout-retry",
	XEnvoyLocalOverloaded:              "x-envoy-local-overloaded",
	XEnvoyMaxRetries:                   "x-envoy-max-retries",
	XEnvoyOriginalDstHost:              "x-envoy-original-dst-host",
	XEnvoyOriginalHost:                 "x-envoy-original-host",
	XEnvoyOriginalURL:                  "x-envoy-original-url",
	XEnvoyOriginalPath:                 "x-envoy-original-path",
	XEnvoyDropOverload:                 "x-envoy-drop-overload",
	XEnvoyUnconditionalDropOverload:    "x-envoy-unconditional-drop-overload",
	XEnvoyOverloaded:                   "x-envoy-overloaded",
	XEnvoyPeerMetadata:                 "x-envoy-peer-metadata",
	XEnvoyPeerMetadataID:               "x-envoy-peer-metadata-id",
	XEnvoyRateLimited:                  "x-envoy-ratelimited",
	XEnvoyRetriableHeaderNames:         "x-envoy-retriable-header-names",
	XEnvoyRetriableStatusCodes:         "x-envoy-retriable-status-codes",
	XEnvoyRetryGrpcOn:                  "x-envoy-retry-grpc-on",
	XEnvoyRetryOn:                      "x-envoy-retry-on",
	XEnvoyUpstreamAltStatName:          "x-envoy-upstream-alt-stat-name",
	XEnvoyUpstreamRqPerTryTimeoutMs:    "x-envoy-upstream-rq-per-try-timeout-ms",
	XEnvoyUpstreamRqTimeoutAltResponse: "x-envoy-upstream-rq-timeout-alt-response",
	XEnvoyUpstreamRqTimeoutMs:          "x-envoy-upstream-rq-timeout-ms",
	XEnvoyUpstreamServiceTime:          "x-envoy-upstream-service-time",
	XEnvoyUpstreamStreamDurationMs:     "x-envoy-upstream-stream-duration-ms",
	XForwardedClientCert:               "x-forwarded-client-cert",
	XForwardedFor:                      "x-forwarded-for",
	XForwardedHost:                     "x-forwarded-host",
	XForwardedPort:                     "x-forwarded-port",
	XForwardedProto:                    "x-forwarded-proto",
	XRequestID:                         "x-request-id",
}

// nameBytes are the names as slices that everybody may share and nobody may write.
var nameBytes [numTokens][]byte

// The hash table of the known names: open addressing, at most half full. The
// hash reads the length and three bytes; a miss costs one comparison.
const tableSize = 512

var table [tableSize]Token

func hash(name []byte) uint32 {
	n := len(name)
	h := uint32(n)*0x9e37 + uint32(name[0])*0x85eb + uint32(name[n-1])*0x27d4 + uint32(name[n/2])*0xc2b3
	if n > 9 {
		h += uint32(name[n-4])*0x1656 + uint32(name[8])*0x3c6f
	}
	return (h ^ h>>9) % tableSize
}

func init() {
	for t := None + 1; t < numTokens; t++ {
		nameBytes[t] = []byte(names[t])
		i := hash(nameBytes[t])
		for table[i] != None {
			i = (i + 1) % tableSize
		}
		table[i] = t
	}
}

// TokenOf returns the token of a lower-case name, or None.
func TokenOf(name []byte) Token {
	if len(name) < 2 {
		return None
	}
	for i := hash(name); ; i = (i + 1) % tableSize {
		t := table[i]
		if t == None || names[t] == string(name) {
			return t
		}
	}
}

// TokenOfString is TokenOf for configuration; it ignores case and takes Host for Authority.
func TokenOfString(name string) Token {
	t := TokenOf([]byte(strings.ToLower(name)))
	if t == Host {
		return Authority
	}
	return t
}

// Name returns the lower-case name of a token as bytes that must not be written.
func (t Token) Name() []byte { return nameBytes[t] }

// String returns the lower-case name of a token.
func (t Token) String() string { return names[t] }

// Pseudo reports whether the token is a pseudo header, which HTTP/1.1 writes into its first line.
func (t Token) Pseudo() bool { return t >= Authority && t <= Protocol }
