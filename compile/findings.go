package compile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile/ingress"
	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// What one object cannot know of itself: that it names something which is not there,
// or wants what another one has. Proxies do then what Istio's do (an unknown
// destination is answered 503, the older of two wins), so nothing is left out; but
// the author should know. Who sees what (exportTo) is not asked here: a finding is
// about what is nowhere.

// findings lists them, by kind and name.
func findings(m *memo, mesh *model.Mesh) []Problem {
	f := &finder{mesh: mesh, policies: map[string][]*model.DestinationRule{}}
	for _, d := range mesh.Policies {
		key := d.Host
		if model.IsWildcard(key) {
			key = "*"
		}
		f.policies[key] = append(f.policies[key], d)
	}
	for _, s := range mesh.Registry.Services {
		if model.IsWildcard(s.Host) {
			f.wildcards = append(f.wildcards, s)
		}
	}
	for _, g := range mesh.Gateways {
		f.gateways = append(f.gateways, g.Key())
	}
	slices.Sort(f.gateways)
	for _, c := range m.kinds["VirtualService"] {
		if c.result.Rules != nil {
			f.at(c.object)
			f.virtualService(&c.object.Value.(*networkingv1.VirtualService).Spec, m.env)
			f.repeats(&c.object.Value.(*networkingv1.VirtualService).Spec)
		}
	}
	f.delegates(m)
	f.sameHosts(m)
	f.destinationRules(m)
	f.selectors(m)
	f.oneOfANamespace()
	f.gatewayPorts(m.ingress.result.Authors)
	f.unserved(m.ingress.result.Authors)
	f.credentials(m)
	f.ports()
	f.doubleTLS()
	return f.out
}

// delegates tells of entries of rules that nobody answers.
func (f *finder) delegates(m *memo) {
	for _, d := range m.dropped {
		for _, c := range m.kinds["VirtualService"] {
			if c.result.Rules != d.rules {
				continue
			}
			f.at(c.object)
			at := field.At("spec").Child("http").Index(d.entry).Child("delegate")
			if d.missing {
				f.add(NotFound, soon, at, "there is no VirtualService %s without hosts that namespace %s sees: its requests go to the next route", d.name, c.object.Namespace)
			} else {
				f.add(Unreachable, soon, at, "spec.http[%d] of VirtualService %s takes requests that this route does not, or cannot be compared with it, and is left out", d.rule, d.name)
			}
		}
	}
}

type finder struct {
	mesh      *model.Mesh
	wildcards []*model.Service
	gateways  []string                            // keys, sorted
	policies  map[string][]*model.DestinationRule // by host; those of wildcards under *
	object    *config.Object                      // that findings are about
	out       []Problem
}

func (f *finder) at(o *config.Object) { f.object = o }

// add reports something about the object; what is to come may mend it within waits.
func (f *finder) add(r Reason, waits time.Duration, at *field.Path, format string, args ...any) {
	f.out = append(f.out, Problem{Reason: r, Notice: true, Waits: waits, Ref: istio.RefOf(f.object),
		Error: &field.Error{In: f.object.String(), Pos: f.object.Pos, At: at, Msg: fmt.Sprintf(format, args...)}})
}

// addTo reports something about another object, which nothing to come can mend.
func (f *finder) addTo(of model.Ref, r Reason, at *field.Path, format string, args ...any) {
	f.out = append(f.out, Problem{Reason: r, Notice: true, Ref: of,
		Error: &field.Error{In: of.String(), Pos: of.Pos, At: at, Msg: fmt.Sprintf(format, args...)}})
}

func (f *finder) virtualService(vs *networking.VirtualService, env istio.Env) {
	spec := field.At("spec")
	for i, name := range vs.Gateways {
		key := istio.GatewayKey(name, f.object.Namespace)
		if _, ok := slices.BinarySearch(f.gateways, key); !ok && key != "mesh" {
			f.add(NotFound, soon, spec.Child("gateways").Index(i), "there is no Gateway %s", key)
		}
	}
	to := func(d *networking.Destination, at *field.Path) {
		if d.GetHost() != "" {
			f.destination(d, at, env)
		}
	}
	for i, h := range vs.Http {
		at := spec.Child("http").Index(i)
		for j, r := range h.Route {
			to(r.Destination, at.Child("route").Index(j).Child("destination"))
		}
		to(h.Mirror, at.Child("mirror"))
		for j, r := range h.Mirrors {
			to(r.Destination, at.Child("mirrors").Index(j).Child("destination"))
		}
	}
	for i, t := range vs.Tls {
		for j, r := range t.Route {
			to(r.Destination, spec.Child("tls").Index(i).Child("route").Index(j).Child("destination"))
		}
	}
	for i, t := range vs.Tcp {
		for j, r := range t.Route {
			to(r.Destination, spec.Child("tcp").Index(i).Child("route").Index(j).Child("destination"))
		}
	}
}

