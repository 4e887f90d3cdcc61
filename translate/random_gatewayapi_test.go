package translate_test

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/config/kind"
)

// randomStandard is an object of Gateway API, or one that they depend on.
func randomStandard(r *rand.Rand, meta metav1.ObjectMeta) (key string, value runtime.Object) {
	meta.Generation = int64(1 + r.IntN(2))
	parents := func() gatewayv1.CommonRouteSpec {
		ref := gatewayv1.ParentReference{Name: gatewayv1.ObjectName(pick(r, names)), Namespace: to(gatewayv1.Namespace(pick(r, namespaces)))}
		if r.IntN(3) == 0 {
			ref.Group, ref.Kind = to(gatewayv1.Group("")), to(gatewayv1.Kind("Service"))
		}
		return gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{ref}}
	}
	backend := func() gatewayv1.BackendRef {
		b := gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(pick(r, names)), Port: to(gatewayv1.PortNumber(pick(r, []int32{80, 8080})))}}
		if r.IntN(2) == 0 {
			b.Namespace = to(gatewayv1.Namespace(pick(r, namespaces)))
		}
		return b
	}
	prefix := func() []gatewayv1.HTTPRouteMatch {
		return []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: to(gatewayv1.PathMatchPathPrefix), Value: to("/" + pick(r, names))}}}
	}
	switch r.IntN(8) {
	case 0:
		gw := &gatewayv1.Gateway{ObjectMeta: meta}
		gw.Spec.GatewayClassName = gatewayv1.ObjectName(pick(r, []string{"istio", "malla", "other"}))
		for i := range 1 + r.IntN(2) {
			l := gatewayv1.Listener{Name: gatewayv1.SectionName(fmt.Sprint("l", i)), Port: gatewayv1.PortNumber(pick(r, []int32{80, 443})), Protocol: pick(r, []gatewayv1.ProtocolType{"HTTP", "HTTPS", "TLS", "TCP"})}
			if r.IntN(2) == 0 {
				l.Hostname = to(gatewayv1.Hostname(pick(r, []string{"a.example", "*.example"})))
			}
			if l.Protocol == "HTTPS" || l.Protocol == "TLS" {
				l.TLS = &gatewayv1.ListenerTLSConfig{Mode: to(gatewayv1.TLSModeTerminate), CertificateRefs: []gatewayv1.SecretObjectReference{{Name: gatewayv1.ObjectName(pick(r, names))}}}
			}
			from := pick(r, []gatewayv1.FromNamespaces{"All", "Same"})
			l.AllowedRoutes = &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: &from}}
			gw.Spec.Listeners = append(gw.Spec.Listeners, l)
		}
		return kind.APIGateway, gw
	case 1:
		g := &gatewayv1.ReferenceGrant{ObjectMeta: meta}
		g.Spec.From = []gatewayv1.ReferenceGrantFrom{{Group: kind.GatewayAPI, Kind: "HTTPRoute", Namespace: gatewayv1.Namespace(pick(r, namespaces))}}
		g.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: "Service"}}
		return "ReferenceGrant", g
	case 2:
		p := &gatewayv1.BackendTLSPolicy{ObjectMeta: meta}
		p.Spec.TargetRefs = []gatewayv1.LocalPolicyTargetReferenceWithSectionName{{LocalPolicyTargetReference: gatewayv1.LocalPolicyTargetReference{Kind: "Service", Name: gatewayv1.ObjectName(pick(r, names))}}}
		p.Spec.Validation.Hostname = "a.example"
		p.Spec.Validation.CACertificateRefs = []gatewayv1.LocalObjectReference{{Kind: "Secret", Name: gatewayv1.ObjectName(pick(r, names))}}
		return "BackendTLSPolicy", p
	case 3: // the Service in front of a gateway: its address is in a status
		s := &corev1.Service{ObjectMeta: meta}
		s.Name = pick(r, names) + "-istio"
		s.UID, s.Spec.Type = "service", corev1.ServiceTypeLoadBalancer
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: pick(r, []string{"10.0.0.1", "10.0.0.2"})}}
		return "Service", s
	case 4:
		c := &gatewayv1.GatewayClass{ObjectMeta: meta}
		c.Namespace, c.Name = "", pick(r, []string{"istio", "other"})
		c.UID, c.Spec.ControllerName = "class", pick(r, []gatewayv1.GatewayController{"malla.dev/gateway-controller", "example.com/other"})
		return "GatewayClass", c
	case 5:
		g := &gatewayv1.GRPCRoute{ObjectMeta: meta}
		g.Spec.CommonRouteSpec = parents()
		g.Spec.Rules = []gatewayv1.GRPCRouteRule{{BackendRefs: []gatewayv1.GRPCBackendRef{{BackendRef: backend()}}}}
		return "GRPCRoute", g
	default:
		h := &gatewayv1.HTTPRoute{ObjectMeta: meta}
		h.Spec.CommonRouteSpec = parents()
		for range 1 + r.IntN(2) {
			h.Spec.Rules = append(h.Spec.Rules, gatewayv1.HTTPRouteRule{Matches: prefix(), BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: backend()}}})
		}
		return "HTTPRoute", h
	}
}

func to[T any](v T) *T { return &v }
