package validate

import (
	"regexp"
	"slices"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

func (r *ruler) headerOps(at *field.Path, h *networking.Headers) {
	for _, side := range []struct {
		name string
		ops  *networking.Headers_HeaderOperations
	}{{"request", h.GetRequest()}, {"response", h.GetResponse()}} {
		p := at.Child(side.name)
		for _, op := range []struct {
			name   string
			values map[string]string
		}{{"set", side.ops.GetSet()}, {"add", side.ops.GetAdd()}} {
			for _, name := range sortedKeys(op.values) {
				r.headerOp(p.Child(op.name).Child(name), name, op.name == "set" && side.name == "request")
				r.headerValue(p.Child(op.name).Child(name), op.values[name])
				if strings.EqualFold(name, "content-length") {
					r.errorf(p.Child(op.name).Child(name), "found %q, which only the body itself can say", name)
				}
			}
		}
		if n := len(side.ops.GetSet()) + len(side.ops.GetAdd()); n > maxHeaders {
			r.errorf(p, "found %d headers to set and add, want at most %d", n, maxHeaders)
		}
		for i, name := range side.ops.GetRemove() {
			r.headerOp(p.Child("remove").Index(i), name, false)
		}
	}
}

// headerFormat is the form of a value: Envoy fills in what stands between percent signs.
var headerFormat = regexp.MustCompile(`^([^%]|%%|%[A-Z0-9_]+(\([^)]*\))?(:[0-9]+)?%)*$`)

// Envoy refuses a table of routes, and with it everybody's routes there, that has a header of more bytes, or changes more of them at one place.
const (
	maxHeader  = 16384
	maxHeaders = 1000
)

func (r *ruler) headerValue(at *field.Path, value string) {
	switch {
	case len(value) > maxHeader:
		r.errorf(at, "found %d bytes, want at most %d", len(value), maxHeader)
	case !r.oneLine(at, value):
	case !headerFormat.MatchString(value):
		r.errorf(at, "found %q, want %%%% for a percent sign, or a command such as %%REQ(x-name)%%", value)
	}
}

// oneLine refuses text that would end the line of a message that it becomes part of.
func (r *ruler) oneLine(at *field.Path, text string) bool {
	ok := !strings.ContainsAny(text, "\r\n\x00")
	if !ok {
		r.errorf(at, "found a line break in the value")
	}
	return ok
}

// headerOp checks the name of a header that is changed. The authority of a
// request may be set; Envoy changes no other pseudo header this way.
func (r *ruler) headerOp(at *field.Path, name string, set bool) {
	lower := strings.ToLower(name)
	switch {
	case len(name) > maxHeader:
		r.errorf(at, "found a name of %d bytes, want at most %d", len(name), maxHeader)
	case lower == ":authority" || lower == "host":
		if !set {
			r.errorf(at, "found %q, which can only be set, and only of requests", name)
		}
	case strings.HasPrefix(name, ":"):
		r.errorf(at, "found %q, want an ordinary header; of the pseudo headers only :authority can be set", name)
	case !headerName.MatchString(name):
		r.errorf(at, "found %q, want the name of a header", name)
	}
}

var retryConditions = []string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx", "refused-stream",
	"retriable-status-codes", "retriable-headers", "http3-post-connect-failure",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}

func (r *ruler) retries(at *field.Path, p *networking.HTTPRetry) {
	if p == nil {
		return
	}
	if p.GetAttempts() < 0 {
		r.errorf(at.Child("attempts"), "found %d, want 0 (never) or more", p.GetAttempts())
	}
	if p.GetAttempts() == 0 && (p.GetPerTryTimeout() != nil || p.GetRetryOn() != "" || p.GetBackoff() != nil) {
		r.errorf(at.Child("attempts"), "0 means never, but there is more said about retries; want 1 or more")
	}
	r.least(at.Child("perTryTimeout"), p.GetPerTryTimeout(), time.Millisecond)
	r.least(at.Child("backoff"), p.GetBackoff(), time.Millisecond)
	if p.GetRetryOn() != "" {
		r.retryOn(at.Child("retryOn"), p.GetRetryOn())
	}
}

