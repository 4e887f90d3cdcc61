package kind

var envoyFilterFields = join(
	only(ign("proxies start before they ask; Istio's do not have it either unless BOOTSTRAP_XDS_AGENT is set", "spec.configPatches[].applyTo"), "BOOTSTRAP"),
	only(ref("waypoints are "+whyNotYet, "spec.configPatches[].match.context"), "WAYPOINT"),
	ref("waypoints are "+whyNotYet, "spec.configPatches[].match.waypoint"),
	ref("Istio never implemented it; use portNumber or name", "spec.configPatches[].match.listener.portName"),
	only(ref("policies for services are those of waypoints, which are "+whyNotYet, "spec.targetRefs[].kind"), "Service", "ServiceEntry"),
)
