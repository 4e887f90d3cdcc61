package shard

import (
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
	mtls "github.com/mallamesh/malla/proxy/tls"
)

// Where the cluster cannot know what its connections carry (a port without a declared
// protocol), Istio's ALPN filter makes those of HTTP say so: the server picks its chain by that.
// Servers outside the mesh are offered what the cluster says and nothing else.
func TestConnectionsOfHTTPSaySo(t *testing.T) {
	const http = "istio-http/1.1,istio,http/1.1"
	for _, test := range []struct {
		why     string
		cluster []string
		filter  string
		chain   string
	}{
		{"a sniffed port behind the filter", []string{"istio"}, http, "http-tls"},
		{"a sniffed port without the filter", []string{"istio"}, "", "tcp-tls"},
		{"a server outside the mesh", []string{"h2", "http/1.1"}, http, "other"},
	} {
		t.Run(test.why, func(t *testing.T) {
			p := newPair(t, nil)
			p.config.UpstreamALPN.HTTP11 = test.filter
			socket, err := mtls.NewClient(mtls.ClientConfig{Common: mtls.Common{
				Identities: []*mtls.Identity{p.client.identity}, Trust: p.client.trust, ALPN: test.cluster,
			}})
			if err != nil {
				t.Fatal(err)
			}
			p.rt.Clusters["reviews"].Transports = []cluster.Transport{{Name: "tls", Socket: socket}}
			p.endpoints("reviews", podB)
			inbound := p.rt.Listeners[1]
			server := inbound.Chains[0].TLS
			chains := []*listen.Chain{
				{Name: "http-tls", Match: listen.Match{Transport: listen.TLS, ALPN: []string{"istio-http/1.1"}}, TLS: server, Filter: p.in},
				{Name: "tcp-tls", Match: listen.Match{Transport: listen.TLS, ALPN: []string{"istio"}}, TLS: server, Filter: p.in},
				{Name: "other", Match: listen.Match{Transport: listen.TLS}, TLS: server, Filter: p.in},
			}
			next := &listen.Config{Name: inbound.Name, Version: "2", Addrs: inbound.Addrs, TLSInspector: inbound.TLSInspector, Direction: inbound.Direction, Chains: chains}
			rt := *p.rt
			rt.Listeners = []*listen.Config{rt.Listeners[0], next}
			if err := p.Apply(&rt); err != nil {
				t.Fatal(err)
			}
			seen := &recordLog{}
			p.in.Logs = append(p.in.Logs, seen)
			if got := p.do(get("/x")); !strings.HasPrefix(got, "HTTP/1.1 200") {
				t.Fatalf("answer %q, log %s", got, p.log.last())
			}
			if seen.chain != test.chain {
				t.Errorf("the server took chain %q, want %q", seen.chain, test.chain)
			}
		})
	}
}
