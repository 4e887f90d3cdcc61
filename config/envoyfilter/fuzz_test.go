package envoyfilter

import (
	"testing"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

// FuzzPatches: whatever an author writes is read without a panic; what is taken has a value
// that goes over the wire, and what is not has a reason.
func FuzzPatches(f *testing.F) {
	f.Add(`{"configPatches": [{"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"connect_timeout": "3s"}}}]}`)
	f.Add(`{"configPatches": [{"applyTo": "HTTP_FILTER", "match": {"listener": {"filterChain": {"filter": {"subFilter": {"name": "a"}}}}}, "patch": {"operation": "INSERT_BEFORE",
		"value": {"name": "x", "typed_config": {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer", "value": {"max_request_bytes": 3}}}}}]}`)
	f.Add(`{"configPatches": [{"applyTo": "LISTENER", "patch": {"operation": "ADD", "value": {"name": "x", "filter_chains": [null, {}]}}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var spec networking.EnvoyFilter
		if spec.UnmarshalJSON([]byte(text)) != nil {
			return
		}
		r := Patches(&spec, field.At("spec"))
		if n := len(r.Patches) + len(r.Errors) + len(r.Notices); n < len(spec.GetConfigPatches()) {
			t.Errorf("%d patches, but only %d were taken or explained", len(spec.GetConfigPatches()), n)
		}
		for _, p := range r.Patches {
			if p.Op == model.PatchRemove {
				continue
			}
			if _, err := proto.Marshal(p.Value); err != nil {
				t.Errorf("a value that was taken does not marshal: %v", err)
			}
		}
	})
}
