package gatewayapi

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/model"
)

func regexQuote(s string) string { return regexp.QuoteMeta(s) }

// A filtered rule is one on its way to the model, for one of its matches.
type filtered struct {
	*model.HTTPRule
	match *model.HTTPMatch
	at    string // of the rule: spec.rules[1]
}

// filters does what the filters of a rule say. What cannot be done is an error: the
// standard forbids to leave a filter out.
func (c *compiler) filters(r filtered, list []gatewayv1.HTTPRouteFilter, b *backends) error {
	var wrong []error
	for i, f := range list {
		var err error
		switch {
		case f.Type == gatewayv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
			err = change(&r.Headers.Request, f.RequestHeaderModifier)
		case f.Type == gatewayv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
			err = change(&r.Headers.Response, f.ResponseHeaderModifier)
		case f.Type == gatewayv1.HTTPRouteFilterRequestRedirect && f.RequestRedirect != nil:
			r.Redirect, err = redirect(r.match, f.RequestRedirect)
		case f.Type == gatewayv1.HTTPRouteFilterURLRewrite && f.URLRewrite != nil:
			r.Rewrite, err = rewrite(r.match, f.URLRewrite)
		case f.Type == gatewayv1.HTTPRouteFilterRequestMirror && f.RequestMirror != nil:
			if to, percent := b.find(f.RequestMirror.BackendRef, fmt.Sprintf("%s.filters[%d].requestMirror.backendRef", r.at, i)), mirrored(f.RequestMirror); to.Host != "" && percent > 0 {
				r.Mirrors = append(r.Mirrors, model.Mirror{To: to, Percent: percent})
			}
		case f.Type == gatewayv1.HTTPRouteFilterCORS && f.CORS != nil:
			r.CORS, err = cors(f.CORS)
		default:
			err = fmt.Errorf("type %s is not supported", f.Type)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s.filters[%d]: %w", r.at, i, err))
		}
	}
	if r.Redirect != nil && r.Rewrite != nil {
		wrong = append(wrong, incompatible{fmt.Errorf("%s.filters: RequestRedirect and URLRewrite exclude each other", r.at)})
	}
	return errors.Join(wrong...)
}

// incompatible is the error of filters that exclude each other.
type incompatible struct{ error }

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// change adds what a header filter says. A percent sign means itself.
func change(out *model.HeaderChange, f *gatewayv1.HTTPHeaderFilter) error {
	var err error
	list := func(in []gatewayv1.HTTPHeader) (out []model.Header) {
		for _, h := range in {
			if !headerName.MatchString(string(h.Name)) || strings.ContainsAny(h.Value, "\r\n\x00") {
				err = fmt.Errorf("has the header %q with the value %q, want a name of letters, digits and dashes, and no line break", h.Name, h.Value)
			}
			out = append(out, model.Header{Name: string(h.Name), Value: strings.ReplaceAll(h.Value, "%", "%%")})
		}
		slices.SortStableFunc(out, func(a, b model.Header) int { return cmp.Compare(a.Name, b.Name) })
		return out
	}
	out.Set, out.Add = append(out.Set, list(f.Set)...), append(out.Add, list(f.Add)...)
	for _, name := range f.Remove {
		if !headerName.MatchString(name) {
			err = fmt.Errorf("removes %q, want the name of a header", name)
		}
	}
	out.Remove = append(out.Remove, f.Remove...)
	return err
}

// redirect answers with another place. What of it is not said is the listener's, see [forListener].
func redirect(m *model.HTTPMatch, f *gatewayv1.HTTPRequestRedirectFilter) (*model.Redirect, error) {
	out := &model.Redirect{
		Authority: string(deref(f.Hostname, "")), Scheme: deref(f.Scheme, ""), Code: uint32(deref(f.StatusCode, 302)), Port: uint16(deref(f.Port, 0)),
		DerivePort: model.FromRequest,
	}
	if !slices.Contains([]uint32{301, 302, 303, 307, 308}, out.Code) {
		return nil, fmt.Errorf("requestRedirect.statusCode is %d, want one of 301, 302, 303, 307 and 308", out.Code)
	}
	if s := out.Scheme; s != "" && s != "http" && s != "https" {
		return nil, fmt.Errorf("requestRedirect.scheme is %q, want http or https", s)
	}
	if n := deref(f.Port, 80); n < 1 || n > 65535 {
		return nil, fmt.Errorf("requestRedirect.port is %d, want 1 to 65535", n)
	}
	if err := isHostname(out.Authority); err != nil {
		return nil, fmt.Errorf("requestRedirect.hostname %w", err)
	}
	if f.Path == nil {
		return out, nil
	}
	var err error
	switch f.Path.Type {
	case gatewayv1.FullPathHTTPPathModifier:
		if out.Path = deref(f.Path.ReplaceFullPath, "/"); !isPath(out.Path) {
			err = fmt.Errorf("requestRedirect.path.replaceFullPath is %q, want a path that begins with /, without ? and #", out.Path)
		}
	case gatewayv1.PrefixMatchHTTPPathModifier:
		out.Regex, out.Replace, err = prefixRewrite(m, deref(f.Path.ReplacePrefixMatch, "/"))
	default:
		err = fmt.Errorf("requestRedirect.path.type is %q, want ReplaceFullPath or ReplacePrefixMatch", f.Path.Type)
	}
	return out, err
}

