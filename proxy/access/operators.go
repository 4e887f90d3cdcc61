package access

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
)

// operators is the table of the command operators whose data a Record has.
var operators = map[string]operator{
	"START_TIME":       {argument: mayArgument, compile: startTime},
	"START_TIME_LOCAL": {argument: mayArgument, compile: startTime},
	"EMIT_TIME":        {argument: mayArgument, compile: emitTime},
	"EMIT_TIME_LOCAL":  {argument: mayArgument, compile: emitTime},

	"DURATION":                      {compile: durationOp(began, func(r *Record) Mark { return r.Ended })},
	"REQUEST_DURATION":              {compile: durationOp(began, func(r *Record) Mark { return r.RequestEnd })},
	"REQUEST_TX_DURATION":           {compile: durationOp(began, func(r *Record) Mark { return r.UpstreamSent })},
	"RESPONSE_DURATION":             {compile: durationOp(began, func(r *Record) Mark { return r.ResponseBegin })},
	"RESPONSE_TX_DURATION":          {compile: durationOp(func(r *Record) Mark { return r.ResponseBegin }, func(r *Record) Mark { return r.DownstreamSent })},
	"COMMON_DURATION":               {argument: mustArgument, compile: commonDuration},
	"DOWNSTREAM_HANDSHAKE_DURATION": {compile: handshakeDuration},
	"ROUNDTRIP_DURATION":            {compile: never(true)}, // of HTTP/3

	"UPSTREAM_CONNECTION_POOL_READY_DURATION": {compile: durationOp(func(r *Record) Mark { return r.Asked }, func(r *Record) Mark { return r.Placed })},

	"REQ":               {argument: mustArgument, length: true, compile: headerOp(request)},
	"REQUEST_HEADER":    {argument: mustArgument, length: true, compile: headerOp(request)},
	"RESP":              {argument: mustArgument, length: true, compile: headerOp(response)},
	"RESPONSE_HEADER":   {argument: mustArgument, length: true, compile: headerOp(response)},
	"TRAILER":           {argument: mustArgument, length: true, compile: headerOp(trailers)},
	"RESPONSE_TRAILER":  {argument: mustArgument, length: true, compile: headerOp(trailers)},
	"REQ_WITHOUT_QUERY": {argument: mustArgument, length: true, compile: withoutQuery},
	"PATH":              {argument: mayArgument, length: true, compile: requestPath},
	"QUERY_PARAM":       {argument: mustArgument, length: true, compile: queryParam},
	"QUERY_PARAMS":      {argument: mayArgument, length: true, compile: queryParams},

	"REQUEST_HEADERS_BYTES":   {compile: numberOp(func(r *Record) uint64 { return headerSize(r.Request) })},
	"RESPONSE_HEADERS_BYTES":  {compile: numberOp(func(r *Record) uint64 { return headerSize(r.Response) })},
	"RESPONSE_TRAILERS_BYTES": {compile: numberOp(func(r *Record) uint64 { return headerSize(r.Trailers) })},

	"GRPC_STATUS":        {argument: mayArgument, compile: grpcStatus},
	"GRPC_STATUS_NUMBER": {compile: grpcStatus},

	"PROTOCOL":              {compile: textOp(func(r *Record) string { return r.Protocol.String() })},
	"UPSTREAM_PROTOCOL":     {compile: textOp(func(r *Record) string { return r.UpstreamProtocol.String() })},
	"RESPONSE_CODE":         {compile: numberOp(func(r *Record) uint64 { return uint64(r.Code) })},
	"RESPONSE_CODE_DETAILS": {argument: mayArgument, compile: responseDetails},
	"RESPONSE_FLAGS":        {compile: flagsOp(false)},
	"RESPONSE_FLAGS_LONG":   {compile: flagsOp(true)},

	"CONNECTION_TERMINATION_DETAILS":      {compile: textOp(func(r *Record) string { return r.Termination })},
	"DOWNSTREAM_DETECTED_CLOSE_TYPE":      {compile: textOp(func(r *Record) string { return r.ClientClose.String() })},
	"UPSTREAM_DETECTED_CLOSE_TYPE":        {compile: textOp(hostClose)},
	"MALLA_DOWNSTREAM_CLOSE":              {compile: closing((*Record).clientClosing)}, // ours: Envoy has nothing like them
	"MALLA_UPSTREAM_CLOSE":                {compile: closing(hostClosing)},
	"UPSTREAM_TRANSPORT_FAILURE_REASON":   {compile: textOp(func(r *Record) string { return oneWord(r.UpstreamFailure) })},
	"DOWNSTREAM_TRANSPORT_FAILURE_REASON": {compile: textOp(func(r *Record) string { return oneWord(r.LocalFailure) })},
	"UPSTREAM_LOCAL_CLOSE_REASON":         {compile: textOp(func(r *Record) string { return r.UpstreamClose })},
	"DOWNSTREAM_LOCAL_CLOSE_REASON":       {compile: textOp(func(r *Record) string { return r.LocalClose })},

	"BYTES_RETRANSMITTED":              {compile: numberOp(zero)}, // of HTTP/3
	"PACKETS_RETRANSMITTED":            {compile: numberOp(zero)},
	"BYTES_RECEIVED":                   {compile: numberOp(func(r *Record) uint64 { return r.BytesReceived })},
	"BYTES_SENT":                       {compile: numberOp(func(r *Record) uint64 { return r.BytesSent })},
	"DOWNSTREAM_WIRE_BYTES_RECEIVED":   {compile: numberOp(func(r *Record) uint64 { return r.Down.WireIn })},
	"DOWNSTREAM_WIRE_BYTES_SENT":       {compile: numberOp(func(r *Record) uint64 { return r.Down.WireOut })},
	"DOWNSTREAM_HEADER_BYTES_RECEIVED": {compile: numberOp(func(r *Record) uint64 { return r.Down.HeaderIn })},
	"DOWNSTREAM_HEADER_BYTES_SENT":     {compile: numberOp(func(r *Record) uint64 { return r.Down.HeaderOut })},
	"UPSTREAM_WIRE_BYTES_RECEIVED":     {compile: numberOp(func(r *Record) uint64 { return r.Up.WireIn })},
	"UPSTREAM_WIRE_BYTES_SENT":         {compile: numberOp(func(r *Record) uint64 { return r.Up.WireOut })},
	"UPSTREAM_HEADER_BYTES_RECEIVED":   {compile: numberOp(func(r *Record) uint64 { return r.Up.HeaderIn })},
	"UPSTREAM_HEADER_BYTES_SENT":       {compile: numberOp(func(r *Record) uint64 { return r.Up.HeaderOut })},

	"DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED": {compile: numberOp(func(r *Record) uint64 { return r.Down.PlainIn })},
	"DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT":     {compile: numberOp(func(r *Record) uint64 { return r.Down.PlainOut })},
	"UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED":   {compile: numberOp(func(r *Record) uint64 { return r.Up.PlainIn })},
	"UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT":       {compile: numberOp(func(r *Record) uint64 { return r.Up.PlainOut })},

	"UPSTREAM_HOST":                   addressOp(func(r *Record) netip.AddrPort { return r.UpstreamHost }, withPort),
	"UPSTREAM_HOST_NAME":              {compile: hostName(withPort)},
	"UPSTREAM_HOST_NAME_WITHOUT_PORT": {compile: hostName(withoutPort)},
	"UPSTREAM_CLUSTER":                {compile: textOp(func(r *Record) string { return r.Cluster })},
	"UPSTREAM_CLUSTER_RAW":            {compile: textOp(rawCluster)},
	"UPSTREAM_REQUEST_ATTEMPT_COUNT":  {compile: numberOp(func(r *Record) uint64 { return uint64(r.Attempts) })},
	"UPSTREAM_CONNECTION_ID":          {compile: numberOp(func(r *Record) uint64 { return r.UpstreamConnID })},
	"CONNECTION_ID":                   {compile: numberOp(func(r *Record) uint64 { return r.ConnectionID })},

	"UPSTREAM_HOSTS_ATTEMPTED":                   attempted(withPort, false),
	"UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT":      attempted(withoutPort, false),
	"UPSTREAM_HOST_NAMES_ATTEMPTED":              attempted(withPort, true),
	"UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT": attempted(withoutPort, true),
	"UPSTREAM_CONNECTION_IDS_ATTEMPTED":          {compile: attemptedIDs},

	"UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID":         endpointOp(upstreamRemote),
	"DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID":        endpointOp(downstreamLocal),
	"DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID": endpointOp(directLocal),

	"UPSTREAM_LOCAL_ADDRESS":                        addressOp(upstreamLocal, withPort),
	"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":           maskedOp(upstreamLocal),
	"UPSTREAM_LOCAL_PORT":                           addressOp(upstreamLocal, justPort),
	"UPSTREAM_REMOTE_ADDRESS":                       addressOp(upstreamRemote, withPort),
	"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":          maskedOp(upstreamRemote),
	"UPSTREAM_REMOTE_PORT":                          addressOp(upstreamRemote, justPort),
	"DOWNSTREAM_LOCAL_ADDRESS":                      addressOp(downstreamLocal, withPort),
	"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":         maskedOp(downstreamLocal),
	"DOWNSTREAM_LOCAL_PORT":                         addressOp(downstreamLocal, justPort),
	"DOWNSTREAM_REMOTE_ADDRESS":                     addressOp(downstreamRemote, withPort),
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT":        maskedOp(downstreamRemote),
	"DOWNSTREAM_REMOTE_PORT":                        addressOp(downstreamRemote, justPort),
	"DOWNSTREAM_DIRECT_LOCAL_ADDRESS":               addressOp(directLocal, withPort),
	"DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT":  maskedOp(directLocal),
	"DOWNSTREAM_DIRECT_LOCAL_PORT":                  addressOp(directLocal, justPort),
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":              addressOp(directRemote, withPort),
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": maskedOp(directRemote),
	"DOWNSTREAM_DIRECT_REMOTE_PORT":                 addressOp(directRemote, justPort),

	"DOWNSTREAM_TLS_VERSION":                 tlsOp(downstreamTLS, tlsVersion),
	"DOWNSTREAM_TLS_CIPHER":                  tlsOp(downstreamTLS, tlsCipher),
	"DOWNSTREAM_TLS_GROUP":                   tlsOp(downstreamTLS, tlsGroup),
	"DOWNSTREAM_TLS_SESSION_ID":              tlsOp(downstreamTLS, tlsSession),
	"DOWNSTREAM_PEER_URI_SAN":                tlsOp(downstreamTLS, peer(uriSANs)),
	"DOWNSTREAM_PEER_DNS_SAN":                tlsOp(downstreamTLS, peer(dnsSANs)),
	"DOWNSTREAM_PEER_IP_SAN":                 tlsOp(downstreamTLS, peer(ipSANs)),
	"DOWNSTREAM_PEER_EMAIL_SAN":              tlsOp(downstreamTLS, peer(emailSANs)),
	"DOWNSTREAM_PEER_SUBJECT":                tlsOp(downstreamTLS, peer(subject)),
	"DOWNSTREAM_PEER_ISSUER":                 tlsOp(downstreamTLS, peer(issuer)),
	"DOWNSTREAM_PEER_SERIAL":                 tlsOp(downstreamTLS, peer(serial)),
	"DOWNSTREAM_PEER_FINGERPRINT_1":          tlsOp(downstreamTLS, peer(fingerprint1)),
	"DOWNSTREAM_PEER_FINGERPRINT_256":        tlsOp(downstreamTLS, peer(fingerprint256)),
	"DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1":   tlsOp(downstreamTLS, chain(fingerprint1)),
	"DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256": tlsOp(downstreamTLS, chain(fingerprint256)),
	"DOWNSTREAM_PEER_CHAIN_SERIALS":          tlsOp(downstreamTLS, chain(serial)),
	"DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256": tlsOp(downstreamTLS, issuerOf(fingerprint256)),
	"DOWNSTREAM_PEER_ISSUER_SERIAL":          tlsOp(downstreamTLS, issuerOf(serial)),
	"DOWNSTREAM_PEER_OTHERNAME_SAN":          tlsOp(downstreamTLS, peer(otherNames)),
	"DOWNSTREAM_LOCAL_OTHERNAME_SAN":         tlsOp(downstreamTLS, local(otherNames)),
	"DOWNSTREAM_PEER_CERT":                   tlsOp(downstreamTLS, peer(pemOf)),
	"DOWNSTREAM_PEER_CERT_V_START":           certTime(downstreamTLS, peerStart),
	"DOWNSTREAM_PEER_CERT_V_END":             certTime(downstreamTLS, peerEnd),
	"DOWNSTREAM_LOCAL_URI_SAN":               tlsOp(downstreamTLS, local(uriSANs)),
	"DOWNSTREAM_LOCAL_DNS_SAN":               tlsOp(downstreamTLS, local(dnsSANs)),
	"DOWNSTREAM_LOCAL_IP_SAN":                tlsOp(downstreamTLS, local(ipSANs)),
	"DOWNSTREAM_LOCAL_EMAIL_SAN":             tlsOp(downstreamTLS, local(emailSANs)),
	"DOWNSTREAM_LOCAL_SUBJECT":               tlsOp(downstreamTLS, local(subject)),
	"UPSTREAM_TLS_VERSION":                   tlsOp(upstreamTLS, tlsVersion),
	"UPSTREAM_TLS_CIPHER":                    tlsOp(upstreamTLS, tlsCipher),
	"UPSTREAM_TLS_GROUP":                     tlsOp(upstreamTLS, tlsGroup),
	"UPSTREAM_TLS_SESSION_ID":                tlsOp(upstreamTLS, tlsSession),
	"UPSTREAM_PEER_URI_SAN":                  tlsOp(upstreamTLS, peer(uriSANs)),
	"UPSTREAM_PEER_DNS_SAN":                  tlsOp(upstreamTLS, peer(dnsSANs)),
	"UPSTREAM_PEER_IP_SAN":                   tlsOp(upstreamTLS, peer(ipSANs)),
	"UPSTREAM_PEER_SUBJECT":                  tlsOp(upstreamTLS, peer(subject)),
	"UPSTREAM_PEER_ISSUER":                   tlsOp(upstreamTLS, peer(issuer)),
	"UPSTREAM_PEER_CERT":                     tlsOp(upstreamTLS, peer(pemOf)),
	"UPSTREAM_PEER_CERT_V_START":             certTime(upstreamTLS, peerStart),
	"UPSTREAM_PEER_CERT_V_END":               certTime(upstreamTLS, peerEnd),
	"UPSTREAM_LOCAL_URI_SAN":                 tlsOp(upstreamTLS, local(uriSANs)),
	"UPSTREAM_LOCAL_DNS_SAN":                 tlsOp(upstreamTLS, local(dnsSANs)),
	"UPSTREAM_LOCAL_IP_SAN":                  tlsOp(upstreamTLS, local(ipSANs)),
	"UPSTREAM_LOCAL_SUBJECT":                 tlsOp(upstreamTLS, local(subject)),
	"UPSTREAM_SERVER_NAME":                   tlsOp(upstreamTLS, func(t *TLS) string { return t.SNI }),

	"FILTER_STATE":          {argument: mustArgument, length: true, compile: filterState(func(r *Record) *State { return &r.State })},
	"UPSTREAM_FILTER_STATE": {argument: mustArgument, length: true, compile: filterState(func(r *Record) *State { return r.UpstreamState })},
	"DYNAMIC_METADATA":      {argument: mustArgument, length: true, compile: metadataOp(dynamic)},
	"CLUSTER_METADATA":      {argument: mustArgument, compile: metadataOp(ofCluster)},
	"UPSTREAM_METADATA":     {argument: mustArgument, compile: metadataOp(configured(metadata.Host))},
	"METADATA":              {argument: mustArgument, length: true, compile: anyMetadata},
	"TLS_JA3_FINGERPRINT":   {compile: textOp(func(r *Record) string { return r.JA3 })},
	"TLS_JA4_FINGERPRINT":   {compile: textOp(func(r *Record) string { return r.JA4 })},
	"REQUESTED_SERVER_NAME": {argument: mayArgument, compile: requestedServerName},
	"ROUTE_NAME":            {compile: textOp(func(r *Record) string { return r.RouteName })},
	"VIRTUAL_CLUSTER_NAME":  {compile: textOp(func(r *Record) string { return r.VirtualCluster })},
	"FILTER_CHAIN_NAME":     {compile: textOp(func(r *Record) string { return r.FilterChain })},
	"ACCESS_LOG_TYPE":       {compile: textOp(func(r *Record) string { return r.Type.String() })},
	"LOCAL_REPLY_BODY":      {compile: emptyOp(func(r *Record) string { return r.LocalReplyBody })},
	"TRACE_ID":              {compile: bytesOp(func(r *Record) []byte { return r.TraceID })},
	"SPAN_ID":               {compile: never(false)}, // there are no spans
	"STREAM_ID":             {compile: bytesOp(streamID)},
	"UNIQUE_ID":             {compile: uniqueID},
	"CUSTOM_FLAGS":          {compile: emptyOp(nothing)}, // no filter of ours sets any
	"COALESCE":              {argument: mustArgument, length: true},
	"CEL":                   {argument: mustArgument, length: true, compile: celOp(false)},
	"TYPED_CEL":             {argument: mustArgument, length: true, compile: celOp(true)},
	"HOSTNAME":              {compile: hostname},
	"ENVIRONMENT":           {argument: mustArgument, length: true, compile: environment},
}

