package cel

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
)

var names = Names{"request": {"headers": nil, "path": nil, "size": nil, "referer": nil}, "metadata": {"filter_metadata": nil, "typed_filter_metadata": nil}, "absent": nil}

// lookup knows a request with some headers and metadata.
func lookup(name string) (Value, bool) {
	switch name {
	case "request":
		m := &header.Map{}
		m.Add(header.Path, []byte("/a/b?q=1"))
		m.Add(header.Authority, []byte("h.example"))
		m.AddName([]byte("x-a"), []byte("1"))
		m.AddName([]byte("x-a"), []byte("2"))
		return Object(func(name string) (Value, bool) {
			switch name {
			case "headers":
				return Headers(m), true
			case "path":
				return String("/a/b?q=1"), true
			case "size":
				return Int(0), true
			}
			return nil, false
		}), true
	case "metadata":
		return Metadata(Spaces{"ns": {"s": "v", "n": 5.0, "b": true, "l": []any{"x", 1.0}, "z": nil, "o": metadata.Struct{"p": "q\"ä"}, "f": 0.1, "big": 1e20}, "none": nil}, nil), true
	}
	return nil, false
}

// What an expression comes to, as text and as JSON, is what Envoy 1.40 prints.
func TestValues(t *testing.T) {
	const none = "(none)"
	for _, test := range []struct{ expression, text, json string }{
		{"1", "1", "1"},
		{"1u", "1", "1"},
		{"1.5", "1.5", "1.5"},
		{"1e30", "1e+30", "1e+30"},
		{"-0.0", "-0", "-0"},
		{"1.0/3.0", "0.333333", "0.3333333333333333"},
		{"100000.0", "100000", "100000"},
		{"1000000.0", "1e+06", "1000000"},
		{"1234567.0", "1.23457e+06", "1234567"},
		{"0.0/0.0", "nan", none},
		{"-1.0/0.0", "-inf", none},
		{"9007199254740993", "9007199254740993", "9007199254740992"}, // JSON has doubles only
		{"18446744073709551615u", "18446744073709551615", "18446744073709552000"},
		{"null", "NULL", "null"},
		{"b'ab'", "ab", `"YWI="`},
		{`b'\377'`, "\xff", `"/w=="`},
		{"[1,'a',null]", "CelList value", `[1,"a",null]`},
		{"{'a':1,'b':[true]}", "CelMap value", `{"a":1,"b":[true]}`},
		{"{1:2}", "CelMap value", `{"1":2}`},
		{"{1u:2}", "CelMap value", `{"1":2}`},
		{"{true:1}", "CelMap value", none},
		{"type(1)", "CelType value", none},
		{"int", "CelType value", none},
		{"[type(1)]", "CelList value", none},
		{"type(1) == int", "true", "true"},
		{"duration('1h2m3.5s')", "1h2m3.5s", `"3723.500s"`},
		{"duration('1500ms')", "1.5s", `"1.500s"`},
		{"duration('-1.5s')", "-1.5s", `"-1.500s"`},
		{"duration('0s')", "0", `"0s"`},
		{"duration('1us')", "1us", `"0.000001s"`},
		{"duration('0.0015s')", "1.5ms", `"0.001500s"`},
		{"duration('999ns')", "999ns", `"0.000000999s"`},
		{"duration('60s')", "1m", `"60s"`},
		{"duration('100h')", "100h", `"360000s"`},
		{"duration('3600.000000001s')", "1h0.000000001s", `"3600.000000001s"`},
		{"duration('-90m')", "-1h30m", `"-5400s"`},
		{"timestamp('2020-01-02T03:04:05.678Z')", "2020-01-02T03:04:05.678+00:00", `"2020-01-02T03:04:05.678Z"`},
		{"timestamp('2020-01-02T03:04:05.1+02:00')", "2020-01-02T01:04:05.1+00:00", `"2020-01-02T01:04:05.100Z"`},
		{"timestamp('2020-01-02T03:04:05Z') - timestamp('2020-01-01T00:00:00Z')", "27h4m5s", `"97445s"`},
		{"timestamp('2020-01-02T03:04:05Z') + duration('1s')", "2020-01-02T03:04:06+00:00", `"2020-01-02T03:04:06Z"`},
		{"google.protobuf.Timestamp{seconds: 1}", "1970-01-01T00:00:01+00:00", `"1970-01-01T00:00:01Z"`},
		{"7 / 2", "3", "3"},
		{"-7 % 3", "-1", "-1"},
		{"1.5 + 2.0", "3.5", "3.5"},
		{"1 / 0", none, none},
		{"9223372036854775807 + 1", none, none},
		{"1 == 1.0 && 1 == 1u && 1 < 2.5 && 1 in [1.0] && [1] == [1.0]", "true", "true"},
		{"1 == 'a'", "false", "false"},
		{"!request.path", none, none},
		{"request.path && true", none, none},
		{"request.path == 1", "false", "false"},
		{"false && request.path", "false", "false"},
		{"absent || true", "true", "true"},
		{"absent && false", "false", "false"},
		{"absent || false", none, none},
		{"absent ? 1 : 2", none, none},
		{"1 ? 2 : 3", none, none},
		{"'abc'.matches('a.c') && 'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')", "true", "true"},
		{"'äö'.size()", "2", "2"},
		{"'a' + 'b'", none, none}, // unless enable_string_concat
		{"[1] + [2]", none, none},
		{"[1,2][5]", none, none},
		{"{'a':1}.a", "1", "1"},
		{"{'a':1}['b']", none, none},
		{"request", "CelMap value", none},
		{"size(request)", "0", "0"}, // an object does not know what it has
		{"'path' in request && !('referer' in request)", "true", "true"},
		{"has(request.path) && !has(request.referer)", "true", "true"},
		{"request.referer == 'x'", none, none},
		{"has(request.path.length)", none, none}, // a text has no fields
		{"request['headers']['x-a']", "1,2", `"1,2"`},
		{"request.headers['X-A']", "1,2", `"1,2"`},
		{"request.headers['host'] == request.headers[':authority']", "true", "true"},
		{"request.headers['nope']", none, none},
		{"request.headers[1]", none, none},
		{"1 in request.headers", "false", "false"},
		{"size(request.headers)", "4", "4"},
		{"request.headers == {'x-a': '1,2', ':path': '/a/b?q=1', ':authority': 'h.example'}", "true", "true"},
		{"request.headers", "CelMap value", `{":authority":"h.example",":path":"/a/b?q=1","x-a":"1,2"}`},
		{"[request.headers.nope]", none, none},
		{"metadata.filter_metadata.ns.s", "v", `"v"`},
		{"metadata.filter_metadata['ns']['n'] == 5", "true", "true"},
		{"metadata.filter_metadata.ns.n + 1.0", "6", "6"},
		{"metadata.filter_metadata.ns.z == null && has(metadata.filter_metadata.ns.z)", "true", "true"},
		{"metadata.filter_metadata.ns.l[0]", "x", `"x"`},
		{"has(metadata.filter_metadata.ns.y)", "false", "false"},
		{"has(metadata.filter_metadata.nn.y)", none, none},
		{"has(metadata.filter_metadata) && !has(metadata.typed_filter_metadata)", "true", "true"},
		{"metadata.typed_filter_metadata == {}", "true", "true"},
		{"size(metadata.filter_metadata)", "2", "2"},
		{"size(metadata)", none, none},
		{"metadata == metadata", "true", "true"},
		{"metadata", `filter_metadata { key: "none" value { } } filter_metadata { key: "ns" value { fields { key: "b" value { bool_value: true } } ` +
			`fields { key: "big" value { number_value: 1e+20 } } fields { key: "f" value { number_value: 0.1 } } ` +
			`fields { key: "l" value { list_value { values { string_value: "x" } values { number_value: 1 } } } } fields { key: "n" value { number_value: 5 } } ` +
			`fields { key: "o" value { struct_value { fields { key: "p" value { string_value: "q\"\303\244" } } } } } fields { key: "s" value { string_value: "v" } } ` +
			`fields { key: "z" value { null_value: NULL_VALUE } } } } `,
			`{"filter_metadata":{"none":{},"ns":{"b":true,"big":100000000000000000000,"f":0.1,"l":["x",1],"n":5,"o":{"p":"q\"ä"},"s":"v","z":null}}}`},
	} {
		e, err := Compile(test.expression, names, Options{})
		if err != nil {
			t.Errorf("%s: %v", test.expression, err)
			continue
		}
		text, ok := e.AppendText([]byte("> "), lookup)
		if !ok {
			text = []byte("> " + none)
		}
		if string(text) != "> "+test.text {
			t.Errorf("%s\n is %s\nwant %s", test.expression, text[2:], test.text)
		}
		got := none
		if v, ok := e.JSON(lookup); ok {
			if out, err := json.Marshal(v); err == nil {
				got = string(out)
			}
		}
		if got != test.json {
			t.Errorf("%s\n is %s in JSON\nwant %s", test.expression, got, test.json)
		}
	}
}

