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
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
)

// group is what endpoints of one slice have in common: the address family, and
// the numbers behind the service's ports (a named port may differ between pods).
type group struct {
	family discoveryv1.AddressType
	ports  string
}

// Slices returns the EndpointSlices of a service whose selected pods are given.
func Slices(s *corev1.Service, pods []*corev1.Pod) []*discoveryv1.EndpointSlice {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	made := map[group]*discoveryv1.EndpointSlice{}
	for _, p := range pods {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		ports, text := portsOf(s, p)
		for _, ip := range p.Status.PodIPs {
			a, err := netip.ParseAddr(ip.IP)
			if err != nil {
				continue
			}
			g := group{family(a), text}
			if !wanted(s, g.family) {
				continue
			}
			if made[g] == nil {
				made[g] = slice(s, g, ports)
			}
			made[g].Endpoints = append(made[g].Endpoints, endpoint(s, p, ip.IP))
		}
	}
	out := make([]*discoveryv1.EndpointSlice, 0, len(made))
	for _, m := range made {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func family(a netip.Addr) discoveryv1.AddressType {
	if a.Is4() || a.Is4In6() {
		return discoveryv1.AddressTypeIPv4
	}
	return discoveryv1.AddressTypeIPv6
}

// wanted reports whether the service has the family; one that names none has both.
func wanted(s *corev1.Service, f discoveryv1.AddressType) bool {
	if len(s.Spec.IPFamilies) == 0 {
		return true
	}
	return slices.Contains(s.Spec.IPFamilies, corev1.IPFamily(f))
}

func slice(s *corev1.Service, g group, ports []discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	labels := map[string]string{}
	for k, v := range s.Labels {
		labels[k] = v
	}
	labels[discoveryv1.LabelServiceName] = s.Name
	labels[discoveryv1.LabelManagedBy] = managedBy
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	}
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: sliceName(s, g), Labels: labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s, corev1.SchemeGroupVersion.WithKind("Service"))}},
		AddressType: g.family,
		Ports:       ports,
	}
}

// sliceName is the service's name and five characters that depend on what the
// slice is for, so that it stays the same slice.
func sliceName(s *corev1.Service, g group) string {
	h := fnv.New32a()
	fmt.Fprint(h, s.UID, g.family, g.ports)
	code := rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10) + "00000")[:5]
	return s.Name + "-" + code
}

// endpoint describes one pod at one of its addresses.
func endpoint(s *corev1.Service, p *corev1.Pod, ip string) discoveryv1.Endpoint {
	serving, terminating := ready(p), p.DeletionTimestamp != nil
	isReady := serving && !terminating || s.Spec.PublishNotReadyAddresses
	e := discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: &isReady, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
	if p.Spec.NodeName != "" {
		node := p.Spec.NodeName
		e.NodeName = &node
	}
	if p.Spec.Hostname != "" && p.Spec.Subdomain == s.Name {
		host := p.Spec.Hostname
		e.Hostname = &host
	}
	return e
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// portsOf returns the service's ports as they are at the pod. A port whose name
// no container of the pod has is left out.
func portsOf(s *corev1.Service, p *corev1.Pod) (ports []discoveryv1.EndpointPort, text string) {
	for _, sp := range s.Spec.Ports {
		n, ok := target(sp, p)
		if !ok {
			continue
		}
		name, protocol := sp.Name, sp.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		ports = append(ports, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &n, AppProtocol: sp.AppProtocol})
		text += fmt.Sprintf("%s/%s/%d ", name, protocol, n)
	}
	return ports, text
}

func target(sp corev1.ServicePort, p *corev1.Pod) (int32, bool) {
	if sp.TargetPort.Type == intstr.Int {
		if n := sp.TargetPort.IntVal; n != 0 {
			return n, true
		}
		return sp.Port, true
	}
	for _, c := range p.Spec.Containers {
		for _, cp := range c.Ports {
			if cp.Name == sp.TargetPort.StrVal && (cp.Protocol == sp.Protocol || cp.Protocol == "" || sp.Protocol == "") {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}
