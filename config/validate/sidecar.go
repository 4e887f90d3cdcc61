package validate

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
)

func (r *ruler) sidecar(s *networkingv1.Sidecar) {
	spec, at := &s.Spec, field.At("spec")
	labels := spec.GetWorkloadSelector().GetLabels()
	r.labels(at.Child("workloadSelector").Child("labels"), labels)
	if spec.GetWorkloadSelector() != nil && len(labels) == 0 {
		r.notice(at.Child("workloadSelector"), "without labels it selects everything, as if it were not there")
	}
	if len(labels) > 0 && s.Namespace == "istio-system" {
		r.notice(at.Child("workloadSelector"), "a Sidecar with a selector counts only in the namespace of the workloads, not in all")
	}
	for i, e := range spec.GetEgress() {
		p := at.Child("egress").Index(i)
		if len(e.GetHosts()) == 0 {
			r.errorf(p.Child("hosts"), "missing; want namespace/host, for example \"./*\" or \"istio-system/*\"")
		}
		for j, h := range e.GetHosts() {
			r.imported(p.Child("hosts").Index(j), h)
		}
		r.door(p, e)
	}
	if e := spec.GetOutboundTrafficPolicy().GetEgressProxy(); e != nil {
		p := at.Child("outboundTrafficPolicy").Child("egressProxy")
		if spec.GetOutboundTrafficPolicy().GetMode() != networking.OutboundTrafficPolicy_ALLOW_ANY {
			r.errorf(p, "found beside mode %s, want ALLOW_ANY", spec.GetOutboundTrafficPolicy().GetMode())
		}
		r.host(p.Child("host"), e.GetHost(), false)
		r.port(p.Child("port").Child("number"), e.GetPort().GetNumber())
	}
	r.connectionPool(at.Child("inboundConnectionPool"), spec.GetInboundConnectionPool())
	var ports []uint32
	for i, in := range spec.GetIngress() {
		p := at.Child("ingress").Index(i)
		n := in.GetPort().GetNumber()
		if in.GetPort() == nil {
			r.errorf(p.Child("port"), "missing; want number, name and protocol")
		} else {
			r.port(p.Child("port").Child("number"), n)
			r.sidecarProtocol(p.Child("port"), in.GetPort())
			if slices.Contains(ports, n) {
				r.errorf(p.Child("port").Child("number"), "found %d a second time", n)
			}
			ports = append(ports, n)
		}
		r.address(p.Child("bind"), in.GetBind())
		if t := in.GetTls(); t != nil {
			r.serverTLS(p.Child("tls"), t, strings.ToUpper(in.GetPort().GetProtocol()))
			if m := t.GetMode(); m != networking.ServerTLSSettings_SIMPLE && m != networking.ServerTLSSettings_MUTUAL {
				r.errorf(p.Child("tls").Child("mode"), "found %s, want SIMPLE or MUTUAL", m)
			}
		}
		r.application(p.Child("defaultEndpoint"), in.GetDefaultEndpoint())
		r.connectionPool(p.Child("connectionPool"), in.GetConnectionPool())
	}
}

// door checks a port, or a socket, on which hosts are reached.
func (r *ruler) door(at *field.Path, e *networking.IstioEgressListener) {
	bind := e.GetBind()
	if e.GetPort() == nil {
		if bind != "" {
			r.errorf(at.Child("bind"), "found %q without a port; want both", bind)
		}
		return
	}
	r.sidecarProtocol(at.Child("port"), e.GetPort())
	path, socket := strings.CutPrefix(bind, "unix://")
	switch {
	case !socket:
		r.port(at.Child("port").Child("number"), e.GetPort().GetNumber())
		r.address(at.Child("bind"), bind)
	case !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@"):
		r.errorf(at.Child("bind"), "found %q, want unix:///PATH", bind)
	case e.GetPort().GetNumber() != 0:
		r.errorf(at.Child("port").Child("number"), "found %d beside a Unix socket, want 0", e.GetPort().GetNumber())
	case e.GetCaptureMode() == networking.CaptureMode_IPTABLES:
		r.errorf(at.Child("captureMode"), "found IPTABLES beside a Unix socket, want NONE or nothing")
	}
}

// address checks an address that a listener has, if it says one.
func (r *ruler) address(at *field.Path, text string) {
	if _, err := netip.ParseAddr(text); text != "" && err != nil {
		r.errorf(at, "found %q, want an IP address", text)
	}
}

func (r *ruler) sidecarProtocol(at *field.Path, p *networking.SidecarPort) {
	if protocol := p.GetProtocol(); !slices.Contains(gatewayProtocols, strings.ToUpper(protocol)) {
		r.errorf(at.Child("protocol"), "found %q, want one of %s", protocol, strings.Join(gatewayProtocols, ", "))
	}
}

// imported checks namespace/host.
func (r *ruler) imported(at *field.Path, h string) {
	ns, host, ok := strings.Cut(h, "/")
	if !ok {
		r.errorf(at, "found %q, want namespace/host, where each may be *", h)
		return
	}
	rest := strings.TrimPrefix(ns, "~")
	if ns != "~" && rest != "*" && rest != "." && len(validation.IsDNS1123Label(rest)) > 0 {
		r.errorf(at, "found %q, want \"*\", \".\", \"~\" or a namespace before the /", h)
	}
	if ns == "~" && host != "*" {
		r.errorf(at, "found %q; nothing is imported by ~/*, and a host is kept out by ~namespace/host", h)
	}
	r.host(at, host, true)
}

// application checks where a sidecar finds its application.
func (r *ruler) application(at *field.Path, s string) {
	if s == "" {
		return
	}
	if path, ok := strings.CutPrefix(s, "unix://"); ok {
		if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") {
			r.errorf(at, "found %q, want unix:///PATH", s)
		}
		return
	}
	host, number, err := net.SplitHostPort(s)
	n, bad := strconv.ParseUint(number, 10, 16)
	addr, no := netip.ParseAddr(host)
	if err != nil || bad != nil || n == 0 || no != nil || !addr.IsLoopback() && !addr.IsUnspecified() {
		r.errorf(at, "found %q, want 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT or [::]:PORT", s)
	}
}
