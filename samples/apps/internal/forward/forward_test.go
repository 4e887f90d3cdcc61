package forward

import (
	"net/http"
	"testing"
)

// What belongs to a trace or to the user goes on; what belongs to this one
// connection or this one body must not.
func TestHeaders(t *testing.T) {
	src, dst := http.Header{}, http.Header{}
	for name, forwarded := range map[string]bool{
		"x-request-id": true, "x-b3-traceid": true, "x-b3-spanid": true, "x-b3-parentspanid": true, "x-b3-sampled": true, "x-b3-flags": true, "b3": true,
		"traceparent": true, "tracestate": true, "end-user": true, "user-agent": true, "cookie": true, "authorization": true,
		"content-length": false, "connection": false, "host": false, "accept-encoding": false, "x-forwarded-for": false,
	} {
		src.Set(name, "v-"+name)
		Headers(dst, src)
		if got := dst.Get(name) == "v-"+name; got != forwarded {
			t.Errorf("%s forwarded: %v, want %v", name, got, forwarded)
		}
	}
}