func (f *finder) destination(d *networking.Destination, at *field.Path, env istio.Env) {
	host := istio.Host(d.Host, f.object.Namespace, env)
	services := f.services(host)
	if len(services) == 0 {
		f.add(NotFound, soon, at.Child("host"), "no service has the host %s: requests are answered 503", host)
		return
	}
	if slices.ContainsFunc(services, func(s *model.Service) bool { return s.Resolution == model.Alias }) {
		return // what the other name has counts
	}
	if n := d.GetPort().GetNumber(); n != 0 && !slices.ContainsFunc(services, func(s *model.Service) bool { return hasPort(s, n) }) {
		f.add(NotFound, soon, at.Child("port").Child("number"), "%s has no port %d, but %s", host, n, portsOf(services[0]))
	}
	if d.Subset != "" && !f.subset(host, d.Subset) {
		f.add(NotFound, soon, at.Child("subset"), "no DestinationRule for %s has a subset %s: requests are answered 503", host, d.Subset)
	}
}

// services returns those that have the host, also by a wildcard.
func (f *finder) services(host string) []*model.Service {
	if list := f.mesh.Services(host); len(list) > 0 {
		return list
	}
	var out []*model.Service
	for _, s := range f.wildcards {
		if model.HostMatches(s.Host, host) {
			out = append(out, s)
		}
	}
	return out
}

func (f *finder) subset(host, name string) bool {
	has := func(d *model.DestinationRule) bool {
		_, ok := d.Subset(name)
		return ok && model.HostMatches(d.Host, host)
	}
	return slices.ContainsFunc(f.policies[host], has) || slices.ContainsFunc(f.policies["*"], has)
}

func hasPort(s *model.Service, number uint32) bool {
	return slices.ContainsFunc(s.Ports, func(p model.Port) bool { return uint32(p.Number) == number })
}

func portsOf(s *model.Service) string {
	if len(s.Ports) == 0 {
		return "none"
	}
	var list []string
	for _, p := range s.Ports {
		list = append(list, strconv.Itoa(int(p.Number)))
	}
	return strings.Join(list, ", ")
}

// gatewayPorts finds servers that cannot be on a port because an older one, of the
// same proxies, speaks something else there: HTTP, TLS, or plain bytes. Servers that
// Ingresses ask for have authors, who are named in place of gateways that do not exist.
func (f *finder) gatewayPorts(authors map[*model.Server][]ingress.Author) {
	type port struct {
		bind   string
		number uint16
	}
	type owner struct {
		gateway *model.Gateway
		server  *model.Server
	}
	taken := map[port][]owner{}
	for _, compiled := range f.mesh.Gateways { // oldest first
		for _, s := range compiled.Servers {
			g, before := compiled, len(f.out)
			if by := authors[s]; len(by) > 0 {
				copied := *compiled
				copied.From, g = by[0].Ref, &copied
			}
			k := port{strings.TrimPrefix(s.Bind, "0.0.0.0"), s.Port}
			clash := slices.IndexFunc(taken[k], func(o owner) bool { return f.meet(o.gateway, g) })
			if speaks(s) == "tls" && slices.ContainsFunc(taken[k], func(o owner) bool {
				return speaks(o.server) == "tls" && f.meet(o.gateway, g) && f.sameNames(g, s, o.gateway, o.server)
			}) {
				f.toAuthors(before, authors[s])
				continue
			}
			if clash < 0 || speaks(taken[k][clash].server) == "tls" && speaks(s) == "tls" {
				taken[k] = append(taken[k], owner{g, s})
				continue
			}
			if o := taken[k][clash]; speaks(o.server) != speaks(s) {
				other := o.gateway.From.String() + ", which is older,"
				if o.gateway == g {
					other = "the one before it"
				}
				f.addTo(g.From, GatewayConflict, field.At("spec", "servers"),
					"the server of port %d speaks %s, but %s speaks %s there: it is left out", s.Port, s.Protocol, other, o.server.Protocol)
				f.toAuthors(before, authors[s])
			}
		}
	}
}

