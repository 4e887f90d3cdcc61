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
		imports := []model.Import{}
		for j, h := range e.Hosts {
			imports = append(imports, c.imported(h, at.Child("hosts").Index(j))...)
		}
		s.Imports = append(s.Imports, imports...)
		if e.Port == nil {
			s.Open = append(s.Open, imports...)
			if e.Bind != "" {
				c.out.Errors.Addf(at.Child("bind"), "is %q, want a port beside it", e.Bind)
			}
			continue
		}
		s.Doors = append(s.Doors, c.door(e, imports, at))
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

// door reads a port on which hosts are reached.
func (c *compiler) door(e *networking.IstioEgressListener, imports []model.Import, at *field.Path) model.Door {
	d := model.Door{
		Port: c.sidecarPort(e.Port, at.Child("port")), Own: e.CaptureMode == networking.CaptureMode_NONE,
		Unsaid: e.CaptureMode == networking.CaptureMode_DEFAULT, Local: e.Bind == "", Imports: imports,
	}
	if path, ok := strings.CutPrefix(e.Bind, "unix://"); ok {
		if d.Path = path; !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") {
			c.out.Errors.Addf(at.Child("bind"), "is %q, want unix:///PATH", e.Bind)
		}
		d.Own, d.Unsaid = true, false
		return d
	}
	if d.Port.Number == 0 {
		c.out.Errors.Addf(at.Child("port").Child("number"), "is 0, want 1 to 65535, or a bind of unix:///PATH")
	}
	d.Bind = c.bind(e.Bind, at.Child("bind"))
	return d
}

// bind reads an address; zero is none.
func (c *compiler) bind(text string, at *field.Path) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		c.out.Errors.Addf(at, "is %q, want an IP address", text)
	}
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

func (c *compiler) sidecarPort(p *networking.SidecarPort, at *field.Path) model.Port {
	protocol, ok := gatewayProtocols[strings.ToUpper(p.GetProtocol())]
	if !ok {
		c.out.Errors.Addf(at.Child("protocol"), "is %q, want one of HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP and TLS", p.GetProtocol())
	}
	if n := p.GetNumber(); n > 65535 {
		c.out.Errors.Addf(at.Child("number"), "is %d, want 1 to 65535", n)
	}
	return model.Port{Number: uint16(p.GetNumber()), Name: p.GetName(), Protocol: protocol}
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
	out := model.Ingress{
		Port: c.sidecarPort(in.Port, at.Child("port")), Bind: c.bind(in.Bind, at.Child("bind")), Own: in.CaptureMode == networking.CaptureMode_NONE,
		Unsaid: in.CaptureMode == networking.CaptureMode_DEFAULT,
	}
	if out.Port.Number == 0 {
		c.out.Errors.Addf(at.Child("port").Child("number"), "is 0, want 1 to 65535")
	}
	if in.Tls != nil {
		out.TLS = c.serverTLS(in.Tls, at.Child("tls"))
		if m := in.Tls.Mode; in.Tls.HttpsRedirect || m != networking.ServerTLSSettings_SIMPLE && m != networking.ServerTLSSettings_MUTUAL {
			c.out.Errors.Addf(at.Child("tls").Child("mode"), "is %s, want SIMPLE or MUTUAL", m)
		}
	}
	if in.ConnectionPool != nil {
		out.Pool = c.pool(in.ConnectionPool, at.Child("connectionPool"))
	}
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
