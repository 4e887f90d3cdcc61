package xds

import (
	"fmt"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// A client that refuses without end, what it was sent and what it was not, is read at its pace: others are told of what
// changes all the same, nothing is sent to it because it shouts, and a bounded part of what it says is kept.
func TestAFloodOfRefusals(t *testing.T) {
	s, src, client := start(t, fixture{1, map[string]string{"a": "1"}})
	flood, err := client.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := flood.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: ClusterType}); err != nil {
		t.Fatal(err)
	}
	first, err := flood.Recv()
	if err != nil {
		t.Fatal(err)
	}
	const refusals = 100 // what the server reads ahead and what is on the wire are less
	shouted := make(chan error, 1)
	go func() {
		for i := range refusals {
			nonce := []string{first.GetNonce(), "nobody's", ""}[i%3]
			why := &rpcstatus.Status{Code: 3, Message: fmt.Sprint("a: no ", i, strings.Repeat("!", maxDetail))}
			if err := flood.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: ClusterType, ResponseNonce: nonce, ErrorDetail: why}); err != nil {
				shouted <- err
				return
			}
		}
		shouted <- nil
	}()

	other, err := client.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := &discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: ClusterType}
	for i := range 20 {
		src.now.Store(&fixture{uint64(2 + i), map[string]string{"a": fmt.Sprint("b", i)}})
		s.Changed(ClusterType)
		if err := other.Send(ask); err != nil {
			t.Fatal(err)
		}
		for {
			r, err := other.Recv()
			if err != nil {
				t.Fatal(err)
			}
			ask = &discovery.DeltaDiscoveryRequest{TypeUrl: ClusterType, ResponseNonce: r.GetNonce()}
			if got := (change{r.GetResources(), r.GetRemovedResources()}).text(); got == fmt.Sprint("a=b", i) {
				break
			}
			if err := other.Send(ask); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := <-shouted; err != nil {
		t.Fatal(err)
	}
	// It has the newest version, once it has answered for it.
	var last string
	answers := 0
	for ; last != "a=b19"; answers++ {
		r, err := flood.Recv()
		if err != nil {
			t.Fatal(err)
		}
		last = change{r.GetResources(), r.GetRemovedResources()}.text()
		if err := flood.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: ClusterType, ResponseNonce: r.GetNonce()}); err != nil {
			t.Fatal(err)
		}
	}
	if answers > 3 {
		t.Errorf("%d answers, want one for what it refused and one for what it took", answers)
	}
	for _, c := range s.Clients() {
		if n := c.Types["CDS"].Nack; n != nil && len(n.Detail) > maxDetail+3 {
			t.Errorf("%d bytes of a refusal are kept", len(n.Detail))
		}
	}
}
