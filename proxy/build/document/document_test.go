package document

import (
	_ "embed"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// scalars has pieces of YAML, and what Envoy makes of them.
//
//go:embed testdata/scalars
var scalars string

// In a Struct, where no field says what is wanted, YAML means what it means to Envoy.
func TestScalarsOfEnvoy(t *testing.T) {
	for line := range strings.Lines(scalars) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		piece, want, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		var s structpb.Struct
		if _, err := Read("x.yaml", []byte("a: "+piece), &s); err != nil {
			t.Errorf("%s: %v", piece, err)
			continue
		}
		var wanted any
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		if got := s.AsMap()["a"]; !reflect.DeepEqual(got, wanted) {
			t.Errorf("%s is %#v, want %#v", piece, got, wanted)
		}
	}
}

// fields has texts of YAML in fields of several kinds, and what Envoy says to them.
//
//go:embed testdata/fields
var fields string

// places are the fields of a cluster that testdata/fields is about.
var places = map[string]string{
	"uint32":   "circuit_breakers: {thresholds: [{max_requests: %}]}",
	"double":   "common_lb_config: {healthy_panic_threshold: {value: %}}",
	"int64":    "upstream_bind_config: {socket_options: [{level: %, name: 1, int_value: 1}]}",
	"bool":     "ignore_health_on_host_removal: %",
	"string":   "alt_stat_name: %",
	"enum":     "lb_policy: %",
	"bytes":    "upstream_bind_config: {socket_options: [{level: 1, name: 1, buf_value: %}]}",
	"duration": "common_lb_config: {update_merge_window: %}",
	"list":     "lrs_report_endpoint_metrics: %",
}

// A field takes of YAML what Envoy's takes, and means the same by it.
func TestFieldsOfEnvoy(t *testing.T) {
	for line := range strings.Lines(fields) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		verdict, cluster, _ := strings.Cut(parts[2], " ")
		got, want := &clusterv3.Cluster{}, &clusterv3.Cluster{}
		_, err := Read("c.yaml", []byte(strings.Replace(places[parts[0]], "%", parts[1], 1)), got)
		if (err == nil) != (verdict != "refuses") {
			t.Errorf("%s %s: %v, while Envoy %s it", parts[0], parts[1], err, verdict)
		}
		if verdict != "takes" {
			continue
		}
		if err := protojson.Unmarshal([]byte(cluster), want); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s %s: %v, want %v", parts[0], parts[1], got, want)
		}
	}
}