func (r *ruler) retryOn(at *field.Path, list string) {
	for c := range strings.SplitSeq(list, ",") {
		c = strings.TrimSpace(c)
		if !slices.Contains(retryConditions, c) && !isStatus(c) {
			r.errorf(at, "found %q, want a list of status codes and of %s", c, strings.Join(retryConditions, ", "))
		}
	}
}

func isStatus(s string) bool {
	return len(s) == 3 && s[0] >= '1' && s[0] <= '5' && s[1] >= '0' && s[1] <= '9' && s[2] >= '0' && s[2] <= '9'
}

func (r *ruler) fault(at *field.Path, f *networking.HTTPFaultInjection) {
	if f == nil {
		return
	}
	if f.GetDelay() == nil && f.GetAbort() == nil {
		r.errorf(at, "says nothing; want delay or abort")
	}
	if d := f.GetDelay(); d != nil {
		p := at.Child("delay")
		if d.GetHttpDelayType() == nil {
			r.errorf(p.Child("fixedDelay"), "missing; want how long requests wait")
		}
		r.above(p.Child("fixedDelay"), d.GetFixedDelay(), time.Millisecond)
		//lint:ignore SA1019 old manifests have it
		r.share(p, d.GetPercentage(), d.GetPercent())
	}
	if a := f.GetAbort(); a != nil {
		p := at.Child("abort")
		switch k := a.GetErrorType().(type) {
		case nil:
			r.errorf(p, "no error; want httpStatus or grpcStatus")
		case *networking.HTTPFaultInjection_Abort_HttpStatus:
			if k.HttpStatus < 200 || k.HttpStatus > 599 {
				r.errorf(p.Child("httpStatus"), "found %d, want a status from 200 to 599", k.HttpStatus)
			}
		case *networking.HTTPFaultInjection_Abort_GrpcStatus:
			if _, ok := model.GRPCCode(k.GrpcStatus); !ok {
				r.errorf(p.Child("grpcStatus"), "found %q, want one of %s", k.GrpcStatus, strings.Join(model.GRPCCodes(), ", "))
			}
		}
		r.share(p, a.GetPercentage(), 0)
	}
}

// share checks how many requests meet a fault. The old field is whole percents.
func (r *ruler) share(at *field.Path, p *networking.Percent, old int32) {
	switch {
	case p != nil:
		r.percent(at.Child("percentage").Child("value"), p.GetValue())
	case old != 0:
		r.percent(at.Child("percent"), float64(old))
	default:
		r.notice(at, "without percentage it meets no request; for all write percentage: {value: 100}")
	}
}

func (r *ruler) redirect(at *field.Path, d *networking.HTTPRedirect) {
	if d == nil {
		return
	}
	if d.GetUri() == "" && d.GetPrefixRewrite() == "" && d.GetAuthority() == "" && d.GetScheme() == "" && d.GetRedirectPort() == nil {
		r.errorf(at, "says nothing; want uri, prefixRewrite, authority, scheme, port or derivePort")
	}
	if d.GetUri() != "" && d.GetPrefixRewrite() != "" {
		r.errorf(at, "uri and prefixRewrite exclude each other; keep one")
	}
	r.oneLine(at.Child("uri"), d.GetUri())
	r.oneLine(at.Child("prefixRewrite"), d.GetPrefixRewrite())
	r.oneLine(at.Child("authority"), d.GetAuthority())
	if s := d.GetScheme(); s != "" && s != "http" && s != "https" {
		r.errorf(at.Child("scheme"), "found %q, want http or https", s)
	}
	if c := d.GetRedirectCode(); c != 0 && !slices.Contains([]uint32{301, 302, 303, 307, 308}, c) {
		r.errorf(at.Child("redirectCode"), "found %d, want 301, 302, 303, 307 or 308", c)
	}
	if p, ok := d.GetRedirectPort().(*networking.HTTPRedirect_Port); ok {
		r.port(at.Child("port"), p.Port)
	}
}

// maxDirectBody is Envoy's max_direct_response_body_size as Istio sets it.
const maxDirectBody = 1 << 20

func (r *ruler) direct(at *field.Path, d *networking.HTTPDirectResponse) {
	if d == nil {
		return
	}
	if s := d.GetStatus(); s < 200 || s > 599 {
		r.errorf(at.Child("status"), "found %d, want a status from 200 to 599", s)
	}
	if n := len(d.GetBody().GetString_()) + len(d.GetBody().GetBytes()); n > maxDirectBody {
		r.errorf(at.Child("body"), "%d bytes, want at most %d", n, maxDirectBody)
	}
}

