package build

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/filter/fault"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/route"
)

// readRuntime reads a bootstrap with these layers.
func readRuntime(t *testing.T, layers string) (*Bootstrap, error) {
	t.Helper()
	m, err := ParseBootstrap("b.yaml", []byte("layered_runtime: {layers: ["+layers+"]}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return NewBootstrap("b.yaml", m)
}

// withRuntime is a reader that knows the values of a layer.
func withRuntime(t *testing.T, layer string) *listenerReader {
	t.Helper()
	b, err := readRuntime(t, "{name: a, static_layer: "+layer+"}")
	if err != nil {
		t.Fatal(err)
	}
	env := testEnv(t)
	env.Values = b.Values
	return &listenerReader{reader: reader{env: env}}
}

func fromYAML[M proto.Message](t *testing.T, text string, m M) M {
	t.Helper()
	if errs := parse("x.yaml", []byte(text), m, nil); len(errs) > 0 {
		t.Fatal(errs)
	}
	return m
}

// What is nested has a key with dots, a later layer wins key by key, and what has the form of a share is one.
func TestLayersAreFlattened(t *testing.T) {
	b, err := readRuntime(t, `{name: a, static_layer: {a: {b: {c: 1, d: 2}}, a.e: 3, s: {numerator: 7}}}, {name: b, admin_layer: {}}, {name: c, static_layer: {a.b: {d: 4}, s: {x: 5}}}`)
	if err != nil {
		t.Fatal(err)
	}
	v := b.Values
	if got, want := slices.Sorted(maps.Keys(v.all)), []string{"a.b.c", "a.b.d", "a.e", "s", "s.x"}; !slices.Equal(got, want) {
		t.Fatalf("keys %q, want %q", got, want)
	}
	if c, d, e := v.integer("a.b.c", 0), v.integer("a.b.d", 0), v.integer("a.e", 0); c != 1 || d != 4 || e != 3 {
		t.Errorf("found %d, %d and %d, want 1, 4 of the later layer, and 3", c, d, e)
	}
	if got := v.Unread(); !slices.Equal(got, []string{"s", "s.x"}) {
		t.Errorf("unread are %q, want s and s.x", got)
	}
}

// A value is read in every form that Envoy finds in it, and counts as not set in the others.
func TestFormsOfValues(t *testing.T) {
	const unset = -1
	for _, c := range []struct {
		text    string
		double  float64
		integer int64
		truth   string
		share   string
	}{
		{"0", 0, 0, "false", "0/100"},
		{"1", 1, 1, "true", "1/100"},
		{"250", 250, 250, "true", "100/100"},
		{"2.9", 2.9, 2, "", "2/100"},
		{"-3", -3, unset, "true", ""},
		{"1e12", 1e12, 1e12, "", "100/100"},
		{"true", unset, unset, "true", ""},
		{`"17"`, 17, 17, "true", "17/100"},
		{`" 0.5 "`, 0.5, 0, "", "0/100"},
		{`"0x10"`, unset, unset, "", ""},
		{`"false"`, unset, unset, "", ""},
		{`"words"`, unset, unset, "", ""},
		{`'{"numerator": 5, "denominator": "MILLION"}'`, unset, unset, "", ""},
		{"{numerator: 5, denominator: TEN_THOUSAND}", unset, unset, "", "5/10000"},
		{"{denominator: MILLION}", unset, unset, "", "0/1000000"},
		{"{numerator: 5, denominator: DOZEN}", unset, unset, "", ""},
		{"{numerator: 5, more: 1}", unset, unset, "", ""},
		{"{}", unset, unset, "", "0/100"},
	} {
		b, err := readRuntime(t, "{name: a, static_layer: {k: "+c.text+"}}")
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		v := b.Values.get("k")
		double, integer, truth := float64(unset), int64(unset), ""
		if v.double != nil {
			double = *v.double
		}
		if v.integer != nil {
			integer = int64(*v.integer)
		}
		if v.truth != nil {
			truth = map[bool]string{true: "true", false: "false"}[*v.truth]
		}
		share, ok := b.Values.share("k")
		if double != c.double || integer != c.integer || truth != c.truth || ok != (c.share != "") || ok && share != parseShare(t, c.share) {
			t.Errorf("%s: read as %v, %v, %q and %v (%v), want %v, %v, %q and %q", c.text, double, integer, truth, share, ok, c.double, c.integer, c.truth, c.share)
		}
	}
}

func parseShare(t *testing.T, text string) (f route.Fraction) {
	t.Helper()
	n, d, _ := strings.Cut(text, "/")
	f.Numerator, f.Denominator = uint32(*textual(n).integer), uint32(*textual(d).integer)
	return f
}

// What cannot count is refused by path: values of no form, and layers that somebody else fills.
func TestRefusedLayers(t *testing.T) {
	for _, c := range []struct{ layers, want string }{
		{`{name: a, static_layer: {a: {b: null}}}`, "layered_runtime.layers[0].static_layer.a.b: found <nil>"},
		{`{name: a, static_layer: {a: [1]}}`, "layered_runtime.layers[0].static_layer.a: found [1]"},
		{`{name: a, static_layer: {}}, {name: a, admin_layer: {}}`, "layered_runtime.layers[1].name"},
		{`{static_layer: {}}`, "layered_runtime.layers[0].name: is empty"},
		{`{name: a}`, "layered_runtime.layers[0]: nothing is set of static_layer, "},
		{`{name: a, admin_layer: {}}, {name: b, admin_layer: {}}`, "layered_runtime.layers[1].admin_layer"},
		{`{name: a, disk_layer: {symlink_root: /x}}`, "layered_runtime.layers[0].disk_layer: is not supported"},
		{`{name: a, rtds_layer: {name: x}}`, "layered_runtime.layers[0].rtds_layer: is not supported"},
	} {
		if _, err := readRuntime(t, c.layers); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: found %v, want %q", c.layers, err, c.want)
		}
	}
}

// Keys that nothing reads are known, without those that choose how Envoy works inside.
func TestUnreadKeys(t *testing.T) {
	b, err := readRuntime(t, `{name: a, static_layer: {mine: 1, re2.max_program_size.error_level: 32768, overload.global_downstream_max_connections: 9,
		envoy.reloadable_features.x: true, envoy.resource_limits.listener.l: {connection_limit: 5}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := b.Values.Unread(), []string{"envoy.reloadable_features.x", "mine"}; !slices.Equal(got, want) {
		t.Errorf("unread are %q, want %q", got, want)
	}
	if b.Limits.Global == nil || b.Limits.Global.Max != 9 || b.Limits.Listeners["l"] != 5 {
		t.Errorf("limits %+v, want 9 connections, and 5 of listener l", b.Limits)
	}
}

// Every kind of place that may have a key is built with the key's value.
func TestRuntimeKeys(t *testing.T) {
	r := withRuntime(t, `{three: 3, half: 0.5, none: 0, bytes: 5000000000, fault: {percent: 20, ms: 250, status: 418, grpc: 14, active: 2}, outlier_detection: {interval_ms: 1500, max_ejection_percent: 40},
		upstream: {healthy_panic_threshold: 10}, circuit_breakers: {c: {high: {max_retries: 8, retry_budget: {budget_percent: 12.5}}}}}`)
	at := field.At("x")

	slow := r.slowStart(fromYAML(t, "{slow_start_window: 1s, aggression: {default_value: 2, runtime_key: half}}", &clusterv3.Cluster_SlowStartConfig{}), at)
	if slow.Aggression != 0.5 {
		t.Errorf("aggression %v, want 0.5", slow.Aggression)
	}
	below := r.comparison(fromYAML(t, "{op: LE, value: {default_value: 200, runtime_key: three}}", &accesslogv3.ComparisonFilter{}), at)
	if !below(3) || below(4) {
		t.Error("a comparison has not the runtime's number")
	}
	if got := runtimeInteger(&r.reader, &corev3.RuntimeUInt64{DefaultValue: 1, RuntimeKey: "bytes"}); got != 5_000_000_000 {
		t.Errorf("an integer is %d, want 5000000000", got)
	}
	for text, want := range map[string]bool{
		"{default_value: false, runtime_key: three}": true, "{runtime_key: none}": false, "{default_value: false, runtime_key: half}": false, "{runtime_key: missing}": true,
	} {
		if got := r.runtimeFlag(fromYAML(t, text, &corev3.RuntimeFeatureFlag{})); got != want {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
	}
	f := r.fault(fromYAML(t, `{delay: {fixed_delay: 1s, percentage: {numerator: 1}}, abort: {grpc_status: 5}, response_rate_limit: {fixed_limit: {limit_kbps: 9}},
		delay_percent_runtime: fault.percent, delay_duration_runtime: fault.ms, abort_percent_runtime: fault.percent, abort_grpc_status_runtime: fault.grpc,
		abort_http_status_runtime: fault.status, max_active_faults_runtime: fault.active, response_rate_limit_percent_runtime: fault.percent}`, &faultv3.HTTPFault{}), at)
	share := fault.Share{Numerator: 20, Denominator: 100, Firm: true}
	if f.Delay != 250*time.Millisecond || f.DelayShare != share || f.AbortShare != share || f.RateShare != share || f.GRPCStatus != 14 || f.MaxActive == nil || *f.MaxActive != 2 {
		t.Errorf("fault %+v", f)
	}
	h := r.fault(fromYAML(t, `{delay: {header_delay: {}}, abort: {header_abort: {}}, delay_duration_runtime: fault.ms, abort_http_status_runtime: fault.status}`, &faultv3.HTTPFault{}), at)
	if !h.DelayHeader || h.Delay != 250*time.Millisecond || !h.AbortHeader || h.Status != 418 || h.HasGRPC {
		t.Errorf("fault by headers %+v", h)
	}
	o := r.outlier(fromYAML(t, "{interval: 3s, base_ejection_time: 7s}", &clusterv3.OutlierDetection{}), at)
	if o.Interval != 1500*time.Millisecond || o.BaseEjection != 7*time.Second || o.MaxEjectionPercent == nil || *o.MaxEjectionPercent != 40 {
		t.Errorf("outlier detection %+v", o)
	}
	c := r.cluster(fromYAML(t, "{name: c, type: STATIC, connect_timeout: 1s}", &clusterv3.Cluster{}), r.env.Secrets).Config
	high := c.Breakers[1]
	if c.Panic == nil || *c.Panic != 10 || high.Retries == nil || *high.Retries != 8 || high.Budget == nil || high.Budget.Percent != 12.5 || high.Budget.Min != 3 {
		t.Errorf("panic at %v, breakers %+v", c.Panic, high)
	}
	if err := r.errs.Err(); err != nil {
		t.Error(err)
	}
	if got := r.env.Values.Unread(); len(got) > 0 {
		t.Errorf("nobody has read %q", got)
	}
	r.fault(fromYAML(t, "{abort: {http_status: 500}, abort_http_status_runtime: three}", &faultv3.HTTPFault{}), at)
	if err := r.errs.Err(); err == nil || !strings.Contains(err.Error(), "found 3 in the runtime's three") {
		t.Errorf("found %v, want a refusal of status 3", err)
	}
}

// An access log that samples takes the runtime's integer in parts of the configured denominator.
func TestRuntimeFilterSamples(t *testing.T) {
	r := withRuntime(t, "{all: 5000000, none: 0, share: {numerator: 0}}")
	for _, c := range []struct {
		key  string
		want bool
	}{{"all", true}, {"none", false}, {"share", true}, {"missing", true}} {
		keep := r.logFilter(fromYAML(t, "{runtime_filter: {runtime_key: "+c.key+", percent_sampled: {numerator: 1000000, denominator: MILLION}}}", &accesslogv3.AccessLogFilter{}), field.At("x"))
		if got := keep(&access.Record{}); got != c.want {
			t.Errorf("%s: written %v, want %v", c.key, got, c.want)
		}
	}
}

// A limit of memory may be the runtime's.
func TestRuntimeHeap(t *testing.T) {
	m, err := ParseBootstrap("b.yaml", []byte(`layered_runtime: {layers: [{name: a, static_layer: {heap: 3000}}]}
overload_manager: {resource_monitors: [{name: heap, typed_config: {"@type": `+monitorType+`fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes_runtime: {default_value: 2000, runtime_key: heap}}}]}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBootstrap("b.yaml", m)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Overload.Monitors[0].Monitor; got != (overload.Heap{Max: 3000, Reserve: HeapReserve}) {
		t.Errorf("monitor %+v, want one of 3000 bytes", got)
	}
}

// Whatever a text holds, it is read without harm, and an integer is a number that is no larger.
func FuzzTextualValue(f *testing.F) {
	for _, s := range []string{"1", "true", "-0x1p-3", "nan", "1e999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v := textual(s)
		if v.integer != nil && (v.double == nil || float64(*v.integer) > *v.double) {
			t.Errorf("%q is the integer %d of the number %v", s, *v.integer, v.double)
		}
	})
}
