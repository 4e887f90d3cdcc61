package foreign

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// dumped are the stories whose configuration is served by a foreign control plane: what a sidecar sends and what it
// receives, a gateway, and connections with and without the mesh's certificates.
var dumped = []string{"match_fields", "fault", "mutual_tls", "inbound_strict", "inbound_permissive", "sidecar_ingress", "gateway_http", "http2_upgrade"}

// TestDump: our proxy under a control plane that is not ours takes what one of Istio's shape has for it, with Istio's own
// filters. It comes as a dump of a proxy's configuration, and the answers are those of the story.
func TestDump(t *testing.T) {
	ours := process.Proxy(t)
	for _, name := range dumped {
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(filepath.Join("..", "..", "translate", "testdata", name+".txtar"))
			if err != nil {
				t.Fatal(err)
			}
			p := &play{t: t, archive: archive, listeners: map[string][2]int{}, servers: map[standInKey]*standIn{}}
			p.open()
			dump := p.dump()
			for _, filter := range []string{"istio.stats", "istio.metadata_exchange"} {
				if !strings.Contains(dump, filter) {
					t.Errorf("the dump has no %s", filter)
				}
			}
			s := newSnapshots(t)
			resources := restored(t, dump)
			s.serve("1", p.nodeID(), resources)
			p.plane.Address = s.address
			p.proxies[0] = p.proxy(false, "DELTA_GRPC", ours, "--file-flush-interval-msec", "20")
			p.opened(0)
			for i, f := range archive.Files {
				if isRequest(f) {
					if got, want := p.said(f, 0)[0], string(archive.Files[i+1].Data); got != want {
						t.Errorf("%s:\nfound\n%s\nwant\n%s", f.Name, got, want)
					}
				}
			}
			if said := s.refusals(); said != "" {
				t.Errorf("refused: %s", said)
			}

			// What it does not do is refused by its path, and what it had stays in force.
			refused := proto.CloneOf(resources[resource.ListenerType][0].(*listenerv3.Listener))
			if !addWasm(t, refused) {
				return // of bytes only
			}
			resources[resource.ListenerType][0] = refused
			s.serve("2", p.nodeID(), resources)
			mesh.Until(t, 20*time.Second, "the refusal of a listener", func() error {
				if got := s.refusals(); !strings.Contains(got, "http_filters[0]") || !strings.Contains(got, "wasm") || !strings.Contains(got, refused.Name) {
					return fmt.Errorf("%q", got)
				}
				return nil
			})
			for name, ports := range p.listeners {
				if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0])); err != nil {
					t.Errorf("%s after a refusal: %v", name, err)
				} else {
					c.Close()
				}
			}
		})
	}
}

// addWasm puts a filter that our proxy lacks in front of those of the first manager of the listener.
func addWasm(t *testing.T, l *listenerv3.Listener) bool {
	t.Helper()
	for _, c := range l.FilterChains {
		for _, f := range c.Filters {
			m := &hcmv3.HttpConnectionManager{}
			if f.GetTypedConfig().UnmarshalTo(m) != nil {
				continue
			}
			config, err := anypb.New(&wasmv3.Wasm{})
			if err != nil {
				t.Fatal(err)
			}
			m.HttpFilters = append([]*hcmv3.HttpFilter{{Name: "wasm", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config}}}, m.HttpFilters...)
			if err := f.GetTypedConfig().MarshalFrom(m); err != nil {
				t.Fatal(err)
			}
			return true
		}
	}
	return false
}

// dump is the configuration of the story's proxy as an Envoy's page config_dump has it.
func (p *play) dump() string {
	p.t.Helper()
	all := func(typeURL string) (list []*anypb.Any) {
		for _, name := range p.names(p.views[0], typeURL) {
			m, ok := p.resource(p.views[0], typeURL, name)
			if !ok {
				continue
			}
			packed, err := anypb.New(m)
			if err != nil {
				p.t.Fatal(err)
			}
			list = append(list, packed)
		}
		return list
	}
	clusters, listeners, routes, endpoints := &adminv3.ClustersConfigDump{}, &adminv3.ListenersConfigDump{}, &adminv3.RoutesConfigDump{}, &adminv3.EndpointsConfigDump{}
	for _, c := range all(resource.ClusterType) {
		clusters.DynamicActiveClusters = append(clusters.DynamicActiveClusters, &adminv3.ClustersConfigDump_DynamicCluster{Cluster: c})
	}
	for _, l := range all(resource.ListenerType) {
		listeners.DynamicListeners = append(listeners.DynamicListeners, &adminv3.ListenersConfigDump_DynamicListener{ActiveState: &adminv3.ListenersConfigDump_DynamicListenerState{Listener: l}})
	}
	for _, r := range all(resource.RouteType) {
		routes.DynamicRouteConfigs = append(routes.DynamicRouteConfigs, &adminv3.RoutesConfigDump_DynamicRouteConfig{RouteConfig: r})
	}
	for _, e := range all(resource.EndpointType) {
		endpoints.DynamicEndpointConfigs = append(endpoints.DynamicEndpointConfigs, &adminv3.EndpointsConfigDump_DynamicEndpointConfig{EndpointConfig: e})
	}
	secrets := &adminv3.SecretsConfigDump{}
	for _, s := range all(resource.SecretType) {
		secrets.DynamicActiveSecrets = append(secrets.DynamicActiveSecrets, &adminv3.SecretsConfigDump_DynamicSecret{Secret: s})
	}
	out := &adminv3.ConfigDump{}
	for _, m := range []proto.Message{clusters, listeners, routes, endpoints, secrets} {
		packed, err := anypb.New(m)
		if err != nil {
			p.t.Fatal(err)
		}
		out.Configs = append(out.Configs, packed)
	}
	text, err := protojson.Marshal(out)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// restored reads the resources of a dump.
func restored(t *testing.T, text string) map[resource.Type][]types.Resource {
	t.Helper()
	dump := &adminv3.ConfigDump{}
	if err := protojson.Unmarshal([]byte(text), dump); err != nil {
		t.Fatal(err)
	}
	out := map[resource.Type][]types.Resource{}
	add := func(typeURL string, packed *anypb.Any) {
		m, err := packed.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		out[typeURL] = append(out[typeURL], m)
	}
	for _, c := range dump.Configs {
		m, err := c.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *adminv3.ClustersConfigDump:
			for _, c := range m.DynamicActiveClusters {
				add(resource.ClusterType, c.Cluster)
			}
		case *adminv3.ListenersConfigDump:
			for _, l := range m.DynamicListeners {
				add(resource.ListenerType, l.ActiveState.Listener)
			}
		case *adminv3.RoutesConfigDump:
			for _, r := range m.DynamicRouteConfigs {
				add(resource.RouteType, r.RouteConfig)
			}
		case *adminv3.SecretsConfigDump:
			for _, s := range m.DynamicActiveSecrets {
				add(resource.SecretType, s.Secret)
			}
		case *adminv3.EndpointsConfigDump:
			for _, e := range m.DynamicEndpointConfigs {
				add(resource.EndpointType, e.EndpointConfig)
			}
		}
	}
	return out
}

// serve has the control plane of go-control-plane's give these resources to a node.
func (s *cachePlane) serve(version, node string, resources map[resource.Type][]types.Resource) {
	s.t.Helper()
	snapshot, err := cache.NewSnapshot(version, resources)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cache.SetSnapshot(s.t.Context(), node, snapshot); err != nil {
		s.t.Fatal(err)
	}
}
