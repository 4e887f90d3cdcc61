package xds

import (
	"context"
	"errors"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mallamesh/malla/model"
)

// members takes in every proxy but one.
type members struct{ said chan string }

func (m *members) Join(p *model.Proxy) (Membership, error) {
	if p.Name == "stranger" {
		return nil, errors.New("there is no WorkloadGroup")
	}
	m.said <- "join " + p.Name
	return m, nil
}

func (m *members) Health(trouble string) { m.said <- "health " + trouble }
func (m *members) Leave()                { m.said <- "leave" }

// A workload is a member from the first request of its proxy's stream to the end of that. What the proxy says of
// its application, in either form of the protocol, is passed on and not answered.
func TestMembers(t *testing.T) {
	m := &members{said: make(chan string, 10)}
	mesh := NewMesh(Translation{Names: func(*model.View, string) []string { return nil }}, &model.Mesh{Config: &model.MeshConfig{}}, time.Now())
	mesh.Registry = m
	_, client := startWith(t, mesh)
	want := func(want string) {
		t.Helper()
		if got := <-m.said; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	delta, err := client.DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*discovery.DeltaDiscoveryRequest{
		{Node: node, TypeUrl: HealthType},
		{TypeUrl: HealthType, ErrorDetail: &rpcstatus.Status{Code: 500, Message: "no"}},
		{TypeUrl: HealthType, ErrorDetail: &rpcstatus.Status{Code: 500}},
		{TypeUrl: ClusterType},
	} {
		if err := delta.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	want("join a")
	want("health ")
	want("health no")
	want("health its proxy does not say why")
	if r, err := delta.Recv(); err != nil || r.GetTypeUrl() != ClusterType {
		t.Errorf("the first answer is %v, %v, want one about clusters", r, err)
	}
	cancel()
	want("leave")

	world, err := client.StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := world.Send(&discovery.DiscoveryRequest{Node: node, TypeUrl: HealthType, ErrorDetail: &rpcstatus.Status{Message: "no"}}); err != nil {
		t.Fatal(err)
	}
	want("join a")
	want("health no")

	stranger, err := client.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Send(&discovery.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "sidecar~10.0.0.1~stranger.default~default.svc.cluster.local"}, TypeUrl: ClusterType}); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a workload that may not join: %v", err)
	}
}
