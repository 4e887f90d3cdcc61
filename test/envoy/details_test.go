package envoy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mallamesh/malla/test/envoy/scenario"
)

// details are all words that Envoy has for %RESPONSE_CODE_DETAILS%, each with a scenario that has it in its log: the program's own
// (StreamInfo::ResponseCodeDetailsValues), those of its codecs, and those of the filters that malla has.
var details = []struct{ word, scenario string }{
	{"absolute_path_rejected", "h1/options_star"},
	{"client_not_allowed", "filter/api_key_route"},
	{"cluster_not_found", "hcm/proxy_status"},
	{"codec_error:Too_many_PRIORITY_frames", "h2/priority_flood_busy"},
	{"cors_response", "filter/cors_preflight"},
	{"csrf_origin_mismatch", "filter/csrf"},
	{"denied_by_admission_control", "filter/admission_control"},
	{"direct_response", "follow/cross_scheme"},
	{"dns_cache_overflow", "dns/forward_full"},
	{"dns_resolution_failure", "dns/forward_again"},
	{"downstream_remote_disconnect", "connect/proxy_v1"},
	{"drop_overload", "cluster/drop_none"},
	{"dynamic_forward_proxy_pending_request_overflow", "dns/forward_pending"},
	{"fault_filter_abort", "filter/fault_abort"},
	{"filter_removed_required_request_headers", "filter/required_removed"},
	{"filter_removed_required_response_headers", "filter/status_removed"},
	{"grpc_base_64_decode_failed", "filter/grpc_web_bad"},
	{"health_check_cached", "filter/health_kept"},
	{"health_check_failed", "listener/health_failed"},
	{"health_check_failed_no_cluster_found", "filter/health_clusters"},
	{"health_check_ok", "filter/health_check_body"},
	{"health_check_ok_cluster_healthy", "filter/health_counted"},
	{"http.invalid_authority", "h1/invalid_host"},
	{"http1.body_disallowed", "connect/body"},
	{"http1.codec_error", "h1/bad_chunk"},
	{"http1.connection_header_rejected", "h1/connection_many"},
	{"http1.content_length_and_chunked_not_allowed", "h1/both_lengths"},
	{"http1.headers_too_large", "h1/too_large_header"},
	{"http1.https_url_on_plaintext_connection", "h1/absolute_https"},
	{"http1.invalid_characters", "h1/nul"},
	{"http1.invalid_scheme", "h1/absolute_odd"},
	{"http1.invalid_transfer_encoding", "h1/unknown_coding"},
	{"http1.invalid_url", "h1/absolute_odd"},
	{"http1.too_many_headers", "h1/too_many_headers"},
	{"http1.unexpected_underscore", "h1/underscore_reject"},
	{"http2.header_list_size_too_large", "h2/headers_too_large"},
	{"http2.inbound_empty_frames_flood", "h2/empty_flood"},
	{"http2.invalid.header.field", "h2/no_path"},
	{"http2.remote_refuse", "h2/client_refuses"},
	{"http2.remote_reset", "h2/client_reset"},
	{"http2.too_many_headers", "h2/too_many_headers"},
	{"http2.unexpected_underscore", "h2/underscore_reject"},
	{"http2.violation.of.messaging.rule", "h2/address_parts"},
	{"internal_redirect", "follow/body"},
	{"invalid_credential_for_basic_auth", "filter/basic_auth"},
	{"invalid_format_for_basic_auth", "filter/basic_auth"},
	{"invalid_scheme_for_basic_auth", "filter/basic_auth"},
	{"local_rate_limited", "filter/local_ratelimit"},
	{"low_version", "h1/http10"},
	{"lua_response", "lua/methods"},
	{"maintenance_mode", "runtime/maintenance"},
	{"max_duration_timeout", "h1/max_stream_grpc"},
	{"missing_api_key", "filter/api_key"},
	{"missing_credentials", "filter/api_key_none"},
	{"missing_host_header", "h1/no_host"},
	{"no_credential_for_basic_auth", "filter/basic_auth"},
	{"no_healthy_upstream", "cluster/dns_unknown"},
	{"overload", "overload/decode_headers"},
	{"path_normalization_failed", "h1/path_nul"},
	{"query_missing_content_type", "h1/query_type"},
	{"rate_limiter_error", "filter/ratelimit_closed"},
	{"reached_concurrency_limit", "filter/adaptive_concurrency"},
	{"rejecting_because_detection_failed", "hcm/detect_custom"},
	{"request_header_timeout", "h2/headers_timeout"},
	{"request_headers_failed_strict_check", "h1/strict_check"},
	{"request_overall_timeout", "hcm/request_timeout"},
	{"request_payload_too_large", "filter/buffer_large"},
	{"request_rate_limited", "filter/ratelimit_over"},
	{"response_timeout", "h1/max_grpc_timeout"},
	{"route_not_found", "connect/no_route"},
	{"stream_idle_timeout", "h1/idle_route"},
	{"unconditional_drop_overload", "cluster/drop_all"},
	{"unknown_api_key", "filter/api_key"},
	{"upgrade_failed", "connect/not_allowed"},
	{"upstream_max_stream_duration_reached", "h1/rq_duration"},
	{"upstream_per_try_idle_timeout", "retry/per_try_idle_body"},
	{"upstream_per_try_timeout", "h1/rq_per_try"},
	{"upstream_reset_after_response_started", "h1/upstream_half"},
	{"upstream_reset_before_response_started", "breaker/first"},
	{"via_upstream", "h1/get"},
	{"websocket_handshake_unsuccessful", "hcm/websocket_unsuccessful"},
}

