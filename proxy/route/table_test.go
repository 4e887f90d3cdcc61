package route

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/uri"
)

// table makes a Table of one virtual host for every domain.
func table(t testing.TB, routes ...RouteConfig) *Table {
	t.Helper()
	return mustTable(t, Config{VirtualHosts: []VirtualHostConfig{{Name: "all", Domains: []string{"*"}, Routes: routes}}})
}

func mustTable(t testing.TB, c Config) *Table {
	t.Helper()
	tab, err := NewTable(c)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// to is a route with a name that leads to a cluster.
func to(name string, m Match) RouteConfig {
	return RouteConfig{Name: name, Match: m, Forward: &ForwardConfig{Cluster: name}}
}

// get is a request with fields in pairs.
func get(authority, path string, fields ...string) *Request {
	m := new(header.Map)
	for i := 0; i < len(fields); i += 2 {
		m.AddName([]byte(fields[i]), []byte(fields[i+1]))
	}
	return &Request{Method: []byte("GET"), Scheme: []byte("http"), Authority: []byte(authority), Path: []byte(path), Headers: m}
}

func nameOf(r *Route) string {
	if r == nil {
		return ""
	}
	return r.Name
}

func TestVirtualHosts(t *testing.T) {
	domains := []string{"reviews.prod", "*.prod", "*-x.prod", "*.eu.prod", "api.*", "api.v1.*", "[fd00::1]", "port:80", "*"}
	c := Config{}
	for _, d := range domains {
		c.VirtualHosts = append(c.VirtualHosts, VirtualHostConfig{Name: d, Domains: []string{d}})
	}
	tests := []struct{ host, want, ignoringPort string }{
		{"reviews.prod", "reviews.prod", "reviews.prod"},
		{"REVIEWS.prod", "reviews.prod", "reviews.prod"}, // names ignore case
		{"reviews.prod:9080", "*", "reviews.prod"},       // the port is part of the name unless it is to be ignored
		{"ratings.prod", "*.prod", "*.prod"},
		{"a.eu.prod", "*.eu.prod", "*.eu.prod"}, // the longest suffix
		{"a-x.prod", "*-x.prod", "*-x.prod"},
		{".prod", "*", "*"}, // a wildcard stands for something
		{"prod", "*", "*"},
		{"api.org", "api.*", "api.*"},
		{"api.v1.org", "api.v1.*", "api.v1.*"}, // the longest prefix
		{"api.prod", "*.prod", "*.prod"},       // a suffix before a prefix
		{"[fd00::1]:80", "*", "[fd00::1]"},
		{"[fd00::1]", "[fd00::1]", "[fd00::1]"},
		{"port:80", "port:80", "*"},
		{"", "*", "*"},
	}
	for _, ignore := range []bool{false, true} {
		c.IgnorePort = ignore
		tab := mustTable(t, c)
		for _, test := range tests {
			want := test.want
			if ignore {
				want = test.ignoringPort
			}
			if got := tab.VirtualHost(get(test.host, "/")).Name; got != want {
				t.Errorf("ignoring ports %v: %q is %s, want %s", ignore, test.host, got, want)
			}
		}
	}
	none := mustTable(t, Config{VirtualHosts: []VirtualHostConfig{{Name: "a", Domains: []string{"a"}}}})
	if none.Match(get("b", "/")) != nil {
		t.Error("a host that nobody declared has a route")
	}
}

func TestPaths(t *testing.T) {
	for _, test := range []struct {
		match Match
		path  string
		want  bool
	}{
		{Match{Kind: PrefixPath, Path: "/foo"}, "/foobar", true}, // a plain string prefix
		{Match{Kind: PrefixPath, Path: "/foo"}, "/fo", false},
		{Match{Kind: PrefixPath, Path: "/foo"}, "/Foo", false},
		{Match{Kind: PrefixPath, Path: "/Foo", IgnoreCase: true}, "/fOObar", true},
		{Match{Kind: PrefixPath, Path: "/a?"}, "/a?b", false}, // the query is not part of it
		{Match{Kind: PrefixPath, Path: "/"}, "*", false},      // OPTIONS *
		{Match{Kind: ExactPath, Path: "/foo"}, "/foo?a=1", true},
		{Match{Kind: ExactPath, Path: "/foo"}, "/foo/", false},
		{Match{Kind: ExactPath, Path: "/FOO", IgnoreCase: true}, "/foo", true},
		{Match{Kind: SeparatedPath, Path: "/foo"}, "/foo", true},
		{Match{Kind: SeparatedPath, Path: "/foo"}, "/foo/bar", true},
		{Match{Kind: SeparatedPath, Path: "/foo"}, "/foo?x", true},
		{Match{Kind: SeparatedPath, Path: "/foo"}, "/foobar", false},
		{Match{Kind: SeparatedPath, Path: "/foo", IgnoreCase: true}, "/FOO/x", true},
		{Match{Kind: RegexPath, Path: "/v[12]/.*"}, "/v1/a?b=c", true},
		{Match{Kind: RegexPath, Path: "/v[12]"}, "/v1/a", false}, // the whole path
		{Match{Kind: RegexPath, Path: "a|/b"}, "/b", true},
		{Match{Kind: RegexPath, Path: "/api/.*"}, "/api/", true},
		{Match{Kind: RegexPath, Path: ".*/api"}, "/x/api", true},
		{Match{Kind: RegexPath, Path: ".*api.*"}, "/xapix", true},
		{Match{Kind: RegexPath, Path: "/lit"}, "/lit", true},
		{Match{Kind: RegexPath, Path: "/lit"}, "/literal", false},
		{Match{Kind: RegexPath, Path: ".*"}, "/", true},
		{Match{Kind: RegexPath, Path: "(?i)/abc"}, "/ABC", true},
		{Match{}, "/any", true},
		{Match{Kind: ConnectPath}, "/any", false},
	} {
		tab := table(t, to("it", test.match))
		if got := tab.Match(get("h", test.path)) != nil; got != test.want {
			t.Errorf("%+v matches %q: %v, want %v", test.match, test.path, got, test.want)
		}
	}
	connect := &Request{Method: []byte("CONNECT"), Authority: []byte("h:443"), Headers: new(header.Map)}
	if got := table(t, to("path", Match{Kind: PrefixPath}), to("connect", Match{Kind: ConnectPath})).Match(connect); nameOf(got) != "connect" {
		t.Errorf("CONNECT without a path takes route %q, want connect", nameOf(got))
	}
}

func TestHeadersMatch(t *testing.T) {
	str := func(k StringKind, v string) StringMatch { return StringMatch{Kind: k, Value: v} }
	for _, test := range []struct {
		match  HeaderMatch
		fields []string
		want   bool
	}{
		{HeaderMatch{Name: "X", StringMatch: str(Exact, "a")}, []string{"x", "a"}, true},
		{HeaderMatch{Name: "x", StringMatch: str(Exact, "a")}, []string{"x", "A"}, false},
		{HeaderMatch{Name: "x", StringMatch: StringMatch{Value: "a", IgnoreCase: true}}, []string{"x", "A"}, true},
		{HeaderMatch{Name: "x", StringMatch: str(Exact, "b")}, []string{"x", "a", "y", "c", "x", "b"}, true}, // of several it is enough that one compares
		{HeaderMatch{Name: "x", StringMatch: str(Prefix, "ab")}, []string{"x", "abc"}, true},
		{HeaderMatch{Name: "x", StringMatch: str(Suffix, "bc")}, []string{"x", "abc"}, true},
		{HeaderMatch{Name: "x", StringMatch: str(Contains, "b")}, []string{"x", "abc"}, true},
		{HeaderMatch{Name: "x", StringMatch: StringMatch{Kind: Contains, Value: "B", IgnoreCase: true}}, []string{"x", "abc"}, true},
		{HeaderMatch{Name: "cookie", StringMatch: str(Regex, "^(.*?;)?(user=jason)(;.*)?$")}, []string{"cookie", "a=b;user=jason"}, true},
		{HeaderMatch{Name: "x", StringMatch: str(Present, "")}, []string{"x", ""}, true},
		{HeaderMatch{Name: "x", StringMatch: str(Present, "")}, nil, false},
		{HeaderMatch{Name: "x", StringMatch: str(Present, ""), Invert: true}, nil, true},
		{HeaderMatch{Name: "x", StringMatch: str(Exact, "a"), Invert: true}, []string{"x", "b"}, true},
		{HeaderMatch{Name: "x", StringMatch: str(Exact, "a"), Invert: true}, nil, false}, // missing satisfies nothing
		{HeaderMatch{Name: "x", StringMatch: str(Exact, "a"), Invert: true, TreatMissingAsEmpty: true}, nil, true},
		{HeaderMatch{Name: "x", StringMatch: str(Exact, ""), TreatMissingAsEmpty: true}, nil, true},
		{HeaderMatch{Name: "x", StringMatch: StringMatch{Kind: Range, Start: -5, End: 10}}, []string{"x", "-5"}, true},
		{HeaderMatch{Name: "x", StringMatch: StringMatch{Kind: Range, Start: -5, End: 10}}, []string{"x", "10"}, false}, // the end is outside
		{HeaderMatch{Name: "x", StringMatch: StringMatch{Kind: Range, Start: -5, End: 10}}, []string{"x", "1x"}, false},
		{HeaderMatch{Name: ":method", StringMatch: str(Exact, "GET")}, nil, true},
		{HeaderMatch{Name: ":scheme", StringMatch: str(Exact, "http")}, nil, true},
		{HeaderMatch{Name: ":authority", StringMatch: str(Prefix, "h")}, nil, true},
		{HeaderMatch{Name: "Host", StringMatch: str(Exact, "h")}, nil, true}, // the same field
		{HeaderMatch{Name: ":path", StringMatch: str(Suffix, "?q=1")}, nil, true},
	} {
		tab := table(t, to("it", Match{Headers: []HeaderMatch{test.match}}))
		if got := tab.Match(get("h", "/p?q=1", test.fields...)) != nil; got != test.want {
			t.Errorf("%+v matches %q: %v, want %v", test.match, test.fields, got, test.want)
		}
	}
}

func TestQueryMatch(t *testing.T) {
	for _, test := range []struct {
		match QueryMatch
		path  string
		want  bool
	}{
		{QueryMatch{"a", StringMatch{Value: "1"}}, "/p?a=1", true},
		{QueryMatch{"a", StringMatch{Value: "1"}}, "/p?b=2&a=1#x", true},
		{QueryMatch{"a", StringMatch{Value: "2"}}, "/p?a=1&a=2", false}, // the first counts
		{QueryMatch{"a", StringMatch{Value: ""}}, "/p?a", true},         // a key without a value
		{QueryMatch{"a", StringMatch{Kind: Present}}, "/p?a=", true},
		{QueryMatch{"a", StringMatch{Kind: Present}}, "/p?b=a", false},
		{QueryMatch{"a", StringMatch{Kind: Absent}}, "/p?b=a", true},
		{QueryMatch{"a", StringMatch{Kind: Absent}}, "/p?a", false},
		{QueryMatch{"a", StringMatch{Kind: Regex, Value: "\\d+"}}, "/p?a=12", true},
		{QueryMatch{"a", StringMatch{Value: "%20"}}, "/p?a=%20", true}, // nothing is unescaped
	} {
		tab := table(t, to("it", Match{Query: []QueryMatch{test.match}}))
		if got := tab.Match(get("h", test.path)) != nil; got != test.want {
			t.Errorf("%+v matches %q: %v, want %v", test.match, test.path, got, test.want)
		}
	}
}

func TestGRPCOnly(t *testing.T) {
	tab := table(t, to("grpc", Match{GRPC: true}))
	for typ, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc;x=y": true,
		"application/grpc-web": false, "application/json": false,
	} {
		if got := tab.Match(get("h", "/", "content-type", typ)) != nil; got != want {
			t.Errorf("%s is gRPC: %v, want %v", typ, got, want)
		}
	}
}

