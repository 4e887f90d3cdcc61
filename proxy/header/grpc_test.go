package header

import "testing"

func TestGRPCStatusIsSaidInHTTP(t *testing.T) {
	for v, want := range map[string]int{"": 0, "0": 200, "1": 499, "8": 429, "14": 503, "16": 401, "17": 500, "-1": 500, "no": 500} {
		var m Map
		m.Add(GrpcStatus, []byte(v))
		if got, ok := GRPCAsHTTP(&m); got != want || ok != (want != 0) {
			t.Errorf("grpc-status %q is %d, %v, want %d", v, got, ok, want)
		}
	}
}
