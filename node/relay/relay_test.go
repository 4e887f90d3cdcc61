package relay

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// plane answers each request with its node's name, and ends the stream after the last.
type plane struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
}

func (plane) DeltaAggregatedResources(s discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for n := 0; ; n++ {
		r, err := s.Recv()
		if err == io.EOF {
			return status.Error(codes.DataLoss, "that was all")
		}
		if err != nil {
			return err
		}
		if err := s.Send(&discovery.DeltaDiscoveryResponse{Nonce: fmt.Sprint(n), SystemVersionInfo: r.GetNode().GetId()}); err != nil {
			return err
		}
	}
}

// serve returns a connection to a server in memory.
func serve(t *testing.T, g *grpc.Server) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	go func() { _ = g.Serve(l) }()
	c, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); g.Stop() })
	return c
}

// Messages arrive as they were sent, both ways, and so does the end of the stream.
func TestRelay(t *testing.T) {
	far := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(far, plane{})
	near := serve(t, grpc.NewServer(Options(serve(t, far), nil)...))
	s, err := discovery.NewAggregatedDiscoveryServiceClient(near).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if err := s.Send(&discovery.DeltaDiscoveryRequest{Node: &corev3.Node{Id: fmt.Sprint("node ", n)}}); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Recv(); err != nil || r.GetNonce() != fmt.Sprint(n) || r.GetSystemVersionInfo() != fmt.Sprint("node ", n) {
			t.Fatalf("%v, %v", r, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "that was all" {
		t.Errorf("the stream ended with %v, want what the control plane said", err)
	}
}

// Nothing but discovery passes, whatever the control plane serves: not its CA either.
func TestOtherServices(t *testing.T) {
	near := serve(t, grpc.NewServer(Options(serve(t, grpc.NewServer()), nil)...))
	_, err := grpc_health_v1.NewHealthClient(near).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("another service: %v", err)
	}
}

// hearing is a control plane that tells what it hears, in the form of each message.
type hearing struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	heard chan string
}

func (h hearing) DeltaAggregatedResources(s discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return nil
		}
		h.heard <- fmt.Sprint("delta ", r.GetNode().GetId(), r.GetTypeUrl(), r.GetErrorDetail().GetMessage())
	}
}

func (h hearing) StreamAggregatedResources(s discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return nil
		}
		h.heard <- fmt.Sprint("state ", r.GetNode().GetId(), r.GetTypeUrl(), r.GetErrorDetail().GetMessage())
	}
}

// What the agent says comes after the proxy has said who it is, on each of its streams and in its form.
func TestWords(t *testing.T) {
	far := grpc.NewServer()
	h := hearing{heard: make(chan string, 10)}
	discovery.RegisterAggregatedDiscoveryServiceServer(far, h)
	words := &Words{}
	near := discovery.NewAggregatedDiscoveryServiceClient(serve(t, grpc.NewServer(Options(serve(t, far), words)...)))
	words.Say("health", &rpcstatus.Status{Message: " ill"})
	want := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			if got := <-h.heard; got != text {
				t.Fatalf("heard %q, want %q", got, text)
			}
		}
	}
	delta, err := near.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := delta.Send(&discovery.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "a"}}); err != nil {
		t.Fatal(err)
	}
	want("delta a", "delta health ill")
	words.Say("health", nil)
	want("delta health")
	if err := delta.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := delta.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	state, err := near.StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Send(&discovery.DiscoveryRequest{Node: &corev3.Node{Id: "a"}}); err != nil {
		t.Fatal(err)
	}
	want("state a", "state health")
}
