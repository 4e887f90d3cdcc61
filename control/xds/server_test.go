package xds

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mallamesh/malla/pki"
)

// source serves whatever fixture is set.
type source struct{ now atomic.Pointer[fixture] }

func (s *source) Open(*corev3.Node, pki.ID) (Proxy, error) { return s, nil }
func (s *source) Resources() Resources                     { return *s.now.Load() }

// start runs a server in memory and returns a client of it.
func start(t *testing.T, first fixture) (*Server, *source, discovery.AggregatedDiscoveryServiceClient) {
	t.Helper()
	src := &source{}
	src.now.Store(&first)
	s, client := startWith(t, src)
	return s, src, client
}

func startWith(t *testing.T, src Source) (*Server, discovery.AggregatedDiscoveryServiceClient) {
	t.Helper()
	s := New(Options{Source: src, Caller: func(context.Context) (pki.ID, error) { return pki.ID{}, nil },
		Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry(), "test")})
	l := bufconn.Listen(1 << 20)
	g := grpc.NewServer()
	s.Register(g)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("passthrough:///mesh", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return s, discovery.NewAggregatedDiscoveryServiceClient(conn)
}

var node = &corev3.Node{Id: "sidecar~10.0.0.1~a.default~default.svc.cluster.local"}

func TestDeltaStream(t *testing.T) {
	s, src, client := start(t, fixture{1, map[string]string{"a": "1"}})
	stream, err := client.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(r *discovery.DeltaDiscoveryRequest) {
		t.Helper()
		r.TypeUrl = ClusterType
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	receive := func(want string) *discovery.DeltaDiscoveryResponse {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := (change{r.GetResources(), r.GetRemovedResources()}).text(); got != want {
			t.Fatalf("received %q, want %q", got, want)
		}
		return r
	}
	send(&discovery.DeltaDiscoveryRequest{Node: node})
	first := receive("a=1")
	if first.GetSystemVersionInfo() != "1" {
		t.Errorf("generation %q, want 1", first.GetSystemVersionInfo())
	}

	// While the first response is unanswered, two changes become one response.
	src.now.Store(&fixture{2, map[string]string{"a": "2"}})
	s.Changed()
	src.now.Store(&fixture{3, map[string]string{"a": "3"}})
	s.Changed()
	send(&discovery.DeltaDiscoveryRequest{ResponseNonce: first.GetNonce()})
	third := receive("a=3")

	send(&discovery.DeltaDiscoveryRequest{ResponseNonce: third.GetNonce(), ErrorDetail: &rpcstatus.Status{Code: 3, Message: "a: no"}})
	src.now.Store(&fixture{4, map[string]string{"a": "4"}})
	s.Changed(EndpointType) // another type: nothing for this client
	s.Changed(ClusterType)
	receive("a=4")
	clients := s.Clients()
	if len(clients) != 1 || clients[0].Types["CDS"].Nack == nil || clients[0].Types["CDS"].Nack.Detail != "a: no" {
		t.Errorf("the refusal is not reported: %+v", clients)
	}
}

// A client is behind from the moment in which a change is told until it has answered, whatever it answers.
func TestAClientIsBehindUntilItAnswers(t *testing.T) {
	src := &source{}
	src.now.Store(&fixture{1, map[string]string{"a": "1"}})
	s := New(Options{Source: src, Log: slog.New(slog.DiscardHandler)})
	guest, err := s.gate.enter(t.Context(), pki.ID{})
	if err != nil {
		t.Fatal(err)
	}
	c := s.add(node, guest, src)
	var sent *discovery.DeltaDiscoveryResponse
	wire := &deltaWire{send: func(r *discovery.DeltaDiscoveryResponse) error { sent = r; return nil }}
	behind := func(when string, want int) {
		t.Helper()
		if got := s.Behind(); len(got) != want {
			t.Errorf("%s: behind are %v, want %d", when, got, want)
		}
	}
	ask := func(detail *rpcstatus.Status) {
		t.Helper()
		if err := request(c, wire, &discovery.DeltaDiscoveryRequest{TypeUrl: ClusterType, ResponseNonce: sent.GetNonce(), ErrorDetail: detail}); err != nil {
			t.Fatal(err)
		}
	}
	behind("connected", 0)
	ask(nil)
	behind("sent what it asked for", 1)
	ask(nil)
	behind("answered", 0)
	for generation, detail := range map[uint64]*rpcstatus.Status{2: nil, 3: {Message: "no"}} {
		src.now.Store(&fixture{generation, map[string]string{"a": fmt.Sprint(generation)}})
		s.Changed()
		behind("told", 1)
		if err := push(c, wire); err != nil {
			t.Fatal(err)
		}
		behind("sent", 1)
		ask(detail)
		behind("answered", 0)
	}
	s.Changed()
	behind("told of nothing new", 1)
	if err := push(c, wire); err != nil {
		t.Fatal(err)
	}
	behind("compared", 0)
}

func TestStateOfTheWorldStream(t *testing.T) {
	s, src, client := start(t, fixture{1, map[string]string{"a": "1", "b": "1"}})
	stream, err := client.StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discovery.DiscoveryRequest{Node: node, TypeUrl: ClusterType}); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil || len(r.GetResources()) != 2 {
		t.Fatalf("received %v, %v", r, err)
	}
	if err := stream.Send(&discovery.DiscoveryRequest{TypeUrl: ClusterType, ResponseNonce: r.GetNonce(), VersionInfo: r.GetVersionInfo()}); err != nil {
		t.Fatal(err)
	}
	src.now.Store(&fixture{2, map[string]string{"a": "1"}})
	s.Changed()
	if r, err = stream.Recv(); err != nil || len(r.GetResources()) != 1 {
		t.Fatalf("a removed cluster must be missing from the next response: %v, %v", r, err)
	}
}

func TestStreamWithoutNodeIsRefused(t *testing.T) {
	_, _, client := start(t, fixture{1, nil})
	stream, err := client.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: ClusterType}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}

func TestUnknownTypeIsRefusedByName(t *testing.T) {
	_, _, client := start(t, fixture{1, nil})
	stream, err := client.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: "type.googleapis.com/" + string((&clusterv3.Filter{}).ProtoReflect().Descriptor().FullName())}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}
