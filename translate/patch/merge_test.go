package patch

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/model"
)

// Merging keeps what a patch does not name, and takes what it does.
func TestMerge(t *testing.T) {
	cluster, manager, route := new(clusterv3.Cluster), new(hcmv3.HttpConnectionManager), new(routev3.Route)
	for _, test := range []struct {
		why              string
		is               proto.Message
		dst, patch, want string
		op               model.PatchOp
	}{
		{"a number is set", cluster, `{"name": "a", "dnsJitter": "1s"}`, `{"name": "b"}`, `{"name": "b", "dnsJitter": "1s"}`, model.PatchMerge},
		{"a duration is a value", cluster, `{"connectTimeout": "2.500s"}`, `{"connectTimeout": "1s"}`, `{"connectTimeout": "1s"}`, model.PatchMerge},
		{"false is a value", manager, `{"useRemoteAddress": true}`, `{"useRemoteAddress": false}`, `{"useRemoteAddress": false}`, model.PatchMerge},
		{"messages are merged", manager, `{"commonHttpProtocolOptions": {"idleTimeout": "1s"}}`, `{"commonHttpProtocolOptions": {"maxHeadersCount": 3}}`,
			`{"commonHttpProtocolOptions": {"idleTimeout": "1s", "maxHeadersCount": 3}}`, model.PatchMerge},
		{"lists become longer", route, `{"requestHeadersToRemove": ["a"]}`, `{"requestHeadersToRemove": ["b"]}`, `{"requestHeadersToRemove": ["a", "b"]}`, model.PatchMerge},
		{"or are replaced", route, `{"requestHeadersToRemove": ["a"], "responseHeadersToRemove": ["c"]}`, `{"requestHeadersToRemove": ["b"]}`,
			`{"requestHeadersToRemove": ["b"], "responseHeadersToRemove": ["c"]}`, model.PatchMergeReplace},
		{"entries of maps are replaced", cluster, `{"metadata": {"filterMetadata": {"a": {"x": 1}, "b": {}}}}`, `{"metadata": {"filterMetadata": {"a": {"y": 2}}}}`,
			`{"metadata": {"filterMetadata": {"a": {"y": 2}, "b": {}}}}`, model.PatchMerge},
		{"one of several takes the place of the others", route, `{"match": {"prefix": "/"}}`, `{"match": {"path": "/x"}}`, `{"match": {"path": "/x"}}`, model.PatchMerge},
	} {
		read := func(text string) proto.Message {
			m := test.is.ProtoReflect().New().Interface()
			if err := protojson.Unmarshal([]byte(text), m); err != nil {
				t.Fatalf("%s: %v", test.why, err)
			}
			return m
		}
		got, value, want := read(test.dst), read(test.patch), read(test.want)
		merge(got, &model.Patch{Op: test.op, Value: value})
		if !proto.Equal(got, want) {
			t.Errorf("%s: %s over %s is %s, want %s", test.why, test.patch, test.dst, protojson.Format(got), test.want)
		}
		merge(got, &model.Patch{Op: test.op, Value: value}) // what was put in is a copy
		if !proto.Equal(value, read(test.patch)) {
			t.Errorf("%s: the patch itself was changed", test.why)
		}
	}
}

// A configuration of another type than the one that is there is left alone.
func TestMergeAnotherType(t *testing.T) {
	dst, src := packed(&clusterv3.Cluster{Name: "a"}), packed(&routev3.Route{Name: "b"})
	if got := mergeAny(dst, src, &model.Patch{}); !proto.Equal(got, dst) {
		t.Errorf("found %v, want it unchanged", got)
	}
}
