package istio

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

func (c *compiler) sidecar() {
	sc := &c.obj.Value.(*networkingv1.Sidecar).Spec
	spec := field.At("spec")
	s := &model.Scope{From: c.ref, Created: c.obj.Created, Selector: sc.GetWorkloadSelector().GetLabels()}
	for i, e := range sc.Egress {
		at := spec.Child("egress").Index(i)
		c.unsupported(e.Port != nil, at.Child("port"))
		c.unsupported(e.Bind != "", at.Child("bind"))
		c.unsupported(e.CaptureMode == networking.CaptureMode_NONE, at.Child("captureMode"))
		for j, h := range e.Hosts {
			s.Imports = append(s.Imports, c.imported(h, at.Child("hosts").Index(j))...)
		}
	}
	if len(sc.Egress) > 0 && s.Imports == nil {
		s.Imports = []model.Import{}
	}
	if p := sc.OutboundTrafficPolicy; p != nil {
		at := spec.Child("outboundTrafficPolicy")
		if e := p.EgressProxy; e != nil {
			s.Egress = &model.Destination{Host: c.host(e.Host), Subset: e.Subset, Port: uint16(e.GetPort().GetNumber())}
			if e.Host == "" || s.Egress.Port == 0 || p.Mode != networking.OutboundTrafficPolicy_ALLOW_ANY {
				c.out.Errors.Addf(at.Child("egressProxy"), "is %q, want a host and a port, and the mode ALLOW_ANY", e.Host)
			}
		}
		mode := model.AllowAny
		switch p.Mode {
		case networking.OutboundTrafficPolicy_REGISTRY_ONLY:
			mode = model.RegistryOnly
		case networking.OutboundTrafficPolicy_ALLOW_ANY:
		default:
			c.unsupported(true, at.Child("mode"))
		}
		s.Outbound = &mode
	}
	s.Pool = c.pool(sc.InboundConnectionPool, spec.Child("inboundConnectionPool"))
	for i, in := range sc.Ingress {
		s.Ingress = append(s.Ingress, c.ingress(in, spec.Child("ingress").Index(i)))
	}
	c.out.Scope = s
}

// imported reads namespace/host: "." is the own namespace, "~" none, and "~" in
// front of a namespace keeps out what others bring in.
func (c *compiler) imported(h string, at *field.Path) []model.Import {
	ns, name, ok := strings.Cut(h, "/")
	if !ok || ns == "" || name == "" {
		c.out.Errors.Addf(at, "is %q, want namespace/host, where each may be *", h)
		return nil
	}
	if ns == "~" {
		return nil
	}
	rest, not := strings.CutPrefix(ns, "~")
	if rest == "." {
		rest = c.obj.Namespace
	}
	host := strings.ToLower(strings.TrimSuffix(name, ".")) // never completed: the namespace stands before it
	return []model.Import{{Namespace: rest, Host: host, Not: not}}
}

func (c *compiler) ingress(in *networking.IstioIngressListener, at *field.Path) model.Ingress {
	c.unsupported(in.Bind != "", at.Child("bind"))
	c.unsupported(in.Tls != nil, at.Child("tls"))
	c.unsupported(in.CaptureMode == networking.CaptureMode_NONE, at.Child("captureMode"))
	protocol, ok := gatewayProtocols[strings.ToUpper(in.GetPort().GetProtocol())]
	if !ok {
		c.out.Errors.Addf(at.Child("port").Child("protocol"), "is %q, want one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP and TLS", in.GetPort().GetProtocol())
	}
	if n := in.GetPort().GetNumber(); n == 0 || n > 65535 {
		c.out.Errors.Addf(at.Child("port").Child("number"), "is %d, want 1 to 65535", n)
	}
	out := model.Ingress{
		Port: model.Port{Number: uint16(in.GetPort().GetNumber()), Name: in.GetPort().GetName(), Protocol: protocol},
	}
	if in.ConnectionPool != nil {
		out.Pool = c.pool(in.ConnectionPool, at.Child("connectionPool"))
	}
	c.unsupported(out.Path != "" || strings.HasPrefix(in.DefaultEndpoint, "unix://"), at.Child("defaultEndpoint"))
	if err := ParseEndpoint(in.DefaultEndpoint, &out); err != nil {
		c.out.Errors.Addf(at.Child("defaultEndpoint"), "%v", err)
	}
	return out
}

// ParseEndpoint reads where a sidecar's application is: an address of this host
// or of the pod (0.0.0.0 and [::]) with a port, or unix://path. Nothing is where
// the client dialled.
func ParseEndpoint(s string, in *model.Ingress) error {
	if s == "" {
		return nil
	}
	bad := &net.AddrError{Err: "want 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT, [::]:PORT or unix:///PATH", Addr: s}
	if path, ok := strings.CutPrefix(s, "unix://"); ok {
		if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") {
			return bad
		}
		in.Path = path
		return nil
	}
	host, number, err := net.SplitHostPort(s)
	if err != nil {
		return bad
	}
	n, err := strconv.ParseUint(number, 10, 16)
	addr, bind := netip.ParseAddr(host)
	if err != nil || bind != nil || n == 0 || !addr.IsLoopback() && !addr.IsUnspecified() {
		return bad
	}
	in.To = uint16(n)
	if addr.IsLoopback() {
		in.Addr = addr
	}
	return nil
}
