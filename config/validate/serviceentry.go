package validate

import (
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/base/field"
)

var entryProtocols = []string{"HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "MYSQL", "REDIS", "TCP", "TLS"}

func (r *ruler) serviceEntry(s *networkingv1.ServiceEntry) {
	spec, at := &s.Spec, field.At("spec")
	dns := spec.GetResolution() == networking.ServiceEntry_DNS || spec.GetResolution() == networking.ServiceEntry_DNS_ROUND_ROBIN
	if len(spec.GetHosts()) == 0 {
		r.errorf(at.Child("hosts"), "missing; want the names by which clients call the service")
	}
	for i, h := range spec.GetHosts() {
		p := at.Child("hosts").Index(i)
		switch {
		case h == "*":
			r.errorf(p, "found \"*\", want a name; for everything outside see outboundTrafficPolicy of MeshConfig")
		case strings.HasPrefix(h, "*") && dns:
			r.errorf(p, "found %q, but DNS cannot resolve a wildcard; want a name, or resolution NONE", h)
		}
		r.host(p, h, true)
		if slices.Contains(spec.GetHosts()[:i], h) {
			r.errorf(p, "found %q a second time", h)
		}
	}
	for i, a := range spec.GetAddresses() {
		p := at.Child("addresses").Index(i)
		_, rangeErr := netip.ParsePrefix(a)
		_, err := netip.ParseAddr(a)
		switch {
		case rangeErr == nil && dns:
			r.errorf(p, "found %q, but ranges of addresses want resolution NONE or STATIC", a)
		case rangeErr != nil && err != nil:
			r.errorf(p, "found %q, want an address or a range such as 10.0.0.0/8", a)
		}
	}
	r.entryPorts(at.Child("ports"), spec)
	r.entryEndpoints(at.Child("endpoints"), spec, dns)
	r.exportTo(at.Child("exportTo"), spec.GetExportTo())
}

func (r *ruler) entryPorts(at *field.Path, spec *networking.ServiceEntry) {
	if len(spec.GetPorts()) == 0 {
		r.errorf(at, "missing; want at least one port")
	}
	var numbers []uint32
	var names []string
	for i, port := range spec.GetPorts() {
		p := at.Index(i)
		r.port(p.Child("number"), port.GetNumber())
		if port.GetNumber() != 0 && slices.Contains(numbers, port.GetNumber()) {
			r.errorf(p.Child("number"), "found %d a second time", port.GetNumber())
		}
		switch {
		case port.GetName() == "":
			r.errorf(p.Child("name"), "missing; want a name such as http")
		case slices.Contains(names, port.GetName()):
			r.errorf(p.Child("name"), "found %q a second time", port.GetName())
		}
		numbers, names = append(numbers, port.GetNumber()), append(names, port.GetName())
		protocol := strings.ToUpper(port.GetProtocol())
		if !slices.Contains(entryProtocols, protocol) {
			r.errorf(p.Child("protocol"), "found %q, want one of %s", port.GetProtocol(), strings.Join(entryProtocols, ", "))
		}
		if protocol == "HTTP2" || strings.HasPrefix(protocol, "GRPC") {
			r.notice(p.Child("protocol"), "HTTP/2 is not supported yet; connections pass as TCP")
		}
		if t := port.GetTargetPort(); t != 0 {
			r.port(p.Child("targetPort"), t)
			if spec.GetResolution() == networking.ServiceEntry_NONE {
				r.errorf(p.Child("targetPort"), "makes no sense with resolution NONE, which keeps the address and port that clients dial")
			}
		}
	}
}

func (r *ruler) entryEndpoints(at *field.Path, spec *networking.ServiceEntry, dns bool) {
	list := spec.GetEndpoints()
	switch {
	case spec.GetResolution() == networking.ServiceEntry_NONE && len(list) > 0:
		r.errorf(at, "make no sense with resolution NONE; want STATIC or DNS")
	case spec.GetResolution() == networking.ServiceEntry_STATIC && len(list) == 0:
		r.errorf(at, "missing; resolution STATIC wants the addresses of the service")
	case spec.GetResolution() == networking.ServiceEntry_DNS_ROUND_ROBIN && len(list) > 1:
		r.errorf(at, "found %d, but DNS_ROUND_ROBIN resolves one name; want resolution DNS", len(list))
	}
	for i, e := range list {
		p := at.Index(i)
		path, isPath := strings.CutPrefix(e.GetAddress(), "unix://")
		_, err := netip.ParseAddr(e.GetAddress())
		switch {
		case e.GetAddress() == "":
			r.errorf(p.Child("address"), "missing; want an address")
		case isPath && (!strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") || strings.HasSuffix(path, "/")):
			r.errorf(p.Child("address"), "found %q, want unix:// and an absolute path", e.GetAddress())
		case isPath && (len(spec.GetPorts()) != 1 || len(e.GetPorts()) > 0 || dns):
			r.errorf(p.Child("address"), "a Unix socket wants resolution STATIC, one port in spec.ports, and none of its own")
		case !isPath && !dns && err != nil:
			r.errorf(p.Child("address"), "found %q, want an IP address; names want resolution DNS", e.GetAddress())
		case !isPath && err != nil:
			r.host(p.Child("address"), e.GetAddress(), false)
		}
		for _, name := range sortedKeys(e.GetPorts()) {
			if !slices.ContainsFunc(spec.GetPorts(), func(sp *networking.ServicePort) bool { return sp.GetName() == name }) {
				r.errorf(p.Child("ports").Child(name), "there is no port of this name in spec.ports")
			}
			r.port(p.Child("ports").Child(name), e.GetPorts()[name])
		}
		r.labels(p.Child("labels"), e.GetLabels())
	}
}
