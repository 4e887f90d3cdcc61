package gatewayapi

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/base/field"
)

// Names of our controllers: our own, and Istio's, whose GatewayClass existing manifests bring along.
const (
	Controller      = "malla.dev/gateway-controller"
	istioController = "istio.io/gateway-controller"
)

// Controllers returns the names by which our entries in the statuses of routes and policies are known. Istio's is
// among them only where there is no istiod that would have it.
func Controllers(asIstio bool) []string {
	if asIstio {
		return []string{Controller, istioController}
	}
	return []string{Controller}
}

// Classes returns the GatewayClasses that are to be there, and what our controller is called in each. Whose a class is
// its controllerName says, and to make one that is not there is to claim it: of two who try the API server lets one.
// Istiod keeps to that, too.
func Classes(asIstio bool) map[string]string {
	names := Controllers(asIstio)
	return map[string]string{"malla": Controller, "istio": names[len(names)-1]}
}

// classes finds the classes that are ours. Where there is nobody else they are so before they are there.
func (c *compiler) classes() {
	c.controllers, c.classPatches = make(map[string]string), make(map[string]map[string]string)
	if c.env.AsIstio {
		c.controllers = Classes(true)
	}
	for _, o := range c.objects.Classes {
		class := o.Value.(*gatewayv1.GatewayClass)
		controller := string(class.Spec.ControllerName)
		if !slices.Contains(Controllers(c.env.AsIstio), controller) {
			delete(c.controllers, o.Name)
			continue
		}
		c.controllers[o.Name] = controller
		is := conditionsOf(o)
		if p := class.Spec.ParametersRef; p != nil {
			patches, wrong := c.parameters(o, field.At("spec", "parametersRef"), *p)
			if wrong != "" {
				delete(c.controllers, o.Name)
				is.fail("Accepted", "InvalidParameters", "%s", wrong)
			}
			c.classPatches[o.Name] = patches
		}
		if !is.bad("Accepted") {
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
	"GatewayHTTPListenerIsolation", "GatewayHTTPSListenerDetectMisdirectedRequests", "GatewayInfrastructurePropagation", "GatewayPort8080", "GatewayStaticAddresses",
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
