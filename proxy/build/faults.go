package build

import (
	"cmp"

	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/filter/fault"
)

// fault reads what the fault filter is to do, nil for nothing.
func (r *reader) fault(m *faultv3.HTTPFault, at *field.Path) *fault.Config {
	values := r.env.Values
	c := &fault.Config{
		Upstream: m.GetUpstreamCluster(), Headers: r.matchers(m.GetHeaders(), at.Child("headers")), Nodes: m.GetDownstreamNodes(),
		MaxActive: values.number(cmp.Or(m.GetMaxActiveFaultsRuntime(), "fault.http.max_active_faults"), number(m.GetMaxActiveFaults())), Metadata: m.GetFilterMetadata().AsMap(),
	}
	if d := m.GetDelay(); d != nil {
		at := at.Child("delay")
		c.DelayHeader = d.GetHeaderDelay() != nil
		c.Delay = r.duration(d.GetFixedDelay(), at.Child("fixed_delay"))
		c.DelayShare = r.faultShare(d.GetPercentage(), cmp.Or(m.GetDelayPercentRuntime(), "fault.http.delay.fixed_delay_percent"), at.Child("percentage"))
		if c.Delay == 0 && !c.DelayHeader {
			r.errs.Addf(at.Child("fixed_delay"), "is not set, want a time above 0")
		}
		const unset = -1
		if set := values.milliseconds(cmp.Or(m.GetDelayDurationRuntime(), "fault.http.delay.fixed_duration_ms"), unset); set != unset {
			c.Delay, c.DelayHeader = set, c.DelayHeader && set > 0
		}
	}
	if a := m.GetAbort(); a != nil {
		r.abort(m, c, at.Child("abort"))
	}
	if l := m.GetResponseRateLimit(); l != nil {
		at := at.Child("response_rate_limit")
		c.RateHeader = l.GetHeaderLimit() != nil
		c.Rate = l.GetFixedLimit().GetLimitKbps()
		c.RateShare = r.faultShare(l.GetPercentage(), cmp.Or(m.GetResponseRateLimitPercentRuntime(), "fault.http.rate_limit.response_percent"), at.Child("percentage"))
		if c.Rate == 0 && !c.RateHeader {
			r.errs.Addf(at.Child("fixed_limit").Child("limit_kbps"), "found 0, want at least 1")
		}
	}
	if m.GetDelay() == nil && m.GetAbort() == nil && m.GetResponseRateLimit() == nil {
		return nil
	}
	return c
}

func (r *reader) abort(m *faultv3.HTTPFault, c *fault.Config, at *field.Path) {
	a := m.GetAbort()
	c.AbortShare = r.faultShare(a.GetPercentage(), cmp.Or(m.GetAbortPercentRuntime(), "fault.http.abort.abort_percent"), at.Child("percentage"))
	c.Body = a.GetResponseBody()
	httpKey := cmp.Or(m.GetAbortHttpStatusRuntime(), "fault.http.abort.http_status")
	grpcKey := cmp.Or(m.GetAbortGrpcStatusRuntime(), "fault.http.abort.grpc_status")
	switch a.GetErrorType().(type) {
	case *faultv3.FaultAbort_HttpStatus:
		status := a.GetHttpStatus()
		if status < 200 || status > 599 {
			r.errs.Addf(at.Child("http_status"), "found %d, want a status from 200 to 599", status)
		}
		c.Status = r.faultStatus(httpKey, &status, at)
	case *faultv3.FaultAbort_GrpcStatus:
		status := a.GetGrpcStatus()
		c.GRPCStatus, c.HasGRPC = int(*r.env.Values.number(grpcKey, &status)), true
	case *faultv3.FaultAbort_HeaderAbort_:
		_ = a.GetHeaderAbort()
		c.AbortHeader = true
		c.Status = r.faultStatus(httpKey, nil, at)
		if n := r.env.Values.number(grpcKey, nil); n != nil {
			c.GRPCStatus, c.HasGRPC = int(*n), true
		}
	default:
		r.errs.Addf(at, "has no status, want http_status, grpc_status or header_abort")
	}
}

// faultStatus is a status that the runtime may set, 0 for none.
func (r *reader) faultStatus(key string, configured *uint32, at *field.Path) int {
	n := r.env.Values.number(key, configured)
	if n == nil {
		return 0
	}
	if n != configured && (*n < 200 || *n > 599) {
		r.errs.Addf(at, "found %d in the runtime's %s, want a status from 200 to 599", *n, key)
	}
	return int(*n)
}

// faultShare is a share that the runtime may set; then no header makes it smaller.
func (r *reader) faultShare(p *typev3.FractionalPercent, key string, at *field.Path) fault.Share {
	f := r.fraction(p, at)
	set, firm := r.env.Values.share(key)
	if firm {
		f = set
	}
	return fault.Share{Numerator: f.Numerator, Denominator: f.Denominator, Firm: firm}
}
