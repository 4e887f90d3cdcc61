package build

import (
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	clientsidev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	providedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/cluster_provided/v3"
	commonlbv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	overridev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	subsetv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/subset/v3"
	wrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/metadata"
)

var balanceFields = []*Message{
	message((*clusterv3.Cluster_LeastRequestLbConfig)(nil), reads("choice_count", "active_request_bias", "slow_start_config")),
	message((*clusterv3.Cluster_RoundRobinLbConfig)(nil), reads("slow_start_config")),
	message((*clusterv3.Cluster_SlowStartConfig)(nil), reads("slow_start_window", "aggression", "min_weight_percent")),
	message((*clusterv3.Cluster_RingHashLbConfig)(nil), reads("minimum_ring_size", "hash_function", "maximum_ring_size")),
	message((*clusterv3.Cluster_MaglevLbConfig)(nil), reads("table_size")),
	message((*clusterv3.Cluster_OriginalDstLbConfig)(nil), reads("use_http_header", "http_header_name", "upstream_port_override", "metadata_key")),
	message((*clusterv3.Cluster_LbSubsetConfig)(nil),
		reads("fallback_policy", "default_subset", "subset_selectors", "locality_weight_aware", "scale_locality_weight", "panic_mode_any", "list_as_any"),
		only("metadata_fallback_policy", "lists of fallbacks are not built", "METADATA_NO_FALLBACK")),
	message((*clusterv3.Cluster_LbSubsetConfig_LbSubsetSelector)(nil), reads("keys", "single_host_per_subset", "fallback_policy", "fallback_keys_subset")),
	message((*clusterv3.Cluster_CommonLbConfig)(nil),
		reads("healthy_panic_threshold", "zone_aware_lb_config", "locality_weighted_lb_config", "consistent_hashing_lb_config", "override_host_status", "ignore_new_hosts_until_first_hc", "close_connections_on_host_set_change"),
		ignores("every change of hosts is applied at once", "update_merge_window")),
	message((*clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig)(nil)),
	message((*clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig)(nil), reads("routing_enabled", "min_cluster_size", "fail_traffic_on_panic")),
	message((*clusterv3.Cluster_CommonLbConfig_ConsistentHashingLbConfig)(nil), reads("use_hostname_for_hashing", "hash_balance_factor")),
	message((*corev3.HealthStatusSet)(nil), reads("statuses")),
	message((*clusterv3.LoadBalancingPolicy)(nil), reads("policies")),
	message((*clusterv3.LoadBalancingPolicy_Policy)(nil), reads("typed_extension_config")),
	message((*leastv3.LeastRequest)(nil), reads("choice_count", "active_request_bias", "slow_start_config", "locality_lb_config", "selection_method"),
		ignores("Envoy reads selection_method in its place, too", "enable_full_scan")),
	message((*roundv3.RoundRobin)(nil), reads("slow_start_config", "locality_lb_config")),
	message((*clientsidev3.ClientSideWeightedRoundRobin)(nil),
		reads("blackout_period", "weight_expiration_period", "weight_update_period", "error_utilization_penalty", "metric_names_for_computing_utilization", "slow_start_config"),
		only("enable_oob_load_report", "reports beside requests are not asked for", "false"),
		refuses("reports beside requests are not asked for", "oob_reporting_config"),
		ignores("without enable_oob_load_report it has no meaning, in Envoy neither", "oob_reporting_period")),
	message((*randomv3.Random)(nil), reads("locality_lb_config")),
	message((*ringv3.RingHash)(nil),
		reads("hash_function", "minimum_ring_size", "maximum_ring_size", "use_hostname_for_hashing", "hash_balance_factor", "consistent_hashing_lb_config", "locality_weighted_lb_config")),
	message((*maglevv3.Maglev)(nil), reads("table_size", "consistent_hashing_lb_config", "locality_weighted_lb_config")),
	message((*providedv3.ClusterProvided)(nil)),
	message((*overridev3.OverrideHost)(nil), reads("override_host_sources", "selected_host_key", "fallback_policy")),
	message((*overridev3.OverrideHost_OverrideHostSource)(nil), reads("header", "metadata")),
	message((*wrrv3.WrrLocality)(nil), reads("endpoint_picking_policy")),
	message((*subsetv3.Subset)(nil),
		reads("fallback_policy", "default_subset", "subset_selectors", "locality_weight_aware", "scale_locality_weight", "panic_mode_any", "list_as_any", "subset_lb_policy"),
		ignores("selectors are looked up by all their keys in any case", "allow_redundant_keys"),
		only("metadata_fallback_policy", "lists of fallbacks are not built", "METADATA_NO_FALLBACK")),
	message((*subsetv3.Subset_LbSubsetSelector)(nil), reads("keys", "single_host_per_subset", "fallback_policy", "fallback_keys_subset")),
	message((*commonlbv3.SlowStartConfig)(nil), reads("slow_start_window", "aggression", "min_weight_percent")),
	message((*commonlbv3.LocalityLbConfig)(nil), reads("zone_aware_lb_config", "locality_weighted_lb_config")),
	message((*commonlbv3.LocalityLbConfig_LocalityWeightedLbConfig)(nil)),
	message((*commonlbv3.LocalityLbConfig_ZoneAwareLbConfig)(nil), reads("routing_enabled", "min_cluster_size", "fail_traffic_on_panic", "locality_basis"),
		refuses("is not built", "force_locality_direct_routing")),
	message((*commonlbv3.ConsistentHashingLbConfig)(nil), reads("use_hostname_for_hashing", "hash_balance_factor")),
}

