package gatewayapi

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// granted reports whether objects of a kind and namespace may refer to an object in
// another namespace: if a ReferenceGrant beside that says so.
func (c *compiler) granted(fromKind, from, toGroup, toKind, to, name string) bool {
	if from == to {
		return true
	}
	for _, o := range c.objects.Grants {
		spec := &o.Value.(*gatewayv1.ReferenceGrant).Spec
		if o.Namespace == to && grantsFrom(spec, fromKind, from) && grantsTo(spec, toGroup, toKind, name) {
			return true
		}
	}
	return false
}

func grantsFrom(g *gatewayv1.ReferenceGrantSpec, kind, namespace string) bool {
	for _, f := range g.From {
		if f.Group == gatewayv1.GroupName && string(f.Kind) == kind && string(f.Namespace) == namespace {
			return true
		}
	}
	return false
}

func grantsTo(g *gatewayv1.ReferenceGrantSpec, group, kind, name string) bool {
	for _, t := range g.To {
		if string(t.Group) == group && string(t.Kind) == kind && (t.Name == nil || *t.Name == "" || string(*t.Name) == name) {
			return true
		}
	}
	return false
}
