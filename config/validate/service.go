package validate

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

func (r *ruler) service(s *corev1.Service) {
	spec, at := &s.Spec, field.At("spec")
	if said, ok := s.Labels[model.GatewayPortLabel]; ok {
		if n, err := strconv.ParseUint(said, 10, 16); err != nil || n == 0 {
			r.errorf(field.At("metadata", "labels", model.GatewayPortLabel), "found %q, want the port on which the gateway of network %q takes connections", said, s.Labels[model.NetworkLabel])
		}
	}
	external := spec.Type == corev1.ServiceTypeExternalName
	r.choice(at.Child("type"), string(spec.Type), "ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
	switch {
	case external && !validHost(spec.ExternalName):
		r.errorf(at.Child("externalName"), "found %q, want a host name", spec.ExternalName)
	case external && len(spec.ClusterIPs)+len(spec.ClusterIP) > 0 && spec.ClusterIP != "None":
		r.errorf(at.Child("clusterIP"), "makes no sense with type ExternalName")
	case !external && spec.ExternalName != "":
		r.errorf(at.Child("externalName"), "makes sense only with type ExternalName")
	case !external && len(spec.Ports) == 0 && spec.ClusterIP != corev1.ClusterIPNone:
		r.errorf(at.Child("ports"), "missing; want at least one port")
	}
	if spec.ClusterIP != "" && spec.ClusterIP != corev1.ClusterIPNone {
		r.ip(at.Child("clusterIP"), spec.ClusterIP)
	}
	for i, ip := range spec.ClusterIPs {
		if ip != corev1.ClusterIPNone {
			r.ip(at.Child("clusterIPs").Index(i), ip)
		}
	}
	if spec.IPFamilyPolicy != nil {
		r.choice(at.Child("ipFamilyPolicy"), string(*spec.IPFamilyPolicy), "SingleStack", "PreferDualStack", "RequireDualStack")
	}
	for i, f := range spec.IPFamilies {
		r.choice(at.Child("ipFamilies").Index(i), string(f), "IPv4", "IPv6")
	}
	if p := spec.InternalTrafficPolicy; p != nil {
		r.choice(at.Child("internalTrafficPolicy"), string(*p), "Cluster", "Local")
	}
	r.labels(at.Child("selector"), spec.Selector)
	r.servicePorts(at.Child("ports"), spec)
	if to, ok := s.Annotations["networking.istio.io/exportTo"]; ok {
		var list []string
		for ns := range strings.SplitSeq(to, ",") {
			list = append(list, strings.TrimSpace(ns))
		}
		r.exportTo(field.At("metadata", "annotations").Child("networking.istio.io/exportTo"), list)
	}
}

func (r *ruler) servicePorts(at *field.Path, spec *corev1.ServiceSpec) {
	type key struct {
		protocol corev1.Protocol
		number   int32
	}
	var names []string
	var numbers []key
	for i := range spec.Ports {
		port, p := &spec.Ports[i], at.Index(i)
		if port.Protocol == "" {
			port.Protocol = corev1.ProtocolTCP
		}
		r.intPort(p.Child("port"), port.Port)
		if k := (key{port.Protocol, port.Port}); slices.Contains(numbers, k) {
			r.errorf(p.Child("port"), "found %d a second time", port.Port)
		} else {
			numbers = append(numbers, k)
		}
		switch {
		case port.Name == "" && len(spec.Ports) > 1:
			r.errorf(p.Child("name"), "missing; a Service with several ports names each of them")
		case port.Name != "" && slices.Contains(names, port.Name):
			r.errorf(p.Child("name"), "found %q a second time", port.Name)
		case port.Name != "":
			for _, text := range validation.IsDNS1123Label(port.Name) {
				r.errorf(p.Child("name"), "found %q: %s", port.Name, problem(text))
			}
		}
		names = append(names, port.Name)
		if port.Protocol == corev1.ProtocolSCTP {
			r.errorf(p.Child("protocol"), "found \"SCTP\", which is not supported; want TCP or UDP")
		} else {
			r.choice(p.Child("protocol"), string(port.Protocol), "TCP", "UDP")
		}
		r.targetPort(p.Child("targetPort"), port.TargetPort)
		if n := port.NodePort; n != 0 && (n < 30000 || n > 32767) {
			r.errorf(p.Child("nodePort"), "found %d, want a port from 30000 to 32767", n)
		}
	}
}

func (r *ruler) targetPort(at *field.Path, p intstr.IntOrString) {
	switch {
	case p.Type == intstr.Int && p.IntVal != 0:
		r.intPort(at, p.IntVal)
	case p.Type == intstr.String:
		for _, text := range validation.IsValidPortName(p.StrVal) {
			r.errorf(at, "found %q, want a port or the name of a container's port: %s", p.StrVal, problem(text))
		}
	}
}

func (r *ruler) intPort(at *field.Path, n int32) {
	if n < 1 || n > 65535 {
		r.errorf(at, "found %d, want a port from 1 to 65535", n)
	}
}

// choice checks a text that has a fixed set of values; empty means the default.
func (r *ruler) choice(at *field.Path, found string, want ...string) {
	if found != "" && !slices.Contains(want, found) {
		r.errorf(at, "found %q, want %s", found, oneOf(want))
	}
}

// reachable refuses what is no address, and one that is another machine to everybody.
func (r *ruler) reachable(at *field.Path, text string) {
	if a, ok := r.ip(at, text); ok && (a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast()) {
		r.errorf(at, "found %q, which is another machine to everybody; want an address that can be reached from any pod", text)
	}
}

//lint:ignore SA1019 old manifests have it
func (r *ruler) endpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		set, at := &e.Subsets[i], field.At("subsets").Index(i)
		if len(set.Addresses)+len(set.NotReadyAddresses) == 0 {
			r.errorf(at.Child("addresses"), "missing; want an address, here or in notReadyAddresses")
		}
		for j, a := range set.Addresses {
			r.reachable(at.Child("addresses").Index(j).Child("ip"), a.IP)
		}
		for j, a := range set.NotReadyAddresses {
			r.reachable(at.Child("notReadyAddresses").Index(j).Child("ip"), a.IP)
		}
		var names []string
		for j, port := range set.Ports {
			p := at.Child("ports").Index(j)
			if slices.Contains(names, port.Name) {
				r.errorf(p.Child("name"), "found %q a second time", port.Name)
			}
			names = append(names, port.Name)
			r.intPort(p.Child("port"), port.Port)
			r.choice(p.Child("protocol"), string(port.Protocol), "TCP", "UDP")
		}
	}
}

