package build

import (
	"cmp"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/proxyproto"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/tcp"
)

var tcpFields = []*Message{
	message((*tcpv3.TcpProxy)(nil), reads("stat_prefix", "cluster", "weighted_clusters", "idle_timeout", "access_log", "max_connect_attempts", "max_downstream_connection_duration", "max_downstream_connection_duration_jitter_percentage",
		"access_log_flush_interval", "access_log_options", "flush_access_log_on_connected", "hash_policy", "metadata_match", "tunneling_config", "proxy_protocol_tlvs", "proxy_protocol_tlv_merge_policy", "upstream_connect_mode",
		"backoff_options", "check_drain_close"),
		refuses("Envoy 1.40 takes it and ends nobody for it; idle_timeout does that", "downstream_idle_timeout", "upstream_idle_timeout"),
		ignores("what comes early stays where it was read, up to the connection's own limit", "max_early_data_bytes")),
	message((*tcpv3.TcpProxy_TunnelingConfig)(nil), reads("hostname", "use_post", "post_path", "headers_to_add",
		"propagate_response_headers", "propagate_response_trailers", "request_id_extension", "request_id_header", "request_id_metadata_key", "formatters")),
	message((*tcpv3.TcpProxy_WeightedCluster)(nil), reads("clusters")),
	message((*tcpv3.TcpProxy_WeightedCluster_ClusterWeight)(nil), reads("name", "weight", "metadata_match")),
	message((*corev3.BackoffStrategy)(nil), reads("base_interval", "max_interval")),
	message((*tcpv3.TcpProxy_TcpAccessLogOptions)(nil), reads("access_log_flush_interval", "flush_access_log_on_connected", "flush_access_log_on_start")),
}

var tlvPolicies = map[tcpv3.ProxyProtocolTlvMergePolicy]proxyproto.Policy{
	tcpv3.ProxyProtocolTlvMergePolicy_ADD_IF_ABSENT:                      proxyproto.IfNone,
	tcpv3.ProxyProtocolTlvMergePolicy_OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD: proxyproto.Overwrite,
	tcpv3.ProxyProtocolTlvMergePolicy_APPEND_IF_EXISTS_OR_ADD:            proxyproto.Add,
}

// istioReport is how often Istio's TCP metrics are brought up to date.
const istioReport = 5 * time.Second

func (r *listenerReader) tcpProxy(m *tcpv3.TcpProxy, at *field.Path) *tcp.Config {
	c := &tcp.Config{
		StatPrefix: m.GetStatPrefix(), Cluster: m.GetCluster(),
		IdleTimeout: r.orDefault(m.GetIdleTimeout(), time.Hour, at.Child("idle_timeout")),
		MaxAge:      r.duration(m.GetMaxDownstreamConnectionDuration(), at.Child("max_downstream_connection_duration")),
		Attempts:    int(m.GetMaxConnectAttempts().GetValue()),
		FlushEvery:  r.duration(m.GetAccessLogOptions().GetAccessLogFlushInterval(), at.Child("access_log_options").Child("access_log_flush_interval")),
		Logs:        r.logs(m.GetAccessLog(), at.Child("access_log")),
	}
	c.AfterData = r.afterData(m, at)
	c.Backoff, c.DrainClose = r.backoff(m.GetBackoffOptions(), at.Child("backoff_options")), m.GetCheckDrainClose().GetValue()
	if j := m.GetMaxDownstreamConnectionDurationJitterPercentage(); j != nil {
		c.AgeJitter = j.GetValue() / 100
	}
	if d := m.GetAccessLogFlushInterval(); d != nil { //nolint:staticcheck // deprecated, still sent
		c.FlushEvery = r.duration(d, at.Child("access_log_flush_interval"))
	}
	c.FlushStart = m.GetAccessLogOptions().GetFlushAccessLogOnStart()
	c.FlushConnected = m.GetAccessLogOptions().GetFlushAccessLogOnConnected() || m.GetFlushAccessLogOnConnected() //nolint:staticcheck // deprecated, still sent
	c.HashSourceIP, c.HashState = r.tcpHash(m, at.Child("hash_policy"))
	c.Criteria = criteria(m.GetMetadataMatch())
	switch m.GetClusterSpecifier().(type) {
	case *tcpv3.TcpProxy_Cluster:
		r.needs.Clusters = append(r.needs.Clusters, c.Cluster)
	case *tcpv3.TcpProxy_WeightedClusters:
		for _, w := range m.GetWeightedClusters().GetClusters() {
			c.Weighted = append(c.Weighted, tcp.Weighted{Cluster: w.GetName(), Weight: w.GetWeight(), Criteria: c.Criteria.With(criteria(w.GetMetadataMatch()))})
			r.needs.Clusters = append(r.needs.Clusters, w.GetName())
		}
	default:
		r.errs.Addf(at, "names no cluster, want cluster or weighted_clusters")
	}
	c.TLVs, c.TLVPolicy = r.addedTLVs(m.GetProxyProtocolTlvs(), at.Child("proxy_protocol_tlvs")), tlvPolicies[m.GetProxyProtocolTlvMergePolicy()]
	c.Tunnel = r.tunnel(m.GetTunnelingConfig(), at.Child("tunneling_config"))
	counters, scope := r.env.Stats.TCP(c.StatPrefix)
	c.Stats, r.scopes = counters, append(r.scopes, scope)
	if r.tcpMetrics != nil {
		c.Metrics, c.Periodic = append(c.Metrics, r.tcpMetrics), istioReport
		if r.tcpMetrics.every > 0 {
			c.Periodic = r.tcpMetrics.every
		}
	}
	if r.exchange != nil {
		c.Exchange = r.exchange
	}
	c.Forward = r.forward
	return c
}

