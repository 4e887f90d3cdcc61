package build

import (
	"math"
	"slices"
	"sync"
	"time"
	"weak"

	structv3 "github.com/cncf/xds/go/xds/type/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	listenerlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/local_ratelimit/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	originalsrcv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_src/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	connlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	networklimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	networkstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/stats"
)

var listenerFilterFields = []*Message{
	message((*originaldstv3.OriginalDst)(nil)),
	message((*originalsrcv3.OriginalSrc)(nil), reads("mark"),
		only("bind_port", "Envoy does not do it either: a port that the client uses is not always free", "false")),
	message((*tlsinspectorv3.TlsInspector)(nil), reads("enable_ja3_fingerprinting", "enable_ja4_fingerprinting"),
		ignores("the buffer grows as needed", "initial_read_buffer_size"),
		ignores("a client hello of more than 16 KiB is not one", "max_client_hello_size"),
		refuses("what is no client hello is plain text", "close_connection_on_client_hello_parsing_errors")),
	message((*httpinspectorv3.HttpInspector)(nil)),
	message((*proxyprotocolv3.ProxyProtocol)(nil), reads("allow_requests_without_proxy_protocol", "pass_through_tlvs", "disallowed_versions", "stat_prefix", "rules", "tlv_location")),
	message((*proxyprotocolv3.ProxyProtocol_Rule)(nil), reads("tlv_type", "on_tlv_present")),
	message((*proxyprotocolv3.ProxyProtocol_KeyValuePair)(nil), reads("metadata_namespace", "key", "value_string_encoding")),
	message((*corev3.ProxyProtocolPassThroughTLVs)(nil), reads("match_type", "tlv_type")),
	message((*listenerlimitv3.LocalRateLimit)(nil), reads("stat_prefix", "token_bucket", "runtime_enabled")),
	message((*networklimitv3.LocalRateLimit)(nil), reads("stat_prefix", "token_bucket", "runtime_enabled", "share_key")),
	message((*structv3.TypedStruct)(nil), reads("type_url", "value")),
	message((*connlimitv3.ConnectionLimit)(nil), reads("stat_prefix", "max_connections", "delay", "runtime_enabled")),
	message((*sniclusterv3.SniCluster)(nil)),
	message((*corev3.RuntimeFeatureFlag)(nil), reads("default_value", "runtime_key")),
}

// listenerFilterKinds are the listener filters by the name under which they go without configuration.
var listenerFilterKinds = map[string]proto.Message{
	"envoy.filters.listener.original_dst":    (*originaldstv3.OriginalDst)(nil),
	"envoy.filters.listener.original_src":    (*originalsrcv3.OriginalSrc)(nil),
	"envoy.filters.listener.tls_inspector":   (*tlsinspectorv3.TlsInspector)(nil),
	"envoy.filters.listener.http_inspector":  (*httpinspectorv3.HttpInspector)(nil),
	"envoy.filters.listener.proxy_protocol":  (*proxyprotocolv3.ProxyProtocol)(nil),
	"envoy.filters.listener.local_ratelimit": (*listenerlimitv3.LocalRateLimit)(nil),
}

// listenerFilters reads the listener filters. They run in one order here, which is refused to differ
// where it matters: limits, then addresses, then inspectors.
func (r *listenerReader) listenerFilters(m *listenerv3.Listener, c *listen.Config) {
	for i, f := range m.GetListenerFilters() {
		at := field.At("listener_filters").Index(i)
		var config proto.Message
		if f.GetConfigDiscovery() != nil {
			if config = r.listenerSlot(f, at); config == nil {
				c.FiltersMissing = true
				continue
			}
		} else if f.GetTypedConfig() != nil {
			if config = r.unpack(f.GetTypedConfig(), at); config == nil {
				continue
			}
		} else if config = listenerFilterKinds[f.GetName()]; config == nil {
			r.errs.Addf(at.Child("name"), "found %q, want a listener filter that is supported, or its typed_config", f.GetName())
			continue
		}
		inspector := &listen.Inspector{OffFor: r.ports(f.GetFilterDisabled(), at.Child("filter_disabled"))}
		r.listenerFilter(config, c, inspector, at)
		switch config.(type) {
		case *tlsinspectorv3.TlsInspector, *httpinspectorv3.HttpInspector:
		default:
			if f.GetFilterDisabled() != nil {
				r.errs.Addf(at.Child("filter_disabled"), "is supported for tls_inspector and http_inspector only")
			}
		}
	}
	r.oldProxyProtocol(m, c)
}

