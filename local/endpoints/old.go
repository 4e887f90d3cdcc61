package endpoints

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

const (
	labelOld   = "endpoints.kubernetes.io/managed-by"       // of Endpoints, by whom they are written:
	managedOld = "endpoint-controller"                      // by us
	mirroredBy = "endpointslicemirroring-controller.k8s.io" // of the slices that repeat somebody's Endpoints
)

// Old returns a service's Endpoints, which say again what its slices say, as Kubernetes' older API does: addresses of
// the service's first family only, those that are not ready apart, and nothing of pods that end.
func Old(s *corev1.Service, made []*discoveryv1.EndpointSlice) *corev1.Endpoints {
	labels := map[string]string{}
	for k, v := range s.Labels {
		labels[k] = v
	}
	labels[labelOld] = managedOld
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	}
	out := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, Labels: labels,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s, corev1.SchemeGroupVersion.WithKind("Service"))}}}
	first := discoveryv1.AddressTypeIPv4
	if len(s.Spec.IPFamilies) > 0 {
		first = discoveryv1.AddressType(s.Spec.IPFamilies[0])
	}
	for _, m := range made {
		if m.AddressType != first {
			continue
		}
		var set corev1.EndpointSubset
		for i := range m.Endpoints {
			switch e := &m.Endpoints[i]; {
			case *e.Conditions.Ready:
				set.Addresses = append(set.Addresses, address(e))
			case !*e.Conditions.Terminating:
				set.NotReadyAddresses = append(set.NotReadyAddresses, address(e))
			}
		}
		if len(set.Addresses)+len(set.NotReadyAddresses) == 0 {
			continue
		}
		for _, p := range m.Ports {
			set.Ports = append(set.Ports, corev1.EndpointPort{Name: *p.Name, Port: *p.Port, Protocol: *p.Protocol, AppProtocol: p.AppProtocol})
		}
		byIP := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) }
		slices.SortFunc(set.Addresses, byIP)
		slices.SortFunc(set.NotReadyAddresses, byIP)
		out.Subsets = append(out.Subsets, set)
	}
	return out
}

func address(e *discoveryv1.Endpoint) corev1.EndpointAddress {
	a := corev1.EndpointAddress{IP: e.Addresses[0], NodeName: e.NodeName, TargetRef: e.TargetRef}
	if e.Hostname != nil {
		a.Hostname = *e.Hostname
	}
	return a
}

// Mirrored returns the slices that repeat Endpoints which somebody has written for a service without a selector: the
// mesh reads slices only. None are made of Endpoints that say so, or that a controller has written.
func Mirrored(s *corev1.Service, e *corev1.Endpoints) []*discoveryv1.EndpointSlice {
	if e.Labels[discoveryv1.LabelSkipMirror] == "true" || e.Labels[labelOld] == managedOld {
		return nil
	}
	var out []*discoveryv1.EndpointSlice
	for i := range e.Subsets {
		set := &e.Subsets[i]
		ports := make([]discoveryv1.EndpointPort, len(set.Ports))
		for j, p := range set.Ports {
			protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
			ports[j] = discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &protocol, AppProtocol: p.AppProtocol}
		}
		made := map[discoveryv1.AddressType]*discoveryv1.EndpointSlice{}
		add := func(list []corev1.EndpointAddress, ready bool) {
			for _, a := range list {
				ip, err := netip.ParseAddr(a.IP)
				if err != nil {
					continue // judged when it was written
				}
				f := family(ip)
				if made[f] == nil {
					made[f] = mirror(s, e, f, i, ports)
					out = append(out, made[f])
				}
				made[f].Endpoints = append(made[f].Endpoints, mirroredOf(a, ready))
			}
		}
		add(set.Addresses, true)
		add(set.NotReadyAddresses, false)
	}
	return out
}

func mirror(s *corev1.Service, e *corev1.Endpoints, f discoveryv1.AddressType, subset int, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	labels := map[string]string{}
	for k, v := range e.Labels {
		labels[k] = v
	}
	labels[discoveryv1.LabelServiceName] = s.Name
	labels[discoveryv1.LabelManagedBy] = mirroredBy
	h := fnv.New32a()
	fmt.Fprint(h, e.UID, f, subset)
	code := rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10) + "00000")[:5]
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name + "-" + code, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, corev1.SchemeGroupVersion.WithKind("Endpoints"))}},
		AddressType: f,
		Ports:       ports,
	}
}

func mirroredOf(a corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, NodeName: a.NodeName, TargetRef: a.TargetRef}
	if a.Hostname != "" {
		out.Hostname = &a.Hostname
	}
	return out
}
