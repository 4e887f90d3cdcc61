package main

import (
	"slices"
	"strings"
)

// A filter is an HTTP filter whose cost is measured: what a request costs with it, less what it costs without.
type filter struct {
	name  string
	yaml  string // fields of its typed_config
	kind  string // of that, behind envoy.extensions.filters.http.
	light bool   // it must cost next to nothing
}

// filters are those that people have everywhere, doing what they do for most requests.
var filters = []filter{
	{name: "local_ratelimit", kind: "local_ratelimit.v3.LocalRateLimit", light: true,
		yaml: "stat_prefix: l, token_bucket: {max_tokens: 1000000000, tokens_per_fill: 1000000000, fill_interval: 1s}, filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}"},
	{name: "fault", kind: "fault.v3.HTTPFault", light: true, yaml: "abort: {http_status: 503, percentage: {numerator: 0}}, delay: {fixed_delay: 1s, percentage: {numerator: 0}}"},
	{name: "cors", kind: "cors.v3.Cors", light: true},
	{name: "header_mutation", kind: "header_mutation.v3.HeaderMutation", light: true,
		yaml: "mutations: {request_mutations: [{append: {header: {key: x-one, value: a}}}], response_mutations: [{append: {header: {key: x-two, value: b}}}]}"},
	{name: "csrf", kind: "csrf.v3.CsrfPolicy", yaml: "filter_enabled: {default_value: {numerator: 100}}"},
	{name: "health_check", kind: "health_check.v3.HealthCheck", yaml: `pass_through_mode: false, headers: [{name: ":path", string_match: {exact: /healthz}}]`},
	{name: "grpc_stats", kind: "grpc_stats.v3.FilterConfig", yaml: "stats_for_all_methods: true"},
	{name: "stateful_session", kind: "stateful_session.v3.StatefulSession",
		yaml: `session_state: {name: envoy.http.stateful_session.cookie, typed_config: {"@type": type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState, cookie: {name: s, path: /}}}`},
	{name: "bandwidth_limit", kind: "bandwidth_limit.v3.BandwidthLimit", yaml: "stat_prefix: b, enable_mode: REQUEST_AND_RESPONSE, limit_kbps: 1000000000"},
	{name: "admission_control", kind: "admission_control.v3.AdmissionControl", yaml: "success_criteria: {}"},
	{name: "adaptive_concurrency", kind: "adaptive_concurrency.v3.AdaptiveConcurrency",
		yaml: "gradient_controller_config: {concurrency_limit_params: {concurrency_update_interval: 0.1s}, min_rtt_calc_params: {fixed_value: 10s, min_concurrency: 1000}}"},
	{name: "tap", kind: "tap.v3.Tap",
		yaml: "common_config: {static_config: {match: {http_request_headers_match: {headers: [{name: x-tap, present_match: true}]}}, output_config: {sinks: [{file_per_tap: {path_prefix: /nowhere/tap}}]}}}"},
	{name: "compressor", kind: "compressor.v3.Compressor",
		yaml: `compressor_library: {name: gzip, typed_config: {"@type": type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip}}`},
}

// entry is the filter as it stands in a list of filters.
func (f filter) entry() string {
	fields := `"@type": type.googleapis.com/envoy.extensions.filters.http.` + f.kind
	if f.yaml != "" {
		fields += ", " + f.yaml
	}
	return "- {name: envoy.filters.http." + f.name + ", typed_config: {" + fields + "}}"
}

// filterWork is the same requests through each filter, and through none.
func filterWork() workload {
	w := workload{
		part: "filters", name: "HTTP filters, one at a time, HTTP/2, 8 connections of 16 streams", way: one(h2, h2), backend: web2, peers: sameFile,
		load: h2load{conns: 8, streams: 16}, per: "request", round: 0.8, sizes: []size{{name: "no filter"}},
	}
	for i, f := range filters {
		w.sizes = append(w.sizes, size{name: f.name, filter: f.entry()})
		w.promises = append(w.promises, promise{what: f.name + ", of Envoy's", must: 0.7, goal: 0.5, noisy: lost(i + 1), of: func(c *contest) series {
			return c.share(i + 1)
		}})
		if f.light {
			w.promises = append(w.promises, promise{what: f.name, must: 0.5, goal: 0.3, unit: " us", noisy: lost(i + 1), of: func(c *contest) series { return c.extra(malla, i+1) }})
		}
	}
	return w
}

// extra is what a size costs more than the first, as one value: the difference of two medians. Of single rounds
// it would be noise.
func (c *contest) extra(name string, i int) series {
	with, without := c.of(name, i, cpu), c.of(name, 0, cpu)
	if len(with) == 0 || len(without) == 0 {
		return nil
	}
	return series{with.median() - without.median()}
}

// share is what a filter costs us of what it costs Envoy; 0 where that is lost in the noise.
func (c *contest) share(i int) series {
	ours, theirs := c.extra(malla, i), c.extra(envoy, i)
	switch {
	case len(ours) == 0 || len(theirs) == 0:
		return nil
	case theirs[0] <= 0:
		return series{0}
	}
	return ours.over(theirs)
}

// lost reports that what a filter costs Envoy cannot be told from how its rounds differ.
func lost(i int) func(*contest) bool {
	return func(c *contest) bool {
		extra, rounds := c.extra(envoy, i), c.of(envoy, 0, cpu)
		return len(extra) > 0 && len(rounds) > 1 && extra[0] <= (slices.Max(rounds)-slices.Min(rounds))/2
	}
}

// safeguards are outlier detection and health checks of a cluster, with limits that nothing reaches, beside its breakers, which
// are there without them too: nobody can leave those out.
var safeguards = strings.Join([]string{
	"outlier_detection: {consecutive_5xx: 5, interval: 1s}",
	"health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 2, healthy_threshold: 1, tcp_health_check: {}}]",
}, "\n    ")

func safeguardWork() workload {
	return workload{
		part: "safeguards", name: "outlier detection, health checks and breakers, HTTP/2, 8 connections of 16 streams, 12,000 a second", way: one(h2, h2), backend: web2, peers: sameFile,
		load: h2load{conns: 8, streams: 16, rate: 1500}, per: "request", round: 0.6, sizes: []size{{name: "off"}, {name: "on", cluster: safeguards}}, mirrored: true,
		promises: []promise{{what: "growth of CPU", must: 1.03, goal: 1.01, of: func(c *contest) series { return c.growth(malla) }, noisy: func(c *contest) bool {
			least, most := c.growth(malla).between()
			return most-least > 0.03 // as much as is to be told
		}}},
	}
}
