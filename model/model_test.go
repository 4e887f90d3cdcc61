package model_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mallamesh/malla/model"
)

func TestHosts(t *testing.T) {
	for _, test := range []struct{ host, ns, want string }{
		{"reviews", "prod", "reviews.prod.svc.cluster.local"}, // a short name is of the rule's namespace
		{"reviews.test", "prod", "reviews.test"},              // a name with a dot is taken as it is
		{"*", "prod", "*"},
		{"*.prod", "test", "*.prod"},
	} {
		if got := model.ResolveHost(test.host, test.ns, "cluster.local"); got != test.want {
			t.Errorf("ResolveHost(%q, %q) = %q, want %q", test.host, test.ns, got, test.want)
		}
	}
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"*", "a.example.com", true},
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "a.b.example.com", true}, // a wildcard stands for any number of labels
		{"*.example.com", "example.com", false},    // but for one at least
		{"*.example.com", "*.b.example.com", true},
		{"*.b.example.com", "*.example.com", false}, // the narrower does not match the wider
		{"*.example.com", "*", false},
		{"a.example.com", "b.example.com", false},
		{"a.example.com", "*.example.com", false},
	} {
		if got := model.HostMatches(test.a, test.b); got != test.want {
			t.Errorf("HostMatches(%q, %q) = %v, want %v", test.a, test.b, got, test.want)
		}
	}
	for _, test := range []struct{ winner, loser string }{
		{"a.example.com", "*.very.long.example.com"}, // exact before wildcard
		{"*.b.example.com", "*.example.com"},         // longer before shorter
		{"*.com", "*"},
	} {
		if !model.MoreSpecific(test.winner, test.loser) || model.MoreSpecific(test.loser, test.winner) {
			t.Errorf("%q is not more specific than %q", test.winner, test.loser)
		}
	}
}

func TestExportTo(t *testing.T) {
	for _, test := range []struct {
		to, def model.ExportTo
		client  string
		want    bool
	}{
		{nil, nil, "test", true}, // nothing said anywhere is everybody
		{nil, model.ExportTo{"."}, "test", false},
		{nil, model.ExportTo{"."}, "prod", true},
		{model.ExportTo{"*"}, model.ExportTo{"."}, "test", true}, // what is said beats the default
		{model.ExportTo{"~"}, nil, "prod", false},                // nobody, not even the own namespace
		{model.ExportTo{"test", "."}, nil, "test", true},
		{model.ExportTo{"test"}, nil, "prod", false}, // the own namespace must be named, too
	} {
		if got := test.to.Sees("prod", test.client, test.def); got != test.want {
			t.Errorf("%v (default %v): %s sees it: %v, want %v", test.to, test.def, test.client, got, test.want)
		}
	}
}

func TestOlder(t *testing.T) {
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	for _, test := range []struct {
		why    string
		at, bt time.Time
		a, b   model.Ref
	}{
		{"the oldest wins", early, late, model.Ref{Name: "z"}, model.Ref{Name: "a"}},
		{"of one age, the earlier line", early, early, model.Ref{Name: "z", Pos: "f.yaml:9"}, model.Ref{Name: "a", Pos: "f.yaml:10"}},
		{"then the name", early, early, model.Ref{Name: "a", Namespace: "z"}, model.Ref{Name: "b", Namespace: "a"}},
		{"then the namespace", early, early, model.Ref{Name: "a", Namespace: "a"}, model.Ref{Name: "a", Namespace: "b"}},
	} {
		if !model.Older(test.at, test.a, test.bt, test.b) || model.Older(test.bt, test.b, test.at, test.a) {
			t.Errorf("%s: %v is not older than %v", test.why, test.a, test.b)
		}
	}
}

func TestRefText(t *testing.T) {
	if got := (model.Ref{Kind: "Gateway", Namespace: "prod", Name: "gw"}).String(); got != "Gateway prod/gw" {
		t.Errorf("a Ref reads %q", got)
	}
	if got := (model.Ref{Kind: "Namespace", Name: "prod"}).String(); got != "Namespace prod" {
		t.Errorf("a Ref without namespace reads %q", got)
	}
}

