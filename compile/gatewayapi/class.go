package gatewayapi

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Names of our controllers: our own, and Istio's, whose GatewayClass existing manifests bring along.
const (
	Controller      = "malla.dev/gateway-controller"
	istioController = "istio.io/gateway-controller"
)

// Controllers returns the names by which our entries in the statuses of routes and policies are known.
func Controllers() []string { return []string{Controller, istioController} }

// builtin are the classes that are ours without a GatewayClass, and what our controller is called there.
var builtin = map[string]string{"malla": Controller, "istio": istioController}

// classes finds the classes that are ours. One of a builtin name that another controller has is not.
func (c *compiler) classes() {
	c.controllers = make(map[string]string)
	for name, controller := range builtin {
		c.controllers[name] = controller
	}
	for _, o := range c.objects.Classes {
		class := o.Value.(*gatewayv1.GatewayClass)
		controller := string(class.Spec.ControllerName)
		if !slices.Contains(Controllers(), controller) {
			delete(c.controllers, o.Name)
			continue
		}
		c.controllers[o.Name] = controller
		is := conditionsOf(o)
		if p := class.Spec.ParametersRef; p != nil {
			delete(c.controllers, o.Name)
			is.set("Accepted", false, "InvalidParameters", "spec.parametersRef: %s %s: a GatewayClass has no parameters here; leave it out", p.Kind, p.Name)
		} else {
			is.set("Accepted", true, "Accepted", "its Gateways are served by %s", controller)
		}
		is.set("SupportedVersion", true, "SupportedVersion", "the kinds are those of version 1.6")
		c.out.Status[refOf(o)] = &gatewayv1.GatewayClassStatus{Conditions: is.list, SupportedFeatures: supported}
	}
}

// supported are the names of the standard's features that there are here, sorted, as its conformance suite reads
// them.
var supported = features(
	"BackendTLSPolicy", "BackendTLSPolicySANValidation", "GRPCRoute", "GRPCRouteNamedRouteRule", "Gateway", "GatewayAddressEmpty",
	"GatewayBackendClientCertificate", "GatewayFrontendClientCertificateValidation", "GatewayFrontendClientCertificateValidationInsecureFallback",
	"GatewayHTTPListenerIsolation", "GatewayHTTPSListenerDetectMisdirectedRequests", "GatewayInfrastructurePropagation", "GatewayPort8080",
	"HTTPRoute", "HTTPRoute303RedirectStatusCode", "HTTPRoute307RedirectStatusCode", "HTTPRoute308RedirectStatusCode",
	"HTTPRouteBackendProtocolH2C", "HTTPRouteBackendProtocolWebSocket", "HTTPRouteBackendRequestHeaderModification", "HTTPRouteBackendTimeout",
	"HTTPRouteCORS", "HTTPRouteDestinationPortMatching", "HTTPRouteHostRewrite", "HTTPRouteMethodMatching", "HTTPRouteNamedRouteRule",
	"HTTPRouteParentRefPort", "HTTPRoutePathRedirect", "HTTPRoutePathRewrite", "HTTPRoutePortRedirect", "HTTPRouteQueryParamMatching",
	"HTTPRouteRequestMirror", "HTTPRouteRequestMultipleMirrors", "HTTPRouteRequestPercentageMirror", "HTTPRouteRequestTimeout",
	"HTTPRouteResponseHeaderModification", "HTTPRouteRetry", "HTTPRouteRetryBackendTimeout", "HTTPRouteRetryConnectionError", "HTTPRouteSchemeRedirect",
	"ListenerSet", "Mesh", "MeshConsumerRoute", "MeshHTTPRouteBackendRequestHeaderModification", "MeshHTTPRouteNamedRouteRule",
	"MeshHTTPRouteQueryParamMatching", "MeshHTTPRouteRedirectPath", "MeshHTTPRouteRedirectPort", "MeshHTTPRouteRewritePath",
	"MeshHTTPRouteSchemeRedirect", "ReferenceGrant", "TCPRoute", "TLSRoute", "TLSRouteModeMixed", "TLSRouteModeTerminate",
)

func features(names ...gatewayv1.FeatureName) []gatewayv1.SupportedFeature {
	var out []gatewayv1.SupportedFeature
	for _, n := range names {
		out = append(out, gatewayv1.SupportedFeature{Name: n})
	}
	return out
}
