package gatewayapi

import (
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// backends finds the services that one route names, and notes what is wrong with that.
type backends struct {
	c      *compiler
	from   *config.Object
	kind   string
	inside bool // the mesh, where services are everybody's and no grant is asked for
	is     *conditions
	found  []model.ServiceKey
}

// find returns where a reference leads: to a destination without a host if it leads nowhere.
func (b *backends) find(ref gatewayv1.BackendObjectReference, at string) model.Destination {
	to, reason, text := b.resolve(ref)
	if reason != "" {
		b.is.fail(resolved, reason, "%s: %s", at, text)
		return model.Destination{}
	}
	return to
}

func (b *backends) resolve(ref gatewayv1.BackendObjectReference) (to model.Destination, reason, text string) {
	group, kind, name := deref(ref.Group, ""), deref(ref.Kind, "Service"), string(ref.Name)
	ns := string(deref(ref.Namespace, gatewayv1.Namespace(b.from.Namespace)))
	switch {
	case group == "" && kind == "Service":
		if !b.inside && !b.c.granted(b.kind, b.from.Namespace, "", "Service", ns, name) {
			return to, "RefNotPermitted", fmt.Sprintf("no ReferenceGrant of namespace %s lets the kind %s of namespace %s refer to Service %s", ns, b.kind, b.from.Namespace, name)
		}
		to.Host = istio.Host(name, ns, istio.Env{ClusterDomain: b.c.env.ClusterDomain})
	case group == istioGroup && kind == "Hostname": // whole, and of what the namespace sees: as in Istio that is all the leave it needs
		if ref.Namespace != nil {
			return to, "UnsupportedValue", "a Hostname has no namespace; leave it out"
		}
		to.Host = strings.ToLower(name)
	default:
		return to, "InvalidKind", fmt.Sprintf("is %s, want a Service, or a Hostname of group %s", kindOf(group, kind), istioGroup)
	}
	services := b.c.env.Services(to.Host)
	services = slices.DeleteFunc(slices.Clone(services), func(s *model.Service) bool {
		if kind == "Service" {
			return !s.Kubernetes || s.Namespace != ns
		}
		return !s.ExportTo.Sees(s.Namespace, ns, b.c.env.ServicesExportTo)
	})
	if len(services) == 0 {
		return to, "BackendNotFound", "no service has the host " + to.Host
	}
	s := services[0]
	switch {
	case ref.Port == nil && s.Resolution != model.Alias:
		return to, "UnsupportedValue", "port is missing, want one of those of " + to.Host
	case ref.Port != nil:
		to.Port = uint16(*ref.Port)
	}
	if s.Resolution != model.Alias {
		p, ok := s.Port(to.Port)
		switch {
		case !ok || int32(p.Number) != *ref.Port:
			return to, "BackendNotFound", fmt.Sprintf("%s has no port %d", to.Host, *ref.Port)
		case p.Protocol == model.UDP:
			return to, "UnsupportedProtocol", fmt.Sprintf("port %d of %s is one of UDP, which is not carried", to.Port, to.Host)
		}
	}
	if !slices.Contains(b.found, s.Key()) {
		b.found = append(b.found, s.Key())
	}
	return to, "", ""
}

// share is a destination and how much of the requests it gets.
type share struct {
	split model.Split
	ref   int // its place in the author's list
}

// shares are the destinations that get something.
func (b *backends) shares(refs []gatewayv1.BackendRef, at string) []share {
	var out []share
	for i, ref := range refs {
		s := model.Split{To: b.find(ref.BackendObjectReference, fmt.Sprintf("%s.backendRefs[%d]", at, i)), Weight: uint32(max(0, deref(ref.Weight, 1)))}
		if s.Weight > 0 {
			out = append(out, share{s, i})
		}
	}
	return out
}

// lost reports whether none of the shares leads anywhere.
func lost(list []share) bool {
	return !slices.ContainsFunc(list, func(s share) bool { return s.split.To.Host != "" })
}
