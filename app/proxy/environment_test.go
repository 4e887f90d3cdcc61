package proxy

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mallamesh/malla/proxy/build"
)

// from makes an environment of variables.
func from(t *testing.T, o Options, vars map[string]string) (*environment, error) {
	t.Helper()
	o.Getenv = func(name string) string { return vars[name] }
	o.Environ = func() []string {
		var out []string
		for k, v := range vars {
			out = append(out, k+"="+v)
		}
		return out
	}
	return readEnvironment(o)
}

var pod = map[string]string{
	"POD_NAME": "reviews-v1-abc", "POD_NAMESPACE": "default", "INSTANCE_IPS": "10.244.0.7,fd00::7", "SERVICE_ACCOUNT": "reviews",
	"ISTIO_META_WORKLOAD_NAME": "reviews-v1", "ISTIO_META_CLUSTER_ID": "Kubernetes",
}

func with(more map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range pod {
		out[k] = v
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// The injector's variables become the node, the identity and the addresses that
// Istio's agent would make of them.
func TestEnvironment(t *testing.T) {
	e, err := from(t, Options{}, with(map[string]string{
		"PROXY_CONFIG": `{"discoveryAddress":"istiod.mesh.svc:15012","concurrency":2,"terminationDrainDuration":"7s","proxyMetadata":{"SECRET_TTL":"10m","ISTIO_META_X":"y"}}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	node, err := e.node()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := node.GetId(), "sidecar~10.244.0.7~reviews-v1-abc.default~default.svc.cluster.local"; got != want {
		t.Errorf("node id %s, want %s", got, want)
	}
	if got := node.GetMetadata().GetFields()["WORKLOAD_NAME"].GetStringValue(); got != "reviews-v1" {
		t.Errorf("metadata WORKLOAD_NAME %q: ISTIO_META_ variables are metadata", got)
	}
	if got := node.GetMetadata().GetFields()["X"].GetStringValue(); got != "y" {
		t.Errorf("metadata X %q: proxyMetadata is metadata too", got)
	}
	if got, want := e.id().String(), "spiffe://cluster.local/ns/default/sa/reviews"; got != want {
		t.Errorf("identity %s, want %s", got, want)
	}
	if e.Discovery != "istiod.mesh.svc:15012" || e.CA != e.Discovery || serverName(e.CA) != "istiod.mesh.svc" {
		t.Errorf("control plane %s, CA %s as %s", e.Discovery, e.CA, serverName(e.CA))
	}
	if e.Concurrency != 2 || e.Termination != 7*time.Second || e.TTL != 10*time.Minute || e.StatusPort != 15020 || e.AdminPort != 15000 {
		t.Errorf("got %+v", e)
	}
	if p := e.peer(); p.Workload != "reviews-v1" || p.CanonicalService != "reviews-v1" || p.CanonicalRevision != "latest" {
		t.Errorf("in metrics we are %+v", p)
	}
}

// What cannot be meant is said by the name of the variable.
func TestEnvironmentMistakes(t *testing.T) {
	for _, test := range []struct {
		vars map[string]string
		o    Options
		want string
	}{
		{map[string]string{"POD_NAME": ""}, Options{}, "POD_NAME is not set"},
		{map[string]string{"INSTANCE_IPS": "here"}, Options{}, "INSTANCE_IPS"},
		{map[string]string{"INSTANCE_IPS": ""}, Options{}, "INSTANCE_IP is not set"},
		{map[string]string{"PROXY_CONFIG": "{"}, Options{}, "PROXY_CONFIG"},
		{map[string]string{"SECRET_TTL": "soon"}, Options{}, `SECRET_TTL: found "soon", want a time such as 30s`},
		{map[string]string{"PROXY_CONFIG": `{"proxyStatsMatcher":{"inclusionRegexps":["("]}}`}, Options{}, "inclusionRegexps[0]"},
		{nil, Options{Type: "ztunnel"}, `found "ztunnel", want sidecar or router`},
	} {
		if _, err := from(t, test.o, with(test.vars)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: got %v, want it to say %q", test.vars, err, test.want)
		}
	}
}

// Prometheus sees of Envoy's statistics what it sees of a sidecar of Istio, and
// what the workload asks for.
func TestStatisticsShown(t *testing.T) {
	e, err := from(t, Options{}, with(map[string]string{"PROXY_CONFIG": `{"proxyStatsMatcher":{"inclusionPrefixes":["cluster.outbound"],"inclusionRegexps":["http\\..*\\.rq_total"]}}`}))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"server.live": true, "cluster_manager.cds.update_success": true, "listener.0.0.0.0_15006.downstream_cx_active": true,
		"cluster.outbound|80||a.upstream_rq_pending_overflow": true, "http.in.rq_total": true,
		"cluster.inbound|80||.upstream_rq_total": false, "http.in.downstream_rq_total": false,
	} {
		if got := e.Shown.MatchString(name); got != want {
			t.Errorf("%s shown: %v, want %v", name, got, want)
		}
	}
}

// What we write for a proxy of the mesh is a bootstrap like everybody's: its own
// reader takes it, and it names the control plane.
func TestOwnBootstrap(t *testing.T) {
	for _, discovery := range []string{"istiod.istio-system.svc:15012", "10.0.0.1:15012", "[fd00::1]:15012"} {
		e := &environment{Type: "sidecar", Pod: "p", Namespace: "n", IPs: []string{"10.0.0.2"}, Discovery: discovery, AdminPort: 15000}
		node, err := e.node()
		if err != nil {
			t.Fatal(err)
		}
		b, err := build.NewBootstrap("bootstrap", e.bootstrap(node))
		if err != nil {
			t.Fatal(err)
		}
		if b.ADS == nil || b.ADS.Cluster != xdsCluster || !b.ADS.Delta || b.LDS == nil || *b.LDS != 0 || b.CDS == nil || *b.CDS != 0 || b.Admin.Port() != 15000 {
			t.Errorf("%s: ADS %+v, listeners %v, clusters %v, admin %s", discovery, b.ADS, b.LDS, b.CDS, b.Admin)
		}
		p, err := assemble(t.Context(), Options{Log: slog.New(slog.DiscardHandler)}, plan{node: node, boot: b, workers: 1, dialer: markedDialer(0)})
		if err != nil {
			t.Fatal(err)
		}
		p.secrets.Local(identitySecret, rootSecret)
		if err := p.begin(nil); err != nil {
			t.Errorf("%s: %v", discovery, err)
		}
		p.shards.Close()
	}
}

// runtimeValues are texts, of which true and false are meant as such, and an empty one leaves the key out.
func TestRuntimeValues(t *testing.T) {
	e, err := from(t, Options{}, with(map[string]string{"PROXY_CONFIG": `{"runtimeValues":{"upstream.healthy_panic_threshold":"30","a.b":"true","gone":""},"connectionSettings":{"globalDownstreamConnectionLimit":7}}`}))
	if err != nil {
		t.Fatal(err)
	}
	node, err := e.node()
	if err != nil {
		t.Fatal(err)
	}
	b := e.bootstrap(node)
	got := map[string]any{}
	for _, l := range b.GetLayeredRuntime().GetLayers() {
		got[l.GetName()] = l.GetStaticLayer().AsMap()
	}
	want := map[string]any{
		"connections":   map[string]any{"overload.global_downstream_max_connections": 7.0},
		"global config": map[string]any{"upstream.healthy_panic_threshold": "30", "a.b": true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := build.NewBootstrap("bootstrap", b); err != nil {
		t.Error(err)
	}
}

// A sidecar drains what comes in, and its application's own traffic goes on; to a gateway everything comes in.
func TestWhatDrainsFirst(t *testing.T) {
	for kind, inboundOnly := range map[string]bool{"sidecar": true, "router": false} {
		if got := (&environment{Type: kind}).inboundOnly(); got != inboundOnly {
			t.Errorf("%s: only inbound connections drain: %v, want %v", kind, got, inboundOnly)
		}
	}
}