// What is wrong with an expression is said when it is compiled.
func TestMistakes(t *testing.T) {
	for _, test := range []struct{ expression, want string }{
		{"request.path ==", "column 16: Syntax error"},
		{"", "column 1: Syntax error"},
		{"if", "reserved identifier"},
		{"99999999999999999999", "invalid int literal"},
		{"response.code", "no attribute response, want one of absent, metadata, request"},
		{"request.pth == 'x'", "no attribute request.pth, want one of request.{headers, path, referer, size}"},
		{"has(request.pth)", "no attribute request.pth"},
		{"request['pth']", "no attribute request.pth"},
		{"1 + size(request.pth)", "no attribute request.pth"},
		{"[{'a': request.pth}]", "no attribute request.pth"},
		{"'x' in request.pth", "no attribute request.pth"},
		{"request.headers[request.pth]", "no attribute request.pth"},
		{"metadata.filters", "no attribute metadata.filters"},
		{"foo(1)", "no function foo"},
		{"request.path.foo()", "no function foo"},
		{"math.greatest(1, 2)", "no function greatest"},
		{"size()", "function size is not called like this"},
		{"size('a', 'b')", "function size is not called like this"},
		{"string(1)", "no function string, as enable_string_conversion is not set"},
		{"[1].all(x, x > 0)", "no function all: loops"},
		{"'abc'.matches('(')", "missing closing )"},
		{"'abc'.matches('a{1000}')", "exceeds limit"},
		{"timestamp('x')", "invalid RFC 3339 timestamp"},
		{"Foo{a: 1}", "unknown type"},
		{"has(request)", "invalid argument to has() macro"},
	} {
		_, err := Compile(test.expression, names, Options{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.expression, err, test.want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: has several lines: %v", test.expression, err)
		}
	}
}

// What is not allowed by default can be.
func TestOptions(t *testing.T) {
	for _, test := range []struct {
		expression, want string
		o                Options
	}{
		{"'a' + request.path", "a/a/b?q=1", Options{Concat: true}},
		{"b'a' + b'b'", "ab", Options{Concat: true}},
		{"string(1)", "1", Options{Convert: true}},
		{"'a' + string(1.5)", "a1.5", Options{Concat: true, Convert: true}},
		{"[1] + [2]", "", Options{Concat: true}},
		{"'a' + 1", "", Options{Concat: true}},
	} {
		e, err := Compile(test.expression, names, test.o)
		if err != nil {
			t.Errorf("%s: %v", test.expression, err)
			continue
		}
		if got, ok := e.AppendText(nil, lookup); string(got) != test.want || ok != (test.want != "") {
			t.Errorf("%s is %s, want %s", test.expression, got, test.want)
		}
	}
}

// What requests bring costs little: patterns are as small as those that are configured, and known to be before they are
// compiled; time zones are not looked for in files; texts do not grow for ever.
func TestForeignTexts(t *testing.T) {
	hour := "timestamp('2020-01-02T03:04:05Z').getHours(request.path) == 4"
	sum := strings.Repeat("request.path + ", 9) + "'' != ''"
	for _, test := range []struct {
		expression, path string
		want             bool
	}{
		{"'abc'.matches(request.path)", "a.c", true},
		{"matches('abc', request.path)", "a.c", true},
		{"'abc'.matches(request.path)", "a{900}", false},
		{"'abc'.matches(request.path)", "(", false},
		{"'abc'.matches(request.path)", "[" + strings.Repeat("a", maxPattern-2) + "]", true},
		{"'abc'.matches(request.path)", "[" + strings.Repeat("a", maxPattern-1) + "]", false},
		{"'abc'.matches(request.absent) || true", "a", true},
		{hour, "+01:00", true},
		{hour, "Europe/Paris", false},
		{"timestamp('2020-01-02T03:04:05Z').getHours('UTC') == 3", "", true},
		{sum, strings.Repeat("x", maxText/9), true},
		{sum, strings.Repeat("x", maxText/9+1), false},
	} {
		e, err := Compile(test.expression, Names{"request": nil}, Options{Concat: true})
		if err != nil {
			t.Fatal(err)
		}
		lookup := func(string) (Value, bool) {
			return Object(func(name string) (Value, bool) { return String(test.path), name == "path" }), true
		}
		if got := e.Holds(lookup); got != test.want {
			t.Errorf("%.60s holds for %.60s: %v, want %v", test.expression, test.path, got, test.want)
		}
	}
	e, err := Compile("'abc'.matches(request.path)", names, Options{})
	if err != nil {
		t.Fatal(err)
	}
	long := String(strings.Repeat("a{1000}", 100))
	if n := testing.AllocsPerRun(1, func() {
		e.Holds(func(string) (Value, bool) { return Object(func(string) (Value, bool) { return long, true }), true })
	}); n > 100 {
		t.Errorf("a pattern of %d bytes that a request brings takes %v allocations, want at most 100", len(long.Value().(string)), n)
	}
}

// Only true is true.
func TestHolds(t *testing.T) {
	for expression, want := range map[string]bool{"true": true, "1": false, "'true'": false, "absent": false, "request.path.contains('/a')": true, "null": false} {
		e, err := Compile(expression, names, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Holds(lookup); got != want {
			t.Errorf("%s holds: %v, want %v", expression, got, want)
		}
	}
}

// FuzzExpressions looks for a text that brings the proxy down, when it is read or when it is computed.
func FuzzExpressions(f *testing.F) {
	for _, s := range []string{"request.headers['x-a'] == '1'", "metadata.filter_metadata.ns.l[1] + 1.0", "has(request.path) ? [1, 2] : {'a': b'\\x00'}", "'a'.matches('[a')", "{request: 1}",
		"metadata == request", "request.headers == metadata.filter_metadata", "size(request.headers) in [1u, 2.0]", "timestamp('2020-01-02T03:04:05Z').getHours('UTC')", "type(metadata)", "string(1) + 'a'", "-(-1)", "metadata[1]", "metadata.filter_metadata[request]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Compile(text, names, Options{Convert: true, Concat: true})
		if err != nil {
			return
		}
		_, is := e.AppendText(nil, lookup)
		_, json := e.JSON(lookup)
		if json && !is {
			t.Errorf("%s is something in JSON only", text)
		}
	})
}