// The first route that matches wins, whatever its kind: no index may reorder.
func TestDeclaredOrder(t *testing.T) {
	var routes []RouteConfig
	for i := range 20 { // enough for the index
		routes = append(routes, to(fmt.Sprint("filler", i), Match{Kind: ExactPath, Path: fmt.Sprint("/filler/", i)}))
	}
	routes = append(routes,
		to("regex", Match{Kind: RegexPath, Path: "/a/[x-z]"}),
		to("prefix", Match{Kind: PrefixPath, Path: "/a/"}),
		to("exact", Match{Kind: ExactPath, Path: "/a/b"}),
		to("short", Match{Kind: PrefixPath, Path: "/"}),
		to("long", Match{Kind: PrefixPath, Path: "/b/c/d"}))
	tab := table(t, routes...)
	for path, want := range map[string]string{
		"/a/x": "regex", "/a/b": "prefix", "/b/c/d": "short", "/filler/7": "filler7", "/": "short",
	} {
		if got := nameOf(tab.Match(get("h", path))); got != want {
			t.Errorf("%s takes %s, want %s", path, got, want)
		}
	}
}

// The index finds what trying every route in order finds.
func TestIndexAgainstNaive(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	piece := func() string { return []string{"/", "a", "b", "/a", "/b", "ab", "/abc"}[random.IntN(7)] }
	path := func(n int) string {
		s := "/"
		for range random.IntN(n) {
			s += piece()
		}
		return s
	}
	for round := range 200 {
		var routes []RouteConfig
		for i := range 1 + random.IntN(60) {
			m := Match{Kind: PathKind(random.IntN(5)), Path: path(5), IgnoreCase: random.IntN(8) == 0}
			switch m.Kind {
			case RegexPath:
				m.Path = regexp.QuoteMeta(m.Path) + []string{"", ".*", "[ab]*"}[random.IntN(3)]
			case SeparatedPath:
				if m.Path = strings.TrimRight(m.Path, "/"); m.Path == "" {
					m.Path = "/s"
				}
			}
			if random.IntN(3) == 0 {
				m.Headers = []HeaderMatch{{Name: "x", StringMatch: StringMatch{Value: fmt.Sprint(random.IntN(3))}}}
			}
			routes = append(routes, to(fmt.Sprint(i), m))
		}
		tab := table(t, routes...)
		v := tab.hosts.any
		for range 100 {
			r := get("h", path(8), "x", fmt.Sprint(random.IntN(3)))
			p, query := uri.Split(r.Path)
			if got, want := nameOf(tab.Match(r)), nameOf(v.routes.matchAll(r, p, query)); got != want {
				t.Fatalf("round %d: %s takes route %q, want %q of %+v", round, r.Path, got, want, routes)
			}
		}
	}
}

