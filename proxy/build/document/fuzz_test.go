package document

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

var seeds = []string{
	`{"node": {"id": "a", "metadata": {"a": [1, 1.5, "x", null, true, {"b": {}}], "y": {}}, "locality": {"zone": "z"}}}`,
	`{"staticResources": {"clusters": [{"name": "a", "type": "STATIC", "connect_timeout": "1.5s", "circuit_breakers": {"thresholds": [{"max_requests": 5}, {"max_requests": "6"}]}}]}}`,
	`{"static_resources": {"clusters": [{"lb_policy": 2, "common_lb_config": {"healthy_panic_threshold": {"value": 1e1}}, "metadata": {"filter_metadata": {"a": {"b": "\u00e9\n"}}}}]}}`,
	`{"static_resources": {"listeners": [{"address": {"socket_address": {"address": "::", "port_value": 1}}, "filter_chains": [{"filters": [{"name": "x", "typed_config": {"@type": "type.googleapis.com/` + string((&routerv3.Router{}).ProtoReflect().Descriptor().FullName()) + `", "suppress_envoy_headers": true, "dynamic_stats": false}}]}]}]}}`,
	`{"static_resources": {"listeners": [{"listener_filters": [{"typed_config": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"a": 1}}}, {"typed_config": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}}]}]}}`,
	`{"static_resources": {"clusters": [{"upstream_bind_config": {"socket_options": [{"level": "-5", "buf_value": "QQ=="}]}, "cluster_type": {}, "type": null}]}}`,
	`{"layered_runtime": {"layers": [{"static_layer": {"a": {"numerator": 1}}}]}, "stats_flush_interval": "-1s"}`,
}

// FuzzProtojson looks for JSON that is read as another message than Go's own library reads, if both accept it.
func FuzzProtojson(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, theirs := &bootstrapv3.Bootstrap{}, &bootstrapv3.Bootstrap{}
		_, err := Read("b.json", in, ours)
		if protojson.Unmarshal(in, theirs) != nil || err != nil {
			return
		}
		if !proto.Equal(ours, theirs) {
			t.Fatalf("%s is %v, for protojson %v", in, ours, theirs)
		}
	})
}

// What protojson writes is read as the message that it was.
func TestProtojsonIsRead(t *testing.T) {
	for _, s := range seeds {
		m, again := &bootstrapv3.Bootstrap{}, &bootstrapv3.Bootstrap{}
		if _, err := Read("b.json", []byte(s), m); err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		for _, o := range []protojson.MarshalOptions{{}, {UseProtoNames: true, Multiline: true}, {UseEnumNumbers: true}} {
			text, err := o.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			again.Reset()
			if _, err := Read("b.json", text, again); err != nil || !proto.Equal(m, again) {
				t.Errorf("%s: %v, %v", text, again, err)
			}
		}
	}
}

// FuzzJSON looks for JSON that is read as something else than encoding/json reads. Keys that stand there twice, numbers that are
// too large and halves of characters are refused here.
func FuzzJSON(f *testing.F) {
	for _, s := range append(seeds, `{"a": [1, -0.5e+1, ""], "b": {"c": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}}`, `{a: 'b',}`) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var ours structpb.Struct
		_, err := Read("s.json", in, &ours)
		var theirs map[string]any
		if err != nil || json.Unmarshal(in, &theirs) != nil || theirs == nil {
			return
		}
		if got := ours.AsMap(); !reflect.DeepEqual(got, theirs) {
			t.Fatalf("%s is %v, want %v", in, got, theirs)
		}
	})
}

// FuzzYAML looks for texts that make the reader panic, hang or fill the memory, and for messages of which the text, in
// JSON, is read as another one.
func FuzzYAML(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Add([]byte("node: &n\n  id: 'a'\n  metadata: {<<: 1, ? y : !!str 5, !ignore x: 1}\nadmin: *n\n---\nx"))
	f.Add([]byte("node: {metadata: {a: &a [x, x], b: &b [*a, *a], c: [*b, *b]}}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m := &bootstrapv3.Bootstrap{}
		if _, err := Read("b.yaml", in, m); err != nil || bytes.Contains(in, []byte("@type")) || bytes.Contains(in, []byte("typed")) {
			return // an Any whose type nobody knows cannot be written
		}
		if proto.Size(m) > 1<<14 {
			return // of aliases; it would only take time
		}
		text, err := protojson.Marshal(m)
		if err != nil {
			return // a NaN in a Struct, a list that has nothing as an element
		}
		again := &bootstrapv3.Bootstrap{}
		if _, err := Read("b.json", text, again); err != nil || !proto.Equal(m, again) {
			t.Fatalf("%q is %v; what is written of it, %s, is %v, %v", in, m, text, again, err)
		}
	})
}