func began(r *Record) Mark                      { return r.Began }
func upstreamLocal(r *Record) netip.AddrPort    { return r.UpstreamLocal }
func upstreamRemote(r *Record) netip.AddrPort   { return r.UpstreamRemote }
func downstreamLocal(r *Record) netip.AddrPort  { return r.DownstreamLocal }
func downstreamRemote(r *Record) netip.AddrPort { return r.client(r.DownstreamRemote) }
func directLocal(r *Record) netip.AddrPort      { return r.DirectLocal }
func directRemote(r *Record) netip.AddrPort     { return r.client(r.DirectRemote) }

// client is a client's address. Clients of a Unix socket have none: Envoy writes the socket's in its place. So has the proxy itself where
// it is its own client, but a name.
func (r *Record) client(a netip.AddrPort) netip.AddrPort {
	if _, _, ok := pipe.Inside(r.DirectLocal); ok && !a.IsValid() {
		return pipe.Client
	}
	if _, ok := pipe.Path(r.DirectLocal); ok && !a.IsValid() {
		return r.DirectLocal
	}
	return a
}
func downstreamTLS(r *Record) *TLS { return r.Downstream }
func upstreamTLS(r *Record) *TLS   { return r.Upstream }

func nothing(*Record) string { return "" }
func zero(*Record) uint64    { return 0 }

