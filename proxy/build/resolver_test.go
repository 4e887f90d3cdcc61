package build

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	dnscachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/resolve"
)

// A cache of names that says whom to ask, and how, has a resolver of its own that is told so.
func TestResolverOfANameCache(t *testing.T) {
	env := testEnv(t)
	var told []resolve.Config
	env.Resolver = func(c resolve.Config) cluster.Resolver {
		told = append(told, c)
		return nil
	}
	r := &reader{env: env}
	r.nameCache(&dnscachev3.DnsCacheConfig{Name: "names", TypedDnsResolverConfig: &corev3.TypedExtensionConfig{
		TypedConfig: packed(t, &caresv3.CaresDnsResolverConfig{UseResolversAsFallback: true, FilterUnroutableFamilies: true})}}, nil)
	if len(r.errs) > 0 || len(told) != 1 || !told[0].Fallback || !told[0].Unroutable {
		t.Errorf("resolvers are told %+v: %v", told, r.errs)
	}
}

// How patient a resolver is, whom it asks first and which names it completes is as its configuration says.
func TestResolverOfACluster(t *testing.T) {
	r := &reader{env: testEnv(t)}
	c := r.resolverConfig(&clusterv3.Cluster{TypedDnsResolverConfig: &corev3.TypedExtensionConfig{TypedConfig: packed(t, &caresv3.CaresDnsResolverConfig{
		DnsResolverOptions:  &corev3.DnsResolverOptions{NoDefaultSearchDomain: true},
		QueryTimeoutSeconds: wrapperspb.UInt64(2), QueryTries: wrapperspb.UInt32(3), RotateNameservers: true})}}, nil)
	if len(r.errs) > 0 || c == nil || !c.NoSearch || !c.Rotate || c.Timeout != 2*time.Second || c.Tries != 3 {
		t.Errorf("a resolver is %+v: %v", c, r.errs)
	}
}

// Of the fields that say whom to ask for names the newest that is set counts, and nothing of the others.
func TestOldFieldsForNameServers(t *testing.T) {
	at := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "10.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 53}}}}
	old := &corev3.DnsResolutionConfig{Resolvers: []*corev3.Address{at, at}}
	//nolint:staticcheck // deprecated, and still written
	for _, test := range []struct {
		m       resolverSource
		servers int // -1: the proxy's own resolver
		tcp     bool
	}{
		{&bootstrapv3.Bootstrap{}, -1, false},
		{&bootstrapv3.Bootstrap{UseTcpForDnsLookups: true}, 0, true},
		{&bootstrapv3.Bootstrap{UseTcpForDnsLookups: true, DnsResolutionConfig: old}, 2, false},
		{&dnscachev3.DnsCacheConfig{UseTcpForDnsLookups: true}, 0, true},
		{&clusterv3.Cluster{DnsResolvers: []*corev3.Address{at}}, 1, false},
		{&clusterv3.Cluster{UseTcpForDnsLookups: true, DnsResolvers: []*corev3.Address{at}}, 1, true},
		{&clusterv3.Cluster{DnsResolvers: []*corev3.Address{at}, DnsResolutionConfig: old}, 2, false},
		{&clusterv3.Cluster{DnsResolutionConfig: old, TypedDnsResolverConfig: &corev3.TypedExtensionConfig{TypedConfig: packed(t, &caresv3.CaresDnsResolverConfig{})}}, 0, false},
	} {
		r := &reader{env: testEnv(t)}
		got, servers, tcp := r.resolverConfig(test.m, nil), -1, false
		if got != nil {
			servers, tcp = len(got.Servers), got.TCP
		}
		if len(r.errs) > 0 || servers != test.servers || tcp != test.tcp {
			t.Errorf("%v: %d servers, TCP %v, %v; want %d, %v", test.m, servers, tcp, r.errs, test.servers, test.tcp)
		}
	}
}

// How long a cluster believes an answer, and a failure, is as its configuration says, of the old type and of the new.
func TestWaitsOfNames(t *testing.T) {
	second := durationpb.New(time.Second)
	for _, m := range []*clusterv3.Cluster{
		{Name: "old", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}, DnsJitter: durationpb.New(3 * time.Second), //nolint:staticcheck // deprecated, and everywhere
			DnsFailureRefreshRate: &clusterv3.Cluster_RefreshRate{BaseInterval: second, MaxInterval: durationpb.New(2 * time.Second)}}, //nolint:staticcheck // deprecated, and everywhere
		{Name: "new", ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{Name: "envoy.cluster.dns",
			TypedConfig: packed(t, &dnsv3.DnsCluster{DnsJitter: durationpb.New(3 * time.Second),
				DnsFailureRefreshRate: &dnsv3.DnsCluster_RefreshRate{BaseInterval: second, MaxInterval: durationpb.New(2 * time.Second)}})}}},
	} {
		r, c := &reader{env: testEnv(t)}, &cluster.Config{}
		r.clusterKind(m, c)
		if d := c.DNS; len(r.errs) > 0 || d.Jitter != 3*time.Second || d.FailureBase != time.Second || d.FailureMax != 2*time.Second {
			t.Errorf("%s: names are asked for by %+v: %v", m.GetName(), d, r.errs)
		}
	}
}

// A register answers every question, and notes when it came.
type register struct {
	ttl   time.Duration
	began time.Time
	asked []time.Duration
}

func (g *register) Resolve(context.Context, string, cluster.Family) ([]netip.Addr, time.Duration, error) {
	g.asked = append(g.asked, time.Since(g.began))
	return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, g.ttl, nil
}

// A cache of names asks as often as its configuration says, and until it says that a name is to be forgotten.
func TestQuestionsOfANameCache(t *testing.T) {
	of := func(d time.Duration) *durationpb.Duration { return durationpb.New(d * time.Second) }
	for _, test := range []struct {
		says  string
		m     *dnscachev3.DnsCacheConfig
		ttl   time.Duration
		times int // in 100 s
	}{
		{"an answer without a time to live is believed for a minute", &dnscachev3.DnsCacheConfig{}, 0, 2},
		{"or as long as dns_refresh_rate says", &dnscachev3.DnsCacheConfig{DnsRefreshRate: of(30)}, 0, 4},
		{"a short time to live is 5 s", &dnscachev3.DnsCacheConfig{}, time.Second, 20},
		{"or as long as dns_min_refresh_rate says", &dnscachev3.DnsCacheConfig{DnsMinRefreshRate: of(20)}, time.Second, 5},
		{"a name that nobody asks for is forgotten after host_ttl", &dnscachev3.DnsCacheConfig{HostTtl: of(20), DnsRefreshRate: of(10)}, 0, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			env := testEnv(t)
			ctx, stop := context.WithCancel(t.Context())
			g := &register{ttl: test.ttl, began: time.Now()}
			env.Context, env.Names = ctx, g
			r := &reader{env: env}
			test.m.Name = "names"
			names := r.nameCache(test.m, nil)
			if names == nil {
				t.Fatalf("%s: %v", test.says, r.errs)
			}
			names.Ask("a.example", func() {})
			time.Sleep(100*time.Second - 1)
			stop()
			synctest.Wait()
			if len(g.asked) != test.times {
				t.Errorf("%s: asked %d times in 100 s, at %v; want %d times", test.says, len(g.asked), g.asked, test.times)
			}
		})
	}
}
