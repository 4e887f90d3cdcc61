package translate_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// Whoever wrote what a resource is made of is to hear what a proxy makes of it.
func TestOwners(t *testing.T) {
	files := model.SecretSource{Kind: model.FromFiles, Cert: "/certs/a.pem", Key: "/certs/a.key"}
	held := model.SecretSource{Kind: model.FromSecret, Namespace: "edge", Name: "web"}
	gateway := func(name string, port uint16, certs ...model.SecretSource) *model.Gateway {
		return &model.Gateway{From: model.Ref{Kind: "Gateway", Namespace: "edge", Name: name, Pos: "gw.yaml:1"}, Servers: []*model.Server{
			{Port: port, Protocol: model.HTTPS, Hosts: []model.GatewayHost{{Name: name + ".example.com"}}, TLS: &model.ServerTLS{Certs: certs}},
			{Port: 80, Protocol: model.HTTP, Hosts: []model.GatewayHost{{Name: "*"}}},
		}}
	}
	m := large(3)
	m.Gateways = []*model.Gateway{gateway("one", 443, files, held), gateway("two", 8443, held)}
	v := model.NewView(&model.Proxy{Type: model.Router, Namespace: "edge", Name: "b"}, m)
	for _, test := range []struct{ url, name, want string }{
		{translate.SecretType, "file-cert:/certs/a.pem~/certs/a.key", "[Gateway edge/one]"},
		{translate.SecretType, "kubernetes://edge/web", "[Gateway edge/one Gateway edge/two Secret edge/web]"},
		{translate.SecretType, "kubernetes://edge/other", "[]"},
		{translate.ListenerType, "0.0.0.0_80", "[Gateway edge/one Gateway edge/two]"},
		{translate.ListenerType, "0.0.0.0_443", "[Gateway edge/one]"},
		{translate.ListenerType, "0.0.0.0_1", "[]"},
		{translate.RouteType, "http.80", "[Gateway edge/one Gateway edge/two]"},
		{translate.ClusterType, "BlackHoleCluster", "[]"},
	} {
		if got := fmt.Sprint(translate.Owners(v, test.url, test.name)); got != test.want {
			t.Errorf("%s is of %s, want %s", test.name, got, test.want)
		}
	}

	// A cluster is its service's and its policy's.
	s := m.Registry.Services[0]
	m.Policies = append(m.Policies, &model.DestinationRule{From: model.Ref{Kind: "DestinationRule", Namespace: s.Namespace, Name: "d"}, Host: s.Host})
	m.IndexPolicies()
	v = model.NewView(&model.Proxy{Type: model.Sidecar, Namespace: s.Namespace, Name: "a"}, m)
	name := fmt.Sprintf("outbound|%d||%s", s.Ports[0].Number, s.Host)
	if got := translate.Owners(v, translate.ClusterType, name); !slices.Contains(got, model.Ref{Kind: "DestinationRule", Namespace: s.Namespace, Name: "d"}) {
		t.Errorf("%s is of %v, want its DestinationRule among them", name, got)
	}
}
