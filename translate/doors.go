package translate

import (
	"net/netip"
	"strconv"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/model"
)

// A Sidecar may put hosts behind doors: a port of their own, which is captured or on which the proxy listens, or a
// Unix socket. What is behind a door only is reached in no other way, and who opens one has its address alone.

// opensTo reports whether the service is reached on its own ports.
func opensTo(v *model.View, s *model.Service) bool {
	scope := v.Scope()
	return scope.OpensTo(s.Namespace, s.Host, false) || len(scope.Open) > 0 && v.Destined(s.Host) && !behindDoors(scope, s)
}

func behindDoors(scope *model.Scope, s *model.Service) bool {
	for i := range scope.Doors {
		if model.Imports(scope.Doors[i].Imports, s.Namespace, s.Host, false) {
			return true
		}
	}
	return false
}

// portBehind is the port of a service that a listener's port leads to: the one of its number, else the only one.
func portBehind(s *model.Service, listener uint16) (model.Port, bool) {
	p, ok := s.Port(listener)
	if !ok && len(s.Ports) == 1 {
		p, ok = s.Ports[0], true
	}
	return p, ok && p.Protocol != model.UDP
}

// doors adds the listeners of the doors that hold for the proxy.
func (plan outPlan) doors(v *model.View) {
	scope := v.Scope()
	if scope == nil {
		return
	}
	for i := range scope.Doors {
		d := &scope.Doors[i]
		if d.Unsaid && v.Interception() == model.Uncaptured || d.Own && d.Local {
			own := *d
			if own.Own = true; own.Local {
				own.Bind = localHost
			}
			d = &own
		}
		l := &outListener{name: doorName(d), port: d.Port.Number, door: d, bound: d.Own}
		if d.Bind.IsValid() {
			l.addrs = []netip.Addr{d.Bind}
		}
		if plan[l.name] != nil {
			continue // the first has it
		}
		plan[l.name] = l
		if l.route = l.name; !d.Bind.IsValid() && d.Path == "" {
			l.route = strconv.Itoa(int(l.port))
		}
		if carried(d.Port.Protocol) == model.HTTP {
			l.http = true
			continue
		}
		for _, s := range v.Services() {
			if s.Resolution != model.Alias && model.Imports(d.Imports, s.Namespace, s.Host, false) {
				l.behind(v, s)
			}
		}
	}
}

func doorName(d *model.Door) string {
	if d.Path != "" {
		return "unix://" + d.Path
	}
	return listenerName(d.Bind, d.Port.Number)
}

// behind adds a service to a door for bytes.
func (l *outListener) behind(v *model.View, s *model.Service) {
	p, ok := portBehind(s, l.port)
	if !ok {
		return
	}
	addrs := v.Addresses(s)
	switch captured := !l.door.Own && !l.door.Bind.IsValid(); {
	case carried(l.door.Port.Protocol) == model.TLS:
		l.byName = append(l.byName, namedService{service: s, names: []string{s.Host}})
	case captured && len(addrs)+len(s.CIDRs) > 0:
		prefixes := append([]netip.Prefix(nil), s.CIDRs...)
		for _, a := range addrs {
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
		l.byAddr = append(l.byAddr, addressService{service: s, prefixes: prefixes})
	case captured && s.Headless:
		if prefixes := podAddresses(v, s, p); len(prefixes) > 0 {
			l.byAddr = append(l.byAddr, addressService{service: s, prefixes: prefixes})
		}
	default:
		l.fallback = older(l.fallback, s)
	}
}

// doorTable is the route table of a door for HTTP: the hosts behind it, and what rules say of them.
func doorTable(v *model.View, l *outListener) []*routev3.VirtualHost {
	return virtualHosts(v, l.port, func(namespace, host string, wide bool) bool {
		return model.Imports(l.door.Imports, namespace, host, wide)
	}, func(s *model.Service) (uint16, bool) {
		if p, ok := portBehind(s, l.port); ok {
			return p.Number, true
		}
		for _, p := range s.Ports { // of a socket, which has no number
			if l.port == 0 && p.Protocol.IsHTTP() {
				return p.Number, true
			}
		}
		return 0, false
	})
}

// openTable is the route table of a port for the services that have it.
func openTable(v *model.View, port uint16) []*routev3.VirtualHost {
	scope := v.Scope()
	return virtualHosts(v, port, func(namespace, host string, wide bool) bool {
		return scope.OpensTo(namespace, host, wide) || !wide && v.Destined(host)
	}, func(s *model.Service) (uint16, bool) {
		p, ok := s.Port(port)
		k := carried(p.Protocol)
		return p.Number, ok && opensTo(v, s) && (k == model.HTTP || k == model.Sniffed)
	})
}
