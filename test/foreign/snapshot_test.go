package foreign

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// TestSnapshots: our proxy takes what a control plane on go-control-plane's cache gives, as its example does, in both
// forms of the protocol, and says by path what it does not take.
func TestSnapshots(t *testing.T) {
	for _, form := range []string{"GRPC", "DELTA_GRPC"} {
		t.Run(form, func(t *testing.T) { snapshots(t, form) })
	}
}

func snapshots(t *testing.T, form string) {
	s := newSnapshots(t)
	listen := mesh.FreePort(t)
	first := s.backend("first")
	s.set("1", listen, "/", first)
	process.Start(t, process.Proxy(t), "-c", joins(t, form, s.address, map[string]any{"id": "node", "cluster": "test"}))
	get := func(path string) string {
		a, err := mesh.Get(mesh.Client(2*time.Second), fmt.Sprintf("http://127.0.0.1:%d%s", listen, path))
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(a.Status, " ", a.Body)
	}
	until := func(path, want string) {
		t.Helper()
		mesh.Until(t, 20*time.Second, "GET "+path+" is "+want, func() error {
			if got := get(path); got != want {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
	until("/a", "200 first")
	s.set("2", listen, "/b", s.backend("second"))
	until("/b", "200 second")
	if got := get("/a"); got != "404 " {
		t.Errorf("a path that has no route any more: %s", got)
	}
	s.set("3", listen, "/c", first, func(c *clusterv3.Cluster) {
		c.LrsServer = &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Self{}}
	})
	mesh.Until(t, 20*time.Second, "the refusal of a cluster", func() error {
		if got := s.refusals(); !strings.Contains(got, "lrs_server") || !strings.Contains(got, "backend") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	until("/c", "200 first") // what else is in the snapshot holds, and the cluster as it was
}

// joins writes a bootstrap by which a proxy asks a control plane.
func joins(t *testing.T, form, address string, node map[string]any) string {
	t.Helper()
	file, _ := joinsBy(t, form, address, node)
	return file
}

// joinsBy is joins with more that is static. It also returns the port of the proxy's admin interface.
func joinsBy(t *testing.T, form, address string, node map[string]any, more ...func(static map[string]any)) (file string, admin int) {
	t.Helper()
	admin = mesh.FreePort(t)
	static := map[string]any{"clusters": []any{grpcCluster("xds", address)}}
	for _, f := range more {
		f(static)
	}
	ads := map[string]any{"ads": map[string]any{}, "resource_api_version": "V3"}
	text, err := json.Marshal(map[string]any{
		"node":  node,
		"admin": map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": admin}}},
		"dynamic_resources": map[string]any{"lds_config": ads, "cds_config": ads, "ads_config": map[string]any{
			"api_type": form, "transport_api_version": "V3", "grpc_services": []any{map[string]any{"envoy_grpc": map[string]any{"cluster_name": "xds"}}}}},
		"static_resources": static,
	})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, admin
}

// grpcCluster leads to a server of gRPC.
func grpcCluster(name, address string) any {
	host, port, _ := net.SplitHostPort(address)
	return map[string]any{
		"name": name, "type": "STATIC", "connect_timeout": "1s",
		"typed_extension_protocol_options": map[string]any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": map[string]any{
			"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": map[string]any{"http2_protocol_options": map[string]any{}}}},
		"load_assignment": map[string]any{"cluster_name": name, "endpoints": []any{map[string]any{"lb_endpoints": []any{map[string]any{
			"endpoint": map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": host, "port_value": json.Number(port)}}}}}}}},
	}
}

// cachePlane is a control plane of go-control-plane's.
type cachePlane struct {
	t       *testing.T
	address string
	cache   cache.SnapshotCache

	mu   sync.Mutex
	said []string // guarded by mu: refusals
}

func newSnapshots(t *testing.T) *cachePlane {
	t.Helper()
	s := &cachePlane{t: t, cache: cache.NewSnapshotCache(true, cache.IDHash{}, nil)}
	note := func(detail string) {
		if detail != "" {
			s.mu.Lock()
			s.said = append(s.said, detail)
			s.mu.Unlock()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := server.NewServer(ctx, s.cache, server.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discovery.DiscoveryRequest) error {
			note(r.GetErrorDetail().GetMessage())
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discovery.DeltaDiscoveryRequest) error {
			note(r.GetErrorDetail().GetMessage())
			return nil
		},
	})
	g := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(g, h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(func() { cancel(); g.Stop() })
	s.address = l.Addr().String()
	return s
}

func (s *cachePlane) refusals() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.said, "\n")
}

// backend answers with a word, and returns its port.
func (s *cachePlane) backend(word string) uint32 {
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, word) }))
	s.t.Cleanup(b.Close)
	return uint32(b.Listener.Addr().(*net.TCPAddr).Port)
}

// set makes a snapshot of one resource of each type, as the example server of go-control-plane has them.
func (s *cachePlane) set(version string, listen int, prefix string, backend uint32, change ...func(*clusterv3.Cluster)) {
	s.t.Helper()
	ads := &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
	at := func(port uint32) *corev3.Address {
		return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}
	}
	packed := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			s.t.Fatal(err)
		}
		return a
	}
	c := &clusterv3.Cluster{Name: "backend", ConnectTimeout: durationpb.New(time.Second), ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads}, DnsLookupFamily: clusterv3.Cluster_V4_ONLY}
	for _, f := range change {
		f(c)
	}
	snapshot, err := cache.NewSnapshot(version, map[resource.Type][]types.Resource{
		resource.ClusterType: {c},
		resource.EndpointType: {&endpointv3.ClusterLoadAssignment{ClusterName: "backend", Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: at(backend)}}}}}}}},
		resource.RouteType: {&routev3.RouteConfiguration{Name: "routes", VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "backend"}}}}}}}}},
		resource.ListenerType: {&listenerv3.Listener{Name: "listener", Address: at(uint32(listen)), FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "http-connection-manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(&hcmv3.HttpConnectionManager{
				StatPrefix: "http", RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads, RouteConfigName: "routes"}},
				HttpFilters: []*hcmv3.HttpFilter{{Name: "http-router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(&routerv3.Router{})}}},
			})}}}}}}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := snapshot.Consistent(); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cache.SetSnapshot(s.t.Context(), "node", snapshot); err != nil {
		s.t.Fatal(err)
	}
}
