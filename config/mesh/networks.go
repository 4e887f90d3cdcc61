package mesh

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/strict"
	"github.com/mallamesh/malla/model"
)

// NetworksKey is the key of the ConfigMap under which MeshNetworks stand.
const NetworksKey = "meshNetworks"

// cluster is what this cluster's registry is called.
const cluster = "Kubernetes"

var networksPlan = sync.OnceValue(func() *strict.Plan {
	return strict.Type(reflect.TypeFor[meshv1alpha1.MeshNetworks](), kind.NetworksFields)
})

// ParseNetworks reads MeshNetworks. What is wrong is left out. Errors have paths below at.
func ParseNetworks(text string, at *field.Path) (model.Networks, field.List, []strict.Notice) {
	var c strict.Checker
	var out model.Networks
	fields := tree(&c, text, networksPlan(), at)
	if fields == nil {
		return out, c.Errs, c.Notices
	}
	clean, err := utiljson.Marshal(fields)
	var m meshv1alpha1.MeshNetworks
	if err == nil {
		err = m.UnmarshalJSON(clean)
	}
	if err != nil {
		if len(c.Errs) == 0 {
			c.Errs.Addf(at, "%v", err)
		}
		return out, c.Errs, c.Notices
	}
	ranges := map[netip.Prefix]string{}
	for _, name := range slices.Sorted(maps.Keys(m.GetNetworks())) {
		n, at := m.GetNetworks()[name], at.Child("networks").Child(name)
		if problems := validation.IsValidLabelValue(name); len(problems) > 0 || name == "" {
			c.Errs.Addf(at, "found the name %q, want one that the label %s can have", name, model.NetworkLabel)
		}
		here := false
		for i, e := range n.GetEndpoints() {
			at := at.Child("endpoints").Index(i)
			switch e := e.GetNe().(type) {
			case *meshv1alpha1.Network_NetworkEndpoints_FromRegistry:
				if e.FromRegistry != cluster {
					continue // of another cluster
				}
				if here = true; out.Here != "" && out.Here != name {
					c.Errs.Addf(at.Child("fromRegistry"), "found %s in network %s as well, want it in one", cluster, out.Here)
					continue
				}
				out.Here = name
			case *meshv1alpha1.Network_NetworkEndpoints_FromCidr:
				p, err := netip.ParsePrefix(e.FromCidr)
				if err != nil {
					c.Errs.Addf(at.Child("fromCidr"), "found %q, want a range of addresses like 10.0.0.0/8", e.FromCidr)
					continue
				}
				if other, twice := ranges[p.Masked()]; twice && other != name {
					c.Errs.Addf(at.Child("fromCidr"), "found %s in network %s as well, want it in one", p.Masked(), other)
					continue
				}
				ranges[p.Masked()] = name
			default:
				c.Errs.Addf(at, "missing; want fromRegistry or fromCidr")
			}
		}
		for i, g := range n.GetGateways() {
			gateway(&c.Errs, at.Child("gateways").Index(i), g, name, here, &out)
		}
	}
	for p, name := range ranges {
		out.Ranges = append(out.Ranges, model.NetworkRange{Range: p, Network: name})
	}
	slices.SortFunc(out.Ranges, func(a, b model.NetworkRange) int {
		return cmp.Or(b.Range.Bits()-a.Range.Bits(), a.Range.Addr().Compare(b.Range.Addr()))
	})
	slices.SortFunc(out.Gateways, model.CompareGateways)
	slices.SortFunc(out.Services, func(a, b model.NetworkService) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Network, b.Network), cmp.Compare(a.Port, b.Port))
	})
	return out, c.Errs, c.Notices
}

// gateway reads one gateway of a network; here says whether that is this cluster's, which alone has the Services that are named.
func gateway(errs *field.List, at *field.Path, g *meshv1alpha1.Network_IstioNetworkGateway, network string, here bool, out *model.Networks) {
	if g.GetPort() < 1 || g.GetPort() > 65535 {
		errs.Addf(at.Child("port"), "found %d, want 1 to 65535", g.GetPort())
		return
	}
	port := uint16(g.GetPort())
	switch {
	case g.GetAddress() != "":
		a, err := netip.ParseAddr(g.GetAddress())
		switch {
		case err == nil:
			out.Gateways = append(out.Gateways, model.NetworkGateway{Network: network, Addr: a.Unmap(), Port: port})
		case len(validation.IsDNS1123Subdomain(g.GetAddress())) == 0:
			out.Gateways = append(out.Gateways, model.NetworkGateway{Network: network, Name: g.GetAddress(), Port: port})
		default:
			errs.Addf(at.Child("address"), "found %q, want an address, or a name that has some", g.GetAddress())
		}
	case g.GetRegistryServiceName() != "":
		if problems := validation.IsDNS1123Subdomain(g.GetRegistryServiceName()); len(problems) > 0 {
			errs.Addf(at.Child("registryServiceName"), "found %q, want the host of a Service, as istio-eastwestgateway.istio-system.svc.cluster.local", g.GetRegistryServiceName())
			return
		}
		if here {
			out.Services = append(out.Services, model.NetworkService{Host: g.GetRegistryServiceName(), Network: network, Port: port})
		}
	default:
		errs.Addf(at, "missing; want address or registryServiceName")
	}
}
