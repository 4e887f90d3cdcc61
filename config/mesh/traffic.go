package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/model"
)

var normalizations = map[meshv1alpha1.MeshConfig_ProxyPathNormalization_NormalizationType]model.PathNormalization{
	meshv1alpha1.MeshConfig_ProxyPathNormalization_NONE:                     model.NormalizeNone,
	meshv1alpha1.MeshConfig_ProxyPathNormalization_MERGE_SLASHES:            model.MergeSlashes,
	meshv1alpha1.MeshConfig_ProxyPathNormalization_DECODE_AND_MERGE_SLASHES: model.DecodeAndMerge,
}

// traffic reads how requests and connections are treated that no rule of a service speaks of.
func (r *reader) traffic(m *meshv1alpha1.MeshConfig, out *model.MeshConfig) {
	if r.has("pathNormalization") {
		out.Paths = normalizations[m.GetPathNormalization().GetNormalization()]
	}
	if r.has("meshMTLS") {
		out.MeshTLS = r.tls(m.GetMeshMTLS(), "meshMTLS")
	}
	if r.has("tlsDefaults") {
		out.OtherTLS = r.tls(m.GetTlsDefaults(), "tlsDefaults")
	}
	if v := m.GetVerifyCertificateAtClient(); v != nil {
		out.TrustUnnamed = !v.GetValue()
	}
	r.statName(m.GetInboundClusterStatName(), &out.InboundStats, "inboundClusterStatName")
	r.statName(m.GetOutboundClusterStatName(), &out.OutboundStats, "outboundClusterStatName")
	if r.has("serviceSettings") {
		out.ClusterLocal = nil
		for _, s := range m.GetServiceSettings() {
			out.ClusterLocal = append(out.ClusterLocal, model.ClusterLocal{Hosts: s.GetHosts(), Local: s.GetSettings().GetClusterLocal()})
		}
	}
	if r.has("discoverySelectors") {
		out.Discovery = r.selectors(m.GetDiscoverySelectors(), "discoverySelectors")
	}
	if e := m.GetServiceEntryVisibility(); e != nil {
		out.Entries = r.visibility(e)
	}
	if r.has("proxyHttpPort") {
		if n := m.GetProxyHttpPort(); n < 0 || n > 65535 {
			r.errorf("found %d, want a port, or 0 for none", []any{n}, "proxyHttpPort")
		} else {
			out.HTTPProxyPort = uint16(n)
		}
	}
	r.port(m.GetProxyInboundListenPort(), &out.InboundPort, "proxyInboundListenPort")
	if r.port(m.GetProxyListenPort(), &out.OutboundPort, "proxyListenPort"); out.OutboundPort == out.InboundPort {
		r.errorf("found %d, which is proxyInboundListenPort; want another port", []any{out.OutboundPort}, "proxyListenPort")
		out.OutboundPort = model.DefaultMeshConfig().OutboundPort
	}
	r.ingress(m, &out.Ingress)
}

// port reads a port of all proxies on which these have nothing else.
func (r *reader) port(n int32, to *uint16, name string) {
	switch {
	case !r.has(name):
	case n < 1 || n > 65535 || slices.Contains(model.ProxyPorts, uint16(n)):
		r.errorf("found %d, want a port that is none of the proxies' own (%v)", []any{n, model.ProxyPorts}, name)
	default:
		*to = uint16(n)
	}
}

// Ciphers and curves as Envoy's proxies know them.
var (
	ciphers = []string{
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
		"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA",
		"ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA",
	}
	curves = []string{"P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"}
)

func (r *reader) tls(t *meshv1alpha1.MeshConfig_TLSConfig, name string) model.TLSRange {
	known := func(list, of []string, field string) []string {
		var out []string
		for _, v := range list {
			switch {
			case !slices.Contains(of, v):
				r.errorf("found %q, want one of %s", []any{v, strings.Join(of, ", ")}, name, field)
			case !slices.Contains(out, v):
				out = append(out, v)
			}
		}
		return out
	}
	return model.TLSRange{
		OnlyTLS13: t.GetMinProtocolVersion() == meshv1alpha1.MeshConfig_TLSConfig_TLSV1_3,
		Ciphers:   known(t.GetCipherSuites(), ciphers, "cipherSuites"),
		Curves:    known(t.GetEcdhCurves(), curves, "ecdhCurves"),
	}
}

