package gatewayapi

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/model"
)

// listenerSets gives our Gateways the listeners that others add to them, if they let them.
func (c *compiler) listenerSets() {
	for _, o := range oldest(c.objects.ListenerSets) {
		spec := &o.Value.(*gatewayv1.ListenerSet).Spec
		ref := spec.ParentRef
		if !isGroup(ref.Group) || deref(ref.Kind, "Gateway") != "Gateway" {
			continue
		}
		g := c.byName[model.Name{Namespace: string(deref(ref.Namespace, gatewayv1.Namespace(o.Namespace))), Name: string(ref.Name)}]
		if g == nil {
			continue // there is none, or it is another controller's
		}
		s := &parent{object: o, kind: "ListenerSet", gateway: g, is: conditionsOf(o)}
		c.sets[nameOf(o)] = s
		switch {
		case !c.allowsSet(g, o.Namespace):
			for _, kind := range []string{accepted, programmed} {
				s.is.set(kind, false, "NotAllowed", "spec.allowedListeners of Gateway %s does not let in ListenerSets of namespace %s", nameOf(g.object), o.Namespace)
			}
			continue
		case g.is.bad(accepted):
			for _, kind := range []string{accepted, programmed} {
				s.is.set(kind, false, "ParentNotAccepted", "Gateway %s is not accepted", nameOf(g.object))
			}
			continue
		}
		for i := range spec.Listeners {
			s.add(gatewayv1.Listener(spec.Listeners[i]))
		}
		g.sets = append(g.sets, s)
	}
}

func (c *compiler) allowsSet(g *gateway, namespace string) bool {
	from := gatewayv1.NamespacesFromNone
	var selector *metav1.LabelSelector
	if a := g.spec.AllowedListeners; a != nil && a.Namespaces != nil {
		from, selector = deref(a.Namespaces.From, from), a.Namespaces.Selector
	}
	return c.allows(from, selector, g.object.Namespace, namespace)
}

// setVerdict says whether a ListenerSet is accepted, once its listeners have been looked at.
func (s *parent) setVerdict() {
	good := 0
	for _, l := range s.listeners {
		if l.usable() {
			good++
		}
	}
	switch {
	case s.is.bad(accepted):
	case good == 0:
		for _, kind := range []string{accepted, programmed} {
			s.is.set(kind, false, "ListenersNotValid", "none of its listeners can be served; their conditions say why")
		}
	case good < len(s.listeners):
		s.is.set(accepted, true, "ListenersNotValid", "%d of its %d listeners cannot be served; their conditions say why", len(s.listeners)-good, len(s.listeners))
		s.is.set(programmed, true, "Programmed", "its other listeners are those of Gateway %s", nameOf(s.gateway.object))
	default:
		s.is.set(accepted, true, "Accepted", "its listeners are those of Gateway %s", nameOf(s.gateway.object))
		s.is.set(programmed, true, "Programmed", "its listeners are those of Gateway %s", nameOf(s.gateway.object))
	}
}

func (c *compiler) setStatuses() {
	byName := func(a, b model.Name) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	}
	for _, name := range slices.SortedFunc(maps.Keys(c.sets), byName) {
		s := c.sets[name]
		status := &gatewayv1.ListenerSetStatus{Conditions: s.is.list}
		for _, l := range s.listeners {
			status.Listeners = append(status.Listeners, gatewayv1.ListenerEntryStatus{
				Name: l.Name, SupportedKinds: l.supportedKinds(), AttachedRoutes: int32(len(l.attached)), Conditions: l.finished(s.gateway),
			})
		}
		c.out.Status[refOf(s.object)] = status
	}
}
