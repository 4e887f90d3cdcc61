package kube

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// Labels and annotations that Istio defines.
const (
	TLSModeLabel       = "security.istio.io/tlsMode"
	CanonicalName      = "service.istio.io/canonical-name"
	CanonicalRevision  = "service.istio.io/canonical-revision"
	ExportToAnnotation = "networking.istio.io/exportTo"
)

// Workload makes a workload of a pod, nil if it has come to its end.
func Workload(o *config.Object) *model.Workload {
	p := o.Value.(*corev1.Pod)
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	w := &model.Workload{
		Name: o.Name, Namespace: o.Namespace, UID: o.UID,
		From:   model.Ref{Kind: "Pod", Namespace: o.Namespace, Name: o.Name, Pos: o.Pos},
		Labels: o.Labels, Annotations: o.Annotations,
		Addrs:          addresses(p),
		ServiceAccount: p.Spec.ServiceAccountName, Node: p.Spec.NodeName, Locality: model.LocalityOf(o.Labels), HostNetwork: p.Spec.HostNetwork,
	}
	if w.ServiceAccount == "" {
		w.ServiceAccount = "default"
	}
	w.Owner, w.OwnerKind = Owner(p)
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range containers {
			w.Injected = w.Injected || c.Name == "istio-proxy"
			for _, port := range c.Ports {
				protocol := string(port.Protocol)
				if protocol == "" {
					protocol = "TCP"
				}
				w.Ports = append(w.Ports, model.ContainerPort{Name: port.Name, Number: uint16(port.ContainerPort), Protocol: protocol})
			}
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			w.Ready = c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return w
}

// addresses returns a pod's addresses, v4 first.
func addresses(p *corev1.Pod) []netip.Addr {
	texts := make([]string, 0, 2)
	for _, ip := range p.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	if len(texts) == 0 && p.Status.PodIP != "" {
		texts = append(texts, p.Status.PodIP)
	}
	return parseAddrs(texts)
}

// parseAddrs returns the addresses among the texts, v4 first; the order of each family stays.
func parseAddrs(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			out = append(out, a.Unmap())
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return slices.Compact(out)
}

// Owner returns what made a pod: its Deployment where a ReplicaSet is in between,
// which is told by the name that Deployments give to their ReplicaSets, and the
// pod itself if nothing did.
func Owner(p *corev1.Pod) (name, kind string) {
	for _, o := range p.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		if hash := p.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" {
			if name, ok := strings.CutSuffix(o.Name, "-"+hash); ok {
				return name, "Deployment"
			}
		}
		return o.Name, o.Kind
	}
	return p.Name, "Pod"
}

// Canonical returns the service and revision by which metrics name a workload.
func Canonical(labels map[string]string, workload string) (name, revision string) {
	return first(labels, workload, CanonicalName, "app.kubernetes.io/name", "app"),
		first(labels, "latest", CanonicalRevision, "app.kubernetes.io/version", "version")
}

func first(labels map[string]string, otherwise string, keys ...string) string {
	for _, k := range keys {
		if v := labels[k]; v != "" {
			return v
		}
	}
	return otherwise
}
