package validate

import (
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
)

var entryProtocols = []string{"HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "MYSQL", "REDIS", "TCP", "TLS"}

// namesHost reports whether what a client sends in the protocol names a host.
func namesHost(protocol string) bool {
	return slices.Contains([]string{"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "TLS", "HTTPS"}, protocol)
}

func (r *ruler) serviceEntry(s *networkingv1.ServiceEntry) {
	spec, at := &s.Spec, field.At("spec")
	dns := spec.GetResolution() == networking.ServiceEntry_DNS || spec.GetResolution() == networking.ServiceEntry_DNS_ROUND_ROBIN
	dynamic := spec.GetResolution() == networking.ServiceEntry_DYNAMIC_DNS
	if len(spec.GetHosts()) == 0 {
		r.errorf(at.Child("hosts"), "missing; want the names by which clients call the service")
	}
	for i, h := range spec.GetHosts() {
		p := at.Child("hosts").Index(i)
		switch {
		case h == "*":
			r.errorf(p, "found \"*\", want a name; for everything outside see outboundTrafficPolicy of MeshConfig")
		case strings.HasPrefix(h, "*") && dns:
			r.errorf(p, "found %q, but DNS cannot resolve a wildcard; want a name, or resolution NONE or DYNAMIC_DNS", h)
		case dynamic && !strings.HasPrefix(h, "*"):
			r.errorf(p, "found %q, but resolution DYNAMIC_DNS is for wildcards; want a name such as *.example.com, or resolution DNS", h)
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
	r.entrySelector(at.Child("workloadSelector"), spec)
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
		if protocol != "" && !slices.Contains(entryProtocols, protocol) { // none is sniffed, as Istio does
			r.errorf(p.Child("protocol"), "found %q, want one of %s", port.GetProtocol(), strings.Join(entryProtocols, ", "))
		}
		if spec.GetResolution() == networking.ServiceEntry_DYNAMIC_DNS && !namesHost(protocol) {
			r.errorf(p.Child("protocol"), "found %q, but resolution DYNAMIC_DNS takes the host from the request; want HTTP, HTTP2, GRPC or TLS", port.GetProtocol())
		}
		if t := port.GetTargetPort(); t != 0 {
			r.port(p.Child("targetPort"), t)
			if spec.GetResolution() == networking.ServiceEntry_NONE {
				r.errorf(p.Child("targetPort"), "makes no sense with resolution NONE, which keeps the address and port that clients dial")
			}
		}
	}
}

// entrySelector checks what selects the workloads behind an entry.
func (r *ruler) entrySelector(at *field.Path, spec *networking.ServiceEntry) {
	if spec.GetWorkloadSelector() == nil {
		return
	}
	labels := spec.GetWorkloadSelector().GetLabels()
	switch {
	case len(labels) == 0:
		r.errorf(at.Child("labels"), "missing; want labels of the pods and WorkloadEntries behind the service")
	case len(spec.GetEndpoints()) > 0:
		r.errorf(at, "excludes endpoints; keep one of them")
	case spec.GetResolution() == networking.ServiceEntry_NONE || spec.GetResolution() == networking.ServiceEntry_DYNAMIC_DNS:
		r.errorf(at, "makes no sense with resolution %s, which goes where clients want; want STATIC or DNS", spec.GetResolution())
	}
	r.labels(at.Child("labels"), labels)
}

func (r *ruler) entryEndpoints(at *field.Path, spec *networking.ServiceEntry, dns bool) {
	list := spec.GetEndpoints()
	switch {
	case spec.GetResolution() == networking.ServiceEntry_NONE && len(list) > 0:
		r.errorf(at, "make no sense with resolution NONE; want STATIC or DNS")
	case spec.GetResolution() == networking.ServiceEntry_DYNAMIC_DNS && len(list) > 0:
		r.notice(at, "resolution DYNAMIC_DNS resolves the host of each request")
	case spec.GetResolution() == networking.ServiceEntry_STATIC && len(list) == 0 && spec.GetWorkloadSelector() == nil:
		r.errorf(at, "missing; resolution STATIC wants the addresses of the service, or workloadSelector")
	case spec.GetResolution() == networking.ServiceEntry_DNS_ROUND_ROBIN && len(list) > 1:
		r.errorf(at, "found %d, but DNS_ROUND_ROBIN resolves one name; want resolution DNS", len(list))
	}
	for i, e := range list {
		p := at.Index(i)
		_, err := netip.ParseAddr(e.GetAddress())
		isPath := strings.HasPrefix(e.GetAddress(), "unix://")
		switch {
		case isPath && (len(spec.GetPorts()) != 1 || len(e.GetPorts()) > 0 || dns):
			r.errorf(p.Child("address"), "a Unix socket wants resolution STATIC, one port in spec.ports, and none of its own")
		case !isPath && e.GetAddress() != "" && !dns && err != nil:
			r.errorf(p.Child("address"), "found %q, want an IP address; names want resolution DNS", e.GetAddress())
		case dns && e.GetAddress() == "" && e.GetNetwork() != "":
			r.errorf(p.Child("address"), "missing; by DNS gateways of other networks are not found: want a name, or resolution STATIC")
		default:
			r.workload(p, e)
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

func (r *ruler) workloadEntry(w *networkingv1.WorkloadEntry) {
	spec, at := &w.Spec, field.At("spec")
	r.workload(at, spec)
	if strings.HasPrefix(spec.GetAddress(), "unix://") && len(spec.GetPorts()) > 0 {
		r.errorf(at.Child("ports"), "a Unix socket has no ports")
	}
	for _, name := range sortedKeys(spec.GetPorts()) {
		r.port(at.Child("ports").Child(name), spec.GetPorts()[name])
	}
	r.labels(at.Child("labels"), spec.GetLabels())
	if len(spec.GetLabels())+len(w.Labels) == 0 {
		r.notice(at.Child("labels"), "without labels no selector selects it")
	}
}

// workload checks where a workload is and what it is called.
func (r *ruler) workload(at *field.Path, e *networking.WorkloadEntry) {
	path, isPath := strings.CutPrefix(e.GetAddress(), "unix://")
	_, err := netip.ParseAddr(e.GetAddress())
	switch p := at.Child("address"); {
	case e.GetAddress() == "" && e.GetNetwork() != "": // its network's gateways know it
	case e.GetAddress() == "":
		r.errorf(p, "missing; want an address, or a network whose gateways know it")
	case isPath && (!strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") || strings.HasSuffix(path, "/")):
		r.errorf(p, "found %q, want unix:// and an absolute path", e.GetAddress())
	case !isPath && err != nil:
		r.host(p, e.GetAddress(), false)
	}
	if l := e.GetLocality(); l != "" && (strings.Count(l, "/") > 2 || strings.HasPrefix(l, "/") || strings.Contains(l, "//")) {
		r.errorf(at.Child("locality"), "found %q, want region/zone/subzone", l)
	}
	if a := e.GetServiceAccount(); a != "" {
		for _, text := range validation.IsDNS1123Subdomain(a) {
			r.errorf(at.Child("serviceAccount"), "found %q: %s", a, problem(text))
		}
	}
}