// balance reads how a cluster chooses among its hosts.
func (r *reader) balance(m *clusterv3.Cluster, c *cluster.Config) {
	common, at := m.GetCommonLbConfig(), field.At("common_lb_config")
	c.CloseOnFailure = m.GetCloseConnectionsOnHostHealthFailure()
	c.CloseOnChange = common.GetCloseConnectionsOnHostSetChange()
	if p := common.GetHealthyPanicThreshold(); p != nil {
		v := p.GetValue()
		c.Panic = &v
	}
	if n := r.env.Values.number("upstream.healthy_panic_threshold", nil); n != nil {
		v := float64(min(*n, 100))
		c.Panic = &v
	}
	for _, s := range common.GetOverrideHostStatus().GetStatuses() {
		c.OverrideHealth |= 1 << healths[s]
	}
	if common.GetOverrideHostStatus() != nil && c.OverrideHealth == 0 {
		c.OverrideHealth = 1 << 7 // none: nobody is asked for by name
	}
	if m.GetLoadBalancingPolicy() != nil {
		c.Localities.Zone = r.zone(nil)
		r.policies(m.GetLoadBalancingPolicy(), c, field.At("load_balancing_policy"))
		return
	}
	switch m.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		c.Policy.SlowStart = r.slowStart(m.GetRoundRobinLbConfig().GetSlowStartConfig(), field.At("round_robin_lb_config", "slow_start_config"))
	case clusterv3.Cluster_LEAST_REQUEST:
		o := m.GetLeastRequestLbConfig()
		c.Policy = lb.Policy{Kind: lb.LeastRequest, ChoiceCount: o.GetChoiceCount().GetValue(), Bias: r.runtimeDouble(o.GetActiveRequestBias()),
			SlowStart: r.slowStart(o.GetSlowStartConfig(), field.At("least_request_lb_config", "slow_start_config"))}
		r.choices(c, field.At("least_request_lb_config"))
	case clusterv3.Cluster_RANDOM:
		c.Policy.Kind = lb.Random
	case clusterv3.Cluster_RING_HASH:
		o := m.GetRingHashLbConfig()
		c.Policy = lb.Policy{Kind: lb.RingHash, MinRing: o.GetMinimumRingSize().GetValue(), MaxRing: o.GetMaximumRingSize().GetValue(),
			Murmur: o.GetHashFunction() == clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2}
	case clusterv3.Cluster_MAGLEV:
		c.Policy = lb.Policy{Kind: lb.Maglev, TableSize: m.GetMaglevLbConfig().GetTableSize().GetValue()}
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		r.provided(c, field.At("lb_policy"))
	default:
		r.errs.Addf(field.At("lb_policy"), "found %v, which needs load_balancing_policy", m.GetLbPolicy())
	}
	c.Localities.Weighted = common.GetLocalityWeightedLbConfig() != nil
	if z := common.GetZoneAwareLbConfig(); z != nil {
		c.Localities.Zone, c.FailOnPanic = r.zone(z), z.GetFailTrafficOnPanic()
	} else {
		c.Localities.Zone = r.zone(nil)
	}
	if h := common.GetConsistentHashingLbConfig(); h != nil {
		at := at.Child("consistent_hashing_lb_config")
		r.hashing(h, c, at)
		if c.HashByName && c.Kind != cluster.StrictDNS { // the extensions leave that to whoever writes them
			r.errs.Addf(at.Child("use_hostname_for_hashing"), "hosts of a cluster of type %v have no names, want type STRICT_DNS", c.Kind)
		}
	}
	if s := m.GetLbSubsetConfig(); len(s.GetSubsetSelectors()) > 0 {
		if c.Policy.Kind == lb.OriginalDst {
			r.errs.Addf(field.At("lb_subset_config"), "has no meaning with lb_policy CLUSTER_PROVIDED")
		}
		c.Subsets = subsets(r, s, s.GetSubsetSelectors(), field.At("lb_subset_config"))
	}
	r.checked(c, field.At("lb_policy"))
}

