package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// A filter is an HTTP filter whose cost is measured: what a request costs with it, less what it costs without.
type filter struct {
	name    string
	what    string   // it does, where its name does not say that
	yaml    string   // fields of its typed_config
	kind    string   // of that, behind envoy.extensions.filters.http.
	light   bool     // it must cost next to nothing
	once    bool     // a second one behind it would not do the same; see copies
	headers []string // of the requests that it gets, and not those without it
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
	{name: "stateful_session", once: true, kind: "stateful_session.v3.StatefulSession",
		yaml: `session_state: {name: envoy.http.stateful_session.cookie, typed_config: {"@type": type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState, cookie: {name: s, path: /}}}`},
	{name: "bandwidth_limit", once: true, kind: "bandwidth_limit.v3.BandwidthLimit", yaml: "stat_prefix: b, enable_mode: REQUEST_AND_RESPONSE, limit_kbps: 1000000000"},
	{name: "admission_control", kind: "admission_control.v3.AdmissionControl", yaml: "success_criteria: {}"},
	{name: "adaptive_concurrency", kind: "adaptive_concurrency.v3.AdaptiveConcurrency",
		yaml: "gradient_controller_config: {concurrency_limit_params: {concurrency_update_interval: 0.1s}, min_rtt_calc_params: {fixed_value: 10s, min_concurrency: 1000}}"},
	{name: "tap", kind: "tap.v3.Tap",
		yaml: "common_config: {static_config: {match: {http_request_headers_match: {headers: [{name: x-tap, present_match: true}]}}, output_config: {sinks: [{file_per_tap: {path_prefix: /nowhere/tap}}]}}}"},
	{name: "compressor", what: "for clients that take nothing", kind: "compressor.v3.Compressor", yaml: "compressor_library: " + library("gzip", "compressor", "Gzip")},
	{name: "compressor", what: "gzip", once: true, kind: "compressor.v3.Compressor", yaml: "compressor_library: " + library("gzip", "compressor", "Gzip"), headers: []string{"accept-encoding: gzip"}},
	{name: "compressor", what: "brotli", once: true, kind: "compressor.v3.Compressor", yaml: "compressor_library: " + library("brotli", "compressor", "Brotli"), headers: []string{"accept-encoding: br"}},
	{name: "compressor", what: "zstd", once: true, kind: "compressor.v3.Compressor", yaml: "compressor_library: " + library("zstd", "compressor", "Zstd"), headers: []string{"accept-encoding: zstd"}},
	{name: "lua", once: true, kind: "lua.v3.Lua", yaml: `default_source_code: {inline_string: "function envoy_on_request(h) h:headers():add('x-one', h:headers():get(':path')) end"}`},
	{name: "header_to_metadata", kind: "header_to_metadata.v3.Config", headers: []string{"x-tenant: a"},
		yaml: "request_rules: [{header: x-tenant, on_header_present: {metadata_namespace: m, key: tenant}}]"},
	{name: "basic_auth", kind: "basic_auth.v3.BasicAuth", yaml: `users: {inline_string: "u:{SHA}UWuXg/ylF+7L0dBk2i0WUxCxl1k="}`, headers: []string{"authorization: Basic dTpw"}},
	{name: "api_key_auth", kind: "api_key_auth.v3.ApiKeyAuth", yaml: "credentials: [{key: one, client: c}], key_sources: [{header: x-api-key}]", headers: []string{"x-api-key: one"}},
}

// library is an entry for a coding's encoder or decoder.
func library(coding, way, kind string) string {
	return "{name: " + coding + `, typed_config: {"@type": type.googleapis.com/envoy.extensions.compression.` + coding + "." + way + ".v3." + kind + "}}"
}

// title is how the filter is called in the report.
func (f filter) title() string {
	if f.what != "" {
		return f.name + " " + f.what
	}
	return f.name
}

// copies is how many of a filter stand in a row where one costs so little that the machine's noise would hide it.
const copies = 8

// count is how many of the filter stand in the chain.
func (f filter) count() int {
	if f.once {
		return 1
	}
	return copies
}

// entries are the filter as it stands in a list of filters, once or as often as it is to be there.
func (f filter) entries() string {
	fields := `"@type": type.googleapis.com/envoy.extensions.filters.http.` + f.kind
	if f.yaml != "" {
		fields += ", " + f.yaml
	}
	return repeated(f.count(), 10, func(i int) string {
		return fmt.Sprintf("- {name: envoy.filters.http.%s.%d, typed_config: {%s}}", f.name, i, fields)
	})
}

