package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/proxy/xdsclient"
)

const adsBootstrap = `
node: {id: test, cluster: test}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
dynamic_resources:
  ads_config: {api_type: %s, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}, initial_metadata: [{key: x-who, value: me}]}]}
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}
`

const adsListener = `{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": %d}}, "filter_chains": [{"filters": [{
 "name": "envoy.filters.network.http_connection_manager", "typed_config": {
  "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in",
  "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "by %s"}}}]}]},
  "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`

// foreign is a control plane of somebody else's: it has one listener, in both forms.
type foreign struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	listener *anypb.Any
}

// who is refused if it does not say what its configuration has it say.
func who(ctx context.Context) error {
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("x-who")) != 1 || md.Get("x-who")[0] != "me" {
		return status.Errorf(codes.PermissionDenied, "x-who is %q, want me", md.Get("x-who"))
	}
	return nil
}

func (f *foreign) StreamAggregatedResources(s discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	if err := who(s.Context()); err != nil {
		return err
	}
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		if r.GetResponseNonce() != "" {
			continue // an answer
		}
		out := &discoveryv3.DiscoveryResponse{TypeUrl: r.GetTypeUrl(), VersionInfo: "1", Nonce: "1"}
		if r.GetTypeUrl() == xdsclient.ListenerType {
			out.Resources = []*anypb.Any{f.listener}
		}
		if err := s.Send(out); err != nil {
			return err
		}
	}
}

func (f *foreign) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if err := who(s.Context()); err != nil {
		return err
	}
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		if r.GetResponseNonce() != "" {
			continue
		}
		out := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: r.GetTypeUrl(), Nonce: "1"}
		if r.GetTypeUrl() == xdsclient.ListenerType {
			out.Resources = []*discoveryv3.Resource{{Name: "l", Version: "1", Resource: f.listener}}
		}
		if err := s.Send(out); err != nil {
			return err
		}
	}
}

// A proxy by a bootstrap file gets its listeners from a foreign control plane, whether
// that speaks in increments or in states of the world.
func TestADS(t *testing.T) {
	for _, api := range []string{"DELTA_GRPC", "GRPC"} {
		t.Run(api, func(t *testing.T) {
			port := freePort(t)
			l := &listenerv3.Listener{}
			if err := protojson.Unmarshal(fmt.Appendf(nil, adsListener, port, api), l); err != nil {
				t.Fatal(err)
			}
			body, err := anypb.New(l)
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer()
			discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, &foreign{listener: body})
			socket, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = server.Serve(socket) }()
			defer server.Stop()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			file := write(t, fmt.Sprintf(adsBootstrap, freePort(t), api, socket.Addr().(*net.TCPAddr).Port))
			go func() { done <- Command(ctx, "malla-proxy", []string{"-c", file}, io.Discard, io.Discard) }()
			if got, want := ask(t, done, port), "by "+api; got != want {
				t.Errorf("answer %q, want %q", got, want)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// ask gets the page of a listener that may not be there yet.
func ask(t *testing.T, done <-chan error, port int) string {
	t.Helper()
	for {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err == nil {
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			return string(body)
		}
		select {
		case err := <-done:
			t.Fatalf("the proxy ended: %v", err)
		default:
		}
	}
}