// never compiles an operator whose value is always missing.
func never(number bool) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{number: number, write: func(_ *op, dst []byte, _ *Record) ([]byte, bool) { return dst, false }}, nil
	}
}

// hostClose is how the host's connection has ended. A request for which no host was chosen has none; one whose host could take
// no more of them has, as in Envoy.
func hostClose(r *Record) string {
	if r.Request != nil && !r.UpstreamHost.IsValid() && !r.PoolFull {
		return ""
	}
	return r.HostClose.String()
}

// uniqueID writes a new random UUID each time.
func uniqueID(command) (*op, error) {
	return &op{write: func(_ *op, dst []byte, _ *Record) ([]byte, bool) { return AppendUUID(dst), true }}, nil
}

// AppendUUID appends a new random UUID (RFC 9562, version 4).
func AppendUUID(dst []byte) []byte {
	var b [16]byte
	_, _ = rand.Read(b[:]) // which never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		const hex = "0123456789abcdef"
		dst = append(dst, hex[c>>4], hex[c&15])
	}
	return dst
}

// endpointOp writes the endpoint of an address inside of the proxy. No other has one.
func endpointOp(of func(*Record) netip.AddrPort) operator {
	return operator{compile: func(command) (*op, error) {
		return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			a := of(r)
			_, id, _ := pipe.Inside(a)
			return append(dst, id...), a.IsValid()
		}}, nil
	}}
}

