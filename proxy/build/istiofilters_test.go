package build

import (
	"testing"
	"time"

	alpnv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/alpn/v3"
	istiostatsv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/istio_stats/v3"
	peerv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/peer_metadata/v3"
	exchangev3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/network/metadata_exchange/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/metadata"
)

// The ALPN filter's names are offered by connections of the version that they are for.
func TestALPNOfTheMesh(t *testing.T) {
	got := alpnOffers(&alpnv3.FilterConfig{AlpnOverride: []*alpnv3.FilterConfig_AlpnOverride{
		{UpstreamProtocol: alpnv3.FilterConfig_HTTP10, AlpnOverride: []string{"istio-http/1.0"}},
		{UpstreamProtocol: alpnv3.FilterConfig_HTTP11, AlpnOverride: []string{"istio-http/1.1", "istio"}},
		{UpstreamProtocol: alpnv3.FilterConfig_HTTP2, AlpnOverride: []string{"istio-h2"}}}})
	if got.HTTP11 != "istio-http/1.1,istio" || got.HTTP2 != "istio-h2" {
		t.Errorf("offers %+v", got)
	}
}

// Before an application a sidecar hears of clients and tells them who it is; before the others it is the other way
// round, and who stands outside of the mesh is told nothing.
func TestDirectionsOfPeerMetadata(t *testing.T) {
	discovery := []*peerv3.Config_DiscoveryMethod{{MethodSpecifier: &peerv3.Config_DiscoveryMethod_IstioHeaders{IstioHeaders: &peerv3.Config_IstioHeaders{}}}}
	tell := func(skip bool) []*peerv3.Config_PropagationMethod {
		return []*peerv3.Config_PropagationMethod{{MethodSpecifier: &peerv3.Config_PropagationMethod_IstioHeaders{IstioHeaders: &peerv3.Config_IstioHeaders{SkipExternalClusters: skip}}}}
	}
	for _, test := range []struct {
		m                  *peerv3.Config
		inbound, own, skip bool
		mistakes           int
	}{
		{&peerv3.Config{DownstreamDiscovery: discovery, DownstreamPropagation: tell(false)}, true, true, false, 0},
		{&peerv3.Config{UpstreamDiscovery: discovery, UpstreamPropagation: tell(true)}, false, true, true, 0},
		{&peerv3.Config{DownstreamDiscovery: discovery}, true, false, false, 0},
		{&peerv3.Config{DownstreamDiscovery: discovery, UpstreamDiscovery: discovery}, false, false, false, 1},
	} {
		r := &listenerReader{reader: reader{env: testEnv(t)}}
		got := r.peer(test.m, nil)
		if len(r.errs) != test.mistakes || test.mistakes == 0 && (got.Inbound != test.inbound || (got.Own != nil) != test.own || (got.Skip != nil) != test.skip) {
			t.Errorf("%v: inbound %v, tells %v, leaves some out %v: %v", test.m, got.Inbound, got.Own != nil, got.Skip != nil, r.errs)
		}
	}
}

// Istio's metrics of connections are counted as often as the filter says, and the request's host stands for a service
// that is not known unless that is switched off.
func TestOptionsOfIstioMetrics(t *testing.T) {
	for _, test := range []struct {
		m        *istiostatsv3.PluginConfig
		hostName bool
		every    time.Duration
	}{
		{&istiostatsv3.PluginConfig{}, true, 0},
		{&istiostatsv3.PluginConfig{DisableHostHeaderFallback: true, TcpReportingDuration: durationpb.New(time.Second)}, false, time.Second},
	} {
		r := &listenerReader{reader: reader{env: testEnv(t)}}
		if got := r.metrics(test.m, nil); got.hostName != test.hostName || got.every != test.every {
			t.Errorf("%v: host %v, every %v", test.m, got.hostName, got.every)
		}
	}
}

// The exchange of metadata over TCP has one protocol.
func TestProtocolOfTheExchange(t *testing.T) {
	for protocol, mistakes := range map[string]int{"istio-peer-exchange": 0, "other": 1} {
		r := &listenerReader{reader: reader{env: testEnv(t)}}
		r.metadataExchange(&exchangev3.MetadataExchange{Protocol: protocol}, nil)
		if len(r.errs) != mistakes || r.exchange == nil {
			t.Errorf("%s: %v", protocol, r.errs)
		}
	}
}

// Istio's metadata says which service a cluster is and which resource a route comes from.
func TestOriginsInMetadata(t *testing.T) {
	origin := func(fields map[string]any) *corev3.Metadata {
		s, err := structpb.NewStruct(fields)
		if err != nil {
			t.Fatal(err)
		}
		return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"istio": s}}
	}
	r := &reader{env: testEnv(t)}
	c := r.cluster(&clusterv3.Cluster{Name: "a", Metadata: origin(map[string]any{"config": "/apis/x/reviews",
		"services": []any{map[string]any{"host": "reviews.prod.svc.cluster.local", "name": "reviews", "namespace": "prod"}}})}, NewSecrets())
	if d := c.Config.Destination; d == nil || d.Service != "reviews.prod.svc.cluster.local" || d.Name != "reviews" || d.Namespace != "prod" || configOf(c.Config.Metadata) != "/apis/x/reviews" {
		t.Errorf("destination %+v, origin %v", d, c.Config.Metadata)
	}
	got := r.route(&routev3.Route{Metadata: origin(map[string]any{"config": "/apis/x/vs"}), Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 200}}}, "v", 4096, nil)
	if configOf(got.Metadata) != "/apis/x/vs" || len(r.errs) > 0 {
		t.Errorf("a route comes from %v: %v", got.Metadata, r.errs)
	}
}

func configOf(m *metadata.Set) any {
	fields, _ := m.Space("istio")
	return fields["config"]
}

// opened are the paths of access logs, and the last line of any of them.
type opened struct {
	paths []string
	line  string
}

func (o *opened) Open(path string) (Lines, error) {
	o.paths = append(o.paths, path)
	return o, nil
}

func (o *opened) OpenPrivate(path string) (Lines, error) { return o.Open(path) }

func (o *opened) Append(line []byte) { o.line = string(line) }

func (o *opened) Write(_ int, f *access.Format, r *access.Record) { o.line = string(f.Append(nil, r)) }

// Logs of standard output and of standard error are written there, in the format that they say.
func TestLogsOfStreams(t *testing.T) {
	format := &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "%RESPONSE_CODE% end\n"}}}}
	for path, m := range map[string]proto.Message{
		"/dev/stdout": &streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: format}},
		"/dev/stderr": &streamv3.StderrAccessLog{AccessLogFormat: &streamv3.StderrAccessLog_LogFormat{LogFormat: format}},
	} {
		files := &opened{}
		env := testEnv(t)
		env.Files = files
		r := &listenerReader{reader: reader{env: env}}
		l := r.accessLog(&accesslogv3.AccessLog{ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: packed(t, m)}}, nil)
		if l == nil || len(files.paths) != 1 || files.paths[0] != path {
			t.Fatalf("%s: opened %v: %v", path, files.paths, r.errs)
		}
		if l.Log(0, &access.Record{Code: 204, Type: access.DownstreamEnd}); files.line != "204 end\n" {
			t.Errorf("%s: wrote %q", path, files.line)
		}
	}
}
