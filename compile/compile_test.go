package compile_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/source/memory"
	"github.com/mallamesh/malla/model"
)

func objects(t *testing.T, text string) []*config.Object {
	t.Helper()
	list, err := memory.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

const twoRules = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: prod}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b, namespace: prod}
spec: {hosts: [b], http: [{route: [{destination: {host: b}}]}]}
`

// What did not change is not compiled again: it is the same value.
func TestUnchangedIsShared(t *testing.T) {
	cfg := model.DefaultMeshConfig()
	var store config.Store
	for _, o := range objects(t, twoRules) {
		store.Put(o)
	}
	reg := &model.Registry{}
	first, _ := compile.Mesh(store.Snapshot(), &cfg, reg, nil)

	moved := &model.Registry{Endpoints: map[model.ServiceKey]*model.EndpointSet{{Host: "a"}: {}}}
	second, _ := compile.Mesh(store.Snapshot(), &cfg, moved, first)
	if &second.Rules[0] != &first.Rules[0] {
		t.Error("an endpoint that moved made a new list of rules")
	}

	store.Put(objects(t, strings.ReplaceAll(twoRules, "host: b", "host: c"))[1])
	third, _ := compile.Mesh(store.Snapshot(), &cfg, moved, second)
	if third.Rules[0] != first.Rules[0] {
		t.Error("rules a were compiled again when b changed")
	}
	if third.Rules[1] == first.Rules[1] || third.Rules[1].HTTP[0].Forward[0].To.Host != "c.prod.svc.cluster.local" {
		t.Errorf("rules b did not change: %+v", third.Rules[1])
	}
	if first.Rules[1].HTTP[0].Forward[0].To.Host != "b.prod.svc.cluster.local" {
		t.Error("the mesh before was written")
	}
}

// What a compilation depends on besides the object is part of what is kept.
func TestOtherDomainCompilesAgain(t *testing.T) {
	cfg := model.DefaultMeshConfig()
	snapshot := config.Objects(objects(t, twoRules)...)
	first, _ := compile.Mesh(snapshot, &cfg, &model.Registry{}, nil)
	other := cfg
	other.ClusterDomain = "example.local"
	second, _ := compile.Mesh(snapshot, &other, &model.Registry{}, first)
	if got := second.Rules[0].Hosts[0]; got != "a.prod.svc.example.local" {
		t.Errorf("host is %s after the cluster's domain changed", got)
	}
}

// What is found depends on the settings of the mesh too: other settings ask again.
func TestOtherSettingsFindAgain(t *testing.T) {
	entry := func(name string) *model.Service {
		return &model.Service{Host: name, Namespace: "prod", External: true, Ports: []model.Port{{Number: 3306, Protocol: model.TCP}},
			Auto: []netip.Addr{netip.MustParseAddr("240.240.0.1")}, From: model.Ref{Kind: "ServiceEntry", Namespace: "prod", Name: name}}
	}
	reg := &model.Registry{Services: []*model.Service{entry("a.example.com"), entry("b.example.com")}}
	snapshot := config.Objects(objects(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: one, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {hosts: [a.example.com], http: [{route: [{destination: {host: a.example.com}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: two, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {hosts: [a.example.com], http: [{route: [{destination: {host: a.example.com}}]}]}
`)...)
	plain := model.DefaultMeshConfig()
	named, own := plain, plain
	named.ProxyMetadata = map[string]string{"ISTIO_META_DNS_CAPTURE": "true", "ISTIO_META_DNS_AUTO_ALLOCATE": "true"}
	own.RulesExportTo = model.ExportTo{"."}
	first, problems := compile.Mesh(snapshot, &plain, reg, nil)
	if len(problems) != 2 {
		t.Fatalf("found %v, want a host of two VirtualServices and bytes that nothing tells apart", problems)
	}
	for what, cfg := range map[string]*model.MeshConfig{"proxies that answer names": &named, "rules for their namespace alone": &own} {
		_, fresh := compile.Mesh(snapshot, cfg, reg, nil)
		_, again := compile.Mesh(snapshot, cfg, reg, first)
		if len(fresh) != 1 || !reflect.DeepEqual(fresh, again) {
			t.Errorf("%s: found %v after other settings, and %v from scratch", what, again, fresh)
		}
	}
}

// Problems name resource, position, field, what was found and what is wanted.
func TestProblems(t *testing.T) {
	list := objects(t, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: prod, annotations: {malla.dev/source: "gw.yaml:3"}}
spec: {servers: [{port: {number: 80, protocol: SMTP, name: mail}, hosts: ["*"]}]}
`)
	cfg := model.DefaultMeshConfig()
	_, problems := compile.Mesh(config.Objects(list...), &cfg, &model.Registry{}, nil)
	want := []string{
		`gw.yaml:3: Gateway prod/gw: spec.servers[0].port.protocol: is "SMTP", want one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP and TLS`,
	}
	for i, w := range want {
		if len(problems) != len(want) || problems[i].Error.Error() != w || problems[i].Notice != (i == 1) {
			t.Fatalf("problems are\n%v, want\n%v", problems, want)
		}
	}
}
