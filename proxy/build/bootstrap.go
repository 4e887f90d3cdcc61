package build

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	enginesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/regex_engines/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/resolve"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

var bootstrapFields = []*Message{
	message((*bootstrapv3.Bootstrap)(nil), reads("node", "static_resources", "dynamic_resources", "admin", "cluster_manager", "layered_runtime", "overload_manager", "typed_dns_resolver_config", "dns_resolution_config", "use_tcp_for_dns_lookups", "bootstrap_extensions"),
		ignores("there is one engine, RE2's syntax in linear time", "default_regex_engine"),
		ignores("statistics are kept until they are asked for; there are no sinks to flush them to", "stats_flush_interval", "stats_flush_on_admin"),
		ignores("tags and buckets are Envoy's defaults, and every statistic is kept", "stats_config"),
		ignores("a worker that is stuck ends the process", "watchdog", "watchdogs"),
		ignores("these statistics are always there", "enable_dispatcher_stats"),
		ignores("all configuration may come by ads", "default_config_source"),
		ignores("the name of a compatible reload version only", "stats_server_version_override")),
	message((*enginesv3.GoogleRE2)(nil)),
	message((*bootstrapv3.ClusterManager)(nil), reads("local_cluster_name", "outlier_detection", "upstream_bind_config"),
		ignores("clusters are small until they are used", "enable_deferred_cluster_creation")),
	message((*bootstrapv3.ClusterManager_OutlierDetection)(nil), reads("event_log_path")),
	message((*bootstrapv3.Bootstrap_StaticResources)(nil), reads("listeners", "clusters", "secrets")),
	message((*bootstrapv3.Bootstrap_DynamicResources)(nil), reads("lds_config", "cds_config", "ads_config")),
	message((*bootstrapv3.Admin)(nil), reads("address", "profile_path"),
		ignores("the admin interface writes no access log", "access_log", "access_log_path"),
		ignores("the admin interface is not limited", "ignore_global_conn_limit")),
	message((*corev3.Node)(nil), reads("id", "cluster", "metadata", "locality"),
		ignores("we say who we are ourselves", "user_agent_name", "user_agent_version", "user_agent_build_version", "extensions", "client_features"),
		ignores("has been replaced by xDS parameters that nobody sends", "dynamic_parameters", "listening_addresses")),
	message((*corev3.ApiConfigSource)(nil), reads("api_type", "grpc_services"),
		only("transport_api_version", "version 2 has been gone for years", "AUTO", "V3"),
		ignores("the node is sent with the first message only, as every server since 2019 can handle", "set_node_on_first_message_only"),
		ignores("what is asked for follows from configuration", "rate_limit_settings")),
	message((*corev3.GrpcService)(nil), reads("envoy_grpc", "initial_metadata"),
		ignores("an ADS stream lives as long as it can", "timeout")),
	message((*corev3.GrpcService_EnvoyGrpc)(nil), reads("cluster_name", "authority")),
}

// A Bootstrap is what a proxy is started with.
type Bootstrap struct {
	Name      string // where it stands
	Proto     *bootstrapv3.Bootstrap
	Node      *corev3.Node
	Admin     netip.AddrPort // invalid: no admin interface
	Profile   string         // where profiles are written
	Listeners []*listenerv3.Listener
	Clusters  []*clusterv3.Cluster
	Secrets   []*tlsv3.Secret
	LDS, CDS  *time.Duration     // by ADS, and how long the first answer may take (0: for ever); nil: not
	Files     []xdsclient.Source // listeners and clusters that are in files
	ADS       *ADS
	// Names says whom to ask for names; nil: as the machine says.
	Names *resolve.Config
	// LocalCluster is the cluster of the proxy's own peers; empty: not known.
	LocalCluster string
	Bind         *corev3.BindConfig // of connections to hosts whose cluster has none of its own; may be nil
	OutlierLog   string             // path of the file in which ejections are told; empty: none
	Limits       Limits
	Values       *Values
	Inside       bool             // there may be listeners inside of the proxy
	Overload     *overload.Config // nil: there is no overload manager in it
}

// listenerName is the name of the listener at i, which may have none of its own.
func (b *Bootstrap) listenerName(i int) string {
	return cmp.Or(b.Listeners[i].GetName(), fmt.Sprintf("listener_%d", i))
}

// HasListener reports whether the bootstrap itself has a listener of that name.
func (b *Bootstrap) HasListener(name string) bool {
	for i := range b.Listeners {
		if b.listenerName(i) == name {
			return true
		}
	}
	return false
}

// An ADS says where configuration comes from.
type ADS struct {
	Delta     bool   // incremental; else state of the world
	Cluster   string // a static one
	Authority string
	Metadata  map[string]string
}

