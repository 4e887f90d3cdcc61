package gatewayapi

import (
	"cmp"
	"maps"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// A meshKey names the routes by which some clients of the mesh call a service: those of the
// service's own namespace, which are for everybody, or those of another namespace, which are for its
// own clients and take the place of the former.
type meshKey struct {
	service model.ServiceKey
	viewer  string // "": everybody
}

// meshRoutes are what is said of the ports of a service.
type meshRoutes struct {
	service *model.Service
	http    map[uint16][]entry
	tls     map[uint16]map[string]*bytesRule // by the name that clients ask for
	tcp     map[uint16]*bytesRule

	attached map[attachedTo]bool
}

type attachedTo struct {
	route model.Ref
	port  uint16
}

// toService makes a route that of a service's clients in the mesh.
func (c *compiler) toService(r *route, ref gatewayv1.ParentReference, services []*model.Service, b body, is *conditions) {
	if is.bad(accepted) {
		return
	}
	attached := 0
	for _, s := range services {
		if !s.ExportTo.Sees(s.Namespace, r.object.Namespace, c.env.ServicesExportTo) {
			continue // who does not see it cannot say how it is called
		}
		viewer := r.object.Namespace
		if viewer == s.Namespace {
			viewer = ""
		}
		key := meshKey{s.Key(), viewer}
		for _, p := range s.Ports {
			if ref.Port != nil && int32(p.Number) != *ref.Port || ref.SectionName != nil && string(*ref.SectionName) != p.Name || p.Protocol == model.UDP {
				continue
			}
			attached++
			if c.mesh[key] == nil {
				c.mesh[key] = &meshRoutes{service: s, http: map[uint16][]entry{}, tls: map[uint16]map[string]*bytesRule{}, tcp: map[uint16]*bytesRule{}, attached: map[attachedTo]bool{}}
			}
			c.mesh[key].take(r, p.Number, b)
		}
	}
	if attached == 0 {
		is.set(accepted, false, "NoMatchingParent", "there is no service %s with such a port that namespace %s sees", ref.Name, r.object.Namespace)
		return
	}
	is.set(accepted, true, "Accepted", "clients in the mesh keep to it on %d ports", attached)
}

func (m *meshRoutes) take(r *route, port uint16, b body) {
	if m.attached[attachedTo{refOf(r.object), port}] {
		return // by two of its parents
	}
	m.attached[attachedTo{refOf(r.object), port}] = true
	m.http[port] = append(m.http[port], b.http...)
	if b.bytes == nil {
		return
	}
	if r.kind == "TCPRoute" {
		m.tcp[port] = cmp.Or(m.tcp[port], b.bytes) // routes come oldest first
		return
	}
	if m.tls[port] == nil {
		m.tls[port] = map[string]*bytesRule{}
	}
	for _, h := range r.hosts {
		m.tls[port][h] = cmp.Or(m.tls[port][h], b.bytes)
	}
}

// meshRules makes the rules of the services that routes name. A port that no route names is
// called as it always was.
func (c *compiler) meshRules() {
	for key, m := range c.mesh {
		r := &model.RouteRules{Hosts: []string{m.service.Host}, Gateways: []string{"mesh"}, Of: key.service, ExportTo: c.seen(m.service)}
		if key.viewer != "" {
			r.ExportTo = model.ExportTo{"."}
		}
		for _, port := range slices.Sorted(maps.Keys(m.http)) {
			for _, e := range ordered(m.http[port]) {
				author(r, e.route)
				r.HTTP = append(r.HTTP, onPort(at(e.rule, port, false), port))
			}
		}
		for _, port := range slices.Sorted(maps.Keys(m.tls)) {
			for _, host := range slices.Sorted(maps.Keys(m.tls[port])) {
				b := m.tls[port][host]
				author(r, b.route)
				r.TLS = append(r.TLS, &model.TLSRule{Matches: []*model.TLSMatch{{SNI: []string{host}, Port: port}}, Forward: b.forward})
			}
		}
		for _, port := range slices.Sorted(maps.Keys(m.tcp)) {
			b := m.tcp[port]
			author(r, b.route)
			r.TCP = append(r.TCP, &model.TCPRule{Matches: []*model.TCPMatch{{Port: port}}, Forward: b.forward})
		}
		c.out.Rules = append(c.out.Rules, r)
	}
	slices.SortFunc(c.out.Rules, func(a, b *model.RouteRules) int {
		return cmp.Or(cmp.Compare(a.Hosts[0], b.Hosts[0]), a.Created.Compare(b.Created), cmp.Compare(a.From.Namespace, b.From.Namespace),
			cmp.Compare(a.From.Name, b.From.Name), cmp.Compare(a.From.Kind, b.From.Kind), cmp.Compare(a.Of.Namespace, b.Of.Namespace))
	})
}

// seen says who sees what is said of a service: who sees the service.
func (c *compiler) seen(s *model.Service) model.ExportTo {
	switch {
	case len(s.ExportTo) > 0:
		return s.ExportTo
	case len(c.env.ServicesExportTo) > 0:
		return c.env.ServicesExportTo
	}
	return model.ExportTo{"*"}
}

// author makes the oldest of the routes the one that rules are from.
func author(r *model.RouteRules, o *config.Object) {
	if r.From == (model.Ref{}) || cmp.Or(o.Created.Compare(r.Created), cmp.Compare(o.Namespace, r.From.Namespace), cmp.Compare(o.Name, r.From.Name)) < 0 {
		r.From, r.Created = refOf(o), o.Created
	}
}

// onPort returns a rule for requests to one port of a service.
func onPort(r *model.HTTPRule, port uint16) *model.HTTPRule {
	out := *r
	match := &model.HTTPMatch{}
	if len(r.Matches) > 0 {
		*match = *r.Matches[0]
	}
	match.Port = port
	out.Matches = []*model.HTTPMatch{match}
	return &out
}
