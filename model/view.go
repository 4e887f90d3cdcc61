package model

import (
	"net/netip"
	"slices"
	"sync"
)

// A ProxyType is the role of a proxy.
type ProxyType string

const (
	Sidecar ProxyType = "sidecar"
	Router  ProxyType = "router" // a gateway
)

// A Proxy is one client of the control plane. Its identity was proven; the
// rest it says of itself, or its pod does.
type Proxy struct {
	ID             string // sidecar~10.244.0.7~reviews-v1-abc.default~default.svc.cluster.local
	Type           ProxyType
	Namespace      string
	Name           string // of the pod
	IPs            []netip.Addr
	Labels         map[string]string
	Locality       string // region/zone/subzone
	ServiceAccount string
	TrustDomain    string
	Proven         bool              // ServiceAccount and Namespace are those of its certificate
	Metadata       map[string]string // the node's string values
	Stock          bool              // a real Envoy, without Istio's own filters
	Settings       *ProxySettings    // of its pod; nil: none
	Probes         bool              // its application, and says what comes of that
	Probe          string            // in JSON, how it is to ask the application of the machine that it has registered; "": it knows, or need not
}

// A View is the mesh as one proxy may see it. It is made once per proxy and
// mesh, is safe for use by several goroutines, and answers by name.
type View struct {
	Proxy *Proxy
	Mesh  *Mesh

	once     sync.Once
	services []*Service

	rulesOnce sync.Once
	rules     []*RouteRules

	memo sync.Map // of any key to *memoized
}

type memoized struct {
	once  sync.Once
	value any
}

// Memo returns what compute returned the first time for this key. Translation
// keeps there what several names need; compute must be a function of the view.
func (v *View) Memo(key any, compute func() any) any {
	m, ok := v.memo.Load(key)
	if !ok {
		m, _ = v.memo.LoadOrStore(key, new(memoized))
	}
	mm := m.(*memoized)
	mm.once.Do(func() { mm.value = compute() })
	return mm.value
}

// NewView returns what the proxy sees.
func NewView(p *Proxy, m *Mesh) *View { return &View{Proxy: p, Mesh: m} }

// Has6 reports whether the proxy has an IPv6 address.
func (v *View) Has6() bool {
	for _, a := range v.Proxy.IPs {
		if a.Is6() && !a.Is4In6() {
			return true
		}
	}
	return false
}

func (v *View) sees(s *Service) bool {
	return s.ExportTo.Sees(s.Namespace, v.Proxy.Namespace, v.Mesh.Config.ServiceExportTo) && v.shown(s) &&
		(v.Scope().imports(s.Namespace, s.Host, false) || v.destined()[s.Host])
}

// Service returns the service of that host. Where several namespaces have it,
// the proxy's own comes first, then one of Kubernetes, then the oldest.
func (v *View) Service(host string) (*Service, bool) {
	var best *Service
	for _, s := range v.Mesh.Services(host) {
		if !v.sees(s) {
			continue
		}
		if s.Namespace == v.Proxy.Namespace {
			return s, true
		}
		if best == nil {
			best = s
		}
	}
	return best, best != nil
}

// Destined reports whether rules that the proxy sees send to the host, so that it is in sight with them.
func (v *View) Destined(host string) bool { return v.destined()[host] }

// Services returns all services that the proxy sees, one per host, by host.
func (v *View) Services() []*Service {
	v.once.Do(func() {
		last := ""
		for _, s := range v.Mesh.Registry.Services {
			if s.Host == last {
				continue
			}
			if best, ok := v.Service(s.Host); ok {
				v.services = append(v.services, best)
				last = s.Host
			}
		}
	})
	return v.services
}

// ServicesOf returns the services that the proxy's own workload belongs to.
func (v *View) ServicesOf() []*Service {
	return v.Mesh.ServicesOf(v.Proxy.Namespace, v.Proxy.Labels, v.Proxy.IPs)
}

// MTLS returns what the proxy's workload accepts on its port.
func (v *View) MTLS(port uint16) MTLSMode {
	return v.Mesh.MTLS(v.Proxy.Namespace, v.Proxy.Labels, port)
}

// Workload returns the proxy's pod, nil if the registry does not have it.
func (v *View) Workload() *Workload { return v.Mesh.Workload(v.Proxy.Namespace, v.Proxy.Name) }

// TargetPort returns the port of the proxy's workload behind a port of one of
// its services, false if it is a name that no container declares. Of a ServiceEntry each endpoint
// may have a port of its own.
func (v *View) TargetPort(s *Service, p Port) (uint16, bool) {
	if !s.Kubernetes {
		for _, e := range v.Mesh.Endpoints(s) {
			if e.PortName == p.Name && e.Port != 0 && slices.ContainsFunc(e.Addrs, func(a netip.Addr) bool { return slices.Contains(v.Proxy.IPs, a) }) {
				return e.Port, true
			}
		}
	}
	switch {
	case p.Target.Number != 0:
		return p.Target.Number, true
	case p.Target.Name == "":
		return p.Number, true
	}
	if w := v.Workload(); w != nil {
		for _, c := range w.Ports {
			if c.Name == p.Target.Name {
				return c.Number, true
			}
		}
	}
	return 0, false
}