// NewBootstrap takes a bootstrap that is there already: what a file holds and what we
// write for ourselves is read in one way. name is for messages.
func NewBootstrap(name string, m *bootstrapv3.Bootstrap) (*Bootstrap, error) {
	if errs := Check(m); len(errs) > 0 {
		return nil, errs.In(name)
	}
	env := &Env{}
	r := &reader{env: env}
	b := &Bootstrap{Name: name, Proto: m, Node: m.GetNode(), Listeners: m.GetStaticResources().GetListeners(), Clusters: m.GetStaticResources().GetClusters(), Secrets: m.GetStaticResources().GetSecrets()}
	r.distinct(b)
	b.Values = r.values(m.GetLayeredRuntime(), field.At("layered_runtime"))
	env.Values = b.Values
	b.Limits = b.Values.limits()
	b.Overload = r.overload(m.GetOverloadManager(), &b.Limits)
	r.bootstrapExtensions(m.GetBootstrapExtensions(), b, field.At("bootstrap_extensions"))
	b.Names = r.resolverConfig(m, nil)
	if b.LocalCluster = m.GetClusterManager().GetLocalClusterName(); b.LocalCluster != "" && !b.has(b.LocalCluster) {
		r.errs.Addf(field.At("cluster_manager", "local_cluster_name"), "found %q, want one of the static clusters", b.LocalCluster)
	}
	if b.Bind = m.GetClusterManager().GetUpstreamBindConfig(); b.Bind != nil {
		r.bound(b.Bind, &cluster.Config{}, field.At("cluster_manager", "upstream_bind_config"))
	}
	b.OutlierLog = m.GetClusterManager().GetOutlierDetection().GetEventLogPath()
	b.Profile = cmp.Or(m.GetAdmin().GetProfilePath(), "/var/log/envoy/envoy.prof")
	if a := m.GetAdmin().GetAddress(); a != nil {
		b.Admin = r.address(a, field.At("admin", "address"))
	}
	dyn := m.GetDynamicResources()
	for _, source := range []struct {
		name, typeURL string
		from          *corev3.ConfigSource
		ads           **time.Duration
	}{{"lds_config", xdsclient.ListenerType, dyn.GetLdsConfig(), &b.LDS}, {"cds_config", xdsclient.ClusterType, dyn.GetCdsConfig(), &b.CDS}} {
		if source.from == nil {
			continue
		}
		if from := r.source(source.from, field.At("dynamic_resources", source.name)); from.Place.Path != "" {
			b.Files = append(b.Files, xdsclient.Source{Type: source.typeURL, Place: from.Place, All: true})
		} else {
			*source.ads = &from.Timeout
		}
	}
	b.ADS = r.ads(dyn.GetAdsConfig(), b, field.At("dynamic_resources", "ads_config"))
	return b, r.errs.In(name).Err()
}

// distinct refuses a second cluster of a name, and a second listener at an address. (A second listener of a name is
// a newer version of the first.)
func (r *reader) distinct(b *Bootstrap) {
	named := map[string]int{}
	for i, c := range b.Clusters {
		if first, taken := named[c.GetName()]; taken {
			r.errs.Addf(field.At("static_resources", "clusters").Index(i).Child("name"), "found %q, the name of static_resources.clusters[%d]", c.GetName(), first)
			continue
		}
		named[c.GetName()] = i
	}
	type place struct {
		listener string
		at       *field.Path
	}
	open := map[netip.AddrPort]place{}
	for i, l := range b.Listeners {
		at := field.At("static_resources", "listeners").Index(i)
		take := func(a *corev3.Address, at *field.Path) {
			ip, err := netip.ParseAddr(a.GetSocketAddress().GetAddress())
			port := uint16(a.GetSocketAddress().GetPortValue())
			if err != nil || port == 0 {
				return // a path, or any port; what is no address is refused elsewhere
			}
			host := netip.AddrPortFrom(ip, port)
			if first, taken := open[host]; taken && first.listener != b.listenerName(i) {
				r.errs.Addf(at, "found %s, the address of listener %q (%s)", host, first.listener, first.at)
				return
			}
			open[host] = place{b.listenerName(i), at}
		}
		take(l.GetAddress(), at.Child("address"))
		for j, more := range l.GetAdditionalAddresses() {
			take(more.GetAddress(), at.Child("additional_addresses").Index(j).Child("address"))
		}
	}
}

// has reports whether there is a static cluster of a name.
func (b *Bootstrap) has(name string) bool {
	return slices.ContainsFunc(b.Clusters, func(c *clusterv3.Cluster) bool { return c.GetName() == name })
}

func (r *reader) ads(c *corev3.ApiConfigSource, b *Bootstrap, at *field.Path) *ADS {
	if c == nil {
		if b.LDS != nil || b.CDS != nil {
			r.errs.Addf(at, "is not set, want the control plane that lds_config and cds_config refer to")
		}
		return nil
	}
	delta := c.GetApiType() == corev3.ApiConfigSource_DELTA_GRPC
	if !delta && c.GetApiType() != corev3.ApiConfigSource_GRPC {
		r.errs.Addf(at.Child("api_type"), "found %v, want DELTA_GRPC or GRPC", c.GetApiType())
	}
	if !delta && (b.Node.GetId() == "" || b.Node.GetCluster() == "") {
		r.errs.Addf(field.At("node"), "has no id or no cluster, and who asks a control plane by the state of the world needs both; --service-node and --service-cluster say them, too")
	}
	services := c.GetGrpcServices()
	if len(services) != 1 || services[0].GetEnvoyGrpc() == nil {
		r.errs.Addf(at.Child("grpc_services"), "found %d services, want exactly one with envoy_grpc", len(services))
		return nil
	}
	out := &ADS{Delta: delta, Cluster: services[0].GetEnvoyGrpc().GetClusterName(), Authority: services[0].GetEnvoyGrpc().GetAuthority(), Metadata: map[string]string{}}
	for _, h := range services[0].GetInitialMetadata() {
		out.Metadata[h.GetKey()] = h.GetValue()
	}
	if b.has(out.Cluster) {
		return out
	}
	r.errs.Addf(at.Child("grpc_services").Index(0).Child("envoy_grpc").Child("cluster_name"), "found %q, want one of the static clusters", out.Cluster)
	return out
}