// StatNames are the words in names of clusters' statistics that stand for something.
var StatNames = []string{"%SERVICE%", "%SERVICE_FQDN%", "%SERVICE_PORT%", "%SERVICE_PORT_NAME%", "%SUBSET_NAME%", "%TARGET_PORT%"}

func (r *reader) statName(v string, to *string, name string) {
	if v == "" {
		return
	}
	rest := v
	for _, w := range StatNames {
		rest = strings.ReplaceAll(rest, w, "")
	}
	if strings.Contains(rest, "%") {
		r.errorf("found %q, want a text with words such as %s", []any{v, strings.Join(StatNames, ", ")}, name)
		return
	}
	*to = v
}

// selectors leaves out those that are wrong. If all are, what is left selects nothing.
func (r *reader) selectors(list []*meshv1alpha1.LabelSelector, names ...string) []model.LabelSelector {
	var out []model.LabelSelector
	for i, s := range list {
		x := model.LabelSelector{Labels: s.GetMatchLabels()}
		for _, e := range s.GetMatchExpressions() {
			x.Rules = append(x.Rules, model.LabelRule{Key: e.GetKey(), Operator: e.GetOperator(), Values: e.GetValues()})
		}
		if why := badSelector(x); why != "" {
			r.errorf("%s", []any{fmt.Sprintf("element %d: %s", i, why)}, names...)
			continue
		}
		out = append(out, x)
	}
	if len(out) == 0 && len(list) > 0 { // no selector is every namespace, which nobody has said
		return []model.LabelSelector{{Rules: []model.LabelRule{{Operator: "In"}}}}
	}
	return out
}

func badSelector(s model.LabelSelector) string {
	for _, key := range slices.Sorted(maps.Keys(s.Labels)) {
		value := s.Labels[key]
		if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			return fmt.Sprintf("found %s=%s, want a label", key, value)
		}
	}
	for _, r := range s.Rules {
		values := r.Operator == "In" || r.Operator == "NotIn"
		switch {
		case len(validation.IsQualifiedName(r.Key)) > 0:
			return fmt.Sprintf("found the key %q, want that of a label", r.Key)
		case !values && r.Operator != "Exists" && r.Operator != "DoesNotExist":
			return fmt.Sprintf("found the operator %q, want In, NotIn, Exists or DoesNotExist", r.Operator)
		case values != (len(r.Values) > 0):
			return fmt.Sprintf("%s with %d values: In and NotIn have some, the others none", r.Operator, len(r.Values))
		}
	}
	return ""
}

var certDetails = map[meshv1alpha1.ForwardClientCertDetails]model.ClientCertDetails{
	meshv1alpha1.ForwardClientCertDetails_SANITIZE:            model.CertSanitize,
	meshv1alpha1.ForwardClientCertDetails_FORWARD_ONLY:        model.CertForwardOnly,
	meshv1alpha1.ForwardClientCertDetails_APPEND_FORWARD:      model.CertAppendForward,
	meshv1alpha1.ForwardClientCertDetails_SANITIZE_SET:        model.CertSanitizeSet,
	meshv1alpha1.ForwardClientCertDetails_ALWAYS_FORWARD_ONLY: model.CertAlwaysForward,
}

// Topology returns what Istio's settings say.
func Topology(t *meshv1alpha1.Topology) model.Topology {
	return model.Topology{
		TrustedProxies: t.GetNumTrustedProxies(), ClientCert: certDetails[t.GetForwardClientCertDetails()], ProxyProtocol: t.GetProxyProtocol() != nil,
	}
}
