package xds

import (
	"fmt"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

// StockProfile is the value of node metadata MALLA_PROFILE with which a real
// Envoy says that it lacks Istio's own filters.
const StockProfile = "stock"

// ParseNode reads what a proxy says of itself, in Istio's form:
//
//	sidecar~10.244.0.7~reviews-v1-abc.default~default.svc.cluster.local
//
// and holds it against who it has proved to be: a proxy may see the
// configuration of its own namespace only. Nobody (a loopback connection in
// plain text) is believed.
func ParseNode(node *corev3.Node, caller pki.ID) (*model.Proxy, error) {
	parts := strings.Split(node.GetId(), "~")
	if len(parts) != 4 {
		return nil, fmt.Errorf("want an id of the form <type>~<address>~<pod>.<namespace>~<dns domain>")
	}
	p := &model.Proxy{ID: node.GetId(), Type: model.ProxyType(parts[0]), Metadata: map[string]string{}, Labels: map[string]string{}}
	if p.Type != model.Sidecar && p.Type != model.Router {
		return nil, fmt.Errorf("proxy type %q is not served, want sidecar or router", parts[0])
	}
	name, namespace, ok := cutLast(parts[2], ".")
	if !ok || name == "" || namespace == "" {
		return nil, fmt.Errorf("want <pod>.<namespace>, found %q", parts[2])
	}
	p.Name, p.Namespace = name, namespace
	for key, value := range node.GetMetadata().GetFields() {
		if s, ok := value.GetKind().(*structpb.Value_StringValue); ok {
			p.Metadata[key] = s.StringValue
		}
	}
	for key, value := range node.GetMetadata().GetFields()["LABELS"].GetStructValue().GetFields() {
		p.Labels[key] = value.GetStringValue()
	}
	if ns := p.Metadata["NAMESPACE"]; ns != "" && ns != p.Namespace {
		return nil, fmt.Errorf("its id is of namespace %q, its metadata NAMESPACE is %q", p.Namespace, ns)
	}
	if text := node.GetMetadata().GetFields()["ANNOTATIONS"].GetStructValue().GetFields()[mesh.ProxyAnnotation].GetStringValue(); text != "" {
		p.Settings = mesh.Settings(text)
	}
	p.Locality = model.LocalityOf(p.Labels)
	if l := node.GetLocality(); p.Locality == "" && l.GetRegion() != "" {
		p.Locality = strings.TrimRight(l.GetRegion()+"/"+l.GetZone()+"/"+l.GetSubZone(), "/")
	}
	_, p.Probes = node.GetMetadata().GetFields()["PROXY_CONFIG"].GetStructValue().GetFields()["readinessProbe"]
	p.ServiceAccount = p.Metadata["SERVICE_ACCOUNT"]
	p.Stock = p.Metadata["MALLA_PROFILE"] == StockProfile
	addresses := parts[1]
	if all := p.Metadata["INSTANCE_IPS"]; all != "" {
		addresses = all
	}
	for _, text := range strings.Split(addresses, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("address %q: %w", text, err)
		}
		p.IPs = append(p.IPs, a.Unmap())
	}
	if caller.IsZero() {
		return p, nil
	}
	if caller.Namespace != p.Namespace {
		return nil, fmt.Errorf("its certificate is of %s, so it may not have the configuration of namespace %q", caller, p.Namespace)
	}
	p.TrustDomain, p.ServiceAccount, p.Proven = caller.TrustDomain, caller.Account, true
	return p, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
