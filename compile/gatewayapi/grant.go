package gatewayapi

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// A grant is what a ReferenceGrant of a namespace allows: objects of a kind and namespace refer to those of another
// kind in the grant's, all of them or one.
type grant struct {
	fromKind, from  string
	toGroup, toKind string
	to              string
	name            string // "": all
}

// granted reports whether objects of a kind and namespace may refer to an object in
// another namespace: if a ReferenceGrant beside that says so.
func (c *compiler) granted(fromKind, from, toGroup, toKind, to, name string) bool {
	if from == to {
		return true
	}
	if c.grants == nil {
		c.grants = map[grant]bool{}
		for _, o := range c.objects.Grants {
			c.grants.add(o.Namespace, &o.Value.(*gatewayv1.ReferenceGrant).Spec)
		}
	}
	g := grant{fromKind, from, toGroup, toKind, to, ""}
	if c.grants[g] {
		return true
	}
	g.name = name
	return c.grants[g]
}

type grants map[grant]bool

func (all grants) add(namespace string, spec *gatewayv1.ReferenceGrantSpec) {
	for _, f := range spec.From {
		if f.Group != gatewayv1.GroupName {
			continue // of the standard's kinds only routes, Gateways and ListenerSets refer
		}
		for _, t := range spec.To {
			all[grant{string(f.Kind), string(f.Namespace), string(t.Group), string(t.Kind), namespace, string(deref(t.Name, ""))}] = true
		}
	}
}
