package translate

import (
	"cmp"
	"strconv"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/mallamesh/malla/model"
)

// setPaths says how paths are written before rules and applications see them.
func setPaths(m *hcmv3.HttpConnectionManager, how model.PathNormalization) {
	m.NormalizePath = boolean(how != model.NormalizeNone)
	switch how {
	case model.DecodeAndMerge:
		m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD
		m.MergeSlashes = true
	case model.MergeSlashes:
		m.MergeSlashes = true
	}
}

var certDetails = map[model.ClientCertDetails]hcmv3.HttpConnectionManager_ForwardClientCertDetails{
	model.CertDefault:       hcmv3.HttpConnectionManager_SANITIZE_SET,
	model.CertSanitize:      hcmv3.HttpConnectionManager_SANITIZE,
	model.CertForwardOnly:   hcmv3.HttpConnectionManager_FORWARD_ONLY,
	model.CertAppendForward: hcmv3.HttpConnectionManager_APPEND_FORWARD,
	model.CertSanitizeSet:   hcmv3.HttpConnectionManager_SANITIZE_SET,
	model.CertAlwaysForward: hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY,
}

// topology is what stands before the gateway, as its pod says, or else the mesh.
func topology(v *model.View) model.Topology {
	if t := v.Settings().Topology; t != nil {
		return *t
	}
	return model.Topology{}
}

// setTopology says whom a gateway believes about clients.
func setTopology(v *model.View, m *hcmv3.HttpConnectionManager) {
	t := topology(v)
	m.XffNumTrustedHops = t.TrustedProxies
	m.ForwardClientCertDetails = certDetails[t.ClientCert]
}

// fromBalancer reads what a load balancer before the gateway says of the client.
func fromBalancer(v *model.View) []*listenerv3.ListenerFilter {
	if !topology(v).ProxyProtocol {
		return nil
	}
	return []*listenerv3.ListenerFilter{listenerFilter("envoy.filters.listener.proxy_protocol", &proxyprotocolv3.ProxyProtocol{}, nil)}
}

// setStatName gives a cluster the name in statistics that the mesh's pattern makes.
func setStatName(c *clusterv3.Cluster, pattern string, name clusterName, s *model.Service, port model.Port) {
	if pattern == "" {
		return
	}
	short, _, _ := strings.Cut(s.Host, ".")
	service := short
	if s.Kubernetes {
		service = s.Name + "." + s.Namespace
	}
	target := port.Target.Name
	if n := port.Target.Number; n != 0 || target == "" {
		target = strconv.Itoa(int(cmp.Or(n, port.Number)))
	}
	c.AltStatName = strings.NewReplacer(
		"%SERVICE%", service, "%SERVICE_FQDN%", s.Host, "%SERVICE_PORT%", strconv.Itoa(int(port.Number)), "%SERVICE_PORT_NAME%", port.Name,
		"%SUBSET_NAME%", name.subset, "%TARGET_PORT%", target,
	).Replace(pattern) + ";"
}
