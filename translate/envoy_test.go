package translate_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
	"github.com/mallamesh/malla/translate/story"
)

// TestEnvoyAccepts asks a real Envoy about everything that the stories make,
// route tables and endpoints included.
func TestEnvoyAccepts(t *testing.T) {
	envoy := findEnvoy(t)
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range archive.Files {
				if f.Name == "not for envoy" {
					t.Skip(strings.TrimSpace(string(f.Data)))
				}
			}
			s, err := story.Read(archive)
			if err != nil {
				t.Fatal(err)
			}
			s.View.Proxy.Stock = true
			validate(t, envoy, bootstrap(t, s.View))
		})
	}
}

// findEnvoy returns the path of a real Envoy. Where there is none the test is
// skipped, but never in CI.
func findEnvoy(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a real Envoy is not asked with -short")
	}
	candidates := []string{os.Getenv("MALLA_ENVOY"), "../.cache/envoy/bin/envoy"}
	if p, err := exec.LookPath("envoy"); err == nil {
		candidates = append(candidates, p)
	}
	for _, c := range candidates {
		if c == "" {
			continue
		}
		if _, err := os.Stat(c); err == nil {
			return c
		}
	}
	const missing = "no real Envoy: set MALLA_ENVOY, or put it into .cache/envoy/bin/envoy (make test does), or on PATH"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

func validate(t *testing.T, envoy string, b *bootstrapv3.Bootstrap) {
	t.Helper()
	data, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.pb")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(envoy, "--mode", "validate", "-c", file, "--log-level", "warning", "--concurrency", "1")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("Envoy refuses: %v\n%s", err, out.String())
	}
}

// bootstrap puts everything that the proxy gets into one static configuration.
// What comes by name (endpoints, routes) is put in its place, since Envoy looks
// at nothing that it would have to fetch.
func bootstrap(t *testing.T, v *model.View) *bootstrapv3.Bootstrap {
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: "test", Cluster: "test"},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "xds-grpc"}}}},
		}},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{},
	}
	for _, name := range []string{"xds-grpc", "sds-grpc"} {
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, &clusterv3.Cluster{
			Name: name, ConnectTimeout: durationpb.New(1e9), ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		})
	}
	for _, name := range translate.ClusterNames(v) {
		c, ok := translate.Cluster(v, name)
		if !ok {
			t.Errorf("cluster %s is listed, but there is none", name)
			continue
		}
		if c.GetType() == clusterv3.Cluster_EDS {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
			c.EdsClusterConfig = nil
			if c.LoadAssignment, ok = translate.Endpoints(v, name); !ok {
				t.Errorf("cluster %s has no endpoints resource", name)
			}
		}
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, c)
	}
	for _, name := range translate.ListenerNames(v) {
		l, ok := translate.Listener(v, name)
		if !ok {
			t.Errorf("listener %s is listed, but there is none", name)
			continue
		}
		for _, chain := range append(l.FilterChains, l.DefaultFilterChain) {
			inlineRoutes(t, v, chain)
		}
		b.StaticResources.Listeners = append(b.StaticResources.Listeners, l)
	}
	return b
}

func inlineRoutes(t *testing.T, v *model.View, chain *listenerv3.FilterChain) {
	for i, f := range chain.GetFilters() {
		m := new(hcmv3.HttpConnectionManager)
		if !f.GetTypedConfig().MessageIs(m) {
			continue
		}
		if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		rds := m.GetRds()
		if rds == nil {
			continue
		}
		table, ok := translate.Routes(v, rds.RouteConfigName)
		if !ok {
			t.Errorf("a listener names the route table %s, but there is none", rds.RouteConfigName)
			continue
		}
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: table}
		config, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		chain.Filters[i] = &listenerv3.Filter{Name: f.Name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config}}
	}
}