// untold are words of Envoy's that malla never writes, and why.
var untold = map[string]string{
	"admin_filter_response":               "the administration interface's own log, which malla's has not",
	"http1.content_length_not_allowed":    "of answers only: a host that breaks HTTP's rules is told as protocol_error",
	"http1.transfer_encoding_not_allowed": "of answers only, likewise",
	"http2.cookies_total_bytes_too_large": "all fields together are bounded (http2.header_list_size_too_large)",
	"http2.unknown.nghttp2.error":         "errors of a library that malla has not",
	"http2.unknown.oghttp2.error":         "likewise",
	"missing_path_rejected":               "both codecs refuse such a request before",
	"route_configuration_not_found":       "of scoped routes, which are refused; a listener whose table has not come does not listen yet",
	"uhv.invalid_host":                    "of Envoy's other validator of fields, which its builds have switched off; so are all that begin with uhv",
}

// unshown are words of Envoy's that malla writes, too, and of which no scenario is the example.
var unshown = map[string]string{
	"codec_error:Too_many_WINDOW_UPDATE_frames":                  "as those of PRIORITY",
	"codec_error:Too_many_control_frames_in_the_outbound_queue.": "a client that reads nothing: how much fits into the system's buffers is chance",
	"http2.outbound_frames_flood":                                "likewise",
	"dns_error":                                                  "a name server that is silent for longer than a scenario may last",
	"filter_chain_not_found":                                     "of a connection, which is in listeners' logs only",
	"grpc_base_64_decode_failed_bad_size":                        "whether Envoy takes such text depends on how its bytes arrive",
	"health_check_failed_cluster_empty":                          "hosts of clusters come and go at no moment that a scenario could name",
	"health_check_failed_cluster_unhealthy":                      "likewise",
	"request_payload_exceeded_retry_buffer_limit":                "a body that outgrows its bound in the moment between two tries",
	"response_payload_too_large":                                 "an answer that a filter holds, and that outgrows its bound after its head has gone",
	"tcp_session_idle_timeout":                                   "of connections of TCP proxies, which have no response",
	"max_connection_duration_reached":                            "likewise (tcp/close_reasons)",
	"too_many_premature_resets":                                  "the runtime's key for it counts in hundreds of requests",
}

// Every word of Envoy's is one of malla's sources and of a scenario, or there is a reason. That the scenario has it in both logs [report] looks after.
func TestDetails(t *testing.T) {
	names := map[string]bool{}
	for _, s := range load(t) {
		names[s.Name] = true
	}
	sources := proxySources(t)
	for _, d := range details {
		if !names[d.scenario] {
			t.Errorf("%s: there is no scenario %s", d.word, d.scenario)
		}
		if !strings.Contains(sources, `"`+d.word) {
			t.Errorf("%s: nothing in proxy/ says so", d.word)
		}
	}
	for word := range unshown {
		if !strings.Contains(sources, `"`+word) {
			t.Errorf("%s: nothing in proxy/ says so", word)
		}
	}
	for word := range untold {
		if strings.Contains(sources, `"`+word) {
			t.Errorf("%s: is told by something in proxy/, and listed as untold", word)
		}
	}
}

// untoldBy returns the words that a scenario should have had in its log and has not.
func untoldBy(s *scenario.Scenario, notes scenario.Notes) (missing []string) {
	for _, d := range details {
		if d.scenario != s.Name {
			continue
		}
		found := false
		for _, n := range notes {
			found = found || strings.HasPrefix(n.Key, "log ") && strings.Contains(n.Value, d.word)
		}
		if !found {
			missing = append(missing, d.word)
		}
	}
	return missing
}

// proxySources is the program text of the proxy, without tests.
func proxySources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := fs.WalkDir(os.DirFS("../../proxy"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(filepath.Join("../../proxy", path))
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