// repeated are n lines of a list of filters, which stands so many columns in.
func repeated(n, columns int, line func(int) string) string {
	var lines []string
	for i := range n {
		lines = append(lines, line(i))
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", columns))
}

// times names something that is there n times.
func times(n int, name string) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%d x %s", n, name)
}

// grouped is how many filters share a process of each proxy.
const grouped = 4

// filterWorks are the same requests through each filter, and through none.
func filterWorks() (all []workload) {
	groups := slices.Collect(slices.Chunk(filters, grouped))
	for n, group := range groups {
		w := costs(workload{
			name: fmt.Sprintf("HTTP filters (%d of %d), HTTP/2, 8 connections of 16 streams", n+1, len(groups)), way: one(h2, h2), backend: web2,
			load: h2load{conns: 8, streams: 16}, per: "request",
		})
		for i, f := range group {
			w.with(size{name: times(f.count(), f.title()), copies: f.count(), headers: f.headers}, link{filter: f.entries()})
			w.promises = append(w.promises, shareOf(f.title(), i+1))
			if f.light {
				w.promises = append(w.promises, promise{what: f.name, must: 0.5, goal: 0.3, unit: " us",
					of: func(c *contest) series { return c.extra(malla, i+1) }, between: func(c *contest) (least, most float64) { return c.extra(malla, i+1).between() }})
			}
		}
		all = append(all, w)
	}
	return all
}

// costs has a workload measure what each size costs more than its first one, which has no filter.
func costs(w workload) workload {
	w.part, w.peers, w.round, w.rounds, w.paired = "filters", sameFile, 0.25, 11, true
	w.sizes = []size{{name: "no filter"}}
	return w
}

// with adds a size, and the listener that its load goes to.
func (w *workload) with(s size, l link) {
	s.entry = fmt.Sprintf("with-%d", len(w.sizes))
	l.name, l.in, l.out = s.entry, w.way[0].in, w.way[0].out
	w.way, w.sizes = append(w.way, l), append(w.sizes, s)
}

// shareOf promises what a size costs more than the first, of what that costs Envoy.
func shareOf(what string, i int) promise {
	return promise{what: what + ", of Envoy's", must: 0.7, goal: 0.5, of: func(c *contest) series { return c.share(i) }, between: func(c *contest) (float64, float64) { return c.shareBetween(i) }}
}

// decompressorWork is requests whose bodies are compressed.
func decompressorWork() workload {
	w := costs(workload{
		name: "decompressors, HTTP/2, 8 connections of 16 streams", way: one(h2, h2), backend: web2,
		load: h2load{conns: 8, streams: 16}, per: "request",
	})
	for i, c := range []struct{ coding, name, kind, body string }{{"gzip", "gzip", "Gzip", gzipped}, {"brotli", "br", "Brotli", brotlied}, {"zstd", "zstd", "Zstd", zstded}} {
		f := filter{name: "decompressor", once: true, kind: "decompressor.v3.Decompressor", yaml: "decompressor_library: " + library(c.coding, "decompressor", c.kind) + ", request_direction_config: {common_config: {enabled: {default_value: true, runtime_key: d}}}"}
		w.with(size{name: c.coding, headers: []string{"content-encoding: " + c.name}, body: c.body}, link{filter: f.entries()})
		w.promises = append(w.promises, shareOf("decompressor "+c.coding, i+1))
	}
	return w
}

// What the backend's small body is in each coding.
var gzipped, brotlied, zstded = coded(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }),
	coded(func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) }),
	coded(func(w io.Writer) io.WriteCloser {
		e, err := zstd.NewWriter(w)
		if err != nil {
			panic("bench: zstd without options: " + err.Error())
		}
		return e
	})

func coded(encoder func(io.Writer) io.WriteCloser) string {
	var b strings.Builder
	w := encoder(&b)
	_, _ = io.WriteString(w, small)
	_ = w.Close()
	return b.String()
}