// checked tells what is wrong with the policy as a whole.
func (r *reader) checked(c *cluster.Config, at *field.Path) {
	if err := c.Policy.Check(); err != nil {
		r.errs.Addf(at, "%v", err)
	}
}

func (r *reader) choices(c *cluster.Config, at *field.Path) {
	if c.Policy.ChoiceCount == 1 {
		r.errs.Addf(at.Child("choice_count"), "found 1, want at least 2")
	}
}

func (r *reader) provided(c *cluster.Config, at *field.Path) {
	c.Policy.Kind = lb.OriginalDst
	if !byAddress(c.Kind) {
		r.errs.Addf(at, "the cluster provides no load balancing of its own: its type is %v", c.Kind)
	}
}

// policies reads the first policy, which Envoy takes if it knows it. Those that we do not know were refused by the table already.
func (r *reader) policies(m *clusterv3.LoadBalancingPolicy, c *cluster.Config, at *field.Path) {
	at = at.Child("policies")
	if len(m.GetPolicies()) == 0 {
		r.errs.Addf(at, "is empty, want a load balancing policy")
		return
	}
	at = at.Index(0).Child("typed_extension_config").Child("typed_config")
	config := r.unpack(m.GetPolicies()[0].GetTypedExtensionConfig().GetTypedConfig(), at)
	switch p := config.(type) {
	case *roundv3.RoundRobin:
		c.Policy.SlowStart = r.slowStart(p.GetSlowStartConfig(), at.Child("slow_start_config"))
		r.localities(p.GetLocalityLbConfig(), c)
	case *clientsidev3.ClientSideWeightedRoundRobin:
		c.Policy.SlowStart = r.slowStart(p.GetSlowStartConfig(), at.Child("slow_start_config"))
		c.Reported = r.reported(p, at)
	case *leastv3.LeastRequest:
		c.Policy = lb.Policy{Kind: lb.LeastRequest, ChoiceCount: p.GetChoiceCount().GetValue(), Bias: r.runtimeDouble(p.GetActiveRequestBias()),
			SlowStart: r.slowStart(p.GetSlowStartConfig(), at.Child("slow_start_config")),
			FullScan:  p.GetSelectionMethod() == leastv3.LeastRequest_FULL_SCAN}
		r.choices(c, at)
		r.localities(p.GetLocalityLbConfig(), c)
	case *randomv3.Random:
		c.Policy.Kind = lb.Random
		r.localities(p.GetLocalityLbConfig(), c)
	case *ringv3.RingHash:
		c.Policy = lb.Policy{Kind: lb.RingHash, MinRing: p.GetMinimumRingSize().GetValue(), MaxRing: p.GetMaximumRingSize().GetValue(),
			Murmur: p.GetHashFunction() == ringv3.RingHash_MURMUR_HASH_2}
		//nolint:staticcheck // deprecated, still sent
		c.HashByName, c.Policy.Balance = p.GetUseHostnameForHashing(), p.GetHashBalanceFactor().GetValue()
		if h := p.GetConsistentHashingLbConfig(); h != nil {
			r.hashing(h, c, at.Child("consistent_hashing_lb_config"))
		}
		c.Localities.Weighted = p.GetLocalityWeightedLbConfig() != nil
	case *maglevv3.Maglev:
		c.Policy = lb.Policy{Kind: lb.Maglev, TableSize: p.GetTableSize().GetValue()}
		if h := p.GetConsistentHashingLbConfig(); h != nil {
			r.hashing(h, c, at.Child("consistent_hashing_lb_config"))
		}
		c.Localities.Weighted = p.GetLocalityWeightedLbConfig() != nil
	case *providedv3.ClusterProvided:
		r.provided(c, at)
	case *wrrv3.WrrLocality:
		r.policies(p.GetEndpointPickingPolicy(), c, at.Child("endpoint_picking_policy"))
		c.Localities.Weighted = true
	case *overridev3.OverrideHost:
		r.policies(p.GetFallbackPolicy(), c, at.Child("fallback_policy"))
		c.Naming = r.naming(p, at)
	case *subsetv3.Subset:
		r.policies(p.GetSubsetLbPolicy(), c, at.Child("subset_lb_policy"))
		c.Subsets = subsets(r, p, p.GetSubsetSelectors(), at)
	case nil:
	default:
		r.errs.Addf(at, "found %s, want a load balancing policy", config.ProtoReflect().Descriptor().FullName())
	}
	r.checked(c, at)
}