// unserved finds Ingresses for which no gateway runs where they are served: in the root namespace.
func (f *finder) unserved(authors map[*model.Server][]ingress.Author) {
	root, selector := f.mesh.Config.RootNamespace, map[string]string{"istio": f.mesh.Config.Ingress.Selector}
	if len(authors) == 0 || f.selects(selector, root) {
		return
	}
	elsewhere := ""
	if list := f.namespacesOf(selector); len(list) > 0 {
		elsewhere = fmt.Sprintf("; those in %s get none, since Ingresses hold hosts and certificates of everybody", strings.Join(list, ", "))
	}
	told := map[model.Ref]bool{}
	for _, g := range f.mesh.Gateways {
		for _, s := range g.Servers {
			for _, a := range authors[s] {
				if !told[a.Ref] {
					told[a.Ref] = true
					f.out = append(f.out, Problem{Reason: SelectsNothing, Notice: true, Waits: later, Ref: a.Ref, Error: &field.Error{In: a.Ref.String(), Pos: a.Ref.Pos, At: field.At("spec"),
						Msg: fmt.Sprintf("no pod of namespace %s has the label istio=%s: nobody serves it%s", root, f.mesh.Config.Ingress.Selector, elsewhere)}})
				}
			}
		}
	}
}

// toAuthors gives what was found since then to each of the authors, if there are any.
func (f *finder) toAuthors(since int, authors []ingress.Author) {
	if len(authors) == 0 {
		return
	}
	found := slices.Clone(f.out[since:])
	f.out = f.out[:since]
	for _, p := range found {
		for _, a := range authors {
			f.addTo(a.Ref, p.Reason, a.At, "%s", p.Msg)
		}
	}
}

// speaks is what must be the same for servers to share a port.
func speaks(s *model.Server) string {
	switch {
	case s.Protocol.IsHTTP():
		return "http"
	case s.Protocol.IsTLS():
		return "tls"
	}
	return "bytes"
}

// meet reports whether there is, or may well be, a proxy that serves both gateways.
func (f *finder) meet(a, b *model.Gateway) bool {
	if a == b || model.Labels(a.Selector).Matches(b.Selector) || model.Labels(b.Selector).Matches(a.Selector) {
		return true
	}
	return slices.ContainsFunc(f.mesh.Registry.Workloads, func(w *model.Workload) bool {
		return model.Labels(w.Labels).Matches(a.Selector) && model.Labels(w.Labels).Matches(b.Selector)
	})
}

// ports finds services of bytes on one port that nothing tells apart: they have no
// address, and the bytes bring no name.
func (f *finder) ports() {
	first := map[uint16]*model.Service{}
	for _, s := range f.mesh.Registry.Services {
		for _, p := range s.Ports {
			if f.claims(s, p) {
				if have := first[p.Number]; have == nil || model.Older(s.Created, s.From, have.Created, have.From) {
					first[p.Number] = s
				}
			}
		}
	}
	for _, s := range f.mesh.Registry.Services {
		for i, p := range s.Ports {
			if have := first[p.Number]; f.claims(s, p) && have != s {
				f.addTo(s.From, AddressesMissing, field.At("spec", "ports").Index(i),
					"bytes to port %d go to %s of %s, which is older, and not to %s: without addresses nothing tells them apart; give one of them spec.addresses, or have the proxies answer names (ISTIO_META_DNS_CAPTURE and ISTIO_META_DNS_AUTO_ALLOCATE in proxyMetadata)", p.Number, have.Host, have.From, s.Host)
			}
		}
	}
}

// claims reports whether a port takes whatever bytes come for its number.
func (f *finder) claims(s *model.Service, p model.Port) bool {
	if all := f.mesh.Config.ProxyMetadata; len(s.Auto) > 0 && all["ISTIO_META_DNS_CAPTURE"] == "true" && all["ISTIO_META_DNS_AUTO_ALLOCATE"] == "true" {
		return false
	}
	if len(s.VIPs) > 0 || len(s.CIDRs) > 0 || s.Headless || s.Resolution == model.Alias || model.SelectsGateway(s.Selector) {
		return false
	}
	switch p.Protocol {
	case model.TCP, model.Mongo, model.MySQL, model.Redis:
		return true
	}
	return false
}
