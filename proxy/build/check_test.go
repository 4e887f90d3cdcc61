package build

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	wrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// Everything that would not be honored is refused, with the way to it.
func TestCheck(t *testing.T) {
	future := &clusterv3.Cluster{Name: "a"}
	future.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 4711, protowire.VarintType), 1))
	unknownType := &anypb.Any{TypeUrl: "type.googleapis.com/example.Filter"}
	filter := func(config *anypb.Any) *listenerv3.Filter {
		return &listenerv3.Filter{Name: "x", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config}}
	}
	address := &corev3.SocketAddress{Address: "192.0.2.1", PortSpecifier: &corev3.SocketAddress_PortValue{}}
	for _, test := range []struct {
		what string
		m    proto.Message
		want string // the beginning of the only mistake; empty: none
	}{
		{"a field that is read", &clusterv3.Cluster{Name: "a"}, ""},
		{"a field that nobody reads", &clusterv3.Cluster{Name: "a", LrsReportEndpointMetrics: []string{"x"}}, "lrs_report_endpoint_metrics: is not supported"},
		{"a field without effect", &clusterv3.Cluster{Name: "a", CleanupInterval: durationpb.New(1)}, ""},
		{"a value that Envoy refuses, though it would have no effect here", &clusterv3.Cluster{Name: "a", CleanupInterval: durationpb.New(-1)}, "cleanup_interval: found -1ns, want one that is greater than 0s"},
		{"a field of which more is to be said", &tlsv3.UpstreamTlsContext{AllowRenegotiation: true}, "allow_renegotiation: is not supported: renegotiation is a hole"},
		{"a value that is not built", &clusterv3.Cluster{Name: "a", LbSubsetConfig: &clusterv3.Cluster_LbSubsetConfig{MetadataFallbackPolicy: clusterv3.Cluster_LbSubsetConfig_FALLBACK_LIST}},
			"lb_subset_config.metadata_fallback_policy: found FALLBACK_LIST, want METADATA_NO_FALLBACK"},
		{"a value of a version to come", &clusterv3.Cluster{Name: "a", LbPolicy: 4711}, "lb_policy: found 4711, which no envoy.config.cluster.v3.Cluster.LbPolicy has"},
		{"a value of a version to come, in a list", &corev3.HealthStatusSet{Statuses: []corev3.HealthStatus{corev3.HealthStatus_HEALTHY, 4711}}, "statuses[1]: found 4711, which no"},
		{"a field of a version to come", future, "field number 4711 of message envoy.config.cluster.v3.Cluster is not known"},
		{"inside of a list", &clusterv3.Cluster{Name: "a", UpstreamBindConfig: &corev3.BindConfig{ExtraSourceAddresses: []*corev3.ExtraSourceAddress{{Address: address}, {Address: address, SocketOptions: &corev3.SocketOptionsOverride{}}}}},
			"upstream_bind_config.extra_source_addresses[1].socket_options: is not supported"},
		{"inside of a map", &routev3.RouteConfiguration{TypedPerFilterConfig: map[string]*anypb.Any{"envoy.x": unknownType}}, `typed_per_filter_config["envoy.x"]: type "type.googleapis.com/example.Filter" is not supported`},
		{"a typed configuration that is not known", &listenerv3.Listener{FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{filter(unknownType)}}}},
			`filter_chains[0].filters[0].typed_config: type "type.googleapis.com/example.Filter" is not supported`},
		{"a typed configuration that does not parse", &listenerv3.Listener{FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{filter(&anypb.Any{
			TypeUrl: "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", Value: []byte{0xff}})}}}},
			"filter_chains[0].filters[0].typed_config: envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy does not parse"},
	} {
		errs := Check(test.m)
		switch {
		case test.want == "" && len(errs) > 0:
			t.Errorf("%s: refused: %v", test.what, errs)
		case test.want != "" && (len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), test.want)):
			t.Errorf("%s:\n got %v\nwant %s", test.what, errs, test.want)
		}
	}
}