// reported reads how weights are made of what hosts report. An error costs nothing unless a penalty is set, as in Envoy, whose
// API says 1.
func (r *reader) reported(p *clientsidev3.ClientSideWeightedRoundRobin, at *field.Path) *cluster.Reported {
	span := func(d *durationpb.Duration, name string, byDefault time.Duration) time.Duration {
		if d == nil {
			return byDefault
		}
		return r.duration(d, at.Child(name))
	}
	return &cluster.Reported{
		Metrics:    p.GetMetricNamesForComputingUtilization(),
		Penalty:    float64(p.GetErrorUtilizationPenalty().GetValue()),
		Blackout:   span(p.GetBlackoutPeriod(), "blackout_period", 10*time.Second),
		Expiration: span(p.GetWeightExpirationPeriod(), "weight_expiration_period", 3*time.Minute),
		Update:     max(span(p.GetWeightUpdatePeriod(), "weight_update_period", time.Second), 100*time.Millisecond),
	}
}

// naming reads where requests name the hosts that they want.
func (r *reader) naming(p *overridev3.OverrideHost, at *field.Path) *cluster.Naming {
	out := new(cluster.Naming)
	for i, s := range p.GetOverrideHostSources() {
		at := at.Child("override_host_sources").Index(i)
		source := cluster.NameSource{Header: strings.ToLower(s.GetHeader())}
		if k := s.GetMetadata(); k != nil {
			key := r.metadataKey(k, at.Child("metadata"))
			source.Metadata = &key
		}
		if (source.Header == "") == (source.Metadata == nil) {
			r.errs.Addf(at, "want either header or metadata")
		}
		out.Sources = append(out.Sources, source)
	}
	if k := p.GetSelectedHostKey(); k != nil {
		key := r.metadataKey(k, at.Child("selected_host_key"))
		out.Selected = &key
	}
	return out
}

