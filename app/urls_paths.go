//go:build linux

package app

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var virtualServices = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}

// A rule is what a request must have to be served at a gateway.
type rule struct{ path, host string } // a host only if it takes a certain one

// paths are what there is to say of which path to try first at a port: nobody is asked for it, because a
// request would stand in people's logs.
type paths struct {
	gateways, virtualServices  []unstructured.Unstructured // Istio's
	standardGateways, standard []unstructured.Unstructured // Gateway API's, and HTTPRoutes
}

func (s *state) paths(ctx context.Context) *paths {
	list := func(of schema.GroupVersionResource) []unstructured.Unstructured {
		all, err := s.dynamic.Resource(of).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil
		}
		return all.Items
	}
	return &paths{list(istioGateways), list(virtualServices), list(standardGateways), list(standardRoutes)}
}

// made reports whether a Service, NAMESPACE/NAME, is one that was made for a Gateway of Gateway API.
func (p *paths) made(service string) bool {
	return slices.ContainsFunc(p.standardGateways, func(g unstructured.Unstructured) bool {
		class, _, _ := unstructured.NestedString(g.Object, "spec", "gatewayClassName")
		return service == g.GetNamespace()+"/"+g.GetName()+"-"+class
	})
}

// first is the path that a GET without anything else is most likely answered at: one that a route names whole, or else
// the first that a route names the beginning of.
func (p *paths) first(port uint16) rule {
	best := choice{rank: noRule}
	p.ofVirtualServices(&best, serving(p.gateways, "servers", int64(port), "port", "number"))
	if best.rank == noRule {
		p.ofStandardRoutes(&best, serving(p.standardGateways, "listeners", int64(port), "port"))
	}
	return best.rule
}

// serving are the Gateways, as NAMESPACE/NAME, that have the port.
func serving(gateways []unstructured.Unstructured, list string, port int64, at ...string) map[string]bool {
	out := map[string]bool{}
	for i := range gateways {
		ports, _, _ := unstructured.NestedSlice(gateways[i].Object, "spec", list)
		for _, one := range ports {
			one, _ := one.(map[string]any)
			if n, _, _ := unstructured.NestedInt64(one, at...); n == port {
				out[gateways[i].GetNamespace()+"/"+gateways[i].GetName()] = true
			}
		}
	}
	return out
}

// Ranks of what a route wants of a path, the best first.
const (
	wholePath = iota
	pathPrefix
	noPath // any will do
	noRule
)

// A choice is the best rule of those that were offered.
type choice struct {
	rank int
	rule rule
}

func (c *choice) offer(rank int, r rule) {
	if rank < c.rank {
		c.rank, c.rule = rank, r
	}
}

func (p *paths) ofVirtualServices(best *choice, gateways map[string]bool) {
	for i := range p.virtualServices {
		vs := &p.virtualServices[i]
		names, _, _ := unstructured.NestedStringSlice(vs.Object, "spec", "gateways")
		if !slices.ContainsFunc(names, func(g string) bool {
			if !strings.Contains(g, "/") {
				g = vs.GetNamespace() + "/" + g
			}
			return gateways[g]
		}) {
			continue
		}
		hosts, _, _ := unstructured.NestedStringSlice(vs.Object, "spec", "hosts")
		host := oneHost(hosts)
		routes, _, _ := unstructured.NestedSlice(vs.Object, "spec", "http")
		for _, r := range routes {
			route, _ := r.(map[string]any)
			if route["fault"] != nil || route["redirect"] != nil || route["directResponse"] != nil {
				continue // not the one to look at first
			}
			matches, _, _ := unstructured.NestedSlice(route, "match")
			if len(matches) == 0 {
				best.offer(noPath, rule{host: host})
			}
			for _, m := range matches {
				match, _ := m.(map[string]any)
				exact, whole, _ := unstructured.NestedString(match, "uri", "exact")
				prefix, begins, _ := unstructured.NestedString(match, "uri", "prefix")
				switch {
				case wantsMore(match, "uri", "name", "ignoreUriCase", "gateways", "port"):
				case whole:
					best.offer(wholePath, rule{exact, host})
				case begins:
					best.offer(pathPrefix, rule{prefix, host})
				case match["uri"] == nil:
					best.offer(noPath, rule{host: host})
				}
			}
		}
	}
}

// wantsMore reports whether something must be true of a request besides these.
func wantsMore(match map[string]any, besides ...string) bool {
	for k := range match {
		if !slices.Contains(besides, k) {
			return true
		}
	}
	return false
}

func (p *paths) ofStandardRoutes(best *choice, gateways map[string]bool) {
	for i := range p.standard {
		r := &p.standard[i]
		parents, _, _ := unstructured.NestedSlice(r.Object, "spec", "parentRefs")
		if !slices.ContainsFunc(parents, func(x any) bool {
			parent, _ := x.(map[string]any)
			ns, name := parent["namespace"], parent["name"]
			if ns == nil {
				ns = r.GetNamespace()
			}
			in, _ := ns.(string)
			is, _ := name.(string)
			return gateways[in+"/"+is]
		}) {
			continue
		}
		names, _, _ := unstructured.NestedStringSlice(r.Object, "spec", "hostnames")
		host := oneHost(names)
		rules, _, _ := unstructured.NestedSlice(r.Object, "spec", "rules")
		for _, one := range rules {
			one, _ := one.(map[string]any)
			matches, _, _ := unstructured.NestedSlice(one, "matches")
			for _, m := range matches {
				match, _ := m.(map[string]any)
				how, _, _ := unstructured.NestedString(match, "path", "type")
				value, _, _ := unstructured.NestedString(match, "path", "value")
				switch {
				case how == "RegularExpression" || wantsMore(match, "path"):
				case value == "" || value == "/":
					best.offer(noPath, rule{host: host})
				case how == "Exact":
					best.offer(wholePath, rule{value, host})
				default:
					best.offer(pathPrefix, rule{value, host})
				}
			}
		}
		best.offer(noPath, rule{host: host})
	}
}
