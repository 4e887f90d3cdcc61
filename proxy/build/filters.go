package build

import (
	"math"
	"time"

	alpnv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/alpn/v3"
	istiostatsv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/istio_stats/v3"
	peerv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/peer_metadata/v3"
	exchangev3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/network/metadata_exchange/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/stream"
)

var filterFields = []*Message{
	message((*routerv3.Router)(nil), reads("suppress_envoy_headers", "respect_expected_rq_timeout"),
		ignores("statistics by response code are always kept", "dynamic_stats"),
		ignores("requests are not traced yet", "start_child_span"),
		only("strict_check_headers", "is not built yet", "[]")),
	message((*faultv3.HTTPFault)(nil), reads("delay", "abort", "headers", "upstream_cluster", "max_active_faults"),
		ignores(noRuntime, "delay_percent_runtime", "abort_percent_runtime", "delay_duration_runtime", "abort_http_status_runtime", "max_active_faults_runtime",
			"response_rate_limit_percent_runtime", "abort_grpc_status_runtime"),
		ignores("faults are not counted by downstream cluster", "disable_downstream_cluster_stats")),
	message((*commonfaultv3.FaultDelay)(nil), reads("fixed_delay", "percentage")),
	message((*faultv3.FaultAbort)(nil), reads("http_status", "percentage")),
	message((*corsv3.Cors)(nil)), // does nothing without a policy, and a policy is refused
	message((*grpcstatsv3.FilterConfig)(nil),
		ignores("no connection carries gRPC yet; Istio sends this filter always", "emit_filter_state", "individual_method_stats_allowlist", "stats_for_all_methods", "enable_upstream_stats", "replace_dots_in_grpc_service_name")),
	message((*alpnv3.FilterConfig)(nil),
		ignores("the cluster's own list counts; on ports of no declared protocol the other side takes HTTP as TCP", "alpn_override")),
	message((*istiostatsv3.PluginConfig)(nil), reads("disable_host_header_fallback", "tcp_reporting_duration", "reporter"),
		ignores("series are bounded in number and live as long as the proxy", "rotation_interval", "graceful_deletion_interval")),
	message((*peerv3.Config)(nil), reads("downstream_discovery", "upstream_discovery", "downstream_propagation", "upstream_propagation"),
		ignores("filters before and after see the same stream", "shared_with_upstream")),
	message((*peerv3.Config_DiscoveryMethod)(nil), reads("istio_headers"),
		ignores("peers say who they are themselves, or their endpoints do", "workload_discovery")),
	message((*peerv3.Config_PropagationMethod)(nil), reads("istio_headers")),
	message((*peerv3.Config_IstioHeaders)(nil), reads("skip_external_clusters")),
}

// httpFilters makes the filters of a connection manager, in order.
func (r *listenerReader) httpFilters(list []*hcmv3.HttpFilter, c *stream.Config, at *field.Path) {
	for i, f := range list {
		at := at.Index(i)
		last := i == len(list)-1
		m := r.unpack(f.GetTypedConfig(), at)
		_, isRouter := m.(*routerv3.Router)
		if isRouter != last && m != nil {
			r.errs.Addf(at, "found %s, want the router as the last filter and nowhere else", m.ProtoReflect().Descriptor().FullName())
			continue
		}
		r.httpFilter(f.GetName(), m, c, at.Child("typed_config"))
	}
	if len(list) == 0 {
		r.errs.Addf(at, "is empty, want at least the router")
	}
}

func (r *listenerReader) httpFilter(name string, m proto.Message, c *stream.Config, at *field.Path) {
}

// networkFilter reads a filter that comes before the one that takes the connection.
func (r *listenerReader) networkFilter(m proto.Message, at *field.Path) {
}

// filterOverride reads what a route says to a filter.
func (r *reader) filterOverride(a *anypb.Any, at *field.Path) any {
	return nil
}

type istioMetrics struct{ every time.Duration }

func (*istioMetrics) Log(int, *access.Record) {}

var _ = []any{math.Pi, (*exchangev3.MetadataExchange)(nil)}
