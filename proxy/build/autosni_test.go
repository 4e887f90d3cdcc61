package build

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	malltls "github.com/mallamesh/malla/proxy/tls"
)

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A cluster that says auto_sni sends the request's host to a TLS server, else
// nobody would know whose certificate to show, or to expect.
func TestAutoSNIReachesTheTransport(t *testing.T) {
	for _, auto := range []bool{true, false} {
		m := &clusterv3.Cluster{
			Name:            "out",
			TransportSocket: &corev3.TransportSocket{Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed(t, &tlsv3.UpstreamTlsContext{})}},
			TypedExtensionProtocolOptions: map[string]*anypb.Any{optionsKey: packed(t, &httpv3.HttpProtocolOptions{
				UpstreamHttpProtocolOptions: &corev3.UpstreamHttpProtocolOptions{AutoSni: auto, AutoSanValidation: auto}})},
		}
		r := &reader{env: &Env{}}
		all := r.transports(m, NewSecrets())
		if len(r.errs) > 0 {
			t.Fatal(r.errs)
		}
		client, ok := all[0].Socket.(*malltls.Client)
		if !ok || client.ByAuthority() != auto {
			t.Errorf("auto_sni %v: connections by authority: %v", auto, ok && client.ByAuthority())
		}
		if got := client.ServerName("example.com:443", ""); auto && got != "example.com" {
			t.Errorf("sends the name %q", got)
		}
	}
}
