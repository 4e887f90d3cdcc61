package translate_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// large is a mesh of n services with three endpoints each.
func large(n int) *model.Mesh {
	reg := &model.Registry{Endpoints: make(map[model.ServiceKey]*model.EndpointSet)}
	for i := range n {
		s := &model.Service{
			Host: fmt.Sprintf("s%05d.ns%d.svc.cluster.local", i, i%20), Name: fmt.Sprintf("s%05d", i), Namespace: fmt.Sprintf("ns%d", i%20), Kubernetes: true,
			VIPs:  []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Ports: []model.Port{{Name: "http", Number: 8080, Protocol: model.HTTP}, {Name: "tcp", Number: 9090, Protocol: model.TCP}},
		}
		reg.Services = append(reg.Services, s)
		set := &model.EndpointSet{}
		for e := range 3 {
			set.Endpoints = append(set.Endpoints, &model.Endpoint{Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(e), byte(i >> 8), byte(i)})}, Port: 8080, PortName: "http", TLS: true})
		}
		reg.Endpoints[s.Key()] = set
	}
	cfg := model.DefaultMeshConfig()
	m, _ := compile.Mesh(config.Empty, &cfg, reg, nil)
	return m
}

// BenchmarkView is everything that a new sidecar gets in wildcard mode.
func BenchmarkView(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := large(n)
			p := &model.Proxy{Type: model.Sidecar, Namespace: "ns0", Name: "client", IPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}
			for b.Loop() {
				v := model.NewView(p, m)
				for _, url := range []string{translate.ClusterType, translate.EndpointType, translate.ListenerType, translate.RouteType} {
					for _, name := range translate.Names(v, url) {
						if _, ok := translate.Resource(v, url, name); !ok {
							b.Fatalf("no %s", name)
						}
					}
				}
			}
		})
	}
}