// oldProxyProtocol reads the older way to ask for the PROXY protocol, which is the first chain's and holds for all of a listener.
func (r *listenerReader) oldProxyProtocol(m *listenerv3.Listener, c *listen.Config) {
	chains := m.GetFilterChains()
	for i, chain := range chains {
		at := field.At("filter_chains").Index(i).Child("use_proxy_proto")
		on := chain.GetUseProxyProto().GetValue()        //nolint:staticcheck // deprecated, still in use
		first := chains[0].GetUseProxyProto().GetValue() //nolint:staticcheck // the same
		switch {
		case on != first:
			r.errs.Addf(at, "found %v, want %v as in the first chain: nobody knows a connection's chain before its header", on, first)
		case i > 0 || !on:
		case c.Proxy != nil:
			r.errs.Addf(at, "is set beside envoy.filters.listener.proxy_protocol, want one of them")
		default:
			r.listenerFilter(&proxyprotocolv3.ProxyProtocol{}, c, &listen.Inspector{}, at)
		}
	}
}

func (r *listenerReader) listenerFilter(config proto.Message, c *listen.Config, inspector *listen.Inspector, at *field.Path) {
	looked := c.TLSInspector != nil || c.HTTPInspector != nil
	var scope *stats.Scope
	switch m := config.(type) {
	case *originaldstv3.OriginalDst:
		c.OriginalDst = true
		if c.Proxy != nil {
			c.Proxy.KeepLocal = true
		}
	case *originalsrcv3.OriginalSrc:
		c.OriginalSrc = &listen.OriginalSrc{Mark: int(m.GetMark())}
	case *tlsinspectorv3.TlsInspector:
		inspector.JA3, inspector.JA4 = m.GetEnableJa3Fingerprinting().GetValue(), m.GetEnableJa4Fingerprinting().GetValue()
		c.TLSInspector = inspector
		c.TLSCounts, scope = stats.Shared[stats.TLSInspector](r.env.Stats, "tls_inspector.")
		r.scopes = append(r.scopes, scope)
	case *httpinspectorv3.HttpInspector:
		c.HTTPInspector = inspector
		c.HTTPCounts, scope = stats.Shared[stats.HTTPInspector](r.env.Stats, "http_inspector.")
		r.scopes = append(r.scopes, scope)
	case *proxyprotocolv3.ProxyProtocol:
		if looked {
			r.errs.Addf(at, "must come before tls_inspector and http_inspector, which would look at its header")
		}
		if c.UseOriginalDst && !c.OriginalDst {
			r.errs.Addf(at, "must come after original_dst where use_original_dst is set")
		}
		c.Proxy = r.proxyProtocol(m, at.Child("typed_config"))
	case *listenerlimitv3.LocalRateLimit:
		if looked || c.Proxy != nil {
			r.errs.Addf(at, "must come before filters that read, so that it costs nothing to refuse a connection")
		}
		if r.runtimeFlag(m.GetRuntimeEnabled()) {
			c.RateLimit = &listen.RateLimit{Bucket: r.bucket(m.GetTokenBucket(), at.Child("typed_config").Child("token_bucket")),
				Stats: shared[stats.ConnectionRate](r, "listener_local_ratelimit."+m.GetStatPrefix()+".")}
		}
	default:
		r.errs.Addf(at.Child("typed_config"), "found %s, which is no listener filter", anyName(m))
	}
}

// shared returns a set of statistics that lives as long as the listener.
func shared[T any](r *listenerReader, prefix string) *T {
	set, scope := stats.Shared[T](r.env.Stats, prefix)
	r.scopes = append(r.scopes, scope)
	return set
}

func (r *listenerReader) proxyProtocol(m *proxyprotocolv3.ProxyProtocol, at *field.Path) *listen.ProxyProtocol {
	prefix := "proxy_proto."
	if p := m.GetStatPrefix(); p != "" {
		prefix += p + "."
	}
	p := &listen.ProxyProtocol{
		Optional: m.GetAllowRequestsWithoutProxyProtocol(), Stats: shared[stats.ProxyProtocol](r, prefix), Errors: shared[stats.ProxyProtocolErrors](r, "downstream_cx_"), KeepLocal: false,
		DisallowV1: slices.Contains(m.GetDisallowedVersions(), corev3.ProxyProtocolConfig_V1),
		DisallowV2: slices.Contains(m.GetDisallowedVersions(), corev3.ProxyProtocolConfig_V2),
		Message:    tlvMessage,
		Rules:      r.tlvRules(m.GetRules(), at.Child("rules")), InState: m.GetTlvLocation() == proxyprotocolv3.ProxyProtocol_FILTER_STATE,
	}
	if pass := m.GetPassThroughTlvs(); pass != nil {
		all, some := r.passedTLVs(pass, at.Child("pass_through_tlvs"))
		p.Pass = func(t byte) bool { return all || some[t] }
	}
	return p
}