// The address of a pod on the host's network is the host's: it says nothing
// about the pod.
func TestWorkloadByAddress(t *testing.T) {
	a := netip.MustParseAddr("10.244.0.7")
	host := &model.Workload{Name: "host", Addrs: []netip.Addr{a}, HostNetwork: true}
	pod := &model.Workload{Name: "pod", Namespace: "prod", Addrs: []netip.Addr{netip.MustParseAddr("10.244.0.8")}}
	cfg := model.DefaultMeshConfig()
	m := &model.Mesh{Config: &cfg, Registry: &model.Registry{Workloads: []*model.Workload{host, pod}}}
	m.Index(nil)
	if got := m.WorkloadAt(a); got != nil {
		t.Errorf("the host's address is %s's", got.Name)
	}
	if got := m.WorkloadAt(pod.Addrs[0]); got != pod || m.Workload("prod", "pod") != pod {
		t.Errorf("pod is found as %v", got)
	}
}

// What a view computes for a key it computes once.
func TestMemo(t *testing.T) {
	cfg := model.DefaultMeshConfig()
	m := &model.Mesh{Config: &cfg, Registry: &model.Registry{}}
	m.Index(nil)
	v := model.NewView(&model.Proxy{}, m)
	calls := 0
	for range 3 {
		if got := v.Memo("answer", func() any { calls++; return 42 }); got != 42 {
			t.Errorf("the memo gives %v", got)
		}
	}
	if calls != 1 {
		t.Errorf("computed %d times", calls)
	}
}

func TestMeshRules(t *testing.T) {
	rules := func(name string, hosts ...string) *model.RouteRules {
		return &model.RouteRules{From: model.Ref{Name: name}, Hosts: hosts, Gateways: []string{"mesh"}}
	}
	cfg := model.DefaultMeshConfig()
	m := &model.Mesh{Config: &cfg, Registry: &model.Registry{}, Rules: []*model.RouteRules{
		rules("any", "*"), rules("com", "*.example.com"), rules("b", "*.b.example.com"), rules("a", "a.example.com"), rules("young", "a.example.com"),
	}}
	m.Index(nil)
	v := model.NewView(&model.Proxy{}, m)
	for host, want := range map[string]string{
		"a.example.com":     "a",   // exact, and the oldest of two
		"c.b.example.com":   "b",   // the longest wildcard
		"d.c.b.example.com": "b",   // of any depth
		"b.example.com":     "com", // not under *.b.example.com
		"example.com":       "any",
		"elsewhere":         "any",
		"*.b.example.com":   "b", // a service may have a wildcard host itself
		"*.x.example.com":   "com",
	} {
		if got := v.MeshRules(host); got == nil || got.From.Name != want {
			t.Errorf("rules of %s are %v, want %s", host, got, want)
		}
	}
}

// A certificate of another namespace is for nobody but those to whom it is granted.
func TestWhoMayHaveACredential(t *testing.T) {
	for _, test := range []struct {
		source    model.SecretSource
		namespace string
		want      bool
	}{
		{model.SecretSource{Name: "a"}, "prod", true}, // the proxy's own
		{model.SecretSource{Namespace: "prod", Name: "a"}, "prod", true},
		{model.SecretSource{Namespace: "prod", Name: "a"}, "edge", false},
		{model.SecretSource{Namespace: "prod", Name: "a", Granted: "edge"}, "edge", true},
		{model.SecretSource{Namespace: "prod", Name: "a", Granted: "edge"}, "evil", false},
		{model.SecretSource{Namespace: "prod", Name: "a", Granted: "*"}, "anybody", true},
	} {
		if got := test.source.Open(test.namespace); got != test.want {
			t.Errorf("Open(%+v, %s) = %v, want %v", test.source, test.namespace, got, test.want)
		}
	}
}
