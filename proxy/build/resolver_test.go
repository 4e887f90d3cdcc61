package build

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dnscachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"

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