func (r *reader) localities(l *commonlbv3.LocalityLbConfig, c *cluster.Config) {
	c.Localities.Weighted = l.GetLocalityWeightedLbConfig() != nil
	if z := l.GetZoneAwareLbConfig(); z != nil {
		c.Localities.Zone, c.FailOnPanic = r.zone(z), z.GetFailTrafficOnPanic()
		if c.Localities.Zone != nil {
			c.Localities.Zone.ByWeight = z.GetLocalityBasis() == commonlbv3.LocalityLbConfig_ZoneAwareLbConfig_HEALTHY_HOSTS_WEIGHT
		}
	}
}

// zoneAware is what both messages for it have in common.
type zoneAware interface {
	GetRoutingEnabled() *typev3.Percent
	GetMinClusterSize() *wrapperspb.UInt64Value
	GetFailTrafficOnPanic() bool
}

// zone reads zone-aware routing, nil where the proxy does not know where its peers run. z may be
// nil: then it has Envoy's defaults.
func (r *reader) zone(z zoneAware) *cluster.Zone {
	if r.env.local == nil {
		return nil
	}
	out := &cluster.Zone{Local: r.env.local, Percent: 100, MinHosts: 6}
	if z != nil {
		out.FailOnPanic = z.GetFailTrafficOnPanic()
		if p := z.GetRoutingEnabled(); p != nil {
			out.Percent = uint32(p.GetValue())
		}
		if n := z.GetMinClusterSize(); n != nil {
			out.MinHosts = uint32(min(n.GetValue(), 1<<31))
		}
	}
	out.Percent = min(*r.env.Values.number("upstream.zone_routing.enabled", &out.Percent), 100)
	out.MinHosts = *r.env.Values.number("upstream.zone_routing.min_cluster_size", &out.MinHosts)
	return out
}

func (r *reader) hashing(h interface {
	GetUseHostnameForHashing() bool
	GetHashBalanceFactor() *wrapperspb.UInt32Value
}, c *cluster.Config, at *field.Path) {
	c.HashByName = h.GetUseHostnameForHashing()
	if f := h.GetHashBalanceFactor(); f != nil {
		if c.Policy.Balance = f.GetValue(); f.GetValue() < 100 {
			r.errs.Addf(at.Child("hash_balance_factor"), "found %d, want at least 100", f.GetValue())
		}
	}
}

// slowStart reads how new hosts warm up; both messages for it have the same getters.
func (r *reader) slowStart(m interface {
	GetSlowStartWindow() *durationpb.Duration
	GetAggression() *corev3.RuntimeDouble
	GetMinWeightPercent() *typev3.Percent
}, at *field.Path) *lb.SlowStart {
	out := &lb.SlowStart{Window: r.duration(m.GetSlowStartWindow(), at.Child("slow_start_window")), Aggression: 1, MinWeight: 0.1}
	if out.Window == 0 {
		return nil
	}
	if a := r.runtimeDouble(m.GetAggression()); a != nil {
		if out.Aggression = *a; out.Aggression <= 0 {
			r.errs.Addf(at.Child("aggression"), "found %v, want a number above 0", out.Aggression)
		}
	}
	if p := m.GetMinWeightPercent(); p != nil {
		out.MinWeight = p.GetValue() / 100
	}
	return out
}

// subsetConfig is what both messages for it have in common; S is their type of selectors.
type subsetConfig[S any, F ~int32] interface {
	GetFallbackPolicy() F
	GetDefaultSubset() *structpb.Struct
	GetLocalityWeightAware() bool
	GetScaleLocalityWeight() bool
	GetPanicModeAny() bool
	GetListAsAny() bool
}

type selectorConfig[F ~int32] interface {
	GetKeys() []string
	GetSingleHostPerSubset() bool
	GetFallbackPolicy() F
	GetFallbackKeysSubset() []string
}