// Prefixes nested deeper than a walk has room for still match in order.
func TestDeepNesting(t *testing.T) {
	var routes []RouteConfig
	for i := 60; i > 0; i-- {
		routes = append(routes, to(fmt.Sprint(i), Match{Kind: PrefixPath, Path: "/" + strings.Repeat("a", i)}))
	}
	tab := table(t, routes...)
	for _, n := range []int{1, 20, 40, 60} {
		if got := nameOf(tab.Match(get("h", "/"+strings.Repeat("a", n)))); got != fmt.Sprint(n) {
			t.Errorf("%d letters take route %s", n, got)
		}
	}
}

func TestFractions(t *testing.T) {
	tab := table(t,
		to("half", Match{Fraction: &Fraction{50, 100}}),
		RouteConfig{Name: "rest", Forward: &ForwardConfig{Weighted: []WeightedConfig{{Cluster: "a", Weight: 1}, {Cluster: "b", Weight: 1}}}})
	random := rand.New(rand.NewPCG(3, 4))
	n := map[string]int{}
	for range 10000 {
		r := get("h", "/")
		r.Random = random.Uint64()
		route := tab.Match(r)
		cluster, _ := route.Forward.PickCluster(r)
		n[cluster]++
	}
	// What the fraction leaves is divided evenly: the two choices are independent.
	for cluster, want := range map[string]int{"half": 5000, "a": 2500, "b": 2500} {
		if n[cluster] < want-250 || n[cluster] > want+250 {
			t.Errorf("%s got %d of 10000, want about %d", cluster, n[cluster], want)
		}
	}
}

