package build

import (
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// How far retries back off is as the route says.
func TestWaitsOfRetries(t *testing.T) {
	r := &reader{env: testEnv(t)}
	p := r.retry(&routev3.RetryPolicy{RetryOn: "5xx", RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
		BaseInterval: durationpb.New(time.Second), MaxInterval: durationpb.New(2 * time.Second)}}, nil)
	if len(r.errs) > 0 || p == nil || p.BaseInterval != time.Second || p.MaxInterval != 2*time.Second {
		t.Errorf("%+v, %v; want 1 s, and 2 s at most", p, r.errs)
	}
}