func attemptedIDs(command) (*op, error) {
	return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
		return strconv.AppendUint(dst, r.UpstreamConnID, 10), r.UpstreamConnID != 0
	}}, nil
}

func rawCluster(r *Record) string {
	if r.ClusterRaw != "" {
		return r.ClusterRaw
	}
	return r.Cluster
}

func streamID(r *Record) []byte {
	if r.Request != nil {
		if id := r.Request.Get(header.XRequestID); len(id) > 0 {
			return id
		}
	}
	return r.RequestID
}

func headerSize(m *header.Map) uint64 {
	if m == nil {
		return 0
	}
	return uint64(m.Size())
}

func handshakeDuration(command) (*op, error) {
	return &op{number: true, write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
		return strconv.AppendInt(dst, r.Handshake.Milliseconds(), 10), r.Handshake > 0
	}}, nil
}

// hostName writes the name of the chosen host, or its address if it has none.
func hostName(form addressForm) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			if r.UpstreamHostName == "" && !r.UpstreamHost.IsValid() {
				return dst, false
			}
			return appendName(dst, r.UpstreamHostName, r.UpstreamHost, form), true
		}}, nil
	}
}

// appendName writes a host's name, or its address if it has none. What stands for a port is what follows the last colon, as in
// Envoy: a number or not, and an address of IPv6 keeps its brackets.
func appendName(dst []byte, name string, addr netip.AddrPort, form addressForm) []byte {
	start := len(dst)
	if name != "" {
		dst = append(dst, name...)
	} else {
		dst = appendAddress(dst, addr, withPort)
	}
	if form == withPort {
		return dst
	}
	if i := bytes.LastIndexByte(dst[start:], ':'); i >= 0 && bytes.IndexByte(dst[start+i:], ']') < 0 {
		dst = dst[:start+i]
	}
	return dst
}

