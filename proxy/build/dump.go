package build

import (
	"maps"
	"slices"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	malltls "github.com/mallamesh/malla/proxy/tls"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// Dump returns the store's part of Envoy's config_dump, in Envoy's order. Private
// keys are left out.
func (s *Store) Dump(endpoints bool) []proto.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []proto.Message{s.dumpClusters()}
	if endpoints {
		out = append(out, s.dumpEndpoints())
	}
	out = append(out, s.dumpExtensions()...)
	return append(out, s.dumpListeners(), s.dumpScopes(), s.dumpRoutes(), s.dumpSecrets())
}

// Contexts returns the TLS contexts of what is in force, those of clusters first.
func (s *Store) Contexts() (out []*malltls.Common) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.clusters)) {
		if c := s.clusters[name].live; c != nil {
			for _, t := range c.Transports {
				if client, ok := t.Socket.(*malltls.Client); ok {
					out = append(out, client.Context())
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.listeners)) {
		if l := s.listeners[name].live; l != nil {
			for _, chain := range append(slices.Clip(l.Config.Chains), l.Config.Default) {
				if chain != nil && chain.TLS != nil {
					out = append(out, chain.TLS.Context())
				}
			}
		}
	}
	return out
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// failure is what is known of the version that was refused.
func (r *Record) failure() *adminv3.UpdateFailureState {
	if r.Refused == nil {
		return nil
	}
	return &adminv3.UpdateFailureState{FailedConfiguration: r.Refused.Body, LastUpdateAttempt: stamp(r.Refused.At), Details: r.Refused.Detail, VersionInfo: r.Refused.Version}
}

func (s *Store) dumpClusters() proto.Message {
	out := &adminv3.ClustersConfigDump{VersionInfo: s.version[xdsclient.ClusterType]}
	for _, name := range slices.Sorted(maps.Keys(s.clusters)) {
		e := s.clusters[name]
		if e.Static {
			out.StaticClusters = append(out.StaticClusters, &adminv3.ClustersConfigDump_StaticCluster{Cluster: e.Body, LastUpdated: stamp(e.Updated)})
			continue
		}
		d := &adminv3.ClustersConfigDump_DynamicCluster{VersionInfo: e.Version, Cluster: e.Body, LastUpdated: stamp(e.Updated), ErrorState: e.failure()}
		if e.live == nil {
			out.DynamicWarmingClusters = append(out.DynamicWarmingClusters, d)
		} else {
			out.DynamicActiveClusters = append(out.DynamicActiveClusters, d)
		}
	}
	return out
}

func (s *Store) dumpListeners() proto.Message {
	out := &adminv3.ListenersConfigDump{VersionInfo: s.version[xdsclient.ListenerType]}
	for _, name := range slices.Sorted(maps.Keys(s.listeners)) {
		e := s.listeners[name]
		if e.Static {
			out.StaticListeners = append(out.StaticListeners, &adminv3.ListenersConfigDump_StaticListener{Listener: e.Body, LastUpdated: stamp(e.Updated)})
			continue
		}
		d := &adminv3.ListenersConfigDump_DynamicListener{Name: name, ErrorState: e.failure()}
		state := &adminv3.ListenersConfigDump_DynamicListenerState{VersionInfo: e.Version, Listener: e.Body, LastUpdated: stamp(e.Updated)}
		if e.next == nil && e.live != nil {
			d.ActiveState = state
		} else if e.Body != nil {
			d.WarmingState = state
		}
		out.DynamicListeners = append(out.DynamicListeners, d)
	}
	return out
}

// dumpExtensions lists the configurations of filters that came by themselves, a message for each kind of filter that has some place.
func (s *Store) dumpExtensions() (out []proto.Message) {
	for _, kind := range []string{httpKind, networkKind, listenerKind} {
		names := map[string]bool{}
		s.holders(func(l *Listener) {
			for p := range l.places() {
				if p.kind == kind {
					names[p.Name] = true
				}
			}
		})
		if len(names) == 0 {
			continue
		}
		dump := &adminv3.EcdsConfigDump{}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if e := s.extensions[name]; e != nil && (e.Body != nil || e.Refused != nil) {
				dump.EcdsFilters = append(dump.EcdsFilters, &adminv3.EcdsConfigDump_EcdsFilterConfig{
					VersionInfo: e.Version, EcdsFilter: e.Body, LastUpdated: stamp(e.Updated), ErrorState: e.failure()})
			}
		}
		out = append(out, dump)
	}
	return out
}

func (s *Store) dumpRoutes() proto.Message {
	out := &adminv3.RoutesConfigDump{StaticRouteConfigs: s.dumpInline()}
	for _, name := range slices.Sorted(maps.Keys(s.routes)) {
		e := s.routes[name]
		out.DynamicRouteConfigs = append(out.DynamicRouteConfigs, &adminv3.RoutesConfigDump_DynamicRouteConfig{
			VersionInfo: e.Version, RouteConfig: e.Body, LastUpdated: stamp(e.Updated), ErrorState: e.failure()})
	}
	return out
}

// dumpInline lists the route tables that stand inside of listeners, which tools look for among the routes.
func (s *Store) dumpInline() (out []*adminv3.RoutesConfigDump_StaticRouteConfig) {
	s.managers(func(e *listenerEntry, m *hcmv3.HttpConnectionManager) {
		if m.GetRouteConfig() == nil {
			return
		}
		if table, err := anypb.New(m.GetRouteConfig()); err == nil {
			out = append(out, &adminv3.RoutesConfigDump_StaticRouteConfig{RouteConfig: table, LastUpdated: stamp(e.Updated)})
		}
	})
	return out
}

// managers calls f for the connection managers of listeners in force.
func (s *Store) managers(f func(*listenerEntry, *hcmv3.HttpConnectionManager)) {
	for _, name := range slices.Sorted(maps.Keys(s.listeners)) {
		e := s.listeners[name]
		var l listenerv3.Listener
		if e.live == nil || e.Body == nil || e.Body.UnmarshalTo(&l) != nil {
			continue
		}
		for _, c := range append(slices.Clone(l.GetFilterChains()), l.GetDefaultFilterChain()) {
			for _, filter := range c.GetFilters() {
				var m hcmv3.HttpConnectionManager
				if filter.GetTypedConfig().MessageIs(&m) && filter.GetTypedConfig().UnmarshalTo(&m) == nil {
					f(e, &m)
				}
			}
		}
	}
}

func (s *Store) dumpEndpoints() proto.Message {
	out := &adminv3.EndpointsConfigDump{}
	for _, name := range slices.Sorted(maps.Keys(s.endpoints)) {
		e := s.endpoints[name]
		out.DynamicEndpointConfigs = append(out.DynamicEndpointConfigs, &adminv3.EndpointsConfigDump_DynamicEndpointConfig{
			VersionInfo: e.Version, EndpointConfig: e.Body, LastUpdated: stamp(e.Updated), ErrorState: e.failure()})
	}
	return out
}

func (s *Store) dumpSecrets() proto.Message {
	out := &adminv3.SecretsConfigDump{}
	for _, name := range slices.Sorted(maps.Keys(s.secrets)) {
		e := s.secrets[name]
		body := redacted(e.Body)
		if e.Static {
			out.StaticSecrets = append(out.StaticSecrets, &adminv3.SecretsConfigDump_StaticSecret{Name: name, LastUpdated: stamp(e.Updated), Secret: body})
			continue
		}
		out.DynamicActiveSecrets = append(out.DynamicActiveSecrets, &adminv3.SecretsConfigDump_DynamicSecret{
			Name: name, VersionInfo: e.Version, LastUpdated: stamp(e.Updated), Secret: body, ErrorState: e.failure()})
	}
	out.DynamicActiveSecrets = append(out.DynamicActiveSecrets, s.dumpLocal()...)
	return out
}

// dumpLocal shows what the agent supplies, which no control plane sends.
func (s *Store) dumpLocal() []*adminv3.SecretsConfigDump_DynamicSecret {
	var out []*adminv3.SecretsConfigDump_DynamicSecret
	identities, trusts := s.env.Secrets.Names()
	for _, name := range identities {
		c := s.env.Secrets.Identity(name).Certificate()
		if c == nil || !s.env.Secrets.isLocal(name) || s.secrets[name] != nil {
			continue
		}
		m := &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(pemOf(c.Certificate...)), PrivateKey: inline([]byte("[redacted]"))}}}
		body, _ := anypb.New(m) // a message of plain strings
		out = append(out, &adminv3.SecretsConfigDump_DynamicSecret{Name: name, LastUpdated: stamp(c.Leaf.NotBefore), Secret: body})
	}
	for _, name := range trusts {
		b := s.env.Secrets.Trust(name).Bundle()
		if b == nil || !s.env.Secrets.isLocal(name) || s.secrets[name] != nil {
			continue
		}
		var raw [][]byte
		for _, c := range b.Certificates {
			raw = append(raw, c.Raw)
		}
		m := &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(pemOf(raw...))}}}
		body, _ := anypb.New(m)
		out = append(out, &adminv3.SecretsConfigDump_DynamicSecret{Name: name, Secret: body})
	}
	return out
}

// redacted returns a secret without its private key.
func redacted(a *anypb.Any) *anypb.Any {
	m := &tlsv3.Secret{}
	if a == nil || a.UnmarshalTo(m) != nil {
		return nil
	}
	if c := m.GetTlsCertificate(); c.GetPrivateKey() != nil {
		c.PrivateKey = inline([]byte("[redacted]"))
	}
	out, err := anypb.New(m)
	if err != nil {
		return nil
	}
	return out
}
