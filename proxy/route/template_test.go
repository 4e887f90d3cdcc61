package route

import (
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

func TestTemplateRefusals(t *testing.T) {
	for _, test := range []struct{ template, want string }{
		{"", "begins with /"},
		{"x", "begins with /"},
		{"/a//b", "empty segment"},
		{"/{a", "has no }"},
		{"/{}", "variable name"},
		{"/{1a}", "variable name"},
		{"/{abcdefghijklmnopq}", "variable name"},
		{"/{a}/{a}", "twice"},
		{"/{a}/{b}/{c}/{d}/{e}/{f}", "more than 5"},
		{"/**/*", "behind **"},
		{"/{a=**}/x/{b}", "behind **"},
		{"/{a=**/x/*}", "behind **"},
		{"/{a=b{}", "pattern"},
		{"/a*", "neither text"},
		{"/*a/b", "at the end of the template only"},
		{"/a b", "neither text"},
	} {
		if _, err := newTemplate(test.template); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: error %v, want one with %q", test.template, err, test.want)
		}
	}
}

// FuzzTemplate: a template that is accepted matches what its rewrite to itself makes of a path that it
// matches, and a path that it matches begins with its text.
func FuzzTemplate(f *testing.F) {
	f.Add("/a/{b}/{c=x/*}/{d=**}.m3u8", "/a/1/x/2/3/4.m3u8")
	f.Add("/**.ts", "/a/b.ts")
	f.Add("/*/x", "/1/x")
	f.Fuzz(func(t *testing.T, text, path string) {
		tm, err := newTemplate(text)
		if err != nil || !tm.re.MatchString(path) {
			return
		}
		if !strings.HasPrefix(path, tm.prefix) {
			t.Errorf("%q matches %q, which does not begin with %q", text, path, tm.prefix)
		}
		to := ""
		for _, n := range tm.names {
			to += "/{" + n + "}"
		}
		if to == "" {
			return
		}
		r, err := tm.newRewrite(to)
		if err != nil {
			t.Fatalf("%q: rewrite %q: %v", text, to, err)
		}
		if got := string(r.replace(nil, []byte(path))); strings.Count(got, "/") < len(tm.names) {
			t.Errorf("%q makes %q of %q", to, got, path)
		}
	})
}

// FuzzLiteralPrefix: the index leaves out no route that matches.
func FuzzLiteralPrefix(f *testing.F) {
	for _, expr := range []string{"/a.*", "/a?b", "(/a|/b)c", "(?i)/a", "/a{2}", "(/ab)*", "^/a", "/a|b", `\Q/a\E.`, "(?:/x)+y"} {
		f.Add(expr, "/ab")
	}
	f.Fuzz(func(t *testing.T, expr, path string) {
		m, err := newRegex(expr)
		if err != nil || strings.Contains(path, "\n") {
			return
		}
		if p := literalPrefix(expr); m.match([]byte(path)) && !strings.HasPrefix(path, p) {
			t.Errorf("%q matches %q, which does not begin with %q", expr, path, p)
		}
	})
}

// FuzzHeaderFormat looks for values of header operations that crash, or write what no header may hold where
// neither the format nor the request had it.
func FuzzHeaderFormat(f *testing.F) {
	for _, v := range []string{"%REQ(x?:path):3%", "%%%PROTOCOL%", "%START_TIME(%s.%3f)%", "%FILTER_STATE(k:PLAIN):2%", "%QUERY_PARAM(a)%", "%REQ(", "%RESP(a?b)%x%"} {
		f.Add(v, "value")
	}
	f.Fuzz(func(t *testing.T, format, value string) {
		m, err := NewMutations([]Mutation{{Append: &HeaderValue{Name: "x", Value: format, KeepEmpty: true}}})
		if err != nil {
			return
		}
		fields := new(header.Map)
		fields.Add(header.Path, []byte("/p?a=b"))
		fields.AddName([]byte("x-in"), []byte(value))
		rec := &access.Record{Request: fields}
		rec.State.Set("k", []byte(value), false)
		m.Apply(fields, rec)
		if out := fields.Lookup([]byte("x")); strings.ContainsAny(string(out), "\r\n\x00") && !strings.ContainsAny(format+value, "\r\n\x00") {
			t.Errorf("%q writes %q", format, out)
		}
	})
}

// Matching does not try routes that cannot match: of a thousand prefixes, and a thousand expressions
// that begin with text, one candidate is left.
func TestIndexLeavesOut(t *testing.T) {
	var routes []RouteConfig
	for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		for _, m := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "0"} {
			routes = append(routes, to(n+m, Match{Kind: PrefixPath, Path: "/p/" + n + m + "/"}), to("r"+n+m, Match{Kind: RegexPath, Path: "/r/" + n + m + "/[0-9]+"}),
				to("t"+n+m, Match{Kind: TemplatePath, Path: "/t/" + n + m + "/{x}"}))
		}
	}
	tab := table(t, routes...)
	for _, path := range []string{"/p/g7/x", "/r/g7/12", "/t/g7/x"} {
		var w walk
		v := tab.VirtualHost(get("h", path))
		v.routes.index.start(&w, []byte(path))
		n := 0
		for {
			if _, ok := w.next(); !ok {
				break
			}
			n++
		}
		if n != 1 {
			t.Errorf("%s: %d candidates, want 1", path, n)
		}
		if tab.Match(get("h", path)) == nil {
			t.Errorf("%s: no route", path)
		}
	}
}