func subsets[S selectorConfig[G], F, G ~int32](r *reader, m subsetConfig[S, F], selectors []S, at *field.Path) *cluster.Subsets {
	out := &cluster.Subsets{
		Fallback: cluster.Fallback(m.GetFallbackPolicy()), Default: has(m.GetDefaultSubset()),
		LocalityWeightAware: m.GetLocalityWeightAware(), ScaleLocalityWeight: m.GetScaleLocalityWeight(),
		PanicModeAny: m.GetPanicModeAny(), ListAsAny: m.GetListAsAny(),
	}
	for i, s := range selectors {
		at := at.Child("subset_selectors").Index(i)
		sel := cluster.Selector{
			Keys: sorted(s.GetKeys()), Single: s.GetSingleHostPerSubset(),
			Fallback: selectorFallbacks[int32(s.GetFallbackPolicy())], FallbackKeys: sorted(s.GetFallbackKeysSubset()),
		}
		if sel.Single && len(sel.Keys) != 1 {
			r.errs.Addf(at.Child("single_host_per_subset"), "there are %d keys, want one", len(sel.Keys))
		}
		if sel.Fallback == cluster.KeysSubset {
			r.keysSubset(&sel, at)
		}
		if len(sel.Keys) > 0 {
			out.Selectors = append(out.Selectors, sel)
		}
	}
	return out
}

// keysSubset refuses fallbacks that would not end.
func (r *reader) keysSubset(s *cluster.Selector, at *field.Path) {
	at = at.Child("fallback_keys_subset")
	switch {
	case len(s.FallbackKeys) == 0:
		r.errs.Addf(at, "is empty, want some of the keys")
	case len(s.FallbackKeys) == len(s.Keys):
		r.errs.Addf(at, "has all of the keys, want fewer")
	}
	for i, k := range s.FallbackKeys {
		if !slices.Contains(s.Keys, k) {
			r.errs.Addf(at.Index(i), "found %q, want one of the keys", k)
		}
	}
}

// selectorFallbacks are by number: NOT_DEFINED, NO_FALLBACK, ANY_ENDPOINT, DEFAULT_SUBSET, KEYS_SUBSET.
var selectorFallbacks = map[int32]cluster.Fallback{0: cluster.Undefined, 1: cluster.NoFallback, 2: cluster.AnyEndpoint, 3: cluster.DefaultSubset, 4: cluster.KeysSubset}

func sorted(keys []string) []string {
	out := slices.Clone(keys)
	slices.Sort(out)
	return slices.Compact(out)
}

// has lists the values of a struct, by name.
func has(s *structpb.Struct) []cluster.Has {
	var out []cluster.Has
	for name, v := range s.GetFields() {
		out = append(out, cluster.Has{Name: name, Text: canonical(v)})
	}
	slices.SortFunc(out, func(a, b cluster.Has) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

func canonical(v *structpb.Value) string { return cluster.Canonical(v.AsInterface()) }

// criteria reads what a route asks of hosts.
func criteria(m *corev3.Metadata) *cluster.Criteria {
	return cluster.NewCriteria(has(m.GetFilterMetadata()[metadata.LB]))
}

// lbValues reads what an endpoint says for balancing.
func lbValues(m *corev3.Metadata, out *cluster.Metadata) {
	fields := m.GetFilterMetadata()[metadata.LB].GetFields()
	if len(fields) == 0 {
		return
	}
	out.HashKey, out.Canary = fields["hash_key"].GetStringValue(), fields["canary"].GetBoolValue()
	out.LB = make(map[string]cluster.Value, len(fields))
	for name, v := range fields {
		value := cluster.Value{Text: canonical(v)}
		if list := v.GetListValue(); list != nil {
			value.Items = []string{}
			for _, item := range list.GetValues() {
				value.Items = append(value.Items, canonical(item))
			}
		}
		out.LB[name] = value
	}
}
