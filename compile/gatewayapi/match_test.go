package gatewayapi

import (
	"regexp"
	"slices"
	"testing"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

func match(kind gatewayv1.PathMatchType, path string) gatewayv1.HTTPRouteMatch {
	return gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: &kind, Value: &path}}
}

func with(m gatewayv1.HTTPRouteMatch, method string, headers, params int) gatewayv1.HTTPRouteMatch {
	if method != "" {
		m.Method = (*gatewayv1.HTTPMethod)(&method)
	}
	for i := range headers {
		m.Headers = append(m.Headers, gatewayv1.HTTPHeaderMatch{Name: gatewayv1.HTTPHeaderName(rune('a' + i)), Value: "1"})
	}
	for i := range params {
		m.QueryParams = append(m.QueryParams, gatewayv1.HTTPQueryParamMatch{Name: gatewayv1.HTTPHeaderName(rune('a' + i)), Value: "1"})
	}
	return m
}

// Of two matches that a request fits, the standard says which is tried first: here each before
// the one after it.
func TestPrecedence(t *testing.T) {
	const exact, prefix = gatewayv1.PathMatchExact, gatewayv1.PathMatchPathPrefix
	want := []gatewayv1.HTTPRouteMatch{
		match(exact, "/a"),
		with(match(prefix, "/abcd"), "", 0, 0),  // the longest prefix, whatever else shorter ones ask for
		with(match(prefix, "/ab"), "GET", 0, 0), // then a method
		with(match(prefix, "/ab"), "", 3, 0),    // then headers
		with(match(prefix, "/ab"), "", 2, 3),
		with(match(prefix, "/ab"), "", 2, 1), // then parameters of the query
		match(prefix, "/ab/"),                // a slash at the end is not counted
		match(prefix, "/"),
	}
	for i := range want[:len(want)-1] {
		_, a, err := httpMatch(want[i])
		_, b, err2 := httpMatch(want[i+1])
		if err != nil || err2 != nil || a.compare(b) >= 0 || b.compare(a) <= 0 {
			t.Errorf("match %d does not come before match %d: %+v, %+v", i, i+1, a, b)
		}
	}
}

// Among equals the oldest route comes first, then the one whose name does; rules of one route stay in their order.
func TestTies(t *testing.T) {
	at := func(name string, second int64) *config.Object {
		return &config.Object{Namespace: "prod", Name: name, Created: time.Unix(second, 0)}
	}
	rule := func(name string) *model.HTTPRule { return &model.HTTPRule{Name: name} }
	b, a := at("b", 2), at("a", 2)
	list := ordered([]entry{
		{route: b, rule: rule("b0")}, {route: b, rule: rule("b1")}, {route: a, rule: rule("a0")}, {route: at("z", 1), rule: rule("z0")},
		{rank: rank{path: 5}, route: b, rule: rule("long")},
	})
	var got []string
	for _, e := range list {
		got = append(got, e.rule.Name)
	}
	if want := []string{"long", "z0", "a0", "b0", "b1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// ReplacePrefixMatch is of whole segments, with one slash in between: the table of the standard.
func TestReplacePrefix(t *testing.T) {
	for _, test := range []struct{ path, prefix, with, want string }{
		{"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo", "/xyz/", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz/", "/xyz/bar"},
		{"/foo", "/foo", "/xyz", "/xyz"},
		{"/foo/", "/foo", "/xyz", "/xyz/"},
		{"/foo/bar", "/foo", "", "/bar"},
		{"/foo/", "/foo", "", "/"},
		{"/foo", "/foo", "", "/"},
		{"/foo/", "/foo", "/", "/"},
		{"/foo", "/foo", "/", "/"},
		{"/bar", "/", "/xyz", "/xyz/bar"},
		{"/a.b/c", "/a.b", `/\1`, `/\1/c`}, // nothing in a path is an expression
	} {
		m, _, err := httpMatch(match(gatewayv1.PathMatchPathPrefix, test.prefix))
		if err != nil {
			t.Fatal(err)
		}
		expression, replace, err := prefixRewrite(m, test.with)
		if err != nil {
			t.Fatal(err)
		}
		// \\ is a backslash in Envoy's substitutions, $ is nothing special; there are no groups here.
		literally := regexp.MustCompile(`\\\\`).ReplaceAllString(replace, `\`)
		if got := regexp.MustCompile(expression).ReplaceAllLiteralString(test.path, literally); got != test.want {
			t.Errorf("%s with %q for %q is %q, want %q", test.path, test.with, test.prefix, got, test.want)
		}
	}
}

// A DestinationRule keeps what it says of TLS, port by port, and gets the policy's for the rest.
func TestBeneath(t *testing.T) {
	own, policy, ofPort := &model.ClientTLS{SNI: "own"}, &model.ClientTLS{SNI: "policy"}, &model.ClientTLS{SNI: "port"}
	pool := &model.ConnectionPool{MaxConnections: 1}
	rule := &model.DestinationRule{From: model.Ref{Namespace: "prod"}, Host: "bank", Policy: model.TrafficPolicy{
		Pool: pool, Ports: []model.PortPolicy{{Port: 80}, {Port: 81, TLS: own}},
	}}
	from := &model.DestinationRule{From: model.Ref{Namespace: "prod"}, Host: "bank", Policy: model.TrafficPolicy{
		TLS: policy, Ports: []model.PortPolicy{{Port: 82, TLS: ofPort}},
	}}
	other := &model.DestinationRule{From: model.Ref{Namespace: "dev"}, Host: "bank"}
	out := Beneath([]*model.DestinationRule{rule, other}, []*model.DestinationRule{from})
	if len(out) != 2 || out[1].Policy.TLS != nil && out[0].Policy.TLS != nil {
		t.Fatalf("got %d rules, want two, one of them as it was", len(out))
	}
	got := out[slices.IndexFunc(out, func(d *model.DestinationRule) bool { return d.From.Namespace == "prod" })]
	for _, test := range []struct {
		port uint16
		tls  *model.ClientTLS
		pool *model.ConnectionPool
	}{{80, policy, nil}, {81, own, nil}, {82, ofPort, pool}, {83, policy, pool}} {
		if p := got.Policy.On(test.port, model.TrafficPolicy{}); p.TLS != test.tls || p.Pool != test.pool {
			t.Errorf("port %d: TLS %+v, pool %+v", test.port, p.TLS, p.Pool)
		}
	}
	if len(rule.Policy.Ports) != 2 || rule.Policy.TLS != nil {
		t.Error("the author's rule was written to")
	}
}
