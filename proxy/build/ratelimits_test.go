package build

import (
	"reflect"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mallamesh/malla/base/field"
)

// An action's old word for the metadata of a request, which Envoy takes only where it is told to take what is
// deprecated, means what the new one means.
func TestOldMetadataAction(t *testing.T) {
	const fields = `: {"descriptor_key": "user", "default_value": "nobody", "metadata_key": {"key": "ns", "path": [{"key": "a"}]}}}`
	var actions []any
	for _, word := range []string{"dynamic_metadata", "metadata"} {
		m := &routev3.RateLimit_Action{}
		if err := protojson.Unmarshal([]byte(`{"`+word+`"`+fields), m); err != nil {
			t.Fatal(err)
		}
		r := &reader{env: testEnv(t)}
		actions = append(actions, r.rateAction(m, field.At("actions")))
		if err := r.errs.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(actions[0], actions[1]) {
		t.Errorf("dynamic_metadata makes %+v, want what metadata makes: %+v", actions[0], actions[1])
	}
}

// What Envoy refuses in the limits that a filter has of its own is refused here, all of it at once.
func TestLimitsOfAFilter(t *testing.T) {
	m := &localv3.LocalRateLimit{}
	if err := protojson.Unmarshal([]byte(`{"stat_prefix": "l", "rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "a"}}],
		"stage": 0, "disable_key": "k", "limit": {"dynamic_metadata": {"metadata_key": {"key": "a", "path": [{"key": "b"}]}}}}]}`), m); err != nil {
		t.Fatal(err)
	}
	r := &reader{env: testEnv(t)}
	r.localRateLimit(m, field.At("filter"))
	var got []string
	for _, e := range r.errs {
		got = append(got, e.Error())
	}
	want := []string{
		"filter.rate_limits[0].stage: is for the rate_limits of routes and virtual hosts",
		"filter.rate_limits[0].disable_key: is for the rate_limits of routes and virtual hosts",
		"filter.rate_limits[0].limit: is for a rate limit service, want descriptors that say how many",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("errors %q, want %q", got, want)
	}
}
