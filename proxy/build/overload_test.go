package build

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/overload"
)

const monitorType = "type.googleapis.com/envoy.extensions.resource_monitors."

func readOverload(t *testing.T, text string) (*Bootstrap, error) {
	t.Helper()
	m, err := ParseBootstrap("b.yaml", []byte("overload_manager:\n  "+strings.ReplaceAll(text, "\n", "\n  ")), nil)
	if err != nil {
		t.Fatal(err)
	}
	return NewBootstrap("b.yaml", m)
}

// All that an overload manager may hold is read.
func TestOverloadManager(t *testing.T) {
	b, err := readOverload(t, `refresh_interval: 0.2s
buffer_factory_config: {minimum_account_to_track_power_of_two: 20}
resource_monitors:
- {name: heap, typed_config: {"@type": `+monitorType+`fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 1000}}
- {name: heap2, typed_config: {"@type": `+monitorType+`fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes_runtime: {default_value: 2000, runtime_key: x}}}
- {name: cpu, typed_config: {"@type": `+monitorType+`cpu_utilization.v3.CpuUtilizationConfig, mode: CONTAINER}}
- {name: connections, typed_config: {"@type": `+monitorType+`downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 7}}
actions:
- {name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap, threshold: {value: 0.9}}, {name: cpu, scaled: {scaling_threshold: 0.5, saturation_threshold: 0.75}}]}
- name: mine
  triggers: [{name: heap2, threshold: {value: 0.9}}]
  typed_config:
    "@type": type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig
    timer_scale_factors: [{timer: TRANSPORT_SOCKET_CONNECT, min_timeout: 2s}, {timer: HTTP_DOWNSTREAM_STREAM_FLUSH, min_scale: {value: 25}}]
- name: envoy.overload_actions.shrink_heap
  triggers: [{name: connections, threshold: {value: 1}}]
  typed_config: {"@type": type.googleapis.com/envoy.config.overload.v3.ShrinkHeapConfig, timer_interval: 3s, max_unfreed_memory_bytes: 5}
- {name: envoy.overload_actions.reset_high_memory_stream, triggers: [{name: heap, threshold: {value: 0.95}}]}
loadshed_points:
- {name: envoy.load_shed_points.tcp_listener_accept, triggers: [{name: heap, threshold: {value: 0.8}}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	c := b.Overload
	if c.Every != 200*time.Millisecond || c.Account != 20 || len(c.Monitors) != 4 || b.Limits.Global == nil || b.Limits.Global.Max != 7 {
		t.Errorf("read %+v", c)
	}
	if c.Monitors[0].Monitor != (overload.Heap{Max: 1000, Reserve: HeapReserve}) || c.Monitors[1].Monitor != (overload.Heap{Max: 2000, Reserve: HeapReserve}) || !c.Monitors[2].Monitor.(*overload.CPU).Container {
		t.Errorf("monitors %+v", c.Monitors)
	}
	want := []overload.Action{
		{Name: "envoy.overload_actions.stop_accepting_requests", Kind: overload.StopRequests, Triggers: []overload.Trigger{{Resource: "heap", From: 0.9, To: 0.9}, {Resource: "cpu", From: 0.5, To: 0.75}}},
		{Name: "mine", Kind: overload.ReduceTimeouts, Triggers: []overload.Trigger{{Resource: "heap2", From: 0.9, To: 0.9}}, Timers: map[overload.Timer]overload.Floor{overload.Handshake: {Time: 2 * time.Second}, overload.StreamFlush: {Share: 0.25}}},
		{Name: "envoy.overload_actions.shrink_heap", Kind: overload.ShrinkHeap, Triggers: []overload.Trigger{{Resource: "connections", From: 1, To: 1}}, ShrinkEvery: 3 * time.Second, ShrinkAbove: 5},
		{Name: "envoy.overload_actions.reset_high_memory_stream", Kind: overload.ResetStreams, Triggers: []overload.Trigger{{Resource: "heap", From: 0.95, To: 0.95}}},
	}
	if !reflect.DeepEqual(c.Actions, want) {
		t.Errorf("actions\n%+v, want\n%+v", c.Actions, want)
	}
	if points := []overload.ShedPoint{{Point: overload.TCPListenerAccept, Triggers: []overload.Trigger{{Resource: "heap", From: 0.8, To: 0.8}}}}; !reflect.DeepEqual(c.Points, points) {
		t.Errorf("points %+v, want %+v", c.Points, points)
	}
}

// What cannot be meant is refused with its path.
func TestOverloadMistakes(t *testing.T) {
	const heap = `resource_monitors: [{name: heap, typed_config: {"@type": ` + monitorType + `fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 1000}}]` + "\n"
	const at = `triggers: [{name: heap, threshold: {value: 0.9}}]`
	const timers = `typed_config: {"@type": type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig, timer_scale_factors: `
	for _, test := range []struct{ text, want string }{
		{`resource_monitors: [{name: heap, typed_config: {"@type": ` + monitorType + `fixed_heap.v3.FixedHeapConfig}}]`, "resource_monitors[0].typed_config: want either"},
		{`resource_monitors: [{name: x, typed_config: {"@type": ` + monitorType + `injected_resource.v3.InjectedResourceConfig, filename: /does/not/exist}}]`, "typed_config.filename: stat /does/not/exist"},
		{heap + `actions: [{name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap, threshold: {value: 1.5}}]}]`, "actions[0].triggers[0].threshold.value: found 1.5, want one in [0, 1]"},
		{heap + `actions: [{name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap}]}]`, "actions[0].triggers[0]: nothing is set of threshold, scaled"},
		{heap + `actions: [{name: envoy.overload_actions.reduce_timeouts, ` + at + `}]`, "actions[0].typed_config: want a ScaleTimersOverloadActionConfig"},
		{heap + `actions: [{name: envoy.overload_actions.reduce_timeouts, ` + at + `, ` + timers + `[{timer: HTTP_DOWNSTREAM_STREAM_IDLE}]}}]`, "timer_scale_factors[0]: nothing is set of min_timeout, min_scale"},
		{heap + `actions: [{name: envoy.overload_actions.reduce_timeouts, ` + at + `, ` + timers + `[{timer: HTTP_DOWNSTREAM_STREAM_IDLE, min_timeout: 1s}, {timer: HTTP_DOWNSTREAM_STREAM_IDLE, min_timeout: 1s}]}}]`, "found HTTP_DOWNSTREAM_STREAM_IDLE twice"},
		{heap + `actions: [{name: envoy.overload_actions.reset_high_memory_stream, ` + at + `}]`, "buffer_factory_config: is not set"},
		{heap + `loadshed_points: [{name: elsewhere, ` + at + `}]`, `loadshed_points[0].name: found "elsewhere"`},
		{heap + `buffer_factory_config: {minimum_account_to_track_power_of_two: 60}`, "minimum_account_to_track_power_of_two: found 60, want one in [10, 56]"},
	} {
		if _, err := readOverload(t, test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\ngot %v, want %s", test.text, err, test.want)
		}
	}
}
