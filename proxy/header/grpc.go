package header

import "strconv"

// httpOfGRPC are the HTTP statuses of gRPC's, from OK to UNAUTHENTICATED (google.rpc.Code).
var httpOfGRPC = [...]int{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}

// GRPCAsHTTP is the HTTP status that says what the grpc-status of headers or trailers says. One that nobody knows is an error of
// the server's; ok is false where there is none.
func GRPCAsHTTP(m *Map) (code int, ok bool) {
	v := m.Get(GrpcStatus)
	if len(v) == 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(v), 10, 32)
	if err != nil || n >= uint64(len(httpOfGRPC)) {
		return 500, true
	}
	return httpOfGRPC[n], true
}