// backoff reads how long one waits between tries.
func (r *reader) backoff(m *corev3.BackoffStrategy, at *field.Path) route.Backoff {
	if m == nil {
		return route.Backoff{}
	}
	b := route.Backoff{Base: r.duration(m.GetBaseInterval(), at.Child("base_interval"))}
	if b.Max = r.orDefault(m.GetMaxInterval(), 10*b.Base, at.Child("max_interval")); b.Max < b.Base {
		r.errs.Addf(at.Child("max_interval"), "found %v, want at least base_interval, %v", b.Max, b.Base)
	}
	return b
}

// afterData reads whether a host is gone to when the client has sent something. After a handshake it is in any case: filters have connections
// from then on.
func (r *listenerReader) afterData(m *tcpv3.TcpProxy, at *field.Path) bool {
	mode := m.GetUpstreamConnectMode()
	if mode != tcpv3.UpstreamConnectMode_IMMEDIATE && m.GetMaxEarlyDataBytes() == nil {
		r.errs.Addf(at.Child("max_early_data_bytes"), "is not set, want it beside upstream_connect_mode %v", mode)
	}
	return mode == tcpv3.UpstreamConnectMode_ON_DOWNSTREAM_DATA
}

// tunnel reads how bytes are carried over a request, nil if they are not.
func (r *listenerReader) tunnel(m *tcpv3.TcpProxy_TunnelingConfig, at *field.Path) *tcp.Tunnel {
	if m == nil {
		return nil
	}
	r.plainFormatters(m.GetFormatters(), at.Child("formatters"))
	t := &tcp.Tunnel{PostPath: m.GetPostPath(), KeepHeaders: m.GetPropagateResponseHeaders(), KeepTrailers: m.GetPropagateResponseTrailers()}
	if m.GetHostname() == "" {
		r.errs.Addf(at.Child("hostname"), "is empty, want the host to be asked for")
	}
	var err error
	if t.Host, err = access.Compile(m.GetHostname()); err != nil {
		r.errs.Addf(at.Child("hostname"), "%v", err)
	}
	switch {
	case m.GetUsePost() && t.PostPath == "":
		t.PostPath = "/"
	case !m.GetUsePost() && t.PostPath != "":
		r.errs.Addf(at.Child("post_path"), "found %q without use_post, want none for a CONNECT", t.PostPath)
	}
	if x := m.GetRequestIdExtension(); x != nil {
		at := at.Child("request_id_extension")
		if _, ok := r.unpack(x.GetTypedConfig(), at).(*uuidv3.UuidRequestIdConfig); !ok {
			r.errs.Addf(at, "found %q, want envoy.request_id.uuid", x.GetTypedConfig().GetTypeUrl())
		}
		t.RequestID = cmp.Or(strings.ToLower(m.GetRequestIdHeader()), "x-request-id")
		t.RequestIDKey = cmp.Or(m.GetRequestIdMetadataKey(), "tunnel_request_id")
	}
	var add []route.Mutation
	for _, v := range r.headerValues(m.GetHeadersToAdd(), at.Child("headers_to_add")) {
		add = append(add, route.Mutation{Append: &v})
	}
	if t.Headers, err = route.NewMutations(add); err != nil {
		r.errs.Addf(at.Child("headers_to_add"), "%v", err)
	}
	return t
}
