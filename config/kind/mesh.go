package kind

// whyTelemetry is the reason of what says where proxies send what they observe.
const whyTelemetry = "about what is observed, not about traffic: proxies log and are scraped; sending it elsewhere comes with Telemetry, which is " + whyNotYet

// MeshFields classifies the fields of MeshConfig, which is not a kind but the text
// under the key mesh of the ConfigMap istio or malla in the root namespace.
//
// Whatever of it decides where requests go, and how, has its effect. What is refused is about something else, and its
// reason says what: what is observed, who vouches for whom, where configuration comes from. To accept those would be to
// promise a log that nobody gets, or an authority that has signed nothing.
var MeshFields = join(
	only(ref("hosts that nobody declared are not of the mesh; want SIMPLE or MUTUAL", "outboundTrafficPolicy.tls.mode"), "ISTIO_MUTUAL"),
	ign("Istio does not heed it any more; use consecutive5xxErrors or consecutiveGatewayErrors", "defaultTrafficPolicy.outlierDetection.consecutiveErrors"),
	ign("traces are not sent yet", "enableTracing", "defaultConfig.tracing", "defaultConfig.zipkinAddress", "defaultConfig.tracingServiceName"),
	ign("providers take effect through Telemetry, which is not supported yet", "extensionProviders"),
	ign("Istio's standard metrics are always there", "defaultProviders.metrics"),
	ref(whyTelemetry, "defaultProviders.tracing", "defaultProviders.accessLogging", "enableEnvoyAccessLogService"),
	ign("ambient mode is not there", "hboneIdleTimeout"),
	ign("the log of listeners is off", "disableEnvoyListenerLog"),
	only(ref("about where configuration comes from, not about traffic: the control plane reads its API server, which `malla up DIR` and `malla apply -f` bring files to; other sources are not supported", "configSources[].address"), "!k8s://"),
	ref("only of other sources than k8s://, which are not supported", "configSources[].tlsSettings", "configSources[].subscribedResources"),
	ref("about who vouches for whom, not about traffic: the control plane signs, with the key of the Secret cacerts or its own; others that sign are "+whyNotYet, "ca"),
	ref("about who vouches for whom, not about traffic: trust is what is written here (pem); fetching it from elsewhere is "+whyNotYet, "caCertificates[].spiffeBundleUrl"),
	ign("Istio does not heed it either: who is trusted may speak for every trust domain that is", "caCertificates[].trustDomains"),
	ign("no signer of Kubernetes signs here; whom it would vouch for is trusted all the same", "caCertificates[].certSigners"),
	ref("Istio does not make them any more; the control plane has a certificate of its own", "certificates"),
	ign("ambient mode is not there", "serviceScopeConfigs"),
	below(join(
		ign("files and programs of Envoy are not used", "configPath", "binaryPath", "customConfigFile", "proxyBootstrapTemplatePath", "image"),
		ign("it has no effect in Istio either", "discoveryRefreshDelay", "statNameLength", "serviceCluster", "availabilityZone", "sds", "envoyMetricsServiceAddress"),
		only(ref("proxies and the control plane always use mutual TLS", "controlPlaneAuthPolicy"), "NONE"),
		ign("proxies and the control plane always use mutual TLS", "controlPlaneAuthPolicy"),
		ign("applications start when their proxies are ready, and end before them, as beside Istio's native sidecars", "holdApplicationUntilProxyStarts"),
		ign("access logs are written at once", "fileFlushInterval", "fileFlushMinSizeKb"),
		ign("metrics are sent as they are", "statsCompression"),
		ign("what proxies say of themselves never leaves the mesh", "proxyHeaders.metadataExchangeHeaders"),
		ign("labels of metrics need not be named before they are used", "extraStatTags"),
		ref(whyTelemetry, "envoyAccessLogService", "envoyMetricsService", "statsdUdpAddress"),
		ref("about how keys are worked with, not about traffic: the proxy does it itself, and drives no cryptographic hardware", "privateKeyProvider"),
	), "defaultConfig"),
)

// NetworksFields classifies the fields of MeshNetworks, which stand as text under the key meshNetworks of the same ConfigMap.
var NetworksFields = join(
	ign("Istio does not heed it either: a gateway stands in the localities of the endpoints behind it", "networks{}.gateways[].locality"),
)