// rateLimitWork is requests about each of which a service is asked: the backend, which has nothing against any.
func rateLimitWork() workload {
	f := filter{name: "ratelimit", once: true, kind: "ratelimit.v3.RateLimit",
		yaml: "domain: d, rate_limit_service: {transport_api_version: V3, grpc_service: {envoy_grpc: {cluster_name: in}}}, timeout: 5s, failure_mode_deny: true"}
	w := costs(workload{
		name: "a rate limit service, HTTP/2, 8 connections of 16 streams", way: one(h2, h2), backend: grpc,
		load: h2load{conns: 8, streams: 16}, per: "request",
		promises: []promise{shareOf("ratelimit", 1)},
	})
	w.with(size{name: "ratelimit"}, link{filter: f.entries(), limits: "rate_limits: [{actions: [{generic_key: {descriptor_value: v}}]}]"})
	return w
}

// gates is how many of a network filter stand in a chain: a connection costs many times a request, and varies by more than what
// few filters cost it.
const gates = 128

// gateWork is TCP connections through network filters that admit them.
func gateWork() workload {
	w := costs(workload{
		name: "TCP connections through network filters, 16 at a time", way: one(tcp, tcp), backend: stream,
		load: helper{kind: "connect", conns: 16}, per: "connection",
	})
	for i, f := range []struct{ name, kind, yaml string }{
		{"local_ratelimit", "local_ratelimit.v3.LocalRateLimit", "token_bucket: {max_tokens: 1000000000, tokens_per_fill: 1000000000, fill_interval: 1s}"},
		{"connection_limit", "connection_limit.v3.ConnectionLimit", "max_connections: 1000000"},
	} {
		w.with(size{name: times(gates, f.name), copies: gates}, link{gate: repeated(gates, 6, func(i int) string {
			return fmt.Sprintf(`- {name: envoy.filters.network.%s.%d, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.%s, stat_prefix: g%d, %s}}`, f.name, i, f.kind, i, f.yaml)
		})})
		w.promises = append(w.promises, shareOf("TCP "+f.name, i+1))
	}
	return w
}

// extra is what one filter of a size costs more than none, by round.
func (c *contest) extra(name string, i int) series {
	return c.of(name, i, cpu).minus(c.of(name, i, without)).times(1 / float64(max(c.sizes[i].copies, 1)))
}

// share is what a filter costs us of what it costs Envoy, as one value: of single rounds it would be noise. It is 0 where it
// costs Envoy nothing that can be seen.
func (c *contest) share(i int) series {
	ours, theirs := c.extra(malla, i), c.extra(envoy, i)
	switch {
	case len(ours) == 0 || len(theirs) == 0:
		return nil
	case theirs.median() <= 0:
		return series{0}
	}
	return series{max(ours.median(), 0) / theirs.median()}
}

// shareBetween is where the share lies, as far as the rounds tell.
func (c *contest) shareBetween(i int) (least, most float64) {
	least, most = c.extra(malla, i).between()
	from, to := c.extra(envoy, i).between()
	if to <= 0 {
		return 0, math.Inf(1)
	}
	least = max(least, 0) / to
	switch {
	case most <= 0:
		return 0, 0
	case from <= 0:
		return least, math.Inf(1)
	}
	return least, most / from
}

// safeguards are outlier detection and health checks of a cluster, with limits that nothing reaches, beside its breakers, which
// are there without them too: nobody can leave those out.
var safeguards = strings.Join([]string{
	"outlier_detection: {consecutive_5xx: 5, interval: 1s}",
	"health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 2, healthy_threshold: 1, tcp_health_check: {}}]",
}, "\n    ")

// safeguardWork sends the same requests to a cluster without them and to one with them, behind two listeners of one process: two
// processes that do the same differ by several percent, by where their memory happens to lie.
func safeguardWork() workload {
	return workload{
		part: "safeguards", name: "outlier detection, health checks and breakers, HTTP/2, 8 connections of 16 streams",
		way: []link{{name: "without", in: h2, out: h2}, {name: "with", in: h2, out: h2, cluster: safeguards}}, backend: web2, peers: sameFile,
		load: h2load{conns: 8, streams: 16}, per: "request", round: 0.3, sizes: []size{{name: "off", entry: "without"}, {name: "on", entry: "with"}}, mirrored: true,
		promises: []promise{{what: "growth of CPU", must: 1.03, goal: 1.01, of: func(c *contest) series { return c.growth(malla) },
			between: func(c *contest) (float64, float64) { return c.growth(malla).between() }}},
	}
}
