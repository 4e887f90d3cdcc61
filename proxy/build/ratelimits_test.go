package build

import (
	"reflect"
	"testing"

	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mallamesh/malla/base/field"
)

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
