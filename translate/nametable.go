package translate

import (
	"cmp"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/api/nds"
	"github.com/mallamesh/malla/model"
)

// NameTableType is the type of the one resource from which a proxy answers for names.
const NameTableType = nds.Type

// nameTable is that resource's name.
const nameTable = "names"

// NameTable returns what the proxy answers for names that its application asks for, packed, and whether it
// answers at all.
//
// In it are the names that no other name server knows (of ServiceEntries), and those whose answers depend on
// where one is: of headless services, the nearest pods first. Everything else is asked of others.
func NameTable(v *model.View, name string) (*anypb.Any, bool) {
	if name != nameTable || !v.CapturesDNS() {
		return nil, false
	}
	t := &nds.Table{Names: map[string]nds.Name{}}
	for _, s := range v.Services() {
		switch addrs := families(v, v.Addresses(s)); {
		case s.Headless:
			if n := nearestPods(v, s); len(n.Addrs) > 0 {
				t.Names[s.Host] = n
			}
		case !s.Kubernetes && len(addrs) > 0:
			t.Names[s.Host] = nds.Name{Addrs: addrs, Registry: "External", Namespace: s.Namespace}
		}
	}
	for _, p := range v.NamePolicies() {
		for _, r := range p.Rules {
			t.Rules = append(t.Rules, nds.Rule{From: p.From.Namespace + "/" + p.From.Name, Hosts: r.Hosts, Rcode: r.Rcode, Delay: r.Delay, Percent: r.Percent, Log: r.Log})
		}
	}
	return &anypb.Any{TypeUrl: NameTableType, Value: t.Append(nil)}, true
}

// nearestPods lists the pods behind a headless service by how far they are from the proxy.
func nearestPods(v *model.View, s *model.Service) nds.Name {
	type pod struct {
		addr netip.Addr
		far  uint32
	}
	var pods []pod
	for _, e := range v.Mesh.Endpoints(s) {
		if e.Health != model.Healthy {
			continue
		}
		for _, a := range families(v, e.Addrs) {
			pods = append(pods, pod{a, failover(v.Proxy.Locality, e.Locality, nil)})
		}
	}
	slices.SortFunc(pods, func(a, b pod) int { return cmp.Or(cmp.Compare(a.far, b.far), a.addr.Compare(b.addr)) })
	pods = slices.Compact(pods) // of several ports
	n := nds.Name{Registry: "Kubernetes", Namespace: s.Namespace}
	for i, p := range pods {
		if i == 0 || p.far != pods[i-1].far {
			n.Tiers = append(n.Tiers, 0)
		}
		n.Tiers[len(n.Tiers)-1]++
		n.Addrs = append(n.Addrs, p.addr)
	}
	return n
}

// families returns the addresses that the proxy's pod can reach by what it has itself.
func families(v *model.View, addrs []netip.Addr) []netip.Addr {
	if len(v.Proxy.IPs) == 0 {
		return addrs
	}
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		return !slices.ContainsFunc(v.Proxy.IPs, func(own netip.Addr) bool { return own.Is4() == a.Is4() })
	})
}