func (r *ruler) rewrite(at *field.Path, w *networking.HTTPRewrite) {
	if w == nil {
		return
	}
	x := w.GetUriRegexRewrite()
	r.oneLine(at.Child("uri"), w.GetUri())
	r.oneLine(at.Child("authority"), w.GetAuthority())
	r.oneLine(at.Child("uriRegexRewrite").Child("rewrite"), x.GetRewrite())
	if w.GetUri() == "" && w.GetAuthority() == "" && x == nil {
		r.errorf(at, "says nothing; want uri, authority or uriRegexRewrite")
	}
	if w.GetUri() != "" && x != nil {
		r.errorf(at, "uri and uriRegexRewrite exclude each other; keep one")
	}
	if x == nil {
		return
	}
	p := at.Child("uriRegexRewrite")
	if x.GetMatch() == "" {
		r.errorf(p.Child("match"), "missing; want the pattern of what is replaced")
		return
	}
	re := r.regex(p.Child("match"), x.GetMatch())
	for i := 0; re != nil && i+1 < len(x.GetRewrite()); i++ {
		c := x.GetRewrite()[i+1]
		if x.GetRewrite()[i] != '\\' {
			continue
		}
		i++
		if c >= '0' && c <= '9' && int(c-'0') > re.NumSubexp() {
			r.errorf(p.Child("rewrite"), "found \\%c, but the groups of the pattern end at \\%d", c, re.NumSubexp())
		}
	}
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}

func (r *ruler) cors(at *field.Path, c *networking.CorsPolicy) {
	if c == nil {
		return
	}
	for i, o := range c.GetAllowOrigins() {
		p := at.Child("allowOrigins").Index(i)
		if o.GetMatchType() == nil {
			r.errorf(p, "says nothing; want exact, prefix or regex")
		}
		r.stringMatch(p, o)
	}
	//lint:ignore SA1019 old manifests have it
	if old := c.GetAllowOrigin(); len(old) > 0 && len(c.GetAllowOrigins()) > 0 {
		r.errorf(at, "allowOrigin and allowOrigins exclude each other; keep allowOrigins")
	}
	for i, m := range c.GetAllowMethods() {
		if !slices.Contains(methods, m) {
			r.errorf(at.Child("allowMethods").Index(i), "found %q, want one of %s", m, strings.Join(methods, ", "))
		}
	}
	for _, list := range []struct {
		name  string
		names []string
	}{{"allowHeaders", c.GetAllowHeaders()}, {"exposeHeaders", c.GetExposeHeaders()}} {
		for i, name := range list.names {
			if !headerName.MatchString(name) {
				r.errorf(at.Child(list.name).Index(i), "found %q, want the name of a header, or *", name)
			}
		}
	}
	if age := c.GetMaxAge(); age != nil && (age.AsDuration() < 0 || age.GetNanos() != 0) {
		r.errorf(at.Child("maxAge"), "found %s, want whole seconds", age.AsDuration())
	}
}

func (r *ruler) mirrors(at *field.Path, h *networking.HTTPRoute) {
	if h.GetMirror() != nil && len(h.GetMirrors()) > 0 {
		r.errorf(at, "mirror and mirrors exclude each other; keep one")
	}
	if h.GetMirror() != nil {
		r.destination(at.Child("mirror"), h.GetMirror())
	} else if h.GetMirrorPercentage() != nil {
		r.errorf(at.Child("mirrorPercentage"), "there is no mirror")
	}
	if p := h.GetMirrorPercentage(); p != nil {
		r.percent(at.Child("mirrorPercentage").Child("value"), p.GetValue())
	}
	//lint:ignore SA1019 old manifests have it
	if p := h.GetMirrorPercent(); p != nil {
		r.percent(at.Child("mirrorPercent"), float64(p.GetValue()))
	}
	for i, m := range h.GetMirrors() {
		p := at.Child("mirrors").Index(i)
		r.destination(p.Child("destination"), m.GetDestination())
		if m.GetPercentage() != nil {
			r.percent(p.Child("percentage").Child("value"), m.GetPercentage().GetValue())
		}
	}
}
