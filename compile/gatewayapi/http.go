package gatewayapi

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// An entry is one match of a rule, and what is done with the requests that fit.
type entry struct {
	rank
	route *config.Object
	rule  *model.HTTPRule // with the match as its only one
}

// ordered sorts entries of one host: by what they ask for, then by the age of
// the routes. Entries of one route that ask for as much stay in their order.
func ordered(list []entry) []entry {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b entry) int {
		if d := a.rank.compare(b.rank); d != 0 {
			return d
		}
		return olderObject(a.route, b.route)
	})
	return list
}

func (c *compiler) httpRoutes() {
	for _, o := range oldest(c.objects.HTTPRoutes) {
		spec := &o.Value.(*gatewayv1.HTTPRoute).Spec
		c.attach(c.routeOf(o, "HTTPRoute", spec.CommonRouteSpec, spec.Hostnames),
			func() body { return c.httpBody(o, spec, false) }, func() body { return c.httpBody(o, spec, true) })
	}
}

func (c *compiler) grpcRoutes() {
	for _, o := range oldest(c.objects.GRPCRoutes) {
		spec := &o.Value.(*gatewayv1.GRPCRoute).Spec
		c.attach(c.routeOf(o, "GRPCRoute", spec.CommonRouteSpec, spec.Hostnames),
			func() body { return c.grpcBody(o, spec, false) }, func() body { return c.grpcBody(o, spec, true) })
	}
}

// A httpRule is a rule of an HTTPRoute or of a GRPCRoute.
type httpRule struct {
	name     string
	at       string // spec.rules[1]
	matches  []matched
	filters  []gatewayv1.HTTPRouteFilter
	refs     []gatewayv1.BackendRef
	each     [][]gatewayv1.HTTPRouteFilter // of the refs
	timeouts *gatewayv1.HTTPRouteTimeouts
	retry    *gatewayv1.HTTPRouteRetry
	session  *gatewayv1.SessionPersistence
}

type matched struct {
	match *model.HTTPMatch
	rank  rank
	err   error
}

func (c *compiler) httpBody(o *config.Object, spec *gatewayv1.HTTPRouteSpec, inside bool) body {
	var rules []httpRule
	for i, r := range spec.Rules {
		rule := httpRule{name: ruleName(o, i, r.Name), at: "spec.rules[" + strconv.Itoa(i) + "]", filters: r.Filters, timeouts: r.Timeouts, retry: r.Retry, session: r.SessionPersistence}
		for _, m := range orEvery(r.Matches) {
			match, rank, err := httpMatch(m)
			rule.matches = append(rule.matches, matched{match, rank, err})
		}
		for _, ref := range r.BackendRefs {
			rule.refs, rule.each = append(rule.refs, ref.BackendRef), append(rule.each, ref.Filters)
		}
		rules = append(rules, rule)
	}
	return c.httpRules(o, "HTTPRoute", rules, inside)
}

func (c *compiler) grpcBody(o *config.Object, spec *gatewayv1.GRPCRouteSpec, inside bool) body {
	var rules []httpRule
	for i, r := range spec.Rules {
		rule := httpRule{name: ruleName(o, i, r.Name), at: "spec.rules[" + strconv.Itoa(i) + "]", filters: ofHTTP(r.Filters), session: r.SessionPersistence}
		for _, m := range orEvery(r.Matches) {
			match, rank, err := grpcMatch(m)
			rule.matches = append(rule.matches, matched{match, rank, err})
		}
		for _, ref := range r.BackendRefs {
			rule.refs, rule.each = append(rule.refs, ref.BackendRef), append(rule.each, ofHTTP(ref.Filters))
		}
		rules = append(rules, rule)
	}
	return c.httpRules(o, "GRPCRoute", rules, inside)
}

// ofHTTP returns filters of gRPC as those of HTTP, of which they are some.
func ofHTTP(list []gatewayv1.GRPCRouteFilter) []gatewayv1.HTTPRouteFilter {
	var out []gatewayv1.HTTPRouteFilter
	for _, f := range list {
		out = append(out, gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterType(f.Type), RequestHeaderModifier: f.RequestHeaderModifier, ResponseHeaderModifier: f.ResponseHeaderModifier,
			RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef,
		})
	}
	return out
}