// forListener returns the redirect of requests that came to a port. Without a port the scheme's own is meant, and
// without a scheme the port on which the request came; a port that goes without saying is not said. (A client that has
// come through another port, which is mapped to this one, is led back to that.) Where it is not said Envoy keeps the
// one of the request's host unless that is a scheme's own, so of other listeners it has to be said after all.
func forListener(r *model.Redirect, port uint16, secure bool) *model.Redirect {
	out := *r
	out.DerivePort = model.NoDerivation
	scheme := r.Scheme
	if scheme == "" {
		scheme = "http"
		if secure {
			scheme = "https"
		}
		out.Port = cmp.Or(r.Port, port)
	}
	switch own := map[string]uint16{"http": 80, "https": 443}[scheme]; {
	case r.Scheme != "" && r.Port == 0 && r.Authority == "" && port != 80 && port != 443:
		out.Port = own
	case out.Port == own:
		out.Port = 0
	}
	return &out
}

func isHostname(s string) error {
	if s != "" && (!istio.IsHost(s) || strings.HasPrefix(s, "*")) {
		return fmt.Errorf("is %q, want a host", s)
	}
	return nil
}

func rewrite(m *model.HTTPMatch, f *gatewayv1.HTTPURLRewriteFilter) (*model.Rewrite, error) {
	out := &model.Rewrite{Authority: string(deref(f.Hostname, ""))}
	if err := isHostname(out.Authority); err != nil {
		return nil, fmt.Errorf("urlRewrite.hostname %w", err)
	}
	if f.Path == nil {
		return out, nil
	}
	var err error
	switch f.Path.Type {
	case gatewayv1.FullPathHTTPPathModifier:
		full := deref(f.Path.ReplaceFullPath, "/")
		if out.Regex, out.Replace = "^/.*$", literal(full); !isPath(full) {
			err = fmt.Errorf("urlRewrite.path.replaceFullPath is %q, want a path that begins with /, without ? and #", full)
		}
	case gatewayv1.PrefixMatchHTTPPathModifier:
		out.Regex, out.Replace, err = prefixRewrite(m, deref(f.Path.ReplacePrefixMatch, "/"))
	default:
		err = fmt.Errorf("urlRewrite.path.type is %q, want ReplaceFullPath or ReplacePrefixMatch", f.Path.Type)
	}
	return out, err
}

// prefixRewrite puts another prefix of segments in the place of the one that matched:
// /a/b with /a for /x is /x/b, and for / is /b. There is always one / in between.
func prefixRewrite(m *model.HTTPMatch, with string) (regex, replace string, err error) {
	matched := ""
	if m.URI != nil {
		if matched = m.URI.Value; m.URI.Kind != model.PathPrefix {
			return "", "", fmt.Errorf("path.type is ReplacePrefixMatch, want matches of type PathPrefix beside it")
		}
	}
	if with != "" && !isPath(with) {
		return "", "", fmt.Errorf("path.replacePrefixMatch is %q, want a path that begins with /, without ? and #", with)
	}
	with = strings.TrimRight(with, "/")
	switch {
	case with == "": // what is left begins with a / of its own, or is nothing
		return "^" + regexQuote(matched) + "/*", "/", nil
	case matched == "":
		return "^/", literal(with + "/"), nil
	}
	return "^" + regexQuote(matched), literal(with), nil
}

// literal keeps a substitution from seeing groups.
func literal(s string) string { return strings.ReplaceAll(s, `\`, `\\`) }

func mirrored(f *gatewayv1.HTTPRequestMirrorFilter) float64 {
	share := 100.0
	switch {
	case f.Percent != nil:
		share = float64(*f.Percent)
	case f.Fraction != nil:
		share = 100 * float64(f.Fraction.Numerator) / float64(max(1, deref(f.Fraction.Denominator, 100)))
	}
	return min(max(share, 0), 100)
}

func cors(f *gatewayv1.HTTPCORSFilter) (*model.CORS, error) {
	out := &model.CORS{
		Credentials: f.AllowCredentials, MaxAge: time.Duration(cmp.Or(f.MaxAge, 5)) * time.Second,
		IgnoreUnmatched: true, // a preflight is for the gateway: backends are not asked
	}
	if f.MaxAge < 0 {
		return nil, fmt.Errorf("cors.maxAge is %d, want 1 or more", f.MaxAge)
	}
	if out.Credentials != nil && !*out.Credentials {
		out.Credentials = nil // the header has one value: true
	}
	for _, o := range f.AllowOrigins {
		origin := string(o)
		before, after, wild := strings.Cut(origin, "*")
		switch {
		case origin == "*":
			out.Origins = append(out.Origins, model.StringMatch{Kind: model.Regex, Value: ".*"})
		case wild:
			out.Origins = append(out.Origins, model.StringMatch{Kind: model.Regex, Value: regexQuote(before) + ".+" + regexQuote(after)})
		default:
			out.Origins = append(out.Origins, model.StringMatch{Kind: model.Exact, Value: origin})
		}
	}
	for _, m := range f.AllowMethods {
		out.Methods = append(out.Methods, string(m))
	}
	for _, h := range f.AllowHeaders {
		out.Headers = append(out.Headers, string(h))
	}
	for _, h := range f.ExposeHeaders {
		out.Expose = append(out.Expose, string(h))
	}
	for _, list := range [][]string{out.Methods, out.Headers, out.Expose} {
		for _, s := range list {
			if !headerName.MatchString(s) {
				return nil, fmt.Errorf("cors has %q, want the name of a method or a header, or *", s)
			}
		}
	}
	return out, nil
}
