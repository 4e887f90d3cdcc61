package validate

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
)

var gatewayProtocols = []string{"HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS"}

func (r *ruler) gateway(g *networkingv1.Gateway) {
	spec, at := &g.Spec, field.At("spec")
	r.labels(at.Child("selector"), spec.GetSelector())
	if len(spec.GetServers()) == 0 {
		r.errorf(at.Child("servers"), "missing; want at least one port to open")
	}
	var names []string
	for i, s := range spec.GetServers() {
		p := at.Child("servers").Index(i)
		r.server(p, s)
		name := s.GetPort().GetName()
		if name != "" && slices.Contains(names, name) {
			r.errorf(p.Child("port").Child("name"), "found %q a second time; every port of a Gateway has a name of its own", name)
		}
		names = append(names, name)
	}
}

func (r *ruler) server(at *field.Path, s *networking.Server) {
	port := at.Child("port")
	protocol := strings.ToUpper(s.GetPort().GetProtocol())
	if s.GetPort() == nil {
		r.errorf(port, "missing; want number, name and protocol")
	} else {
		r.port(port.Child("number"), s.GetPort().GetNumber())
		if s.GetPort().GetName() == "" {
			r.errorf(port.Child("name"), "missing; want a name such as http")
		}
		if !slices.Contains(gatewayProtocols, protocol) {
			r.errorf(port.Child("protocol"), "found %q, want one of %s", s.GetPort().GetProtocol(), strings.Join(gatewayProtocols, ", "))
		}
	}
	if b := s.GetBind(); b != "" {
		if strings.HasPrefix(b, "unix://") {
			r.errorf(at.Child("bind"), "Unix sockets are not supported yet")
		} else {
			r.ip(at.Child("bind"), b)
		}
	}
	if len(s.GetHosts()) == 0 {
		r.errorf(at.Child("hosts"), "missing; want the hosts that are served, for example [\"*\"]")
	}
	for i, h := range s.GetHosts() {
		p := at.Child("hosts").Index(i)
		ns, host, found := strings.Cut(h, "/")
		if !found {
			ns, host = "*", h
		}
		if ns != "*" && ns != "." && len(validation.IsDNS1123Label(ns)) > 0 {
			r.errorf(p, "found %q, want \"*\", \".\" or a namespace before the /", h)
		}
		r.host(p, host, true)
		if slices.Contains(s.GetHosts()[:i], h) {
			r.errorf(p, "found %q a second time", h)
		}
	}
	r.serverTLS(at.Child("tls"), s.GetTls(), protocol)
}

func (r *ruler) peerAuthentication(p *securityv1.PeerAuthentication) {
	spec, at := &p.Spec, field.At("spec")
	labels := spec.GetSelector().GetMatchLabels()
	r.labels(at.Child("selector").Child("matchLabels"), labels)
	for key, value := range labels {
		if strings.Contains(key+value, "*") {
			r.errorf(at.Child("selector").Child("matchLabels").Child(key), "found %q, want a label without *", value)
		}
	}
	if len(labels) > 0 && p.Namespace == "istio-system" {
		r.notice(at.Child("selector"), "policies with a selector count only in the namespace of the workloads, not in the root namespace")
	}
	if len(spec.GetPortLevelMtls()) > 0 && len(labels) == 0 {
		r.errorf(at.Child("portLevelMtls"), "counts only together with a selector")
	}
	for port := range spec.GetPortLevelMtls() {
		r.port(at.Child("portLevelMtls"), port)
	}
}