// passedTLVs reads which extensions of the PROXY protocol are passed on.
func (r *reader) passedTLVs(m *corev3.ProxyProtocolPassThroughTLVs, at *field.Path) (all bool, some map[byte]bool) {
	some = map[byte]bool{}
	for i, t := range m.GetTlvType() {
		if t > math.MaxUint8 {
			r.errs.Addf(at.Child("tlv_type").Index(i), "found %d, want a number below 256", t)
		}
		some[byte(t)] = true
	}
	return m != nil && m.GetMatchType() == corev3.ProxyProtocolPassThroughTLVs_INCLUDE_ALL, some
}

// bucket reads a token bucket that is full now.
func (r *reader) bucket(m *typev3.TokenBucket, at *field.Path) *ratelimit.Bucket {
	f := r.fill(m, at)
	if f.Max == 0 {
		r.errs.Addf(at.Child("max_tokens"), "is 0, want at least 1")
	}
	return ratelimit.NewBucket(f, r.now())
}

// now is when the configuration is read.
func (r *reader) now() time.Time {
	if r.env.Now != nil {
		return r.env.Now()
	}
	return time.Now()
}

// sharedBuckets are those of filters that share them by a key, as long as some filter does.
type sharedBuckets struct {
	mu  sync.Mutex // guards all
	all map[sharedBucket]weak.Pointer[ratelimit.Bucket]
}

type sharedBucket struct {
	key  string
	fill ratelimit.Fill
}

// of returns the bucket of all filters with a key that fill theirs alike: fresh if there is none yet.
func (s *sharedBuckets) of(key string, fill ratelimit.Fill, fresh *ratelimit.Bucket) *ratelimit.Bucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, b := range s.all {
		if b.Value() == nil {
			delete(s.all, k)
		}
	}
	if s.all == nil {
		s.all = map[sharedBucket]weak.Pointer[ratelimit.Bucket]{}
	}
	k := sharedBucket{key, fill}
	if have := s.all[k].Value(); have != nil {
		return have
	}
	s.all[k] = weak.Make(fresh)
	return fresh
}

// gate reads a network filter that only admits connections; nil if it is none, or switched off.
func (r *listenerReader) gate(m proto.Message, at *field.Path) (g listen.Gate, is bool) {
	switch m := m.(type) {
	case *networklimitv3.LocalRateLimit:
		limit := &listen.RateLimit{Bucket: r.bucket(m.GetTokenBucket(), at.Child("token_bucket")),
			Stats: shared[stats.ConnectionRate](r, "local_rate_limit."+m.GetStatPrefix()+".")}
		if m.GetShareKey() != "" {
			limit.Bucket = r.env.buckets.of(m.GetShareKey(), r.fill(m.GetTokenBucket(), at.Child("token_bucket")), limit.Bucket)
		}
		if r.runtimeFlag(m.GetRuntimeEnabled()) {
			return limit, true
		}
	case *connlimitv3.ConnectionLimit:
		if m.GetMaxConnections().GetValue() == 0 {
			r.errs.Addf(at.Child("max_connections"), "is 0, want at least 1")
		}
		limit := &listen.Limit{Max: int64(min(m.GetMaxConnections().GetValue(), math.MaxInt64)), Delay: r.duration(m.GetDelay(), at.Child("delay")),
			Stats: shared[stats.ConnectionLimit](r, "connection_limit."+m.GetStatPrefix()+".")}
		if r.runtimeFlag(m.GetRuntimeEnabled()) {
			return limit, true
		}
	case *structv3.TypedStruct:
		return r.extension(m, at), true
	case *networkstatev3.Config:
		return r.connectionState(m, at), true
	case *sniclusterv3.SniCluster:
		return listen.SNICluster{}, true
	default:
		return nil, false
	}
	return nil, true
}
