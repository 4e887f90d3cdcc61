package patch

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/model"
)

// A Table is what patches can ask for of a route table.
type Table struct {
	Context model.PatchContext
	Ports   []uint16 // of a gateway: its servers'
}

// Routes changes a route table.
func (s *Set) Routes(t Table, r *routev3.RouteConfiguration) {
	if s == nil || !s.any(model.PatchRouteTable, model.PatchVirtualHost, model.PatchRoute) {
		return
	}
	here := func(target model.PatchTarget) []*model.Patch {
		return slices.DeleteFunc(slices.Clone(s.in(t.Context, target)), func(p *model.Patch) bool { return !t.matches(r, p.Table) })
	}
	for _, p := range here(model.PatchRouteTable) {
		if isMerge(p) {
			merge(r, p)
		}
	}
	hosts, routes := here(model.PatchVirtualHost), here(model.PatchRoute)
	if len(hosts)+len(routes) == 0 {
		return
	}
	kept := r.VirtualHosts[:0]
	for _, h := range r.VirtualHosts {
		if h = patchHost(h, hosts); h != nil {
			patchRoutes(h, routes)
			kept = append(kept, h)
		}
	}
	r.VirtualHosts = kept
	for _, p := range hosts {
		if p.Op == model.PatchAdd {
			r.VirtualHosts = append(r.VirtualHosts, copyOf[*routev3.VirtualHost](p))
		}
	}
}

// matches reports whether a patch is for the table. Gateways are asked for by the ports and
// names of their servers, sidecars by the port of the listener, or of the application.
func (t Table) matches(r *routev3.RouteConfiguration, m *model.TableMatch) bool {
	if m == nil {
		return true
	}
	if m.Name != "" && m.Name != r.GetName() {
		return false
	}
	if t.Context != model.PatchGateway {
		return m.Port == 0 || m.Port == portOf(r.GetName())
	}
	port, name, gateway := gatewayTable(r.GetName())
	if m.PortName != "" && m.PortName != name || m.Gateway != "" && m.Gateway != gateway {
		return false
	}
	if m.Port == 0 {
		return true
	}
	if len(t.Ports) == 0 {
		return m.Port == port
	}
	return slices.ContainsFunc(t.Ports, func(p uint16) bool { return uint32(p) == m.Port })
}

// portOf returns the port in the name of a sidecar's table: 9080, inbound|8080||, or
// reviews.prod.svc.cluster.local:9080.
func portOf(name string) uint32 {
	if rest, ok := strings.CutPrefix(name, "inbound|"); ok {
		name, _, _ = strings.Cut(rest, "|")
	}
	n, err := strconv.ParseUint(name[strings.LastIndexByte(name, ':')+1:], 10, 16)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// gatewayTable returns the parts of the name of a gateway's table: http.8080, or
// https.443.https-main.my-gateway.prod.
func gatewayTable(name string) (port uint32, portName, gateway string) {
	parts := strings.Split(name, ".")
	if len(parts) < 2 || parts[0] != "http" && parts[0] != "https" {
		return 0, "", ""
	}
	n, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return 0, "", ""
	}
	if parts[0] == "https" && len(parts) >= 5 {
		return uint32(n), parts[2], parts[4] + "/" + parts[3]
	}
	return uint32(n), "", ""
}

func isHost(h *routev3.VirtualHost, p *model.Patch) bool {
	if p.Table == nil || p.Table.Host == nil {
		return true
	}
	m := p.Table.Host
	return (m.Name == "" || m.Name == h.GetName()) && (m.Domain == "" || slices.Contains(h.GetDomains(), m.Domain))
}

// patchHost returns the virtual host as it is then, nil if it is taken away.
func patchHost(h *routev3.VirtualHost, patches []*model.Patch) *routev3.VirtualHost {
	for _, p := range patches {
		switch {
		case !isHost(h, p):
		case p.Op == model.PatchRemove:
			return nil
		case p.Op == model.PatchReplace:
			h = copyOf[*routev3.VirtualHost](p)
		case isMerge(p):
			merge(h, p)
		}
	}
	return h
}

func isRoute(r *routev3.Route, p *model.Patch) bool {
	if !p.Selects() {
		return true
	}
	m := p.Table.Host.Route
	if m.Name != "" && m.Name != r.GetName() {
		return false
	}
	switch r.GetAction().(type) {
	case *routev3.Route_Route:
		return m.Action == model.AnyAction || m.Action == model.ForwardAction
	case *routev3.Route_Redirect:
		return m.Action == model.AnyAction || m.Action == model.RedirectAction
	case *routev3.Route_DirectResponse:
		return m.Action == model.AnyAction || m.Action == model.AnswerAction
	}
	return true
}

// patchRoutes changes the routes of a virtual host: those that are there first, then it adds.
func patchRoutes(h *routev3.VirtualHost, patches []*model.Patch) {
	kept := make([]*routev3.Route, 0, len(h.Routes))
	for _, r := range h.Routes {
		if patchRoute(h, r, patches) {
			kept = append(kept, r)
		}
	}
	for _, p := range patches {
		if isMerge(p) || p.Op == model.PatchRemove || !isHost(h, p) {
			continue
		}
		is := func(r *routev3.Route) bool { return isRoute(r, p) }
		if p.Op == model.PatchInsertFirst && p.Selects() && !slices.ContainsFunc(kept, is) {
			continue // before all others, but only where there is one of these
		}
		kept = edit(kept, p, is)
	}
	h.Routes = kept
}

// patchRoute reports whether the route is still there.
func patchRoute(h *routev3.VirtualHost, r *routev3.Route, patches []*model.Patch) bool {
	for _, p := range patches {
		switch {
		case !isHost(h, p) || !isRoute(r, p):
		case p.Op == model.PatchRemove:
			return false
		case isMerge(p) && completes(r, p.Value.(*routev3.Route)):
			merge(r, p)
		}
	}
	return true
}

// completes reports whether a route is whole with what a patch merges into it: half of
// another action, as a timeout over a direct response, would take the place of the route's.
func completes(r, patch *routev3.Route) bool {
	return patch.GetAction() == nil || reflect.TypeOf(patch.GetAction()) == reflect.TypeOf(r.GetAction()) ||
		(&routev3.Route{Match: r.GetMatch(), Action: patch.GetAction()}).Validate() == nil
}