// orEvery returns the matches, one of everything if there are none.
func orEvery[T any](list []T) []T {
	if len(list) == 0 {
		return make([]T, 1)
	}
	return list
}

// ruleName is how routes are called in access logs: namespace.name.place, as Istio calls them.
func ruleName(o *config.Object, i int, name *gatewayv1.SectionName) string {
	return o.Namespace + "." + o.Name + "." + string(deref(name, gatewayv1.SectionName(strconv.Itoa(i))))
}

// httpRules compiles the rules of a route. Requests for a rule that cannot be done are
// answered by 500, since the standard forbids to do the half of it.
func (c *compiler) httpRules(o *config.Object, kind string, rules []httpRule, inside bool) body {
	b := &backends{c: c, from: o, kind: kind, inside: inside, is: conditionsOf(o)}
	b.is.set(accepted, true, "Accepted", "")
	b.is.set(resolved, true, "ResolvedRefs", "what it names is there")
	out := body{is: b.is}
	var wrong []error
	good := 0 // rules of which something is
	for _, r := range rules {
		bad, before := 0, good
		for _, m := range r.matches {
			rule, err := c.httpRule(r, m, b)
			if m.err != nil { // what it would be for cannot be said
				wrong = append(wrong, fmt.Errorf("%s.matches: %w", r.at, m.err))
				continue
			}
			if err != nil {
				if bad++; bad == 1 {
					wrong = append(wrong, err)
				}
				rule = &model.HTTPRule{Direct: &model.DirectResponse{Status: 500}}
			} else {
				good = before + 1
			}
			ref := refOf(o)
			rule.Name, rule.From = r.name, &ref
			if !every(m.match) {
				rule.Matches = []*model.HTTPMatch{m.match}
			}
			out.http = append(out.http, entry{rank: m.rank, route: o, rule: rule})
		}
	}
	judge(out.is, wrong, good)
	c.uses(b)
	return out
}

// judge says what cannot be done of a route: some of its rules, or all.
func judge(is *conditions, wrong []error, good int) {
	if len(wrong) == 0 {
		return
	}
	reason, text := "UnsupportedValue", errors.Join(wrong...).Error()
	if errors.As(wrong[0], &incompatible{}) {
		reason = "IncompatibleFilters"
	}
	text = strings.ReplaceAll(text, "\n", "; ")
	if good == 0 {
		is.set(accepted, false, reason, "%s", text)
		return
	}
	is.set("PartiallyInvalid", true, reason, "Dropped Rule: %s", text)
}

func every(m *model.HTTPMatch) bool {
	return m.URI == nil && m.Method == nil && len(m.Headers)+len(m.QueryParams) == 0
}

func (c *compiler) httpRule(r httpRule, m matched, b *backends) (*model.HTTPRule, error) {
	if m.err != nil {
		return nil, m.err
	}
	out := filtered{HTTPRule: &model.HTTPRule{Strict: true}, match: m.match, at: r.at}
	err := c.filters(out, r.filters, b)
	shares := b.shares(r.refs, r.at)
	err = errors.Join(err, c.times(out, r), c.session(out, r))
	switch {
	case err == nil && out.Redirect != nil:
		return out.HTTPRule, nil
	case err == nil && lost(shares):
		return &model.HTTPRule{Headers: out.Headers, CORS: out.CORS, Direct: &model.DirectResponse{Status: 500}}, nil
	}
	for _, s := range shares {
		at := fmt.Sprintf("%s.backendRefs[%d]", r.at, s.ref)
		if len(shares) == 1 { // its filters are the rule's
			err = errors.Join(err, c.filters(filtered{HTTPRule: out.HTTPRule, match: m.match, at: at}, r.each[s.ref], b))
		} else {
			err = errors.Join(err, backendFilters(&s.split, r.each[s.ref], at))
		}
		out.Forward = append(out.Forward, s.split)
	}
	if err != nil {
		return nil, err
	}
	if out.Redirect != nil {
		out.Forward = nil
	}
	return out.HTTPRule, nil
}

