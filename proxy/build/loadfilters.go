package build

import (
	"runtime"
	"strings"
	"time"

	bandwidthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/bandwidth_limit/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/filter/bandwidthlimit"
	"github.com/mallamesh/malla/proxy/stats"
)

// loadFields are of filters that bound what goes to a service.
var loadFields = []*Message{
	message((*bandwidthv3.BandwidthLimit)(nil), reads("stat_prefix", "enable_mode", "limit_kbps", "fill_interval", "runtime_enabled", "enable_response_trailers", "response_trailer_prefix")),
}

// bandwidthLimit reads one level of the bandwidth limit. A route must say how much; where the filter itself does not,
// routes without a word of their own are not limited.
func (r *reader) bandwidthLimit(m *bandwidthv3.BandwidthLimit, ofRoute bool, at *field.Path) *bandwidthlimit.Config {
	c := &bandwidthlimit.Config{Rate: m.GetLimitKbps().GetValue() * 1024, Every: r.orDefault(m.GetFillInterval(), 50*time.Millisecond, at.Child("fill_interval"))}
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
