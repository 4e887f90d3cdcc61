package translate_test

import (
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
)

var (
	networkNames = []string{"", "", "one", "two"}
	gateways     = []model.NetworkGateway{
		{Network: "one", Addr: netip.MustParseAddr("203.0.113.1"), Port: 15443}, {Network: "one", Name: "ew.example.com", Port: 15443},
		{Network: "two", Addr: netip.MustParseAddr("203.0.113.2"), Port: 15443}, {Network: "two", Name: "nobody.example.com", Port: 1},
	}
)

// randomNetworks are MeshNetworks, and what is known of the names in them.
func randomNetworks(r *rand.Rand) model.Networks {
	out := model.Networks{Here: pick(r, networkNames), Resolved: map[string][]netip.Addr{}}
	if r.IntN(2) == 0 {
		out.Ranges = []model.NetworkRange{{Range: netip.MustParsePrefix("10.244.0.2/31"), Network: pick(r, networkNames[2:])}}
	}
	for _, g := range gateways {
		if r.IntN(2) == 0 {
			out.Gateways = append(out.Gateways, g)
		}
	}
	if r.IntN(2) == 0 {
		out.Services = []model.NetworkService{{Host: "x.a.svc.cluster.local", Network: "one", Port: 15443}, {Host: "missing.a.svc.cluster.local", Network: "two", Port: 15443}}
	}
	for _, name := range []string{"ew.example.com", "lb.example.com"} {
		if r.IntN(2) == 0 {
			out.Resolved[name] = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + r.IntN(2))})}
		}
	}
	return out
}

// place says of which network an endpoint is, where it is and how much of the requests it gets; it may have no address that counts here.
func place(r *rand.Rand, e *model.Endpoint) *model.Endpoint {
	e.Network, e.Weight, e.Locality = pick(r, networkNames), r.Uint32N(3), pick(r, []string{"", "r/a", "r/b"})
	if e.Network != "" && r.IntN(4) == 0 {
		e.Addrs = nil
	}
	return e
}

// leads makes a Service a gateway of a network, or not.
func leads(r *rand.Rand, s *model.Service) {
	switch r.IntN(4) {
	case 0:
		s.Labels = map[string]string{model.NetworkLabel: pick(r, networkNames[2:])}
		s.Outside = []netip.Addr{netip.MustParseAddr(pick(r, []string{"203.0.113.20", "127.0.0.1"}))}
	case 1:
		s.Labels, s.OutsideNames = map[string]string{model.NetworkLabel: "two"}, []string{"lb.example.com"}
	case 2:
		s.Outside = []netip.Addr{netip.MustParseAddr("203.0.113.21")}
	}
}

// editNetworks says of the root namespace that it is of a network, or has the settings of networks in a ConfigMap, or neither.
func editNetworks(r *rand.Rand, store *config.Store) error {
	ns, _ := kind.Named("Namespace")
	o, err := config.FromTyped(ns, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "istio-system", Labels: map[string]string{model.NetworkLabel: pick(r, networkNames)}}})
	if err != nil {
		return err
	}
	store.Put(o)
	cm, _ := kind.Named("ConfigMap")
	name := pick(r, []string{"istio", "malla"})
	if o, err = config.FromTyped(cm, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "istio-system"}, Data: map[string]string{"meshNetworks": "networks: {}"}}); err != nil {
		return err
	}
	if r.IntN(2) == 0 {
		store.Delete("ConfigMap", "istio-system", name)
	} else {
		store.Put(o)
	}
	return nil
}
