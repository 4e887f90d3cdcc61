package conformance

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/apis/v1alpha2"
	"sigs.k8s.io/gateway-api/apis/v1alpha3"
	"sigs.k8s.io/gateway-api/apis/v1beta1"
	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Environment of the pod in which the suite runs.
const (
	envToken = "MALLA_CONFORMANCE_TOKEN" // the API's administrator's; without it there is no suite to run
	envOnly  = "MALLA_CONFORMANCE_ONLY"  // one test's name
)

// mesh are the features of the mesh's side that are supported beside the core.
var mesh = []features.FeatureName{
	features.SupportMeshConsumerRoute, features.SupportMeshHTTPRouteRewritePath, features.SupportMeshHTTPRouteSchemeRedirect,
	features.SupportMeshHTTPRouteRedirectPort, features.SupportMeshHTTPRouteRedirectPath, features.SupportMeshHTTPRouteBackendRequestHeaderModification,
	features.SupportMeshHTTPRouteQueryParamMatching, features.SupportMeshHTTPRouteNamedRouteRule,
}

// servedAt is a Service that has gateways behind it, as the suite's own Gateway same-namespace has been given one. A Gateway may ask to be
// served there.
const servedAt = "same-namespace-malla.gateway-conformance-infra.svc.cluster.local"

// TestSuite is the suite itself. It runs in a pod of the mesh.
func TestSuite(t *testing.T) {
	token := os.Getenv(envToken)
	if token == "" {
		t.Skip("runs in a mesh; see TestMesh")
	}
	log.SetLogger(zap.New(zap.WriteTo(os.Stderr)))
	cfg := &rest.Config{
		Host: "https://" + os.Getenv("KUBERNETES_SERVICE_HOST") + ":" + os.Getenv("KUBERNETES_SERVICE_PORT"), BearerToken: token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAFile: "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"},
	}
	c, err := client.New(cfg, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, add := range []func() error{
		func() error { return gatewayv1.Install(c.Scheme()) }, func() error { return v1beta1.Install(c.Scheme()) },
		func() error { return v1alpha2.Install(c.Scheme()) }, func() error { return v1alpha3.Install(c.Scheme()) },
		func() error { return apiextensionsv1.AddToScheme(c.Scheme()) },
	} {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	supported := append(classFeatures(t, c), mesh...)
	times := config.DefaultTimeoutConfig()
	// A mesh on one machine is told of a change within a second; who is not there then does not come.
	times.MaxTimeToConsistency, times.GatewayMustHaveAddress, times.GatewayMustHaveCondition, times.RouteMustHaveParents = 12*time.Second, 20*time.Second, 12*time.Second, 12*time.Second
	times.HTTPRouteMustHaveCondition, times.TLSRouteMustHaveCondition, times.GatewayStatusMustHaveListeners, times.GatewayListenersMustHaveConditions = 12*time.Second, 12*time.Second, 12*time.Second, 12*time.Second
	times.NamespacesMustBeReady, times.LatestObservedGenerationSet = 120*time.Second, 12*time.Second
	s, err := suite.NewConformanceTestSuite(suite.ConformanceOptions{
		ConfigurableOptions: suite.ConfigurableOptions{
			GatewayClassName: "malla", SupportedFeatures: supported, AllowCRDsMismatch: true, RunTest: os.Getenv(envOnly),
			CleanupBaseResources: false, CleanupTestResources: true, TimeoutConfig: times,
			UsableNetworkAddresses:   []gatewayv1.GatewaySpecAddress{{Type: new(gatewayv1.HostnameAddressType), Value: servedAt}},
			UnusableNetworkAddresses: []gatewayv1.GatewaySpecAddress{{Type: new(gatewayv1.HostnameAddressType), Value: "nowhere.gateway-conformance-infra.svc.cluster.local"}},
			NamespaceLabels:          map[string]string{"istio-injection": "enabled"},
			ConformanceProfiles: []suite.ConformanceProfileName{
				suite.GatewayHTTPConformanceProfileName, suite.GatewayGRPCConformanceProfileName, suite.GatewayTLSConformanceProfileName,
				suite.GatewayTCPConformanceProfileName, suite.MeshHTTPConformanceProfileName, suite.MeshGRPCConformanceProfileName,
			},
		},
		Client: c, Clientset: clients, RestConfig: cfg, ManifestFS: []fs.FS{&conformance.Manifests},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Setup(t, tests.ConformanceTests)
	if err := s.Run(t, tests.ConformanceTests); err != nil {
		t.Error(err)
	}
}

// classFeatures are those that the GatewayClass says it supports.
func classFeatures(t *testing.T, c client.Client) []features.FeatureName {
	class := &gatewayv1.GatewayClass{}
	until(10*time.Second, 200*time.Millisecond, func() bool { // the mesh has just begun
		return c.Get(t.Context(), client.ObjectKey{Name: "malla"}, class) == nil && len(class.Status.SupportedFeatures) > 0
	})
	var out []features.FeatureName
	var names []string
	for _, f := range class.Status.SupportedFeatures {
		out = append(out, features.FeatureName(f.Name))
		names = append(names, string(f.Name))
	}
	fmt.Println("supported:", strings.Join(names, " "))
	return out
}