func TestWeights(t *testing.T) {
	tab := table(t, RouteConfig{Forward: &ForwardConfig{Weighted: []WeightedConfig{
		{Cluster: "a", Weight: 33}, {Cluster: "none", Weight: 0}, {Cluster: "b", Weight: 33}, {Cluster: "c", Weight: 34}}}})
	n := map[string]int{}
	for i := range 1000 {
		r := get("h", "/")
		r.Random = uint64(i)
		cluster, w := tab.Match(r).Forward.PickCluster(r)
		if w == nil || w.Cluster != cluster {
			t.Fatal("the choice does not say whose it is")
		}
		n[cluster]++
	}
	if n["a"] != 330 || n["b"] != 330 || n["c"] != 340 {
		t.Errorf("33/0/33/34 gave %v", n)
	}
}

func TestMatchAllocs(t *testing.T) {
	routes := []RouteConfig{to("jason", Match{Kind: RegexPath, Path: "/[a-z]+/v[12]",
		Headers: []HeaderMatch{{Name: "end-user", StringMatch: StringMatch{Value: "jason"}}}})}
	for i := range 50 {
		routes = append(routes, to(fmt.Sprint(i), Match{Kind: PrefixPath, Path: fmt.Sprintf("/svc/%d/", i)}))
	}
	routes = append(routes, RouteConfig{Name: "last", Forward: &ForwardConfig{Weighted: []WeightedConfig{{Cluster: "a", Weight: 1}, {Cluster: "b", Weight: 2}}}})
	tab := table(t, routes...)
	r := get("Reviews.Prod:80", "/reviews/v1?x=y", "end-user", "jason", "x", "1", "x", "2")
	last := get("h", "/other")
	run := func() {
		if tab.Match(r) == nil {
			t.Fatal("no route")
		}
		tab.Match(last).Forward.PickCluster(last)
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("Match allocates %v times, want 0", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint("prefixes", n), func(b *testing.B) {
			var routes []RouteConfig
			for i := range n {
				routes = append(routes, to(fmt.Sprint(i), Match{Kind: PrefixPath, Path: fmt.Sprintf("/service-%04d/", i)}))
			}
			tab, r := table(b, routes...), get("h", fmt.Sprintf("/service-%04d/item?x=1", n-1))
			for b.Loop() {
				tab.Match(r)
			}
		})
	}
	for _, expr := range []string{
		"/service-%d/.*",                      // told apart by its literal beginning
		"/[a-z]+-[0-9]+/(item|list)-v%d",      // one way to match: no alternatives to keep in mind
		"/[a-z]*.*/(item|list)?.*[a-z]-v%d.*", // many
	} {
		b.Run("regexes20/"+expr, func(b *testing.B) {
			var routes []RouteConfig
			for i := range 20 {
				routes = append(routes, to(fmt.Sprint(i), Match{Kind: RegexPath, Path: fmt.Sprintf(expr, i)}))
			}
			tab, r := table(b, append(routes, to("rest", Match{Kind: PrefixPath, Path: "/"}))...), get("h", "/service-4711/item?x=1")
			for b.Loop() {
				tab.Match(r)
			}
		})
	}
	for _, n := range []int{10, 10000} {
		b.Run(fmt.Sprint("hosts", n), func(b *testing.B) {
			var c Config
			for i := range n {
				d := fmt.Sprintf("svc-%d.prod.svc.cluster.local", i)
				c.VirtualHosts = append(c.VirtualHosts, VirtualHostConfig{Name: d, Domains: []string{d, d + ":80"}, Routes: []RouteConfig{to("default", Match{Kind: PrefixPath, Path: "/"})}})
			}
			tab, r := mustTable(b, c), get("svc-7.prod.svc.cluster.local", "/")
			for b.Loop() {
				tab.Match(r)
			}
		})
	}
}

