package kube

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/registry/protocol"
)

// Service makes a service of a Kubernetes Service. The accounts are those of its
// endpoints and are filled in elsewhere.
func Service(o *config.Object, mesh *model.MeshConfig) *model.Service {
	v := o.Value.(*corev1.Service)
	s := &model.Service{
		Host:      o.Name + "." + o.Namespace + ".svc." + mesh.ClusterDomain,
		Namespace: o.Namespace, Name: o.Name, Created: o.Created, Kubernetes: true,
		From:     model.Ref{Kind: "Service", Namespace: o.Namespace, Name: o.Name, Pos: o.Pos, Version: o.Version},
		Labels:   o.Labels,
		Selector: v.Spec.Selector,
		ExportTo: exportTo(o.Annotations[ExportToAnnotation]),
	}
	if p := v.Spec.InternalTrafficPolicy; p != nil {
		s.NodeLocal = *p == corev1.ServiceInternalTrafficPolicyLocal
	}
	s.Near = near(v)
	ips := v.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{v.Spec.ClusterIP}
	}
	switch {
	case v.Spec.Type == corev1.ServiceTypeExternalName:
		s.Resolution, s.AliasOf, s.Selector = model.Alias, strings.ToLower(strings.TrimSuffix(v.Spec.ExternalName, ".")), nil
	case ips[0] == corev1.ClusterIPNone:
		s.Resolution, s.Headless = model.Passthrough, true
	default:
		s.VIPs = parseAddrs(ips)
	}
	s.Outside, s.OutsideNames = outside(v)
	for i := range v.Spec.Ports {
		p := &v.Spec.Ports[i]
		port := model.Port{Name: p.Name, Number: uint16(p.Port), Protocol: protocol.Of(p)}
		if p.TargetPort.Type == intstr.String {
			port.Target.Name = p.TargetPort.StrVal
		} else {
			port.Target.Number = uint16(p.TargetPort.IntVal)
		}
		s.Ports = append(s.Ports, port)
	}
	return s
}

// outside returns the addresses and names that a Service has outside of the cluster.
func outside(v *corev1.Service) (addrs []netip.Addr, names []string) {
	texts := slices.Clone(v.Spec.ExternalIPs)
	if v.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, i := range v.Status.LoadBalancer.Ingress {
			texts = append(texts, i.IP)
			if i.Hostname != "" && !slices.Contains(names, i.Hostname) {
				names = append(names, i.Hostname)
			}
		}
	}
	slices.Sort(names)
	return parseAddrs(texts), names
}

// DistributionAnnotation says what spec.trafficDistribution says, where that is not there.
const DistributionAnnotation = "networking.istio.io/traffic-distribution"

func near(v *corev1.Service) model.Nearness {
	said := v.Annotations[DistributionAnnotation]
	if d := v.Spec.TrafficDistribution; d != nil && *d != "" {
		said = *d
	}
	switch said {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		return model.NearZone
	case corev1.ServiceTrafficDistributionPreferSameNode:
		return model.NearNode
	}
	return model.NearAny
}

// exportTo reads the annotation's list of namespaces.
func exportTo(list string) model.ExportTo {
	var to model.ExportTo
	for ns := range strings.SplitSeq(list, ",") {
		if ns = strings.TrimSpace(ns); ns != "" {
			to = append(to, ns)
		}
	}
	slices.Sort(to)
	return slices.Compact(to)
}
