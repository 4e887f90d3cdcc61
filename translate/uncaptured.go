package translate

import (
	"net/netip"
	"slices"

	"github.com/mallamesh/malla/model"
)

// localHost is where an application reaches the ports that its proxy opens for it.
var localHost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// addLocal adds what a port of a service needs where nothing is captured: the proxy listens on it, on this host. There
// is one address for all services of a port, so they are told apart by a request's host and by the
// name that TLS asks for; of those that carry bytes the oldest has it. A port that the pod's own
// application serves is left to that.
func (plan outPlan) addLocal(v *model.View, s *model.Service, p model.Port, kind model.Protocol) {
	if slices.Contains(model.ProxyPorts, p.Number) || slices.Contains(applicationPorts(v), p.Number) {
		return
	}
	l := plan.at(p.Number, localHost)
	l.bound = true
	switch kind {
	case model.HTTP:
		l.http = true
	case model.Sniffed:
		l.http, l.sniff, l.fallback = true, true, older(l.fallback, s)
	case model.TLS:
		l.byName = append(l.byName, namedService{service: s, names: []string{s.Host}})
	default:
		l.fallback = older(l.fallback, s)
	}
}

// applicationPorts are those that the pod serves, as far as its containers and its services say.
func applicationPorts(v *model.View) []uint16 {
	type key struct{}
	return v.Memo(key{}, func() any {
		var out []uint16
		if w := v.Workload(); w != nil {
			for _, c := range w.Ports {
				out = append(out, c.Number)
			}
		}
		for _, s := range v.ServicesOf() {
			for _, p := range s.Ports {
				if n, ok := v.TargetPort(s, p); ok {
					out = append(out, n)
				}
			}
		}
		return out
	}).([]uint16)
}
