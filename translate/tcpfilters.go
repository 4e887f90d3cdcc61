package translate

import (
	statsv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/istio_stats/v3"
	exchangev3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/network/metadata_exchange/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mallamesh/malla/model"
)

// peerExchange is the application protocol under which both ends of a TCP
// connection tell their workloads before their first byte.
const peerExchange = "istio-peer-exchange"

// tcpFilters puts what Istio has before the TCP proxy: both ends tell who they
// are, and the connection is counted by who talked to whom. A real Envoy has neither, and
// network filters cannot be optional; it must not agree on the protocol of the exchange then.
func tcpFilters(v *model.View, proxy *listenerv3.Filter) []*listenerv3.Filter {
	if v.Proxy.Stock {
		return []*listenerv3.Filter{proxy}
	}
	return []*listenerv3.Filter{
		networkFilter("istio.metadata_exchange", &exchangev3.MetadataExchange{Protocol: peerExchange}),
		networkFilter("istio.stats", &statsv3.PluginConfig{}),
		proxy,
	}
}

// tcpALPN is what a connection that carries TCP offers, or takes, besides others.
func tcpALPN(v *model.View, others []string) []string {
	if v.Proxy.Stock {
		return others
	}
	return append([]string{peerExchange}, others...)
}