func emitTime(c command) (*op, error) {
	l, err := newLayout(c.arg, c.name == "EMIT_TIME_LOCAL")
	if err != nil {
		return nil, err
	}
	return &op{layout: l, write: func(o *op, dst []byte, _ *Record) ([]byte, bool) {
		return o.layout.append(dst, time.Now()), true
	}}, nil
}

func hostname(c command) (*op, error) {
	name, _ := os.Hostname()
	return constant(name)(c)
}

// environment is text even when the variable is empty or is not there, as Envoy's is: JSON has "-", not null, and
// omit_empty_values keeps it.
func environment(c command) (*op, error) {
	value, there := os.LookupEnv(c.arg)
	if !there {
		value = "-"
	}
	if c.length >= 0 && len(value) > c.length {
		value = value[:c.length]
	}
	return &op{text: value, write: func(o *op, dst []byte, _ *Record) ([]byte, bool) { return append(dst, o.text...), true }}, nil
}

// grpcCodes are the names of gRPC's status codes in the two spellings that Envoy knows.
var grpcCodes = [...]struct{ camel, snake string }{
	{"OK", "OK"}, {"Canceled", "CANCELLED"}, {"Unknown", "UNKNOWN"}, {"InvalidArgument", "INVALID_ARGUMENT"},
	{"DeadlineExceeded", "DEADLINE_EXCEEDED"}, {"NotFound", "NOT_FOUND"}, {"AlreadyExists", "ALREADY_EXISTS"},
	{"PermissionDenied", "PERMISSION_DENIED"}, {"ResourceExhausted", "RESOURCE_EXHAUSTED"},
	{"FailedPrecondition", "FAILED_PRECONDITION"}, {"Aborted", "ABORTED"}, {"OutOfRange", "OUT_OF_RANGE"},
	{"Unimplemented", "UNIMPLEMENTED"}, {"Internal", "INTERNAL"}, {"Unavailable", "UNAVAILABLE"},
	{"DataLoss", "DATA_LOSS"}, {"Unauthenticated", "UNAUTHENTICATED"},
}

