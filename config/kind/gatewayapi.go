package kind

import (
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// GatewayAPI is the group of Gateway API, and APIGateway is the key of its kind Gateway:
// Istio's had the name first.
const (
	GatewayAPI = "gateway.networking.k8s.io"
	APIGateway = "Gateway." + GatewayAPI
)

// gatewayAPI are the kinds of Gateway API. Their types are those of version v1; the
// others, older ones of the experimental channel among them, have the same fields.
var gatewayAPI = ofGatewayAPI(
	&Kind{Kind: "GatewayClass", Plural: "gatewayclasses", Short: []string{"gc"}, Versions: []string{"v1", "v1beta1"},
		Columns: []Column{
			{Name: "Controller", Type: "string", JSONPath: ".spec.controllerName"},
			condition("Accepted"),
			{Name: "Description", Type: "string", JSONPath: ".spec.description", Priority: 1},
		},
		New: func() runtime.Object { return new(gatewayv1.GatewayClass) }},
	&Kind{Kind: "Gateway", key: APIGateway, Plural: "gateways", Short: []string{"gtw"}, Versions: []string{"v1", "v1beta1"}, Namespaced: true,
		Columns: []Column{
			{Name: "Class", Type: "string", JSONPath: ".spec.gatewayClassName"},
			{Name: "Address", Type: "string", JSONPath: ".status.addresses[*].value"},
			condition("Programmed"),
		},
		Fields: []Field{
			{Path: "spec.listeners[].protocol", Class: Unmet, Values: []string{"UDP"}, Why: "UDP is not carried"},
		},
		New: func() runtime.Object { return new(gatewayv1.Gateway) }},
	&Kind{Kind: "HTTPRoute", Plural: "httproutes", Versions: []string{"v1", "v1beta1"}, Namespaced: true,
		Columns: hostnames,
		Fields:  unmetFilters("externalAuth", "extensionRef"),
		New:     func() runtime.Object { return new(gatewayv1.HTTPRoute) }},
	&Kind{Kind: "GRPCRoute", Plural: "grpcroutes", Versions: []string{"v1"}, Namespaced: true,
		Columns: hostnames,
		Fields:  unmetFilters("extensionRef"),
		New:     func() runtime.Object { return new(gatewayv1.GRPCRoute) }},
	&Kind{Kind: "TLSRoute", Plural: "tlsroutes", Versions: []string{"v1", "v1alpha3", "v1alpha2"}, Namespaced: true,
		New: func() runtime.Object { return new(gatewayv1.TLSRoute) }},
	&Kind{Kind: "TCPRoute", Plural: "tcproutes", Versions: []string{"v1", "v1alpha2"}, Namespaced: true,
		New: func() runtime.Object { return new(gatewayv1.TCPRoute) }},
	&Kind{Kind: "UDPRoute", Class: Unmet, Why: "UDP is not carried", Plural: "udproutes", Versions: []string{"v1", "v1alpha2"}, Namespaced: true,
		Fields: []Field{{Path: "spec.rules", Class: Unmet, Why: "UDP is not carried, and the route is not accepted"}},
		New:    func() runtime.Object { return new(gatewayv1.UDPRoute) }},
	&Kind{Kind: "ReferenceGrant", Plural: "referencegrants", Short: []string{"refgrant"}, Versions: []string{"v1", "v1beta1"}, Namespaced: true,
		New: func() runtime.Object { return new(gatewayv1.ReferenceGrant) }},
	&Kind{Kind: "BackendTLSPolicy", Plural: "backendtlspolicies", Short: []string{"btlspolicy"}, Versions: []string{"v1", "v1alpha3"}, Namespaced: true,
		Fields: []Field{{Path: "spec.options", Class: Ignored, Why: "options are those of other implementations; none is known here, nor in Istio"}},
		New:    func() runtime.Object { return new(gatewayv1.BackendTLSPolicy) }},
	&Kind{Kind: "ListenerSet", Plural: "listenersets", Short: []string{"lset"}, Versions: []string{"v1"}, Namespaced: true,
		Columns: []Column{condition("Accepted"), condition("Programmed")},
		New:     func() runtime.Object { return new(gatewayv1.ListenerSet) }},
)

var hostnames = []Column{{Name: "Hostnames", Type: "string", JSONPath: ".spec.hostnames"}}

// unmetFilters are filters that routes cannot have. The standard forbids to leave them out.
func unmetFilters(names ...string) []Field {
	var out []Field
	for _, of := range []string{"spec.rules[].filters[].", "spec.rules[].backendRefs[].filters[]."} {
		for _, name := range names {
			out = append(out, Field{Path: of + name, Class: Unmet, Why: "there is no such filter, and requests for the rule are answered by 500"})
		}
	}
	return out
}

// condition is a column with what a condition of the status says.
func condition(name string) Column {
	return Column{Name: name, Type: "string", JSONPath: `.status.conditions[?(@.type=="` + name + `")].status`}
}

// ofGatewayAPI completes rows with what they share.
func ofGatewayAPI(rows ...*Kind) []*Kind {
	for _, k := range rows {
		k.Group, k.Categories = GatewayAPI, []string{"gateway-api"}
		if k.Kind != "ReferenceGrant" {
			k.Subresources = []string{"status"}
		}
	}
	return rows
}