// What is wrong is refused with its place.
func TestRefusals(t *testing.T) {
	one := func(r RouteConfig) Config {
		return Config{Name: "80", VirtualHosts: []VirtualHostConfig{{Name: "v", Domains: []string{"*"}, Routes: []RouteConfig{r}}}}
	}
	fwd := func(f ForwardConfig) Config { return one(RouteConfig{Forward: &f}) }
	for _, test := range []struct {
		c    Config
		want string
	}{
		{Config{VirtualHosts: []VirtualHostConfig{{Name: "a", Domains: []string{"x"}}, {Name: "b", Domains: []string{"X"}}}}, `virtual_hosts[1] (b): domain "x" is that of a already`},
		{Config{VirtualHosts: []VirtualHostConfig{{Name: "a", Domains: []string{"a*b"}}}}, "has a * inside"},
		{Config{VirtualHosts: []VirtualHostConfig{{Name: "a"}}}, "no domains"},
		{one(to("r", Match{Kind: RegexPath, Path: "("})), "routes[0] (r): match: regular expression"},
		{one(to("r", Match{Kind: SeparatedPath, Path: "/a/"})), "path_separated_prefix"},
		{one(to("r", Match{Headers: []HeaderMatch{{Name: "x", StringMatch: StringMatch{Kind: Regex, Value: "["}}}})), "headers[0]"},
		{one(RouteConfig{}), "0 actions"},
		{one(RouteConfig{Direct: &Direct{Status: 200}, Forward: &ForwardConfig{Cluster: "c"}}), "2 actions"},
		{one(RouteConfig{Direct: &Direct{Status: 99}}), "status 99"},
		{one(RouteConfig{Redirect: &RedirectConfig{Code: 304}}), "response_code 304"},
		{one(RouteConfig{Redirect: &RedirectConfig{Path: "/a", Prefix: "/b"}}), "2 ways to change the path"},
		{fwd(ForwardConfig{}), "0 destinations"},
		{fwd(ForwardConfig{Weighted: []WeightedConfig{{Cluster: "a"}, {Cluster: "b"}}}), "all 2 weights are 0, want at least one above 0"},
		{fwd(ForwardConfig{Cluster: "c", Rewrite: RewriteConfig{Regex: "(a)", Substitution: `\2`}}), "names group 2, the expression has 1"},
		{one(RouteConfig{Direct: &Direct{Status: 200}, Headers: HeadersConfig{RequestAdd: []HeaderValue{{Name: ":path", Value: "x"}}}}), "begin with a colon"},
		{one(RouteConfig{Direct: &Direct{Status: 200}, Headers: HeadersConfig{ResponseAdd: []HeaderValue{{Name: "x", Value: "%NOPE%"}}}}), "response_headers_to_add[0]"},
	} {
		_, err := NewTable(test.c)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want one with %q", err, test.want)
		}
	}
}