func (r *ruler) endpointSlice(s *discoveryv1.EndpointSlice) {
	at := field.At("addressType")
	switch s.AddressType {
	case "":
		r.errorf(at, "missing; want IPv4 or IPv6")
		return
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	default:
		r.choice(at, string(s.AddressType), "IPv4", "IPv6")
		return
	}
	for i, e := range s.Endpoints {
		p := field.At("endpoints").Index(i).Child("addresses")
		if len(e.Addresses) == 0 {
			r.errorf(p, "missing; want an address")
		}
		for j, text := range e.Addresses {
			if a, err := netip.ParseAddr(text); err == nil && a.Is4() != (s.AddressType == discoveryv1.AddressTypeIPv4) {
				r.errorf(p.Index(j), "found %q, want an address of the type %s", text, s.AddressType)
			}
			r.reachable(p.Index(j), text)
		}
	}
	var names []string
	for i, port := range s.Ports {
		p := field.At("ports").Index(i)
		name := ""
		if port.Name != nil {
			name = *port.Name
		}
		if slices.Contains(names, name) {
			r.errorf(p.Child("name"), "found %q a second time", name)
		}
		names = append(names, name)
		if port.Port == nil {
			r.errorf(p.Child("port"), "missing; want a port")
		} else {
			r.intPort(p.Child("port"), *port.Port)
		}
		if port.Protocol != nil {
			r.choice(p.Child("protocol"), string(*port.Protocol), "TCP", "UDP")
		}
	}
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		r.notice(nil, "it belongs to no Service: the label %s is missing", discoveryv1.LabelServiceName)
	}
}