// grpcStatus compiles GRPC_STATUS(CAMEL_STRING | SNAKE_STRING | NUMBER) and GRPC_STATUS_NUMBER.
func grpcStatus(c command) (*op, error) {
	o := &op{text: c.arg}
	switch {
	case c.name == "GRPC_STATUS_NUMBER" || c.arg == "NUMBER":
		o.text, o.number = "NUMBER", true
	case c.arg != "" && c.arg != "CAMEL_STRING" && c.arg != "SNAKE_STRING":
		return nil, fmt.Errorf("argument %q, want CAMEL_STRING, SNAKE_STRING or NUMBER", c.arg)
	}
	o.write = func(o *op, dst []byte, r *Record) ([]byte, bool) {
		n, ok := GRPCStatus(r)
		switch {
		case !ok:
			return dst, false
		case o.text == "NUMBER" || n >= len(grpcCodes):
			return strconv.AppendInt(dst, int64(n), 10), true
		case o.text == "SNAKE_STRING":
			return append(dst, grpcCodes[n].snake...), true
		}
		return append(dst, grpcCodes[n].camel...), true
	}
	return o, nil
}

// GRPCStatus returns the gRPC status of a stream: from the trailers, else from the
// headers (a trailers-only response), else what the HTTP status stands for. There is none if the request was not gRPC.
func GRPCStatus(r *Record) (int, bool) {
	if r.Request == nil || !isGRPC(r.Request.Get(header.ContentType)) {
		return 0, false
	}
	return StatusOf(r)
}

// StatusOf is GRPCStatus of a stream whose request may have been anything.
func StatusOf(r *Record) (int, bool) {
	for _, m := range [...]*header.Map{r.Trailers, r.Response} {
		if m == nil {
			continue
		}
		if v := m.Get(header.GrpcStatus); v != nil {
			return atoi(v)
		}
	}
	if r.Code != 0 {
		return HTTPToGRPC(int(r.Code)), true
	}
	return 0, false
}

// HTTPToGRPC maps the status of a response that is not gRPC's to one of gRPC (gRPC's http-grpc-status-mapping).
func HTTPToGRPC(status int) int {
	switch status {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	}
	return 2
}

// isGRPC reports whether a content type is application/grpc, with a subtype or parameters or without.
func isGRPC(contentType []byte) bool {
	const grpc = "application/grpc"
	if len(contentType) < len(grpc) || string(contentType[:len(grpc)]) != grpc {
		return false
	}
	return len(contentType) == len(grpc) || contentType[len(grpc)] == '+' || contentType[len(grpc)] == ';'
}

func atoi(b []byte) (int, bool) {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<20 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0
}