// Rules returns the rules that the proxy sees, those that come first where two have
// a host first: its namespace's own that nobody else sees, so that a client can route
// for itself what others offer to all; then those that were exported to some
// namespaces; then those for everybody. Among equals the oldest is first.
func (v *View) Rules() []*RouteRules {
	v.rulesOnce.Do(func() {
		for _, r := range v.Mesh.Rules {
			if r.ExportTo.Sees(r.From.Namespace, v.Proxy.Namespace, v.Mesh.Config.RulesExportTo) && v.means(r.Of) &&
				slices.ContainsFunc(r.Hosts, func(h string) bool { return v.Scope().imports(r.From.Namespace, h, true) }) {
				v.rules = append(v.rules, r)
			}
		}
		rank := func(r *RouteRules) int { return r.Rank(v.Proxy.Namespace, v.Mesh.Config.RulesExportTo) }
		slices.SortStableFunc(v.rules, func(a, b *RouteRules) int { return rank(a) - rank(b) })
	})
	return v.rules
}

// means reports whether the proxy gets that service, and not another one, by its host; or none, by what is
// known without rules.
func (v *View) means(of ServiceKey) bool {
	if of == (ServiceKey{}) {
		return true
	}
	var best *Service
	for _, s := range v.Mesh.Services(of.Host) {
		own := s.Namespace == v.Proxy.Namespace
		if (best == nil || own) && s.ExportTo.Sees(s.Namespace, v.Proxy.Namespace, v.Mesh.Config.ServiceExportTo) && v.Scope().imports(s.Namespace, s.Host, false) {
			best = s
		}
	}
	return best == nil || best.Key() == of
}

// RulesAt returns those rules that hold at a gateway, called namespace/name, in their order.
func (v *View) RulesAt(gateway string) []*RouteRules {
	type key struct{}
	return v.Memo(key{}, func() any {
		at := map[string][]*RouteRules{}
		for _, r := range v.Rules() {
			for i, g := range r.Gateways {
				if !slices.Contains(r.Gateways[:i], g) {
					at[g] = append(at[g], r)
				}
			}
		}
		return at
	}).(map[string][]*RouteRules)[gateway]
}

// MeshRules returns the rules that a sidecar keeps to for a host: those with
// the most specific host, the first of them; nil if there are none.
func (v *View) MeshRules(host string) *RouteRules {
	type key struct{}
	byHost := v.Memo(key{}, v.meshRules).(map[string]*RouteRules)
	if r := byHost[host]; r != nil {
		return r
	}
	for i := range len(host) { // the longest wildcard first: a.b.c, then .b.c, and so on
		if r := byHost["*"+host[i:]]; r != nil && i > 0 {
			return r
		}
	}
	return byHost["*"]
}

// meshRules returns the first rules of each host.
func (v *View) meshRules() any {
	byHost := make(map[string]*RouteRules)
	for _, r := range v.Rules() { // in their rank
		if !r.Applies("mesh") {
			continue
		}
		for _, h := range r.Hosts {
			if byHost[h] == nil {
				byHost[h] = r
			}
		}
	}
	return byHost
}

// PolicyFor returns what the proxy keeps to when it calls the service, nil if
// nobody said anything. The proxy's namespace is asked first, then the
// service's, then the root; in each the most specific host wins, and nothing
// is inherited from one to the next.
func (v *View) PolicyFor(s *Service) *DestinationRule {
	root := v.Mesh.Config.RootNamespace
	own := v.Proxy.Namespace
	if own != root {
		if d := v.policyIn(own, s.Host, func(*DestinationRule) bool { return true }); d != nil {
			return d
		}
	} else if d := v.policyIn(root, s.Host, func(d *DestinationRule) bool {
		return !d.ExportTo.Sees(root, root+"x", v.Mesh.Config.DestinationExportTo)
	}); d != nil {
		return d
	}
	exported := func(d *DestinationRule) bool {
		return d.ExportTo.Sees(d.From.Namespace, own, v.Mesh.Config.DestinationExportTo)
	}
	if d := v.policyIn(s.Namespace, s.Host, exported); d != nil {
		return d
	}
	return v.policyIn(root, s.Host, exported)
}

func (v *View) policyIn(ns, host string, ok func(*DestinationRule) bool) *DestinationRule {
	var best *DestinationRule
	for _, d := range v.Mesh.policies[ns] {
		if !HostMatches(d.Host, host) || !ok(d) || !Labels(v.Proxy.Labels).Matches(d.Workload) {
			continue
		}
		if len(d.Workload) > 0 && ns != v.Proxy.Namespace {
			continue // it selects workloads of its own namespace
		}
		switch {
		case best == nil, MoreSpecific(d.Host, best.Host):
			best = d
		case d.Host == best.Host && len(d.Workload) > 0 && len(best.Workload) == 0:
			best = d // a rule for these workloads beats one for all
		}
	}
	return best
}

// Gateways returns the gateways that the proxy serves, oldest first.
func (v *View) Gateways() []*Gateway {
	if v.Proxy.Type != Router {
		return nil
	}
	var out []*Gateway
	for _, g := range v.Mesh.Gateways {
		if (g.Namespace == "" || g.Namespace == v.Proxy.Namespace) && Labels(v.Proxy.Labels).Matches(g.Selector) {
			out = append(out, g)
		}
	}
	return out
}
