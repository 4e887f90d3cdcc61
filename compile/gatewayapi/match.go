package gatewayapi

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/base/regex"
	"github.com/mallamesh/malla/model"
)

// A rank is what decides which of two matches is tried first, where a request fits both.
type rank struct {
	exact, method  bool
	path, rest     int // characters; rest breaks ties of paths
	headers, query int
}

// compare is negative if a comes first: exact paths, then the longest, then what asks
// for more.
func (a rank) compare(b rank) int {
	order := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	return cmp.Or(order(a.exact, b.exact), cmp.Compare(b.path, a.path), cmp.Compare(b.rest, a.rest), order(a.method, b.method),
		cmp.Compare(b.headers, a.headers), cmp.Compare(b.query, a.query))
}

// pathRank ranks an expression by its length, as a prefix: the standard leaves open where it stands.
func pathMatch(p *gatewayv1.HTTPPathMatch) (*model.StringMatch, rank, error) {
	kind, value := gatewayv1.PathMatchPathPrefix, "/"
	if p != nil {
		kind, value = deref(p.Type, kind), deref(p.Value, value)
	}
	switch kind {
	case gatewayv1.PathMatchRegularExpression:
		if _, err := regex.Compile(value); err != nil || value == "" {
			return nil, rank{}, fmt.Errorf("path.value is %q, want a regular expression in RE2's syntax", value)
		}
		return &model.StringMatch{Kind: model.Regex, Value: value}, rank{path: len(value)}, nil
	case gatewayv1.PathMatchExact, gatewayv1.PathMatchPathPrefix:
	default:
		return nil, rank{}, fmt.Errorf("path.type is %q, want Exact, PathPrefix or RegularExpression", kind)
	}
	if !isPath(value) {
		return nil, rank{}, fmt.Errorf("path.value is %q, want a path that begins with /, without ? and #", value)
	}
	if kind == gatewayv1.PathMatchExact {
		return &model.StringMatch{Kind: model.Exact, Value: value}, rank{exact: true, path: len(value)}, nil
	}
	if whole := strings.TrimRight(value, "/"); whole != "" {
		return &model.StringMatch{Kind: model.PathPrefix, Value: whole}, rank{path: len(whole)}, nil
	}
	return nil, rank{path: 1}, nil
}

func isPath(s string) bool {
	return strings.HasPrefix(s, "/") && !strings.ContainsAny(s, "?#\r\n\x00")
}

// httpMatch translates a match; every request is one with no parts.
func httpMatch(m gatewayv1.HTTPRouteMatch) (*model.HTTPMatch, rank, error) {
	uri, r, err := pathMatch(m.Path)
	out := &model.HTTPMatch{URI: uri}
	if m.Method != nil {
		out.Method, r.method = &model.StringMatch{Kind: model.Exact, Value: string(*m.Method)}, true
	}
	for _, h := range m.Headers {
		out.Headers, err = named(out.Headers, strings.ToLower(string(h.Name)), h.Value, deref(h.Type, gatewayv1.HeaderMatchExact) == gatewayv1.HeaderMatchRegularExpression, err)
	}
	for _, q := range m.QueryParams {
		out.QueryParams, err = named(out.QueryParams, string(q.Name), q.Value, deref(q.Type, gatewayv1.QueryParamMatchExact) == gatewayv1.QueryParamMatchRegularExpression, err)
	}
	r.headers, r.query = len(out.Headers), len(out.QueryParams)
	sortNamed(out)
	return out, r, err
}

func sortNamed(m *model.HTTPMatch) {
	byName := func(a, b model.NamedMatch) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(m.Headers, byName)
	slices.SortFunc(m.QueryParams, byName)
}

// named adds a comparison; of two with one name the first counts, as the standard says.
func named(list []model.NamedMatch, name, value string, expression bool, err error) ([]model.NamedMatch, error) {
	if slices.ContainsFunc(list, func(m model.NamedMatch) bool { return m.Name == name }) {
		return list, err
	}
	m := model.NamedMatch{Name: name, StringMatch: model.StringMatch{Kind: model.Exact, Value: value}}
	if expression {
		m.Kind = model.Regex
		if _, bad := regex.Compile(value); bad != nil {
			err = errors.Join(err, fmt.Errorf("%s has the value %q, want a regular expression in RE2's syntax", name, value))
		}
	}
	if name == "" || strings.ContainsAny(name, "\r\n\x00") {
		err = errors.Join(err, fmt.Errorf("%q is no name", name))
	}
	return append(list, m), err
}

// grpcMatch translates a match of methods, which are paths of two segments.
func grpcMatch(m gatewayv1.GRPCRouteMatch) (*model.HTTPMatch, rank, error) {
	out, r := &model.HTTPMatch{}, rank{}
	var err error
	if m.Method != nil {
		out.URI, r, err = methodMatch(m.Method)
	}
	for _, h := range m.Headers {
		out.Headers, err = named(out.Headers, strings.ToLower(string(h.Name)), h.Value, deref(h.Type, gatewayv1.GRPCHeaderMatchExact) == gatewayv1.GRPCHeaderMatchRegularExpression, err)
	}
	r.headers = len(out.Headers)
	sortNamed(out)
	return out, r, err
}

func methodMatch(m *gatewayv1.GRPCMethodMatch) (*model.StringMatch, rank, error) {
	service, method := deref(m.Service, ""), deref(m.Method, "")
	r := rank{path: len(service), rest: len(method)}
	switch deref(m.Type, gatewayv1.GRPCMethodMatchExact) {
	case gatewayv1.GRPCMethodMatchRegularExpression:
		value := "/" + cmp.Or(service, "[^/]+") + "/" + cmp.Or(method, "[^/]+")
		if _, err := regex.Compile(value); err != nil {
			return nil, r, fmt.Errorf("method has the service %q and the method %q, want regular expressions in RE2's syntax", service, method)
		}
		return &model.StringMatch{Kind: model.Regex, Value: value}, r, nil
	case gatewayv1.GRPCMethodMatchExact:
	default:
		return nil, r, fmt.Errorf("method.type is %q, want Exact or RegularExpression", *m.Type)
	}
	if strings.ContainsAny(service+method, "/?#\r\n\x00") {
		return nil, r, fmt.Errorf("method has the service %q and the method %q, want names without /", service, method)
	}
	switch {
	case service != "" && method != "":
		return &model.StringMatch{Kind: model.Exact, Value: "/" + service + "/" + method}, r, nil
	case service != "":
		return &model.StringMatch{Kind: model.PathPrefix, Value: "/" + service}, r, nil
	case method != "":
		return &model.StringMatch{Kind: model.Regex, Value: "/[^/]+/" + regexQuote(method)}, r, nil
	}
	return nil, r, nil
}
