package kind

var virtualServiceFields = join(
	ref("Istio never implemented it; use fixedDelay", "spec.http[].fault.delay.exponentialDelay"),
	ref("Istio never implemented it; use httpStatus or grpcStatus", "spec.http[].fault.abort.http2Error"),
	ref("Istio never implemented it; use sourceLabels", "spec.tcp[].match[].sourceSubnet"),
)

// policyFields are the rows of a traffic policy and of one for a port.
var policyFields = join(
	ign("Istio does not heed it any more; use consecutive5xxErrors or consecutiveGatewayErrors", "outlierDetection.consecutiveErrors"),
)

func destinationRuleFields() []Field {
	all := join(
		policyFields,
		below(policyFields, "portLevelSettings[]"),
	)
	return below(all, "spec.trafficPolicy", "spec.subsets[].trafficPolicy")
}

var gatewayFields = join(
	ref("Istio never implemented it; use a route", "spec.servers[].defaultEndpoint"),
	ign("it has no effect in Istio either", "spec.servers[].port.targetPort"),
)

var sidecarFields = join(
	ign("it has no effect in Istio either", "spec.egress[].port.targetPort", "spec.ingress[].port.targetPort"),
	ign("requests come to the application as they are; it has no effect in Istio either", "spec.inboundConnectionPool.http.h2UpgradePolicy", "spec.ingress[].connectionPool.http.h2UpgradePolicy"),
	only(ref("Istio has it for the whole mesh only (MeshConfig); use ALLOW_ANY or REGISTRY_ONLY", "spec.outboundTrafficPolicy.mode"), "ALLOW_ANY_DYNAMIC_DNS"),
)
