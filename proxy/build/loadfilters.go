package build

import (
	"math"
	"net/http"
	"runtime"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	adaptivev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"
	admissionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/admission_control/v3"
	bandwidthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/bandwidth_limit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/filter/adaptiveconcurrency"
	"github.com/mallamesh/malla/proxy/filter/admissioncontrol"
	"github.com/mallamesh/malla/proxy/filter/bandwidthlimit"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// loadFields are of filters that bound what goes to a service.
var loadFields = []*Message{
	message((*bandwidthv3.BandwidthLimit)(nil), reads("stat_prefix", "enable_mode", "limit_kbps", "fill_interval", "runtime_enabled", "enable_response_trailers", "response_trailer_prefix")),
	message((*admissionv3.AdmissionControl)(nil), reads("enabled", "success_criteria", "sampling_window", "aggression", "sr_threshold", "rps_threshold", "max_rejection_probability")),
	message((*admissionv3.AdmissionControl_SuccessCriteria)(nil), reads("http_criteria", "grpc_criteria")),
	message((*admissionv3.AdmissionControl_SuccessCriteria_HttpCriteria)(nil), reads("http_success_status")),
	message((*admissionv3.AdmissionControl_SuccessCriteria_GrpcCriteria)(nil), reads("grpc_success_status")),
	message((*adaptivev3.AdaptiveConcurrency)(nil), reads("gradient_controller_config", "enabled", "concurrency_limit_exceeded_status")),
	message((*adaptivev3.GradientControllerConfig)(nil), reads("sample_aggregate_percentile", "concurrency_limit_params", "min_rtt_calc_params")),
	message((*adaptivev3.GradientControllerConfig_ConcurrencyLimitCalculationParams)(nil), reads("max_concurrency_limit", "concurrency_update_interval", "min_concurrency_limit")),
	message((*adaptivev3.GradientControllerConfig_MinimumRTTCalculationParams)(nil), reads("interval", "fixed_value", "request_count", "jitter", "min_concurrency", "buffer")),
	message((*corev3.RuntimePercent)(nil), reads("default_value", "runtime_key")),
}

// bandwidthLimit reads one level of the bandwidth limit. A route must say how much; where the filter itself does not,
// routes without a word of their own are not limited.
func (r *reader) bandwidthLimit(m *bandwidthv3.BandwidthLimit, ofRoute bool, at *field.Path) *bandwidthlimit.Config {
	c := &bandwidthlimit.Config{Rate: min(m.GetLimitKbps().GetValue(), math.MaxUint64/1024) * 1024, Every: r.orDefault(m.GetFillInterval(), 50*time.Millisecond, at.Child("fill_interval")), Since: r.now()}
	if m.GetStatPrefix() == "" {
		r.errs.Addf(at.Child("stat_prefix"), "is empty")
	}
	if l := m.GetLimitKbps(); l == nil && ofRoute || l != nil && l.GetValue() == 0 {
		r.errs.Addf(at.Child("limit_kbps"), "found 0, want at least 1")
	}
	if c.Every < 20*time.Millisecond || c.Every > time.Second {
		r.errs.Addf(at.Child("fill_interval"), "found %v, want 20ms to 1s", c.Every)
	}
	if r.runtimeFlag(m.GetRuntimeEnabled()) && c.Rate > 0 {
		mode := m.GetEnableMode()
		c.Requests = mode == bandwidthv3.BandwidthLimit_REQUEST || mode == bandwidthv3.BandwidthLimit_REQUEST_AND_RESPONSE
		c.Responses = mode == bandwidthv3.BandwidthLimit_RESPONSE || mode == bandwidthv3.BandwidthLimit_REQUEST_AND_RESPONSE
	}
	prefix := strings.ToLower(m.GetResponseTrailerPrefix())
	if prefix != "" {
		if !header.ValidName([]byte(prefix)) {
			r.errs.Addf(at.Child("response_trailer_prefix"), "found %q, want the beginning of a name of trailers", prefix)
		}
		prefix += "-"
	}
	if m.GetEnableResponseTrailers() {
		name := func(s string) []byte { return []byte(prefix + "bandwidth-" + s + "-ms") }
		c.Trailers = &bandwidthlimit.Trailers{Request: name("request-delay"), Response: name("response-delay"), RequestWait: name("request-filter-delay"), ResponseWait: name("response-filter-delay")}
	}
	var scope *stats.Scope
	c.Stats, scope = r.env.Stats.BandwidthLimit(m.GetStatPrefix())
	runtime.AddCleanup(c, (*stats.Scope).Close, scope)
	return c
}

// goodCalls are gRPC's statuses of calls that fewer calls would not have helped.
var goodCalls = []int{0, 1, 2, 3, 5, 6, 7, 9, 11, 12, 16}

func (r *listenerReader) admissionControl(name string, m *admissionv3.AdmissionControl, c *stream.Config, at *field.Path) stream.Factory {
	set, scope := r.env.Stats.AdmissionControl(c.StatPrefix)
	r.scopes = append(r.scopes, scope)
	out := &admissioncontrol.Config{
		Off: !r.runtimeFlag(m.GetEnabled()), Window: r.orDefault(m.GetSamplingWindow(), 30*time.Second, at.Child("sampling_window")).Truncate(time.Second),
		Aggression: 1, Normal: r.runtimePercent(m.GetSrThreshold(), 95, at.Child("sr_threshold")), Most: r.runtimePercent(m.GetMaxRejectionProbability(), 80, at.Child("max_rejection_probability")),
		AtLeast: int(runtimeInteger[uint32](&r.reader, m.GetRpsThreshold())),
		HTTP:    []admissioncontrol.Range{{Start: 0, End: 500}}, GRPC: goodCalls,
	}
	if out.Window == 0 {
		r.errs.Addf(at.Child("sampling_window"), "found %v, want at least 1s", m.GetSamplingWindow().AsDuration())
	}
	if a := r.runtimeDouble(m.GetAggression()); a != nil && *a > 1 { // which NaN is not
		out.Aggression = *a
	}
	if out.Normal == 0 {
		r.errs.Addf(at.Child("sr_threshold"), "found 0, want more")
	}
	if m.GetSuccessCriteria() == nil {
		r.errs.Addf(at.Child("success_criteria"), "is not set")
	}
	r.successes(m.GetSuccessCriteria(), out, at.Child("success_criteria"))
	return admissioncontrol.New(name, out, set)
}

func (r *reader) successes(m *admissionv3.AdmissionControl_SuccessCriteria, c *admissioncontrol.Config, at *field.Path) {
	if h := m.GetHttpCriteria(); h != nil {
		at := at.Child("http_criteria").Child("http_success_status")
		if c.HTTP = nil; len(h.GetHttpSuccessStatus()) == 0 {
			r.errs.Addf(at, "is empty, want at least one range")
		}
		for i, s := range h.GetHttpSuccessStatus() {
			if s.GetStart() < 100 || s.GetEnd() > 600 || s.GetStart() >= s.GetEnd() {
				r.errs.Addf(at.Index(i), "found %d to %d, want a range from 100 to 600", s.GetStart(), s.GetEnd())
			}
			c.HTTP = append(c.HTTP, admissioncontrol.Range{Start: int(s.GetStart()), End: int(s.GetEnd())})
		}
	}
	if g := m.GetGrpcCriteria(); g != nil {
		at := at.Child("grpc_criteria").Child("grpc_success_status")
		if c.GRPC = nil; len(g.GetGrpcSuccessStatus()) == 0 {
			r.errs.Addf(at, "is empty, want at least one status")
		}
		for i, s := range g.GetGrpcSuccessStatus() {
			if s > 16 {
				r.errs.Addf(at.Index(i), "found %d, want at most 16", s)
			}
			c.GRPC = append(c.GRPC, int(s))
		}
	}
}

// runtimePercent reads a percentage that the runtime may set, as a part of 1.
func (r *reader) runtimePercent(p *corev3.RuntimePercent, byDefault float64, at *field.Path) float64 {
	v := byDefault
	if p != nil {
		v = p.GetDefaultValue().GetValue()
	}
	if set := r.env.Values.get(p.GetRuntimeKey()).double; set != nil {
		v = *set
	}
	return r.percentage(v, at)
}

func (r *listenerReader) adaptiveConcurrency(name string, m *adaptivev3.AdaptiveConcurrency, c *stream.Config, at *field.Path) stream.Factory {
	set, scope := r.env.Stats.Gradient(c.StatPrefix)
	r.scopes = append(r.scopes, scope)
	out := r.gradient(m.GetGradientControllerConfig(), at.Child("gradient_controller_config"))
	out.Off, out.Status = !r.runtimeFlag(m.GetEnabled()), http.StatusServiceUnavailable
	if code := int(m.GetConcurrencyLimitExceededStatus().GetCode()); code >= 400 {
		out.Status = code
	}
	return adaptiveconcurrency.New(name, out, set)
}

// gradient reads how a limit follows latencies.
func (r *reader) gradient(m *adaptivev3.GradientControllerConfig, at *field.Path) *adaptiveconcurrency.Config {
	limits, lowest := m.GetConcurrencyLimitParams(), m.GetMinRttCalcParams()
	atLimits, atLowest := at.Child("concurrency_limit_params"), at.Child("min_rtt_calc_params")
	positive := func(v *wrapperspb.UInt32Value, byDefault int, at *field.Path) int {
		if v == nil {
			return byDefault
		}
		if v.GetValue() == 0 {
			r.errs.Addf(at, "found 0, want at least 1")
		}
		return int(v.GetValue())
	}
	c := &adaptiveconcurrency.Config{
		Percentile: r.percentOr(m.GetSampleAggregatePercentile(), 50, at.Child("sample_aggregate_percentile")),
		Update:     r.duration(limits.GetConcurrencyUpdateInterval(), atLimits.Child("concurrency_update_interval")),
		MaxLimit:   positive(limits.GetMaxConcurrencyLimit(), 1000, atLimits.Child("max_concurrency_limit")),

		Every: r.duration(lowest.GetInterval(), atLowest.Child("interval")), Fixed: r.duration(lowest.GetFixedValue(), atLowest.Child("fixed_value")),
		Requests:       positive(lowest.GetRequestCount(), 50, atLowest.Child("request_count")),
		MinConcurrency: positive(lowest.GetMinConcurrency(), 3, atLowest.Child("min_concurrency")),
		Jitter:         r.percentOr(lowest.GetJitter(), 15, atLowest.Child("jitter")), Buffer: r.percentOr(lowest.GetBuffer(), 25, atLowest.Child("buffer")),
	}
	c.MinLimit = positive(limits.GetMinConcurrencyLimit(), c.MinConcurrency, atLimits.Child("min_concurrency_limit"))
	if c.Update == 0 {
		r.errs.Addf(atLimits.Child("concurrency_update_interval"), "found 0s, want more")
	}
	if lowest.GetInterval() != nil && c.Every < time.Millisecond {
		r.errs.Addf(atLowest.Child("interval"), "found %v, want at least a millisecond", c.Every)
	}
	if lowest.GetFixedValue() != nil && c.Fixed == 0 {
		r.errs.Addf(atLowest.Child("fixed_value"), "found 0s, want more")
	}
	if c.Every == 0 && c.Fixed == 0 {
		r.errs.Addf(atLowest, "has neither interval nor fixed_value, want one of them")
	}
	if c.Every > 0 {
		c.Fixed = 0
	}
	return c
}

// percentOr reads a percentage as a part of 1.
func (r *reader) percentOr(p *typev3.Percent, byDefault float64, at *field.Path) float64 {
	v := byDefault
	if p != nil {
		v = p.GetValue()
	}
	return r.percentage(v, at)
}

func (r *reader) percentage(v float64, at *field.Path) float64 {
	if !(v >= 0 && v <= 100) {
		r.errs.Addf(at, "found %v, want 0 to 100", v)
	}
	return v / 100
}
