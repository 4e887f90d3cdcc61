package translate

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/model"
)

// What follows stands in for Istio's filters in a real Envoy, which lacks them.

// offersAsClient is the key in a cluster's metadata that says: what its connections offer
// as their protocol depends on the request.
const offersAsClient = "alpn_as_client"

// offered is what a request's connection offers. A cluster whose HTTP is known says so itself;
// on others the request decides, as bytes on the same port offer what is for bytes.
const offered = `%CEL(xds.cluster_metadata.filter_metadata["istio"]["` + offersAsClient + `"] ? ` +
	`(request.protocol == "HTTP/2" ? "istio-h2,istio,h2" : "istio-http/1.1,istio,http/1.1") : "")%`

// stockALPN does for an Envoy what istio.alpn does: a server in the mesh tells by the offered protocols
// that a connection is HTTP, on ports that do not declare it.
func stockALPN() *hcmv3.HttpFilter {
	return httpFilter("malla.alpn", &statev3.Config{OnRequestHeaders: []*commonv3.FilterStateValue{{
		Key: &commonv3.FilterStateValue_ObjectKey{ObjectKey: "envoy.network.application_protocols"},
		Value: &commonv3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
			OmitEmptyValues: true, // without the key there is nothing to say, and the cluster's own list holds
			Format:          &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: offered}}},
		}},
		SharedWithUpstream: commonv3.FilterStateValue_ONCE, SkipIfEmpty: true,
	}}})
}

// offerAsClient marks a cluster for stockALPN.
func offerAsClient(v *model.View, c *clusterv3.Cluster, as version, t *model.ClientTLS) {
	if v.Proxy.Stock && as == asClient && (t == nil || t.Mode == model.TLSIstioMutual) {
		c.Metadata.FilterMetadata["istio"].Fields[offersAsClient] = structpb.NewBoolValue(true)
	}
}

// peerHeaders carry who a peer is, between proxies.
var peerHeaders = []string{"x-envoy-peer-metadata", "x-envoy-peer-metadata-id"}

// keepPeers keeps what other proxies say of themselves from an application behind an Envoy,
// where nobody else takes it out.
func keepPeers(v *model.View, table *routev3.RouteConfiguration) *routev3.RouteConfiguration {
	if v.Proxy.Stock {
		table.RequestHeadersToRemove = append(table.RequestHeadersToRemove, peerHeaders...)
	}
	return table
}
