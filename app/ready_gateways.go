//go:build linux

package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mallamesh/malla/config/kind"
)

var (
	standardGateways = schema.GroupVersionResource{Group: kind.GatewayAPI, Version: "v1", Resource: "gateways"}
	standardRoutes   = schema.GroupVersionResource{Group: kind.GatewayAPI, Version: "v1", Resource: "httproutes"}
	services         = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	istioGateways    = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "gateways"}
	gatewayClasses   = schema.GroupVersionResource{Group: kind.GatewayAPI, Version: "v1", Resource: "gatewayclasses"}
)

// standard adds the Gateways of Gateway API that nobody has looked at, or whose workload is on its way.
func (s *state) standard(ctx context.Context, p *picture) error {
	list, err := s.dynamic.Resource(standardGateways).List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		return err
	}
	for i := range list.Items {
		g := &list.Items[i]
		class, _, _ := unstructured.NestedString(g.Object, "spec", "gatewayClassName")
		if why := onItsWay(g); why != "" && s.servedHere(ctx, class) {
			p.pending = append(p.pending, fmt.Sprintf("gateway %s/%s: %s", g.GetNamespace(), g.GetName(), why))
		}
	}
	return nil
}

// onItsWay says what a Gateway waits for, "" if for nothing that comes by itself.
func onItsWay(g *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(g.Object, "status", "conditions")
	for _, c := range conditions {
		m, _ := c.(map[string]any)
		observed, _ := m["observedGeneration"].(int64)
		switch m["type"] {
		case "Accepted", "Programmed":
			if m["status"] == "Unknown" || observed != 0 && observed < g.GetGeneration() {
				return "not looked at yet"
			}
			if m["reason"] == "AddressNotAssigned" {
				return "its proxies are not ready"
			}
		}
	}
	return ""
}

// servedHere reports whether the Gateways of a class are this mesh's.
func (s *state) servedHere(ctx context.Context, class string) bool {
	c, err := s.dynamic.Resource(gatewayClasses).Get(ctx, class, metav1.GetOptions{})
	if err != nil {
		return class == "malla" || class == "istio" // those that come by themselves
	}
	conditions, _, _ := unstructured.NestedSlice(c.Object, "status", "conditions")
	for _, x := range conditions {
		if m, _ := x.(map[string]any); m["type"] == "Accepted" {
			return m["status"] == "True"
		}
	}
	return false
}

// A serverPort is what Gateways say of one of their ports.
type serverPort struct {
	tls  bool
	tcp  bool   // and nothing else
	host string // one that it takes, "" if it takes every one
}

// servers are the ports of Gateways, of both kinds.
func (s *state) servers(ctx context.Context) map[uint16]serverPort {
	out := map[uint16]serverPort{}
	add := func(number int64, protocol string, hosts []string) {
		was, known := out[uint16(number)]
		now := serverPort{tls: protocol == "HTTPS" || protocol == "TLS", tcp: protocol == "TCP" || protocol == "MONGO", host: oneHost(hosts)}
		if known {
			now.tls, now.tcp = now.tls || was.tls, now.tcp && was.tcp
			if was.host == "" {
				now.host = ""
			}
		}
		out[uint16(number)] = now
	}
	if list, err := s.dynamic.Resource(istioGateways).List(ctx, metav1.ListOptions{}); err == nil {
		for _, g := range list.Items {
			servers, _, _ := unstructured.NestedSlice(g.Object, "spec", "servers")
			for _, one := range servers {
				one, _ := one.(map[string]any)
				number, _, _ := unstructured.NestedInt64(one, "port", "number")
				protocol, _, _ := unstructured.NestedString(one, "port", "protocol")
				hosts, _, _ := unstructured.NestedStringSlice(one, "hosts")
				add(number, strings.ToUpper(protocol), hosts)
			}
		}
	}
	if list, err := s.dynamic.Resource(standardGateways).List(ctx, metav1.ListOptions{}); err == nil {
		for _, g := range list.Items {
			listeners, _, _ := unstructured.NestedSlice(g.Object, "spec", "listeners")
			for _, one := range listeners {
				one, _ := one.(map[string]any)
				number, _, _ := unstructured.NestedInt64(one, "port")
				protocol, _, _ := unstructured.NestedString(one, "protocol")
				host, _, _ := unstructured.NestedString(one, "hostname")
				add(number, protocol, slices.DeleteFunc([]string{host}, func(h string) bool { return h == "" }))
			}
		}
	}
	return out
}

// A servicePort is one of NAMESPACE/NAME.
type servicePort struct {
	service string
	port    uint16
}

// schemes are those of the ports of Services that say of themselves that they do not speak HTTP in plain text.
func (s *state) schemes(ctx context.Context) map[servicePort]string {
	list, err := s.dynamic.Resource(services).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	out := map[servicePort]string{}
	for _, o := range list.Items {
		ports, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
		for _, p := range ports {
			port, _ := p.(map[string]any)
			name, _, _ := unstructured.NestedString(port, "name")
			protocol, _, _ := unstructured.NestedString(port, "appProtocol")
			number, _, _ := unstructured.NestedInt64(port, "port")
			if protocol == "" {
				protocol, _, _ = strings.Cut(name, "-")
			}
			at := servicePort{o.GetNamespace() + "/" + o.GetName(), uint16(number)}
			switch protocol {
			case "https", "tls":
				out[at] = "https"
			case "tcp", "mysql", "redis", "mongo":
				out[at] = "tcp"
			}
		}
	}
	return out
}