// Of a field that is supported in part, what the table lists may be set, and every other value is refused with the
// field's path and the reason.
func TestValuesInPart(t *testing.T) {
	for name, rows := range Messages {
		for _, row := range rows.Fields {
			if row.Support != Limited {
				continue
			}
			fd := rows.Descriptor.Fields().ByName(row.Name)
			for _, v := range valuesOf(fd) {
				m, err := protoregistry.GlobalTypes.FindMessageByName(name)
				if err != nil {
					t.Fatal(err)
				}
				one := m.New()
				one.Set(fd, v)
				if !one.Has(fd) {
					continue // the default, which is as if nothing were set
				}
				text := valueText(one, fd)
				var errs field.List
				checkMessage(one, nil, 0, &errs)
				switch {
				case slices.Contains(row.Values, text) && len(errs) > 0:
					t.Errorf("%s.%s: %s is refused: %v", name, row.Name, text, errs)
				case !slices.Contains(row.Values, text) && (len(errs) == 0 || !strings.Contains(errs[0].Error(), string(row.Name)+": found "+text) || !strings.Contains(errs[0].Error(), row.Reason)):
					t.Errorf("%s.%s: %s: %v; want it to be refused", name, row.Name, text, errs)
				}
			}
		}
	}
}

// valuesOf lists every value of a yes or no and of an enumeration, and two of a number.
func valuesOf(fd protoreflect.FieldDescriptor) (out []protoreflect.Value) {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return []protoreflect.Value{protoreflect.ValueOfBool(false), protoreflect.ValueOfBool(true)}
	case protoreflect.EnumKind:
		for i := range fd.Enum().Values().Len() {
			out = append(out, protoreflect.ValueOfEnum(fd.Enum().Values().Get(i).Number()))
		}
	case protoreflect.Uint32Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint32(0), protoreflect.ValueOfUint32(1)}
	case protoreflect.Uint64Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint64(0), protoreflect.ValueOfUint64(1)}
	case protoreflect.MessageKind: // a wrapper
		typ, err := protoregistry.GlobalTypes.FindMessageByName(fd.Message().FullName())
		if err != nil {
			return nil
		}
		inner := typ.Descriptor().Fields().ByName("value")
		for _, v := range valuesOf(inner) {
			m := typ.New()
			m.Set(inner, v)
			out = append(out, protoreflect.ValueOfMessage(m))
		}
	}
	return out
}

// A message that contains itself without end is refused and does not end us.
func TestCheckDepth(t *testing.T) {
	p := &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_AnyMatch{AnyMatch: true}}
	for range 10 * maxDepth {
		p = &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_NotMatch{NotMatch: p}}
	}
	l := &listenerv3.Listener{ListenerFilters: []*listenerv3.ListenerFilter{{Name: "a", FilterDisabled: p}}}
	if errs := Check(l); len(errs) != 1 || !strings.Contains(errs[0].Msg, "nested") {
		t.Errorf("got %v", errs)
	}
}

