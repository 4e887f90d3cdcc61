package route

import (
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

// fields writes a map as "name: value" lines.
func fields(m *header.Map) string {
	var b strings.Builder
	for _, f := range m.Fields() {
		b.WriteString(string(f.Name) + ": " + string(f.Value) + "\n")
	}
	return b.String()
}

func TestLocation(t *testing.T) {
	for _, test := range []struct {
		match    Match
		redirect RedirectConfig
		request  *Request
		want     string
	}{
		{Match{}, RedirectConfig{}, get("h:8080", "/p?q=1"), "http://h:8080/p?q=1"},
		{Match{}, RedirectConfig{HTTPS: true}, get("h", "/p"), "https://h/p"},
		{Match{}, RedirectConfig{HTTPS: true}, get("h:80", "/p", "x-forwarded-proto", "http"), "https://h/p"}, // the old scheme's port would be wrong
		{Match{}, RedirectConfig{HTTPS: true}, get("h:8080", "/p"), "https://h:8080/p"},
		{Match{}, RedirectConfig{HTTPS: true}, get("[::1]:80", "/"), "https://[::1]/"},
		{Match{}, RedirectConfig{Scheme: "ws", Host: "other"}, get("h", "/p"), "ws://other/p"},
		{Match{}, RedirectConfig{Port: 8443}, get("h:8080", "/p"), "http://h:8443/p"},
		{Match{}, RedirectConfig{Path: "/new"}, get("h", "/old?q=1"), "http://h/new?q=1"},
		{Match{}, RedirectConfig{Path: "/new?own=1"}, get("h", "/old?q=1"), "http://h/new?own=1"}, // its own query takes precedence
		{Match{}, RedirectConfig{Path: "/new", StripQuery: true}, get("h", "/old?q=1"), "http://h/new"},
		{Match{}, RedirectConfig{StripQuery: true}, get("h", "/old?q=1"), "http://h/old"},
		{Match{Kind: PrefixPath, Path: "/a"}, RedirectConfig{Prefix: "/b"}, get("h", "/a/x?q"), "http://h/b/x?q"},
		{Match{Kind: ExactPath, Path: "/a"}, RedirectConfig{Prefix: "/b"}, get("h", "/a?q"), "http://h/b?q"},
		{Match{Kind: RegexPath, Path: "/[a-z]+/.*"}, RedirectConfig{Prefix: "/b"}, get("h", "/a/x?q"), "http://h/b?q"},
		{Match{}, RedirectConfig{Regex: "/v(\\d)/", Substitution: `/version-\1/`}, get("h", "/v1/x?q=/v2/"), "http://h/version-1/x?q=/v2/"},
	} {
		r := table(t, RouteConfig{Match: test.match, Redirect: &test.redirect}).Match(test.request)
		if got := string(r.Redirect.AppendLocation(nil, test.request, nil)); got != test.want {
			t.Errorf("%+v: %s, want %s", test.redirect, got, test.want)
		}
		if r.Redirect.Code != 301 {
			t.Errorf("code %d, want 301", r.Redirect.Code)
		}
	}
}

func TestRequireTLS(t *testing.T) {
	tab := func(tls TLSRequirement) *Table {
		return mustTable(t, Config{VirtualHosts: []VirtualHostConfig{{Name: "v", Domains: []string{"*"}, TLS: tls, Routes: []RouteConfig{to("r", Match{})}}}})
	}
	plain, secure, inside := get("h", "/p"), get("h", "/p", "x-forwarded-proto", "https"), get("h", "/p", "x-envoy-internal", "true")
	for _, test := range []struct {
		tls      TLSRequirement
		r        *Request
		redirect bool
	}{
		{TLSNone, plain, false}, {TLSAll, plain, true}, {TLSAll, secure, false}, {TLSAll, inside, true},
		{TLSExternalOnly, plain, true}, {TLSExternalOnly, inside, false},
	} {
		r := tab(test.tls).Match(test.r)
		if (r.Redirect != nil) != test.redirect {
			t.Errorf("requirement %d redirects %s: %v", test.tls, fields(test.r.Headers), r.Redirect != nil)
		}
		if r.Redirect != nil && string(r.Redirect.AppendLocation(nil, test.r, nil)) != "https://h/p" {
			t.Errorf("it leads to %s", r.Redirect.AppendLocation(nil, test.r, nil))
		}
	}
}

// forward runs the changes of a route on a request and returns the request's fields.
func forward(t *testing.T, c Config, m *header.Map) string {
	t.Helper()
	r := &Request{Method: m.Get(header.Method), Authority: m.Get(header.Authority), Path: m.Get(header.Path), Headers: m}
	route := mustTable(t, c).Match(r)
	_, w := route.Forward.PickCluster(r)
	route.FinalizeRequest(m, &access.Record{Request: m}, w, true)
	return fields(m)
}

func message(list ...string) *header.Map {
	m := new(header.Map)
	for i := 0; i < len(list); i += 2 {
		m.AddName([]byte(list[i]), []byte(list[i+1]))
	}
	return m
}

func one(r RouteConfig) Config {
	return Config{VirtualHosts: []VirtualHostConfig{{Name: "v", Domains: []string{"*"}, Routes: []RouteConfig{r}}}}
}

func TestRewrite(t *testing.T) {
	for _, test := range []struct {
		name    string
		match   Match
		rewrite RewriteConfig
		in, out string // path and authority
	}{
		{"prefix", Match{Kind: PrefixPath, Path: "/a/"}, RewriteConfig{Prefix: "/"}, "/a/b?q h", "/b?q h /a/b?q"},
		{"separated prefix", Match{Kind: SeparatedPath, Path: "/a"}, RewriteConfig{Prefix: "/z"}, "/a/b h", "/z/b h /a/b"},
		{"whole path of an exact match", Match{Kind: ExactPath, Path: "/a"}, RewriteConfig{Prefix: "/z"}, "/a?q h", "/z?q h /a?q"},
		{"whole path of a regex match", Match{Kind: RegexPath, Path: "/.*"}, RewriteConfig{Prefix: "/z"}, "/a/b?q h", "/z?q h /a/b?q"},
		{"prefix of another case", Match{Kind: PrefixPath, Path: "/A", IgnoreCase: true}, RewriteConfig{Prefix: "/z"}, "/ab h", "/zb h /ab"},
		{"regex, every match", Match{}, RewriteConfig{Regex: "x(\\d)", Substitution: `\1-\0\\`}, "/x1/x2?x3 h", `/1-x1\/2-x2\?x3 h /x1/x2?x3`},
		{"host", Match{}, RewriteConfig{Host: "other"}, "/ h", "/ other"},
		{"host by header", Match{}, RewriteConfig{HostHeader: "X-Host"}, "/ h", "/ from-header"},
		{"host by path", Match{}, RewriteConfig{HostPathRegex: "^/(.+)/.*$", HostPathSubstitution: `\1.example`}, "/abc/d h", "/abc/d abc.example"},
		{"nothing", Match{}, RewriteConfig{}, "/a h", "/a h"},
	} {
		path, host, _ := strings.Cut(test.in, " ")
		m := message(":path", path, ":authority", host, "x-host", "from-header")
		forward(t, one(RouteConfig{Match: test.match, Forward: &ForwardConfig{Cluster: "c", Rewrite: test.rewrite}}), m)
		got := string(m.Get(header.Path)) + " " + string(m.Get(header.Authority))
		if o := m.Get(header.XEnvoyOriginalPath); o != nil {
			got += " " + string(o)
		}
		if o := m.LookupString("x-envoy-original-host"); (o != nil) != (string(m.Get(header.Authority)) != host) || o != nil && string(o) != host {
			t.Errorf("%s: x-envoy-original-host is %q, want %q if the host was rewritten", test.name, o, host)
		}
		if got != test.out {
			t.Errorf("%s: %s became %s, want %s", test.name, test.in, got, test.out)
		}
	}
}

func TestForwardedHost(t *testing.T) {
	c := one(RouteConfig{Forward: &ForwardConfig{Cluster: "c", Rewrite: RewriteConfig{Host: "new", AppendForwardedHost: true}}})
	for before, want := range map[string]string{"": "h", "a": "a,h", "a,h": "a,h"} {
		m := message(":path", "/", ":authority", "h")
		if before != "" {
			m.AddName([]byte("x-forwarded-host"), []byte(before))
		}
		forward(t, c, m)
		if got := string(m.Get(header.XForwardedHost)); got != want {
			t.Errorf("x-forwarded-host %q became %q, want %q", before, got, want)
		}
	}
}

func TestHeaderOperations(t *testing.T) {
	in := []string{":method", "GET", ":path", "/", ":authority", "h", "a", "1", "gone", "x"}
	for _, test := range []struct {
		name string
		ops  HeadersConfig
		want string
	}{
		{"append", HeadersConfig{RequestAdd: []HeaderValue{{Name: "A", Value: "2"}}}, "a: 1\ngone: x\na: 2\n"},
		{"add if absent", HeadersConfig{RequestAdd: []HeaderValue{{Name: "a", Value: "2", Action: AddIfAbsent}, {Name: "b", Value: "2", Action: AddIfAbsent}}}, "a: 1\ngone: x\nb: 2\n"},
		{"overwrite or add", HeadersConfig{RequestAdd: []HeaderValue{{Name: "a", Value: "2", Action: OverwriteIfExistsOrAdd}, {Name: "b", Value: "2", Action: OverwriteIfExistsOrAdd}}}, "a: 2\ngone: x\nb: 2\n"},
		{"overwrite if there", HeadersConfig{RequestAdd: []HeaderValue{{Name: "a", Value: "2", Action: OverwriteIfExists}, {Name: "b", Value: "2", Action: OverwriteIfExists}}}, "a: 2\ngone: x\n"},
		{"remove, then add", HeadersConfig{RequestRemove: []string{"Gone", "a"}, RequestAdd: []HeaderValue{{Name: "a", Value: "2"}}}, "a: 2\n"},
		{"an empty value is not added", HeadersConfig{RequestAdd: []HeaderValue{{Name: "b", Value: "%REQ(none)%"}}}, "a: 1\ngone: x\n"},
		{"unless asked for", HeadersConfig{RequestAdd: []HeaderValue{{Name: "b", Value: "%REQ(none)%", KeepEmpty: true}}}, "a: 1\ngone: x\nb: \n"},
		{"formats see what was there before any addition", HeadersConfig{RequestAdd: []HeaderValue{{Name: "a", Value: "2", Action: OverwriteIfExistsOrAdd}, {Name: "b", Value: "<%REQ(a)%>"}}}, "a: 2\ngone: x\nb: <1>\n"},
		{"a percent sign", HeadersConfig{RequestAdd: []HeaderValue{{Name: "b", Value: "100%%"}}}, "a: 1\ngone: x\nb: 100%\n"},
	} {
		got := forward(t, one(RouteConfig{Forward: &ForwardConfig{Cluster: "c"}, Headers: test.ops}), message(in...))
		if want := ":method: GET\n:path: /\n:authority: h\n" + test.want; got != want {
			t.Errorf("%s:\n%swant\n%s", test.name, got, want)
		}
	}
}

// What a format makes of a request may be decoded text: it ends no line, and it is no host and no path if these
// cannot be so. A request must not be able to write another one.
func TestFormattedTextEndsNoLine(t *testing.T) {
	const bad = "a\r\nx-admin: 1\r\n\r\nGET /internal"
	for name, c := range map[string]RouteConfig{
		"header":         {Forward: &ForwardConfig{Cluster: "c"}, Headers: HeadersConfig{RequestAdd: []HeaderValue{{Name: "b", Value: "%REQ(bad)%"}}}},
		"host":           {Forward: &ForwardConfig{Cluster: "c", Rewrite: RewriteConfig{HostFormat: "%REQ(bad)%"}}},
		"header as host": {Forward: &ForwardConfig{Cluster: "c", Rewrite: RewriteConfig{HostHeader: "bad"}}},
		"path":           {Forward: &ForwardConfig{Cluster: "c", Rewrite: RewriteConfig{PathFormat: "/%REQ(bad)%"}}},
	} {
		got := forward(t, one(c), message(":method", "GET", ":path", "/", ":authority", "h", "bad", bad))
		if want := ":method: GET\n:path: /\n:authority: h\nbad: " + bad + "\n"; got != want {
			t.Errorf("%s:\n%q, want\n%q", name, got, want)
		}
	}
}

// The later level has the last word: the table, or the route if most specific wins.
func TestLevels(t *testing.T) {
	set := func(v string) HeadersConfig {
		return HeadersConfig{
			RequestAdd:  []HeaderValue{{Name: "x", Value: v, Action: OverwriteIfExistsOrAdd}, {Name: "all", Value: v}},
			ResponseAdd: []HeaderValue{{Name: "x", Value: v, Action: OverwriteIfExistsOrAdd}},
		}
	}
	for specific, want := range map[bool]string{
		false: "all: cluster\nall: route\nall: vhost\nall: table\n",
		true:  "all: table\nall: vhost\nall: route\nall: cluster\n",
	} {
		last := map[bool]string{false: "table", true: "cluster"}[specific]
		c := Config{MostSpecificWins: specific, Headers: set("table"), VirtualHosts: []VirtualHostConfig{{
			Name: "v", Domains: []string{"*"}, Headers: set("vhost"), Routes: []RouteConfig{{
				Headers: set("route"), Forward: &ForwardConfig{Weighted: []WeightedConfig{{Cluster: "c", Weight: 1, Headers: set("cluster")}}}}}}}}
		m := message(":path", "/", ":authority", "h")
		got := forward(t, c, m)
		if !strings.HasSuffix(strings.ReplaceAll(got, "x: "+last+"\n", ""), want) || string(m.LookupString("x")) != last {
			t.Errorf("most specific wins %v:\n%s", specific, got)
		}
		r := get("h", "/")
		route := mustTable(t, c).Match(r)
		_, w := route.Forward.PickCluster(r)
		resp := message(":status", "200")
		route.FinalizeResponse(resp, &access.Record{Response: resp}, w)
		if string(resp.LookupString("x")) != last {
			t.Errorf("response: x is %s, want %s", resp.LookupString("x"), last)
		}
	}
}

func TestFinalizeAllocs(t *testing.T) {
	tab := mustTable(t, one(RouteConfig{
		Match:   Match{Kind: PrefixPath, Path: "/a"},
		Forward: &ForwardConfig{Cluster: "c", Rewrite: RewriteConfig{Prefix: "/b", Host: "other"}},
		Headers: HeadersConfig{RequestAdd: []HeaderValue{{Name: "x-new", Value: "v"}, {Name: "x-path", Value: "%REQ(:PATH)%"}}, RequestRemove: []string{"x-old"}},
	}))
	m := new(header.Map)
	rec := &access.Record{Request: m}
	r := get("h", "/a/b?c")
	route := tab.Match(r)
	red := table(t, RouteConfig{Redirect: &RedirectConfig{HTTPS: true, Prefix: "/x"}}).Match(r)
	buf := make([]byte, 0, 100)
	run := func() {
		m.Reset()
		m.Add(header.Path, r.Path)
		m.Add(header.Authority, r.Authority)
		route.FinalizeRequest(m, rec, nil, true)
		buf = red.Redirect.AppendLocation(buf[:0], r, nil)
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("rewriting allocates %v times, want 0", n)
	}
}

func TestFilterConfig(t *testing.T) {
	at := func(v string, names ...string) map[string]any {
		m := map[string]any{}
		for _, n := range names {
			m[n] = v
		}
		return m
	}
	c := Config{PerFilter: at("table", "a", "b", "c", "d"), VirtualHosts: []VirtualHostConfig{{Name: "v", Domains: []string{"*"}, PerFilter: at("vhost", "b", "c", "d"), Routes: []RouteConfig{{
		PerFilter: at("route", "c", "d"), Forward: &ForwardConfig{Weighted: []WeightedConfig{{Cluster: "x", Weight: 1, PerFilter: at("cluster", "d")}}}}}}}}
	r := get("h", "/")
	route := mustTable(t, c).Match(r)
	_, w := route.Forward.PickCluster(r)
	for filter, want := range map[string]any{"a": "table", "b": "vhost", "c": "route", "d": "cluster", "e": nil} {
		if got := route.FilterConfig(filter, w); got != want {
			t.Errorf("filter %s has the configuration of %v, want %v", filter, got, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	none := time.Duration(0)
	c := one(to("default", Match{}))
	c.VirtualHosts[0].Retry = &RetryPolicy{On: Retry5xx}
	f := mustTable(t, c).Match(get("h", "/")).Forward
	if f.Timeout != 15*time.Second || f.NotFound != 503 || f.Retry == nil || *f.Retry.NumRetries != 1 || f.Retry.BaseInterval != 25*time.Millisecond || f.Retry.MaxInterval != 250*time.Millisecond {
		t.Errorf("%+v, retry %+v", f, f.Retry)
	}
	f = mustTable(t, one(RouteConfig{Forward: &ForwardConfig{Cluster: "c", Timeout: &none}})).Match(get("h", "/")).Forward
	if f.Timeout != 0 {
		t.Error("a timeout of 0 is none")
	}
}

func TestClusterHeader(t *testing.T) {
	f := mustTable(t, one(RouteConfig{Forward: &ForwardConfig{ClusterHeader: "X-Cluster"}})).Match(get("h", "/")).Forward
	if name, _ := f.PickCluster(get("h", "/", "x-cluster", "blue")); name != "blue" {
		t.Errorf("cluster %q, want blue", name)
	}
	if name, _ := f.PickCluster(get("h", "/")); name != "" {
		t.Errorf("cluster %q without the header", name)
	}
}

func TestMirrors(t *testing.T) {
	f := mustTable(t, one(RouteConfig{Forward: &ForwardConfig{Cluster: "c", Mirrors: []MirrorConfig{{Cluster: "all"}, {Cluster: "tenth", Fraction: &Fraction{10, 100}}}}})).Match(get("h", "/")).Forward
	n := [2]int{}
	for i := range uint64(10000) {
		for j := range f.Mirrors {
			if f.Mirrors[j].Hit(mix(i, 0), j) {
				n[j]++
			}
		}
	}
	if n[0] != 10000 || n[1] < 850 || n[1] > 1150 {
		t.Errorf("mirrored %v of 10000, want all and about 1000", n)
	}
}

func TestParseRetryOn(t *testing.T) {
	on, codes, err := ParseRetryOn("connect-failure,refused-stream, unavailable,cancelled,503,retriable-status-codes")
	if err != nil || on != RetryConnectFailure|RetryRefusedStream|RetryGRPCUnavailable|RetryGRPCCancelled|RetryStatusCodes || len(codes) != 1 || codes[0] != 503 {
		t.Errorf("%b, %v, %v", on, codes, err)
	}
	if _, _, err := ParseRetryOn("5xx,never"); err == nil || !strings.Contains(err.Error(), `"never"`) {
		t.Errorf("error %v, want one that names it", err)
	}
	const both = "5xx, gateway-error ,never,unavailable"
	if got := ParseRetryHeader([]byte(both), false); got != Retry5xx|RetryGatewayError {
		t.Errorf("x-envoy-retry-on: %b; what is not known there is ignored, and so are gRPC's conditions", got)
	}
	if got := ParseRetryHeader([]byte(both), true); got != RetryGRPCUnavailable {
		t.Errorf("x-envoy-retry-grpc-on: %b; it is for gRPC's conditions", got)
	}
	for i, name := range retryNames {
		if on, _, _ := ParseRetryOn(name); on != 1<<i {
			t.Errorf("%s is %b", name, on)
		}
	}
}

func TestRetryDecisions(t *testing.T) {
	p := &RetryPolicy{StatusCodes: []uint16{418}, ResponseHeaders: []HeaderMatch{{Name: "x-retry", StringMatch: StringMatch{Kind: Present}}}}
	p, err := p.compiled()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		on     RetryOn
		code   int
		fields []string
		want   bool
	}{
		{Retry5xx, 500, nil, true},
		{Retry5xx, 404, nil, false},
		{RetryGatewayError, 503, nil, true},
		{RetryGatewayError, 500, nil, false},
		{RetryRetriable4xx, 409, nil, true},
		{RetryStatusCodes, 418, nil, true},
		{RetryConnectFailure, 418, nil, false},
		{RetryHeaders, 200, []string{"x-retry", ""}, true},
		{RetryHeaders, 200, nil, false},
		{RetryGRPCUnavailable, 200, []string{"grpc-status", "14"}, true},
		{RetryGRPCUnavailable, 200, []string{"grpc-status", "13"}, false},
		{Retry5xx, 503, []string{"x-envoy-ratelimited", "true"}, false}, // a limit is no failure
		{RetryEnvoyRateLimited, 429, []string{"x-envoy-ratelimited", "true"}, true},
	} {
		if got := p.OnResponse(test.on, test.code, message(test.fields...)); got != test.want {
			t.Errorf("%b on %d %v: %v, want %v", test.on, test.code, test.fields, got, test.want)
		}
	}
	for _, test := range []struct {
		on     RetryOn
		reason ResetReason
		sent   bool
		want   bool
	}{
		{RetryConnectFailure, ResetConnectFailure, false, true},
		{RetryConnectFailure, ResetByPeer, true, false},
		{RetryReset, ResetByPeer, true, true},
		{RetryResetBeforeRequest, ResetByPeer, true, false},
		{RetryResetBeforeRequest, ResetByPeer, false, true},
		{RetryRefusedStream, ResetRefused, true, true},
		{Retry5xx, ResetPerTryTimeout, true, true},
		{Retry5xx, ResetOverflow, false, false}, // more load is no cure for too much
	} {
		if got := p.OnReset(test.on, test.reason, test.sent); got != test.want {
			t.Errorf("%b on reset %d, sent %v: %v, want %v", test.on, test.reason, test.sent, got, test.want)
		}
	}
}

// The first wait is below 25 ms, later ones below twice the last, never above 250 ms.
func TestBackoff(t *testing.T) {
	p, err := RetryPolicy{}.compiled()
	if err != nil {
		t.Fatal(err)
	}
	for retry, limit := range map[uint32]time.Duration{1: 25, 2: 50, 3: 100, 4: 200, 5: 250, 6: 250, 1000: 250} {
		longest := time.Duration(0)
		for i := range uint64(2000) {
			longest = max(longest, p.Backoff(retry, mix(i, 1)))
		}
		if limit *= time.Millisecond; longest >= limit || longest < limit*9/10 {
			t.Errorf("retry %d waits up to %s, want just below %s", retry, longest, limit)
		}
	}
	if p, err = (RetryPolicy{BaseInterval: 40 * time.Millisecond, MaxInterval: 60 * time.Millisecond}).compiled(); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(2000) {
		if got := p.Backoff(5, mix(i, 1)); got >= 60*time.Millisecond {
			t.Errorf("waits %s, want less than the maximum of 60 ms", got)
		}
	}
}
