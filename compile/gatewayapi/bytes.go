package gatewayapi

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// A bytesRule is what a TLSRoute or a TCPRoute says: where connections are carried. There is one
// rule; of several the standard lets the first count.
type bytesRule struct {
	route   *config.Object
	forward []model.Split
}

func (c *compiler) bytesRoutes() {
	for _, o := range oldest(c.objects.TLSRoutes) {
		spec := &o.Value.(*gatewayv1.TLSRoute).Spec
		var refs [][]gatewayv1.BackendRef
		for _, r := range spec.Rules {
			refs = append(refs, r.BackendRefs)
		}
		c.bytesRoute(c.routeOf(o, "TLSRoute", spec.CommonRouteSpec, spec.Hostnames), refs)
	}
	for _, o := range oldest(c.objects.TCPRoutes) {
		spec := &o.Value.(*gatewayv1.TCPRoute).Spec
		var refs [][]gatewayv1.BackendRef
		for _, r := range spec.Rules {
			refs = append(refs, r.BackendRefs)
		}
		c.bytesRoute(c.routeOf(o, "TCPRoute", spec.CommonRouteSpec, nil), refs)
	}
	for _, o := range oldest(c.objects.UDPRoutes) {
		spec := &o.Value.(*gatewayv1.UDPRoute).Spec
		refused := func() body {
			is := conditionsOf(o)
			is.set(accepted, false, "UnsupportedValue", "UDP is not carried")
			is.set(resolved, true, "ResolvedRefs", "what it names does not matter")
			return body{is: is}
		}
		c.attach(c.routeOf(o, "UDPRoute", spec.CommonRouteSpec, nil), refused, refused)
	}
}

func (c *compiler) bytesRoute(r *route, rules [][]gatewayv1.BackendRef) {
	make := func(inside bool) func() body {
		return func() body { return c.bytesBody(r, rules, inside) }
	}
	c.attach(r, make(false), make(true))
}

func (c *compiler) bytesBody(r *route, rules [][]gatewayv1.BackendRef, inside bool) body {
	b := &backends{c: c, from: r.object, kind: r.kind, inside: inside, is: conditionsOf(r.object)}
	b.is.set(accepted, true, "Accepted", "")
	b.is.set(resolved, true, "ResolvedRefs", "what it names is there")
	out := body{is: b.is, bytes: &bytesRule{route: r.object}}
	for i, refs := range rules {
		for _, s := range b.shares(refs, fmt.Sprintf("spec.rules[%d]", i)) {
			if i == 0 {
				out.bytes.forward = append(out.bytes.forward, s.split)
			}
		}
	}
	if len(rules) > 1 {
		b.is.set("PartiallyInvalid", true, "UnsupportedValue", "Dropped Rule: spec.rules has %d: nothing tells connections apart; the first rule has them all", len(rules))
	}
	if len(out.bytes.forward) == 0 {
		out.bytes.forward = []model.Split{{}} // connections are refused
	}
	c.uses(b)
	return out
}