// FuzzRegex: an expression that we replace by a comparison means what it says.
func FuzzRegex(f *testing.F) {
	for _, expr := range []string{"/a.*", ".*b", ".*c.*", "/lit", "", ".*", ".*.*", "(?i)a", "a|b", "^/x$", "(?:/a).*"} {
		f.Add(expr, "/a/b")
	}
	f.Fuzz(func(t *testing.T, expr, value string) {
		if strings.ContainsAny(value, "\n") {
			return // no value has one
		}
		m, err := newRegex(expr)
		re, want := regexp.Compile(`\A(?:` + expr + `)\z`)
		if err != nil || want != nil {
			return
		}
		if got := m.match([]byte(value)); got != re.MatchString(value) {
			t.Errorf("%q matches %q: %v, regexp says %v", expr, value, got, !got)
		}
	})
}

// FuzzMatch looks for requests that crash the matcher.
func FuzzMatch(f *testing.F) {
	tab := table(f, to("q", Match{Kind: SeparatedPath, Path: "/a", Query: []QueryMatch{{"a", StringMatch{Kind: Present}}}}),
		RouteConfig{Name: "r", Match: Match{Kind: PrefixPath, Path: "/r", IgnoreCase: true}, Redirect: &RedirectConfig{Prefix: "/x", Port: 8443, HTTPS: true}},
		to("h", Match{Headers: []HeaderMatch{{Name: "x", StringMatch: StringMatch{Kind: Range, End: 5}}}}))
	f.Add("h:80", "/a?b=c&a", "5")
	f.Add("[::1]:x", "/R#", "-")
	f.Fuzz(func(t *testing.T, host, path, x string) {
		r := get(host, path, "x", x)
		if route := tab.Match(r); route != nil && route.Redirect != nil {
			route.Redirect.AppendLocation(nil, r, nil)
		}
		stripPort([]byte(host))
	})
}
