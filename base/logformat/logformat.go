// Package logformat says what an access log's format may hold: the formats that
// have names, and the operators that every proxy knows.
//
// Config checks a format with it where its author writes it, translate sends the
// texts, and the proxy writes them: one list, so that what is accepted at one end is
// known at the other (a test of proxy/access holds its table against this one). How
// an operator is computed, and the fine points of its argument, are the proxy's.
package logformat

import (
	"fmt"
	"strings"
)

// The formats that have names. Istio's default since 1.9; the older one, which
// scripts still parse: it lacks the two fields of details; what Envoy writes if no
// format is given.
const (
	Istio   = head + " %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%" + tail
	Istio18 = head + tail
	Envoy   = head + ` %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
		`"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"` + "\n"

	head = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS%`
	tail = ` "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% ` +
		`"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" ` +
		`%UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%` + "\n"
)

// MeshNames are the names that MeshConfig's accessLogFormat may be.
var MeshNames = []string{"istio", "istio-1.8"}

// Text returns the text of a named format: one of MeshNames, or "envoy".
func Text(name string) (string, bool) {
	switch name {
	case "istio":
		return Istio, true
	case "istio-1.8":
		return Istio18, true
	case "envoy":
		return Envoy, true
	}
	return "", false
}

// An Argument says whether an operator has an argument in parentheses.
type Argument uint8

const (
	NoArgument Argument = iota
	MayArgument
	MustArgument
)

// An Operator is what may be written of one: %NAME(argument):length%.
type Operator struct {
	Argument Argument
	Length   bool
}

// Operators are those that proxies know, by name.
var Operators = func() map[string]Operator {
	all := map[string]Operator{}
	for _, group := range []struct {
		Operator
		names []string
	}{
		{Operator{NoArgument, false}, plain}, {Operator{MayArgument, false}, mayArgument}, {Operator{MayArgument, true}, mayArgumentLength},
		{Operator{MustArgument, false}, mustArgument}, {Operator{MustArgument, true}, mustArgumentLength},
	} {
		for _, name := range group.names {
			all[name] = group.Operator
		}
	}
	return all
}()

