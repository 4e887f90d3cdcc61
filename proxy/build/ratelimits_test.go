package build

import (
	"reflect"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
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
