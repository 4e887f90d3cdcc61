package gatewayapi

import (
	"reflect"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// A route is what the kinds of routes have in common.
type route struct {
	object  *config.Object
	kind    string
	parents []gatewayv1.ParentReference
	hosts   []string // "*": any
}

func (c *compiler) routeOf(o *config.Object, kind string, common gatewayv1.CommonRouteSpec, hosts []gatewayv1.Hostname) *route {
	r := &route{object: o, kind: kind, parents: common.ParentRefs}
	for _, h := range hosts {
		r.hosts = append(r.hosts, strings.ToLower(string(h)))
	}
	if len(hosts) == 0 {
		r.hosts = []string{"*"}
	}
	c.adopt(r, common.UseDefaultGateways)
	return r
}

// adopt adds the default Gateways of a scope to the parents of a route that wants them.
func (c *compiler) adopt(r *route, scope gatewayv1.GatewayDefaultScope) {
	if scope == "" || scope == gatewayv1.GatewayDefaultScopeNone {
		return
	}
	r.parents = slices.Clone(r.parents)
	for _, g := range c.defaults[scope] {
		group, kind, namespace := gatewayv1.Group(gatewayv1.GroupName), gatewayv1.Kind("Gateway"), gatewayv1.Namespace(g.object.Namespace)
		r.parents = append(r.parents, gatewayv1.ParentReference{Group: &group, Kind: &kind, Namespace: &namespace, Name: gatewayv1.ObjectName(g.object.Name)})
	}
}

// A body is what the rules of a route became.
type body struct {
	is    *conditions // ResolvedRefs, Accepted if something cannot be honoured, PartiallyInvalid
	http  []entry
	bytes *bytesRule
}

// attach finds out to which parents a route belongs, and gives them what it says.
// Through makes the body for gateways, inside the one for the mesh.
func (c *compiler) attach(r *route, through, inside func() body) {
	status := &gatewayv1.RouteStatus{}
	var gatewayBody, meshBody *body
	for i, ref := range r.parents {
		if slices.ContainsFunc(r.parents[:i], func(p gatewayv1.ParentReference) bool { return reflect.DeepEqual(p, ref) }) {
			continue // said twice
		}
		p, service := c.parentOf(r, ref)
		switch {
		case p != nil:
			if gatewayBody == nil {
				b := through()
				gatewayBody = &b
			}
			is := gatewayBody.is.clone()
			c.toListeners(r, ref, p, *gatewayBody, is)
			status.Parents = append(status.Parents, entryOf(ref, p.gateway.controller, is))
		case service != nil:
			if meshBody == nil {
				b := inside()
				meshBody = &b
			}
			is := meshBody.is.clone()
			c.toService(r, ref, service, *meshBody, is)
			status.Parents = append(status.Parents, entryOf(ref, Controller, is))
		}
	}
	if n := len(status.Parents); n > mostParents {
		c.notice(r.object, field.At("spec", "parentRefs"), false, "it has %d parents, of which its status has room for %d", n, mostParents)
		status.Parents = status.Parents[:mostParents]
	}
	if len(status.Parents) > 0 {
		c.out.Status[refOf(r.object)] = status
	}
}

// Entries that there is room for in the status of a route, and of a policy.
const mostParents, mostAncestors = 32, 16

func entryOf(ref gatewayv1.ParentReference, controller string, is *conditions) gatewayv1.RouteParentStatus {
	return gatewayv1.RouteParentStatus{ParentRef: ref, ControllerName: gatewayv1.GatewayController(controller), Conditions: is.list}
}

// parentOf returns the parent that a route names, if it is ours: a Gateway, a ListenerSet, or
// the services of a Service or ServiceEntry, which may be none.
func (c *compiler) parentOf(r *route, ref gatewayv1.ParentReference) (*parent, []*model.Service) {
	name := model.Name{Namespace: string(deref(ref.Namespace, gatewayv1.Namespace(r.object.Namespace))), Name: string(ref.Name)}
	group, kind := deref(ref.Group, gatewayv1.GroupName), deref(ref.Kind, "Gateway")
	switch {
	case group == gatewayv1.GroupName && kind == "Gateway":
		if g := c.byName[name]; g != nil {
			return &g.parent, nil
		}
	case group == gatewayv1.GroupName && kind == "ListenerSet":
		return c.sets[name], nil
	case group == "" && kind == "Service":
		host := istio.Host(name.Name, name.Namespace, istio.Env{ClusterDomain: c.env.ClusterDomain})
		out := []*model.Service{}
		for _, s := range c.env.Services(host) {
			if s.Kubernetes && s.Namespace == name.Namespace {
				out = append(out, s)
			}
		}
		return nil, out
	case group == istioGroup && kind == "ServiceEntry" && c.env.Entries != nil:
		return nil, append([]*model.Service{}, c.env.Entries(name.Namespace, name.Name)...)
	}
	return nil, nil
}

const istioGroup = "networking.istio.io"

// toListeners attaches a route to those listeners that it means and that take it.
func (c *compiler) toListeners(r *route, ref gatewayv1.ParentReference, p *parent, b body, is *conditions) {
	var named, taking, matching []*listener
	for _, l := range p.listeners {
		if ref.SectionName != nil && *ref.SectionName != l.Name || ref.Port != nil && *ref.Port != l.Port || l.unusable() {
			continue
		}
		named = append(named, l)
		if !slices.Contains(l.kinds, r.kind) || !c.takes(l, r.object.Namespace) {
			continue
		}
		taking = append(taking, l)
		if len(l.common(r)) > 0 {
			matching = append(matching, l)
		}
	}
	switch {
	case is.bad(accepted):
		return
	case len(named) == 0:
		is.set(accepted, false, "NoMatchingParent", "%s has no usable listener of that name and port", p)
	case len(taking) == 0:
		is.set(accepted, false, "NotAllowedByListeners", "no listener of %s takes routes of kind %s of namespace %s", p, r.kind, r.object.Namespace)
	case len(matching) == 0:
		is.set(accepted, false, "NoMatchingListenerHostname", "no listener of %s is for one of its hostnames", p)
	default:
		is.set(accepted, true, "Accepted", "it is attached to %d listeners of %s", len(matching), p)
		for _, l := range matching {
			l.take(r, b)
		}
	}
}

// common returns the hosts that both the listener and the route are for.
func (l *listener) common(r *route) []string {
	var out []string
	for _, h := range r.hosts {
		switch {
		case !istio.IsHost(h):
		case model.HostMatches(l.host, h):
			out = append(out, h)
		case model.HostMatches(h, l.host):
			out = append(out, l.host)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// take attaches a route. What another listener of the port has alone stays with that.
func (l *listener) take(r *route, b body) {
	if l.attached[refOf(r.object)] {
		return
	}
	l.attached[refOf(r.object)] = true
	for _, h := range l.common(r) {
		if l.owner(h) != l {
			continue
		}
		l.http[h] = append(l.http[h], b.http...)
		if b.bytes != nil && l.bytes[h] == nil { // routes come oldest first
			l.bytes[h] = b.bytes
		}
	}
}