// backendFilters does what concerns one of several destinations: proxies change headers and the host for
// each, and the rest for all of a route only.
func backendFilters(s *model.Split, list []gatewayv1.HTTPRouteFilter, at string) error {
	var wrong []error
	for i, f := range list {
		var err error
		switch {
		case f.Type == gatewayv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
			err = change(&s.Headers.Request, f.RequestHeaderModifier)
		case f.Type == gatewayv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
			err = change(&s.Headers.Response, f.ResponseHeaderModifier)
		case f.Type == gatewayv1.HTTPRouteFilterURLRewrite && f.URLRewrite != nil && f.URLRewrite.Path == nil && f.URLRewrite.Hostname != nil:
			if err = isHostname(string(*f.URLRewrite.Hostname)); err == nil {
				s.Headers.Request.Set = append(s.Headers.Request.Set, model.Header{Name: ":authority", Value: string(*f.URLRewrite.Hostname)})
			}
		default:
			err = fmt.Errorf("type %s is not supported for one of several backendRefs", f.Type)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s.filters[%d]: %w", at, i, err))
		}
	}
	return errors.Join(wrong...)
}

// times says how long requests may take, and when they are sent again.
func (c *compiler) times(r filtered, from httpRule) error {
	var request, backend time.Duration
	if t := from.timeouts; t != nil {
		var first, second error
		request, first = duration(t.Request, r.at+".timeouts.request")
		backend, second = duration(t.BackendRequest, r.at+".timeouts.backendRequest")
		if err := errors.Join(first, second); err != nil {
			return err
		}
	}
	r.Timeout = request
	y := from.retry
	if y == nil { // there is one try, but for those that did not reach anybody
		if backend > 0 && (request == 0 || backend < request) {
			r.Timeout = backend
		}
		return nil
	}
	backoff, err := duration(y.Backoff, r.at+".retry.backoff")
	if err != nil {
		return err
	}
	attempts := deref(y.Attempts, 2)
	if attempts < 0 {
		return fmt.Errorf("%s.retry.attempts is %d, want 0 or more", r.at, attempts)
	}
	on := "connect-failure,refused-stream,unavailable,cancelled"
	for _, code := range y.Codes {
		if code < 400 || code > 599 {
			return fmt.Errorf("%s.retry.codes has %d, want 400 to 599", r.at, code)
		}
		on += "," + strconv.Itoa(int(code))
	}
	r.Retry = &model.Retry{Attempts: uint32(attempts), PerTry: backend, On: on, Backoff: backoff}
	return nil
}

// duration reads a span of time; proxies count in milliseconds.
func duration(d *gatewayv1.Duration, at string) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	v, err := time.ParseDuration(string(*d))
	if err != nil || v < 0 || v > 0 && v < time.Millisecond {
		return 0, fmt.Errorf("%s is %q, want 0s, or 1ms or more", at, *d)
	}
	return v, nil
}

// session keeps a client with one endpoint.
func (c *compiler) session(r filtered, from httpRule) error {
	s := from.session
	if s == nil {
		return nil
	}
	at := r.at + ".sessionPersistence"
	ttl, err := duration(s.AbsoluteTimeout, at+".absoluteTimeout")
	name := deref(s.SessionName, "malla-session-"+strings.ReplaceAll(from.name, ".", "-"))
	permanent := s.CookieConfig != nil && deref(s.CookieConfig.LifetimeType, gatewayv1.SessionCookieLifetimeType) == gatewayv1.PermanentCookieLifetimeType
	switch kind := deref(s.Type, gatewayv1.CookieBasedSessionPersistence); {
	case err != nil:
		return err
	case !headerName.MatchString(name):
		return fmt.Errorf("%s.sessionName is %q, want the name of a cookie or a header", at, name)
	case ttl > 0 && !permanent:
		return fmt.Errorf("%s.absoluteTimeout: what a session began at is known to the client alone; want cookieConfig.lifetimeType Permanent, or none", at)
	case kind == gatewayv1.HeaderBasedSessionPersistence:
		r.Session = &model.Session{Header: name}
	case kind == gatewayv1.CookieBasedSessionPersistence:
		r.Session = &model.Session{Cookie: name, TTL: ttl}
		if permanent && ttl == 0 {
			return fmt.Errorf("%s.absoluteTimeout is missing, want how long the cookie lives", at)
		}
	default:
		return fmt.Errorf("%s.type is %q, want Cookie or Header", at, kind)
	}
	return nil
}
