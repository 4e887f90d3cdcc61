package compile

import (
	"fmt"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

// emptySelectors finds ServiceEntries whose selector selects nothing. Unlike other findings these come and go
// with endpoints.
func emptySelectors(mesh *model.Mesh) (out []Problem) {
	seen := map[model.Ref]bool{}
	for _, s := range mesh.Registry.Services {
		if s.Kubernetes || len(s.Selector) == 0 || len(mesh.Endpoints(s)) > 0 || seen[s.From] {
			continue
		}
		seen[s.From] = true
		out = append(out, Problem{Reason: SelectsNothing, Notice: true, Waits: later, Ref: s.From,
			Error: &field.Error{In: s.From.String(), Pos: s.From.Pos, At: field.At("spec", "workloadSelector"),
				Msg: fmt.Sprintf("no pod and no WorkloadEntry of namespace %s has the labels %s: requests are answered 503", s.Namespace, written(s.Selector))}})
	}
	return out
}

// A port is one of a service's.
type port struct {
	host   string
	number uint16
}

// routedHTTP are the ports to which a rule for HTTP sends requests: what comes there is read and not TLS yet, whatever the port is declared,
// as in Istio's way to begin TLS at a gateway, or by a route from port 80 to 443.
func (f *finder) routedHTTP() map[port]bool {
	out := map[port]bool{}
	for _, r := range f.mesh.Rules {
		for _, h := range r.HTTP {
			for _, to := range h.Forward {
				out[port{to.To.Host, to.To.Port}] = true
			}
			for _, m := range h.Mirrors {
				out[port{m.To.Host, m.To.Port}] = true
			}
		}
	}
	return out
}

// doubleTLS finds policies by which proxies put TLS around what is TLS already, as the port says.
func (f *finder) doubleTLS() {
	http := f.routedHTTP()
	for _, d := range f.mesh.Policies {
		for _, s := range f.services(d.Host) {
			for _, p := range s.Ports {
				t := d.Policy.On(p.Number, model.TrafficPolicy{}).TLS
				if t == nil || t.Presents || !p.Protocol.IsTLS() || t.Mode != model.TLSSimple && t.Mode != model.TLSMutual || http[port{s.Host, p.Number}] {
					continue
				}
				f.addTo(d.From, DoubleTLS, field.At("spec", "trafficPolicy"),
					"port %d of %s is declared %s, so that the client speaks TLS itself, and the proxy would speak TLS around it; for clients that speak plain HTTP declare the port as {number: 80, name: http, protocol: HTTP, targetPort: %d}",
					p.Number, s.Host, p.Protocol, p.Number)
			}
		}
	}
}