var (
	mayArgument = []string{
		"DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
		"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_PEER_CERT_V_END", "DOWNSTREAM_PEER_CERT_V_START",
		"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "EMIT_TIME", "EMIT_TIME_LOCAL", "GRPC_STATUS", "REQUESTED_SERVER_NAME",
		"RESPONSE_CODE_DETAILS", "START_TIME", "START_TIME_LOCAL", "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "UPSTREAM_PEER_CERT_V_END",
		"UPSTREAM_PEER_CERT_V_START", "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
	}
	mayArgumentLength  = []string{"PATH", "QUERY_PARAMS"}
	mustArgument       = []string{"CLUSTER_METADATA", "COMMON_DURATION", "UPSTREAM_METADATA"}
	mustArgumentLength = []string{
		"CEL", "COALESCE", "DYNAMIC_METADATA", "ENVIRONMENT", "FILTER_STATE", "METADATA", "QUERY_PARAM", "REQ", "REQUEST_HEADER", "REQ_WITHOUT_QUERY", "RESP",
		"RESPONSE_HEADER", "RESPONSE_TRAILER", "TRAILER", "TYPED_CEL", "UPSTREAM_FILTER_STATE",
	}
	plain = []string{
		"ACCESS_LOG_TYPE", "BYTES_RECEIVED", "BYTES_RETRANSMITTED", "BYTES_SENT", "CONNECTION_ID", "CONNECTION_TERMINATION_DETAILS",
		"CUSTOM_FLAGS", "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
		"DOWNSTREAM_DETECTED_CLOSE_TYPE", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
		"DOWNSTREAM_DIRECT_LOCAL_PORT", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_PORT",
		"DOWNSTREAM_HANDSHAKE_DURATION", "DOWNSTREAM_HEADER_BYTES_RECEIVED", "DOWNSTREAM_HEADER_BYTES_SENT", "DOWNSTREAM_LOCAL_ADDRESS",
		"DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", "DOWNSTREAM_LOCAL_CLOSE_REASON", "DOWNSTREAM_LOCAL_DNS_SAN",
		"DOWNSTREAM_LOCAL_EMAIL_SAN", "DOWNSTREAM_LOCAL_IP_SAN", "DOWNSTREAM_LOCAL_OTHERNAME_SAN", "DOWNSTREAM_LOCAL_PORT",
		"DOWNSTREAM_LOCAL_SUBJECT", "DOWNSTREAM_LOCAL_URI_SAN", "DOWNSTREAM_PEER_CERT", "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
		"DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", "DOWNSTREAM_PEER_CHAIN_SERIALS", "DOWNSTREAM_PEER_DNS_SAN",
		"DOWNSTREAM_PEER_EMAIL_SAN", "DOWNSTREAM_PEER_FINGERPRINT_1", "DOWNSTREAM_PEER_FINGERPRINT_256", "DOWNSTREAM_PEER_IP_SAN",
		"DOWNSTREAM_PEER_ISSUER", "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", "DOWNSTREAM_PEER_ISSUER_SERIAL",
		"DOWNSTREAM_PEER_OTHERNAME_SAN", "DOWNSTREAM_PEER_SERIAL", "DOWNSTREAM_PEER_SUBJECT", "DOWNSTREAM_PEER_URI_SAN",
		"DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_REMOTE_PORT", "DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_GROUP",
		"DOWNSTREAM_TLS_SESSION_ID", "DOWNSTREAM_TLS_VERSION", "DOWNSTREAM_TRANSPORT_FAILURE_REASON", "DOWNSTREAM_WIRE_BYTES_RECEIVED",
		"DOWNSTREAM_WIRE_BYTES_SENT", "DURATION", "FILTER_CHAIN_NAME", "GRPC_STATUS_NUMBER", "HOSTNAME", "LOCAL_REPLY_BODY",
		"MALLA_DOWNSTREAM_CLOSE", "MALLA_UPSTREAM_CLOSE",
		"PACKETS_RETRANSMITTED", "PROTOCOL", "REQUEST_DURATION", "REQUEST_HEADERS_BYTES", "REQUEST_TX_DURATION", "RESPONSE_CODE",
		"RESPONSE_DURATION", "RESPONSE_FLAGS", "RESPONSE_FLAGS_LONG", "RESPONSE_HEADERS_BYTES", "RESPONSE_TRAILERS_BYTES",
		"RESPONSE_TX_DURATION", "ROUNDTRIP_DURATION", "ROUTE_NAME", "SPAN_ID", "STREAM_ID", "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT",
		"TRACE_ID", "UNIQUE_ID", "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW", "UPSTREAM_CONNECTION_ID",
		"UPSTREAM_CONNECTION_IDS_ATTEMPTED", "UPSTREAM_CONNECTION_POOL_READY_DURATION", "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
		"UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", "UPSTREAM_DETECTED_CLOSE_TYPE", "UPSTREAM_HEADER_BYTES_RECEIVED",
		"UPSTREAM_HEADER_BYTES_SENT", "UPSTREAM_HOST", "UPSTREAM_HOSTS_ATTEMPTED", "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
		"UPSTREAM_HOST_NAME", "UPSTREAM_HOST_NAMES_ATTEMPTED", "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT",
		"UPSTREAM_HOST_NAME_WITHOUT_PORT", "UPSTREAM_LOCAL_ADDRESS", "UPSTREAM_LOCAL_CLOSE_REASON", "UPSTREAM_LOCAL_DNS_SAN",
		"UPSTREAM_LOCAL_IP_SAN", "UPSTREAM_LOCAL_PORT", "UPSTREAM_LOCAL_SUBJECT", "UPSTREAM_LOCAL_URI_SAN", "UPSTREAM_PEER_CERT",
		"UPSTREAM_PEER_DNS_SAN", "UPSTREAM_PEER_IP_SAN", "UPSTREAM_PEER_ISSUER", "UPSTREAM_PEER_SUBJECT", "UPSTREAM_PEER_URI_SAN",
		"UPSTREAM_PROTOCOL", "UPSTREAM_REMOTE_ADDRESS", "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", "UPSTREAM_REMOTE_PORT",
		"UPSTREAM_REQUEST_ATTEMPT_COUNT", "UPSTREAM_SERVER_NAME", "UPSTREAM_TLS_CIPHER", "UPSTREAM_TLS_GROUP", "UPSTREAM_TLS_SESSION_ID",
		"UPSTREAM_TLS_VERSION", "UPSTREAM_TRANSPORT_FAILURE_REASON", "UPSTREAM_WIRE_BYTES_RECEIVED", "UPSTREAM_WIRE_BYTES_SENT",
		"VIRTUAL_CLUSTER_NAME",
	}
)

// ForEnvoy is a format without what only malla's own proxy can write: "-" stands in its place.
func ForEnvoy(format string) string { return ours.Replace(format) }

var ours = strings.NewReplacer("%MALLA_DOWNSTREAM_CLOSE%", "-", "%MALLA_UPSTREAM_CLOSE%", "-",
	"%RESPONSE_CODE_DETAILS(CLOSE)%", "%RESPONSE_CODE_DETAILS%", "%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES,CLOSE)%", "%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%")

// Check reports what is wrong with the use of an operator: nil if proxies write it.
func Check(name string, argument, length bool) error {
	def, ok := Operators[name]
	switch {
	case !ok:
		return fmt.Errorf("unknown command operator %%%s%%", name)
	case def.Argument == MustArgument && !argument:
		return fmt.Errorf("command operator %%%s%% has no argument, want %%%s(...)%%", name, name)
	case def.Argument == NoArgument && argument:
		return fmt.Errorf("command operator %%%s%% has an argument, want none", name)
	case !def.Length && length:
		return fmt.Errorf("command operator %%%s%% has a length, want none", name)
	}
	return nil
}
