package xdsclient

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func packed(t *testing.T, all ...proto.Message) []*anypb.Any {
	t.Helper()
	var out []*anypb.Any
	for _, m := range all {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

func said(r *discovery.DiscoveryRequest) string {
	out := fmt.Sprintf("%s version %q nonce %q names %q", r.GetTypeUrl()[strings.LastIndexByte(r.GetTypeUrl(), '.')+1:], r.GetVersionInfo(), r.GetResponseNonce(), r.GetResourceNames())
	if r.GetErrorDetail() != nil {
		out += " refused: " + r.GetErrorDetail().GetMessage()
	}
	return out
}

// A machine that thinks in increments gets along with a server that only knows the
// state of the world: what an answer leaves out has gone, names are repeated, a
// refusal keeps the version that was accepted.
func TestWorld(t *testing.T) {
	m := NewMachine(nil)
	w := &World{}
	send := func(r *Request) string { return said(w.Request(r)) }
	m.Want(ClusterType, Interest{Wildcard: true})
	first := m.Opened()
	if got, want := send(first[0]), `Cluster version "" nonce "" names []`; got != want {
		t.Errorf("first request %s, want %s", got, want)
	}
	receive := func(r *discovery.DiscoveryResponse, refuse ...string) (Update, string) {
		t.Helper()
		d, err := w.Response(r)
		if err != nil {
			t.Fatal(err)
		}
		u, err := m.Receive(d)
		if err != nil {
			t.Fatal(err)
		}
		var refused []Refusal
		for _, n := range refuse {
			refused = append(refused, Refusal{n, fmt.Errorf("bad")})
		}
		return u, send(m.Answer(d, u, refused))
	}
	u, ack := receive(&discovery.DiscoveryResponse{TypeUrl: ClusterType, VersionInfo: "1", Nonce: "a", Resources: packed(t, &clusterv3.Cluster{Name: "x"}, &clusterv3.Cluster{Name: "y"})})
	if len(u.Resources) != 2 || ack != `Cluster version "1" nonce "a" names []` {
		t.Errorf("%d resources, then %s", len(u.Resources), ack)
	}
	u, ack = receive(&discovery.DiscoveryResponse{TypeUrl: ClusterType, VersionInfo: "2", Nonce: "b", Resources: packed(t, &clusterv3.Cluster{Name: "x"})}, "x")
	if !slices.Equal(u.Removed, []string{"y"}) || ack != `Cluster version "1" nonce "b" names [] refused: x: bad` {
		t.Errorf("removed %v, then %s", u.Removed, ack)
	}
	if got, want := send(m.Want(EndpointType, Interest{Names: []string{"x"}})), `ClusterLoadAssignment version "" nonce "" names ["x"]`; got != want {
		t.Errorf("endpoints: %s, want %s", got, want)
	}
	u, ack = receive(&discovery.DiscoveryResponse{TypeUrl: EndpointType, VersionInfo: "7", Nonce: "c", Resources: packed(t, &endpointv3.ClusterLoadAssignment{ClusterName: "x"})})
	if len(u.Resources) != 1 || ack != `ClusterLoadAssignment version "7" nonce "c" names ["x"]` {
		t.Errorf("%d endpoints, then %s", len(u.Resources), ack)
	}
	if got, want := send(m.Want(EndpointType, Interest{Names: []string{"x", "z"}})), `ClusterLoadAssignment version "7" nonce "c" names ["x" "z"]`; got != want {
		t.Errorf("more endpoints: %s, want %s", got, want)
	}
	if u, _ = receive(&discovery.DiscoveryResponse{TypeUrl: EndpointType, VersionInfo: "8", Nonce: "d"}); len(u.Removed) != 0 {
		t.Errorf("an answer without endpoints took %v away", u.Removed)
	}

	// On the next stream, what has gone in the meantime is noticed.
	m.Closed()
	w = &World{}
	for _, r := range m.Opened() {
		send(r)
	}
	if u, _ = receive(&discovery.DiscoveryResponse{TypeUrl: ClusterType, VersionInfo: "9", Nonce: "e"}); !slices.Equal(u.Removed, []string{"x"}) {
		t.Errorf("removed %v, want x", u.Removed)
	}
}
