package istio

import (
	"net/netip"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

func (c *compiler) gateway() {
	gw := &c.obj.Value.(*networkingv1.Gateway).Spec
	g := &model.Gateway{From: c.ref, Created: c.obj.Created, Selector: gw.Selector}
	for i, s := range gw.Servers {
		if server := c.server(s, field.At("spec", "servers").Index(i)); server != nil {
			server.At = i
			g.Servers = append(g.Servers, server)
		}
	}
	c.out.Gateway = g
}

var gatewayProtocols = map[string]model.Protocol{
	"HTTP": model.HTTP, "HTTP2": model.HTTP2, "GRPC": model.GRPC, "GRPC-WEB": model.GRPCWeb, "HTTPS": model.HTTPS,
	"TLS": model.TLS, "TCP": model.TCP, "MONGO": model.Mongo,
}

func (c *compiler) server(s *networking.Server, at *field.Path) *model.Server {
	before := len(c.out.Errors)
	protocol, ok := gatewayProtocols[strings.ToUpper(s.GetPort().GetProtocol())]
	if !ok {
		c.out.Errors.Addf(at.Child("port").Child("protocol"), "is %q, want one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP and TLS", s.GetPort().GetProtocol())
	}
	if n := s.GetPort().GetNumber(); n == 0 || n > 65535 {
		c.out.Errors.Addf(at.Child("port").Child("number"), "is %d, want 1 to 65535", n)
	}
	if _, err := netip.ParseAddr(s.Bind); !c.unsupported(strings.HasPrefix(s.Bind, "unix://"), at.Child("bind")) && s.Bind != "" && err != nil {
		c.out.Errors.Addf(at.Child("bind"), "is %q, want an IP address", s.Bind)
	}
	c.unsupported(s.DefaultEndpoint != "", at.Child("defaultEndpoint"))
	out := &model.Server{
		Name: s.Name, Port: uint16(s.GetPort().GetNumber()), PortName: s.GetPort().GetName(), Protocol: protocol, Bind: s.Bind,
		TLS: c.serverTLS(s.Tls, at.Child("tls")),
	}
	if protocol.IsTLS() && s.Tls == nil {
		c.out.Errors.Addf(at.Child("tls"), "is missing: a server of protocol %s needs it", protocol)
	}
	for i, h := range s.Hosts {
		out.Hosts = append(out.Hosts, c.gatewayHost(h, at.Child("hosts").Index(i)))
	}
	if len(c.out.Errors) > before {
		return nil
	}
	return out
}

// gatewayHost reads [namespace/]name. A name without a namespace is open to
// rules of all namespaces.
func (c *compiler) gatewayHost(h string, at *field.Path) model.GatewayHost {
	ns, name, found := strings.Cut(h, "/")
	if !found {
		ns, name = "*", h
	}
	if ns == "." {
		ns = c.obj.Namespace
	}
	if !IsHost(name) {
		c.out.Errors.Addf(at, "is %q, want [namespace/]host, maybe with *. in front of the host, or * for any", h)
	}
	return model.GatewayHost{Namespace: ns, Name: c.host(name)}
}