// FuzzBootstrap looks for files that make the reader panic: a bootstrap comes from
// people, and what it holds goes through every reader there is.
func FuzzBootstrap(f *testing.F) {
	f.Add("admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}")
	f.Add("static_resources: {clusters: [{name: a, type: STATIC, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {}}}]}]}}]}")
	f.Add(`static_resources: {listeners: [{name: l, address: {socket_address: {address: "::", port_value: 70000}}, filter_chains: [{filters: [{name: x, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: a}}]}]}]}`)
	f.Add(`static_resources: {listeners: [{name: l, address: {socket_address: {address: 0.0.0.0, port_value: 1}}, filter_chains: [{filters: [{name: x, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: t, route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {}, route: {}}]}]}}}]}]}]}`)
	f.Add("static_resources: {secrets: [{name: s, tls_certificate: {certificate_chain: {inline_string: x}}}]}")
	for _, text := range []string{
		"", "[]", "null", "a: &a {b: *a}", "admin: {admin: 1}", "{\"admin\": {}}", "\tadmin: {}", "admin: {}\n---\nadmin: {}", // what is no bootstrap
		"admin: {address: {socket_address: {address: x, port_value: 1}}}", "admin: {address: {socket_address: {address: 1.2.3, port_value: 65536}}}", "admin: {address: {pipe: {}}}", "admin: {address: {envoy_internal_address: {}}}",
		"node: {id: a, metadata: {a: [{b: null}]}}", "layered_runtime: {layers: [{name: a, static_layer: {a: {numerator: -1, denominator: X}}}, {name: a}]}",
		"overload_manager: {refresh_interval: -1s, resource_monitors: [{name: a}], actions: [{name: b, triggers: [{name: a}]}]}",
		"stats_config: {stats_matcher: {}}", "dynamic_resources: {lds_config: {}, cds_config: {ads: {}}}",
	} {
		f.Add(text)
	}
	for _, cluster := range []string{
		"{}", "{name: a}", "{name: a, type: STRICT_DNS}", "{name: a, connect_timeout: -1s}", "{name: a, type: EDS}", "{name: a, lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 99999999999}}",
		"{name: a, type: STATIC, load_assignment: {cluster_name: a, endpoints: [{priority: 3, lb_endpoints: [{endpoint: {address: {socket_address: {address: 300.0.0.1, port_value: 1}}}}]}]}}",
		"{name: a, type: STATIC, health_checks: [{}], outlier_detection: {interval: 0s}, circuit_breakers: {thresholds: [{priority: 7}]}}",
		"{name: a, type: STATIC, transport_socket: {name: tls}}", "{name: a, type: STATIC, transport_socket_matches: [{}], lb_subset_config: {subset_selectors: [{}]}, upstream_connection_options: {tcp_keepalive: {}}}",
	} {
		f.Add("static_resources: {clusters: [" + cluster + "]}")
	}
	const manager = `{name: h, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: t, `
	for _, chain := range []string{
		"", "{}", "{filters: [{}]}", "{filters: [{name: a, typed_config: {}}]}", `{filters: [{name: a, typed_config: {"@type": no/such}}]}`, "{filter_chain_match: {prefix_ranges: [{address_prefix: x, prefix_len: 999}], server_names: ['*.*', '']}}",
		"{filters: [" + manager + "rds: {}}}]}", "{filters: [" + manager + "route_config: {virtual_hosts: [{}, {name: a, domains: ['', '**', a*b]}]}}}]}",
		"{filters: [" + manager + "route_config: {virtual_hosts: [{name: a, domains: ['*'], routes: [{match: {safe_regex: {regex: '('}}, redirect: {}}, {match: {prefix: /}, route: {weighted_clusters: {}}}, {match: {headers: [{}]}, direct_response: {status: 9}}]}]}}}]}",
		"{filters: [" + manager + "http_filters: [{}, {name: a, typed_config: {}}], access_log: [{filter: {and_filter: {}}}], set_current_client_cert_details: {}, server_name: \"\\n\"}}]}",
	} {
		f.Add(`static_resources: {listeners: [{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [` + chain + `]}]}`)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "filename") || strings.Contains(text, "path") {
			t.Skip("reads files")
		}
		m, err := ParseBootstrap("b.yaml", []byte(text), nil)
		if err != nil {
			return
		}
		b, err := NewBootstrap("b.yaml", m)
		if err != nil {
			return
		}
		env := testEnv(t)
		for _, c := range b.Clusters {
			(&reader{env: env}).cluster(c, env.Secrets)
		}
		for _, l := range b.Listeners {
			if made, err := readListener(l, env, nil, nil); err == nil {
				made.close()
			}
		}
		for _, s := range b.Secrets {
			(&reader{env: env}).secretResource(s)
		}
	})
}

// FuzzFile looks for files of file-based xDS that make the reader panic.
func FuzzFile(f *testing.F) {
	f.Add("version_info: '1'\nresources: []")
	f.Add(`resources: [{"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a, type: STATIC}]`)
	f.Add(`resources: [{"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: a, endpoints: [{priority: 1}]}]`)
	f.Add(`resources: [{"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration, name: r, virtual_hosts: [{name: v, domains: ["*"]}]}]`)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "filename") || strings.Contains(text, "path") {
			t.Skip("reads files")
		}
		r, err := ParseFile("f.yaml", []byte(text), nil)
		if err != nil {
			return
		}
		s := NewStore(testEnv(t), func() {})
		defer s.Close()
		for _, body := range r.GetResources() {
			s.Apply(xdsclient.Update{Type: body.GetTypeUrl(), Resources: []xdsclient.Resource{{Name: "a", Body: body}}})
		}
	})
}

