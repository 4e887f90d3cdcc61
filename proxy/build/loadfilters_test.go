package build

import (
	"strings"
	"testing"
	"time"

	adaptivev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"
	bandwidthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/bandwidth_limit/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
)

// A prefix becomes part of what goes over the wire, so it must not end the line that it stands in.
func TestTrailerPrefixIsPartOfAName(t *testing.T) {
	for prefix, want := range map[string]string{"X-Team": "", "x\r\nset-cookie: a": "response_trailer_prefix: found", "a b": "response_trailer_prefix: found"} {
		r := &reader{env: testEnv(t)}
		r.bandwidthLimit(&bandwidthv3.BandwidthLimit{StatPrefix: "b", LimitKbps: wrapperspb.UInt64(1), ResponseTrailerPrefix: prefix}, false, field.At("x"))
		if err := r.errs.Err(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: found %v, want %q", prefix, err, want)
		}
	}
}

// A limit beyond all numbers is a limit, and not none.
func TestBandwidthBeyondNumbers(t *testing.T) {
	r := &reader{env: testEnv(t)}
	c := r.bandwidthLimit(&bandwidthv3.BandwidthLimit{StatPrefix: "b", LimitKbps: wrapperspb.UInt64(1 << 54), EnableMode: bandwidthv3.BandwidthLimit_RESPONSE}, false, field.At("x"))
	if err := r.errs.Err(); err != nil || !c.Responses {
		t.Errorf("limits responses %v, error %v; want that it does", c.Responses, err)
	}
}

// Measurements without a pause between them would leave no time for anything else.
func TestTimesOfMeasurements(t *testing.T) {
	for _, test := range []struct {
		interval, fixed *durationpb.Duration
		want            string
	}{
		{durationpb.New(time.Millisecond), nil, ""},
		{nil, durationpb.New(time.Millisecond), ""},
		{durationpb.New(time.Microsecond), nil, "interval: found 1µs"},
		{durationpb.New(0), durationpb.New(time.Second), "interval: found 0s"},
		{durationpb.New(time.Second), durationpb.New(0), "fixed_value: found 0s"},
		{nil, nil, "has neither"},
	} {
		r := &reader{env: testEnv(t)}
		r.gradient(&adaptivev3.GradientControllerConfig{
			ConcurrencyLimitParams: &adaptivev3.GradientControllerConfig_ConcurrencyLimitCalculationParams{ConcurrencyUpdateInterval: durationpb.New(time.Second)},
			MinRttCalcParams:       &adaptivev3.GradientControllerConfig_MinimumRTTCalculationParams{Interval: test.interval, FixedValue: test.fixed},
		}, field.At("x"))
		if err := r.errs.Err(); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v and %v: found %v, want %q", test.interval, test.fixed, err, test.want)
		}
	}
}
