package inject

import (
	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/model"
)

// By returns o with what is said of the mesh's pods: in MeshConfig, as it was written, and by the objects of Istio's kind
// ProxyConfig. What is wrong in either was told when it was written, and is left out.
func (o Options) By(meshConfig string, objects []*networkingv1beta1.ProxyConfig) (Options, error) {
	settings, _, _ := mesh.Parse(meshConfig, model.DefaultMeshConfig(), nil)
	var c struct {
		DefaultConfig map[string]any `json:"defaultConfig"`
	}
	err := yaml.Unmarshal([]byte(meshConfig), &c)
	o.TrustDomain, o.OutboundPort, o.InboundPort = settings.TrustDomain, settings.OutboundPort, settings.InboundPort
	o.OwnMetricsOnly = !settings.EnablePrometheusMerge
	o.Proxies = mesh.Proxies{Root: settings.RootNamespace, Default: c.DefaultConfig, Objects: objects}
	return o, err
}