// TCP keep-alive of a cluster stands on the connections to its hosts.
func TestKeepAliveOfHosts(t *testing.T) {
	r := &reader{env: &Env{}}
	c := r.cluster(&clusterv3.Cluster{Name: "a", UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
		KeepaliveProbes: wrapperspb.UInt32(3), KeepaliveTime: wrapperspb.UInt32(60), KeepaliveInterval: wrapperspb.UInt32(10)}}}, NewSecrets())
	if len(r.errs) > 0 {
		t.Fatal(r.errs)
	}
	want := map[int]int{soKeepAlive: 1, tcpKeepCount: 3, tcpKeepIdle: 60, tcpKeepInterval: 10}
	got := map[int]int{}
	for _, o := range c.Config.SocketOptions {
		got[o.Name] = o.Value
	}
	if !maps.Equal(got, want) {
		t.Errorf("options %v, want %v", got, want)
	}
}

// Configuration of the second version of the API is refused, though Envoy still takes its name.
func TestSecondVersionIsRefused(t *testing.T) {
	for version, want := range map[corev3.ApiVersion]bool{corev3.ApiVersion_AUTO: false, corev3.ApiVersion_V2: true, corev3.ApiVersion_V3: false} { //nolint:staticcheck // V2 is what this is about
		errs := Check(&corev3.ConfigSource{ResourceApiVersion: version, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}})
		if refused := strings.Contains(errs.Error(), "resource_api_version"); refused != want {
			t.Errorf("%v: %v, want it refused: %v", version, errs, want)
		}
	}
}

// What a listener's sockets are to be like is kept for when they are made; proxy/drive shows that they are so.
func TestSocketsOfListeners(t *testing.T) {
	r := &listenerReader{reader: reader{env: testEnv(t)}}
	pipe := &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/run/x.sock", Mode: 0o640}}}
	c := r.listener(&listenerv3.Listener{
		Name: "a", Address: pipe, TcpBacklogSize: wrapperspb.UInt32(33), TcpFastOpenQueueLength: wrapperspb.UInt32(16),
		TcpKeepalive: &corev3.TcpKeepalive{KeepaliveTime: wrapperspb.UInt32(60)},
		SocketOptions: []*corev3.SocketOption{
			{Level: 1, Name: 2, Value: &corev3.SocketOption_IntValue{IntValue: 3}, State: corev3.SocketOption_STATE_BOUND},
			{Level: 4, Name: 5, Value: &corev3.SocketOption_BufValue{BufValue: []byte("x")}, State: corev3.SocketOption_STATE_LISTENING},
		},
		DefaultFilterChain: &listenerv3.FilterChain{},
	})
	if len(r.errs) > 0 {
		t.Fatal(r.errs)
	}
	want := []drive.SocketOption{
		{Level: 1, Name: 2, Value: 3, When: drive.Bound},
		{Level: 4, Name: 5, Bytes: []byte("x"), When: drive.Listening},
		{Level: ipprotoTCP, Name: tcpFastOpen, Value: 16, When: drive.Listening},
		{Level: solSocket, Name: soKeepAlive, Value: 1},
		{Level: ipprotoTCP, Name: tcpKeepIdle, Value: 60},
	}
	if !reflect.DeepEqual(c.SocketOptions, want) {
		t.Errorf("options %v, want %v", c.SocketOptions, want)
	}
	if c.Backlog != 33 || c.Modes[c.Addrs[0]] != 0o640 {
		t.Errorf("backlog %d, mode %v; want 33, 0640", c.Backlog, c.Modes)
	}
}

// The policy inside of wrr_locality chooses the host; the weights of localities choose the locality. Envoy takes only
// a policy inside that we do not have, so that no scenario shows it.
func TestPolicyInsideOfWeightedLocalities(t *testing.T) {
	inside := &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{{TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: "least", TypedConfig: packed(t, &leastv3.LeastRequest{})}}}}
	r := &reader{env: &Env{}}
	c := r.cluster(&clusterv3.Cluster{Name: "a", LoadBalancingPolicy: &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{{
		TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: "wrr", TypedConfig: packed(t, &wrrv3.WrrLocality{EndpointPickingPolicy: inside})}}}}}, NewSecrets())
	if len(r.errs) > 0 {
		t.Fatal(r.errs)
	}
	if c.Config.Policy.Kind != lb.LeastRequest || !c.Config.Localities.Weighted {
		t.Errorf("policy %v, weighted localities %v", c.Config.Policy.Kind, c.Config.Localities.Weighted)
	}
}
