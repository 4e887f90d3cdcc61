package access

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/base/logformat"
	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/uri"
)

// teapot is the record of the documentation's "curl httpbin:8000/status/418".
func teapot() *Record {
	var q, p header.Map
	q.Add(header.Method, []byte("GET"))
	q.Add(header.Path, []byte("/status/418"))
	q.Add(header.Authority, []byte("httpbin:8000"))
	q.Add(header.UserAgent, []byte("curl/7.69.1"))
	q.Add(header.XRequestID, []byte("84961386-6d84-929d-98bd-c5aee93b5c88"))
	p.Add(header.Status, []byte("418"))
	p.Add(header.XEnvoyUpstreamServiceTime, []byte("13"))
	ms := Mark(time.Millisecond)
	return &Record{
		Type: DownstreamEnd, Protocol: HTTP11,
		Start: time.Date(2020, 11, 25, 21, 26, 18, 409e6, time.UTC),
		Began: ms, RequestEnd: ms, UpstreamBegin: 2 * ms, ResponseBegin: 14 * ms, Ended: 15 * ms,
		Request: &q, Response: &p, Code: 418, CodeDetails: "via_upstream", BytesSent: 135,
		Cluster: "outbound|8000||httpbin.default.svc.cluster.local", RouteName: "default", Attempts: 1,
		UpstreamHost: netip.MustParseAddrPort("10.44.1.27:80"), UpstreamLocal: netip.MustParseAddrPort("10.44.1.23:37652"),
		DownstreamLocal: netip.MustParseAddrPort("10.0.45.184:8000"), DownstreamRemote: netip.MustParseAddrPort("10.44.1.23:46520"),
	}
}

func TestNamedFormats(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"istio", `[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 14 13 "-" "curl/7.69.1" "84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "10.44.1.27:80" outbound|8000||httpbin.default.svc.cluster.local 10.44.1.23:37652 10.0.45.184:8000 10.44.1.23:46520 - default` + "\n"},
		{"istio-1.8", `[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - "-" 0 135 14 13 "-" "curl/7.69.1" "84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "10.44.1.27:80" outbound|8000||httpbin.default.svc.cluster.local 10.44.1.23:37652 10.0.45.184:8000 10.44.1.23:46520 - default` + "\n"},
		{"envoy", `[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - 0 135 14 13 "-" "curl/7.69.1" "84961386-6d84-929d-98bd-c5aee93b5c88" "httpbin:8000" "10.44.1.27:80"` + "\n"},
	} {
		f, ok := Named(test.name)
		if !ok {
			t.Fatalf("no format %s", test.name)
		}
		if got := string(f.Append(nil, teapot())); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
	if _, ok := Named("apache"); ok {
		t.Error("a format that is not ours has a name")
	}
}

func TestAppendAllocs(t *testing.T) {
	f, _ := Named("istio")
	j, err := CompileJSON(map[string]any{"start": "%START_TIME%", "code": "%RESPONSE_CODE%", "path": "%REQ(:PATH)%", "text": "a %PROTOCOL%"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := teapot()
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = f.Append(buf[:0], r); buf = j.Append(buf[:0], r) }); n != 0 {
		t.Errorf("a line allocates %v times, want 0", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	f, _ := Named("istio")
	r := teapot()
	buf := make([]byte, 0, 4096)
	for b.Loop() {
		buf = f.Append(buf[:0], r)
	}
}

func TestOperators(t *testing.T) {
	r := teapot()
	r.Request.AddName([]byte("x-empty"), []byte{})
	r.Request.Set(header.Path, []byte("/a/b?q=1&r=two&s"))
	r.Flags.Set(UpstreamRetryLimitExceeded)
	r.Flags.Set(UpstreamConnectionFailure)
	r.CodeDetails = "upstream reset: connection failure"
	r.UpstreamHost = netip.MustParseAddrPort("[fd00::1]:80")
	r.DownstreamLocal = netip.MustParseAddrPort("[::ffff:10.0.0.1]:15001")
	ms := Mark(time.Millisecond)
	r.Opened, r.BodyBegin, r.Asked, r.Placed, r.Dial = ms, 15*ms, ms, 2*ms, Dial{Begun: ms, Connected: 4 * ms}
	r.UpstreamConnID, r.HostClose = 7, CloseRemoteReset
	for _, test := range []struct{ format, want string }{
		{"100%%", "100%"},
		{"%REQ(X-Forwarded-For?User-Agent)%", "curl/7.69.1"},
		{"%REQ(USER-AGENT):4%", "curl"}, // a length cuts
		{"%REQ(USER-AGENT):0%", ""},
		{"%REQ(X-EMPTY)%", ""},          // empty is not missing
		{"%RESP(X-NONE)%", "-"},         // missing is
		{"%TRAILER(GRPC-STATUS)%", "-"}, // no trailers at all
		{"%REQ(HOST)%", "httpbin:8000"}, // HTTP/1.1's name for the authority
		{"%REQ_WITHOUT_QUERY(:PATH)%", "/a/b"},
		{"%PATH%", "/a/b?q=1&r=two&s"},
		{"%PATH(NQ:PATH)%", "/a/b"},
		{"%PATH(WQ:ORIG)%", "-"},
		{"%QUERY_PARAM(r)%", "two"},
		{"%QUERY_PARAM(s)%", ""},
		{"%QUERY_PARAM(t)%", "-"},
		{"%RESPONSE_FLAGS%", "URX,UF"}, // in the order in which they were raised
		{"%RESPONSE_FLAGS_LONG%", "UpstreamRetryLimitExceeded,UpstreamConnectionFailure"},
		{"%RESPONSE_CODE_DETAILS%", "upstream_reset:_connection_failure"},
		{"%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "upstream reset: connection failure"},
		{"%UPSTREAM_HOST%", "[fd00::1]:80"},
		{"%DOWNSTREAM_LOCAL_ADDRESS%", "10.0.0.1:15001"}, // a mapped address is the v4 one
		{"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "10.0.0.1 15001"},
		{"%UPSTREAM_HOST_NAME%", "[fd00::1]:80"},
		{"%DURATION% %REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "14 0 13 -"},
		{"%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)% %COMMON_DURATION(DS_RX_BEG:US_TX_END)%", "13000 -"},
		{"%COMMON_DURATION(US_CX_BEG:US_CX_END:ms)% %COMMON_DURATION(US_CX_BEG:US_HS_END:ms)%", "3 -"}, // of a connection in plain text
		{"%COMMON_DURATION(DS_CX_BEG:DS_RX_BEG:ms)% %COMMON_DURATION(DS_CX_BEG:DS_CX_END)%", "0 -"},
		{"%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%", "14"},
		{"%UPSTREAM_CONNECTION_POOL_READY_DURATION%", "1"},
		{"%QUERY_PARAMS% %QUERY_PARAMS(DECODED):5%", "q=1&r=two&s q=1&r"},
		{"%REQUEST_HEADER(USER-AGENT):4% %RESPONSE_HEADER(:STATUS)% %RESPONSE_TRAILER(X)%", "curl 418 -"}, // longer names of REQ, RESP, TRAILER
		{"%REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(SNI_FIRST)%", "- httpbin:8000"},
		{"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(9)% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(64)%", "10.0.0.0/9 10.0.0.1/32"},
		{`%COALESCE({"operators":["TRACE_ID",{"command":"REQ","param":"user-agent","max_length":4}]}):3%`, "cur"},
		{"%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_CONNECTION_IDS_ATTEMPTED%", "[fd00::1]:80 7"},
		{"%DOWNSTREAM_DETECTED_CLOSE_TYPE% %UPSTREAM_DETECTED_CLOSE_TYPE%", "Normal RemoteReset"},
		{"%START_TIME(%Y/%m/%dT%H:%M:%S%z %s)%", "2020/11/25T21:26:18+0000 1606339578"},
		{"%START_TIME(%s.%3f|%6f|%f|%E6S|%b %e %I%p %j %a)%", "1606339578.409|409000|409000000|18.409000|Nov 25 09PM 330 Wed"},
		{"%GRPC_STATUS%", "-"}, // not a gRPC request
		{"%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_TLS_VERSION%", "- -"},
		{"%ACCESS_LOG_TYPE%", "DownstreamEnd"},
		{"%STREAM_ID%", "84961386-6d84-929d-98bd-c5aee93b5c88"},
		{"%UPSTREAM_CLUSTER_RAW%", "outbound|8000||httpbin.default.svc.cluster.local"},
	} {
		f, err := Compile(test.format)
		if err != nil {
			t.Errorf("%s: %v", test.format, err)
			continue
		}
		if got := string(f.Append(nil, r)); got != test.want {
			t.Errorf("%s = %q, want %q", test.format, got, test.want)
		}
	}
}

// An operator that we cannot fill is refused when the format is compiled, by name.
func TestRefusals(t *testing.T) {
	for _, test := range []struct{ format, want string }{
		{`%COALESCE({"operators":[]})%`, "want at least one"},
		{`%COALESCE(x)%`, "want JSON"},
		{`%COALESCE({"operators":["NO_SUCH_THING"]})%`, "operators[0]: unknown command operator %NO_SUCH_THING%"},
		{`%COALESCE({"operators":[{"param":"x"}]})%`, "want a name or"},
		{"%COALESCE%", "has no argument"},
		{"%QUERY_PARAMS(RAW)%", "want ORIG or DECODED"},
		{"%REQUESTED_SERVER_NAME(X)%", "want SNI_ONLY, SNI_FIRST or HOST_FIRST"},
		{"%REQUESTED_SERVER_NAME(SNI_FIRST:X)%", "want ORIG, HOST or ORIG_OR_HOST"},
		{"%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(x)%", "want the length of a prefix"},
		{"%NO_SUCH_THING%", "unknown command operator %NO_SUCH_THING%"},
		{"%REQ%", "has no argument"},
		{"%PROTOCOL(x)%", "has an argument"},
		{"%PROTOCOL:5%", "has a length"},
		{"%REQ(A?)%", "want NAME or NAME?ALTERNATIVE"},
		{"%REQ(A?B?C)%", "want NAME or NAME?ALTERNATIVE"},
		{"50% of it", "begins no command operator"},
		{"x %PROTOCOL", "position 2"},
		{"%REQ(A", "has no end"},
		{"%START_TIME(%Q)%", "%Q is not supported"},
		{"%COMMON_DURATION(DS_RX_BEG:NOW:ms)%", "names a moment that is not known"},
		{"%GRPC_STATUS(loud)%", "want CAMEL_STRING"},
	} {
		_, err := Compile(test.format)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.format, err, test.want)
		}
	}
}

func TestGRPCStatus(t *testing.T) {
	r := teapot()
	r.Request.Add(header.ContentType, []byte("application/grpc+proto"))
	var trailers header.Map
	trailers.Add(header.GrpcStatus, []byte("14"))
	r.Trailers = &trailers
	f, err := Compile("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(f.Append(nil, r)); got != "Unavailable UNAVAILABLE 14" {
		t.Errorf("status 14 = %q", got)
	}
}

func TestJSON(t *testing.T) {
	r := teapot()
	r.Request.Set(header.UserAgent, []byte("a\"b\\\x01\xff\tc"))
	format := map[string]any{
		"code": "%RESPONSE_CODE%", "host": "%UPSTREAM_HOST%", "sni": "%REQUESTED_SERVER_NAME%",
		"mixed": "%PROTOCOL% %REQUESTED_SERVER_NAME%", "agent": "%REQ(USER-AGENT)%",
		"nested": map[string]any{"a": "x", "list": []any{"%DURATION%", true, 1.5, nil}},
	}
	f, err := CompileJSON(format, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"agent":"a\"b\\\u0001\u00ff\tc","code":418,"host":"10.44.1.27:80","mixed":"HTTP/1.1 -","nested":{"a":"x","list":[14,true,1.5,null]},"sni":null}` + "\n"
	got := string(f.Append(nil, r))
	if got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	if !json.Valid([]byte(got)) {
		t.Error("the line is not JSON")
	}
	if f, err = CompileJSON(map[string]any{"a": "%REQUESTED_SERVER_NAME%", "b": "%PROTOCOL%"}, Options{OmitEmpty: true}); err != nil {
		t.Fatal(err)
	}
	if got := string(f.Append(nil, r)); got != "{\"b\":\"HTTP/1.1\"}\n" {
		t.Errorf("omitting what is missing: %s", got)
	}
	if _, err = CompileJSON(map[string]any{"a": map[string]any{"b": "%X%"}}, Options{}); err == nil || !strings.Contains(err.Error(), "json_format.a.b") {
		t.Errorf("error %v, want one that names json_format.a.b", err)
	}
}

// A header operation leaves out what is missing.
func TestCompileHeader(t *testing.T) {
	f, err := CompileHeader("%REQ(X-NONE)%")
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Append(nil, teapot()); len(got) != 0 {
		t.Errorf("missing = %q, want nothing", got)
	}
}

func TestFlags(t *testing.T) {
	var s Flags
	if s.String() != "-" || s.Has(NoHealthyUpstream) {
		t.Error("the empty set is not empty")
	}
	for f := NoFlag + 1; f < numFlags; f++ {
		if back, ok := ParseFlag(f.String()); !ok || back != f || f.Long() == "" {
			t.Errorf("flag %d has no name of its own", f)
		}
	}
	s.Set(DelayInjected)
	s.Set(FaultInjected)
	s.Set(DelayInjected)
	if s.String() != "DI,FI" {
		t.Errorf("%s, want DI,FI: each once", s)
	}
	for f := NoFlag + 1; f < numFlags; f++ {
		s.Set(f) // the eleventh has no place and does no harm
	}
	if n := strings.Count(s.String(), ","); n != 9 {
		t.Errorf("%d flags, want 10", n+1)
	}
}

// FuzzOtherName reads names of certificates that nobody has checked: whatever they are, there is a text.
func FuzzOtherName(f *testing.F) {
	f.Add([]byte{0x30, 0x0f, 0xa0, 0x0d, 0x06, 0x03, 0x2a, 0x03, 0x04, 0xa0, 0x06, 0x0c, 0x04, 'n', 'a', 'm', 'e'})
	f.Fuzz(func(t *testing.T, der []byte) {
		c := &x509.Certificate{Extensions: []pkix.Extension{{Id: oidSubjectAltName, Value: der}}}
		if got := otherNames(c); len(got) > len(der) {
			t.Fatalf("%x: found %d bytes of names in %d", der, len(got), len(der))
		}
	})
}

// FuzzDecoded undoes percent-encoding as net/url does, where net/url can.
func FuzzDecoded(f *testing.F) {
	f.Add("a%20b%2Fc%")
	f.Fuzz(func(t *testing.T, text string) {
		got := string(uri.AppendDecoded(nil, []byte(text)))
		if want, err := url.PathUnescape(text); err == nil && got != want {
			t.Errorf("%q is %q, net/url says %q", text, got, want)
		}
	})
}

// FuzzCompile looks for formats that crash the parser or the writer.
func FuzzCompile(f *testing.F) {
	f.Add(logformat.Istio)
	f.Add("%START_TIME(%s.%3f)% %REQ(A?B):3% %COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)%")
	for _, text := range []string{
		"", "%", "%%", "%%%", "a%", "%A", "%REQ", "%REQ(", "%REQ(A", "%REQ(A)", "%REQ(A):", "%REQ(A):5", "%REQ(A):%", "%REQ():%", "%REQ()%", "%(A)%", "%req(A)%", // what breaks off
		"%REQ(A):0%", "%REQ(A):99999999999999999999%", "%REQ(A):-1%", "%REQ(A?):1%", "%REQ(?B)%", "%REQ(A?B?C)%", "%REQ(A)%%REQ(B)%", "%REQ(A))%", "%REQ(A)x%", // lengths and arguments
		"%CEL('a' + ')')%", "%CEL(request.headers[')%'])%:3%", "%CEL(%", "%CEL()%", "%METADATA(ROUTE:a:b):5%", "%METADATA(:)%", "%DYNAMIC_METADATA(a:b:c):0%", // colons and brackets inside
		"%START_TIME(%)%", "%START_TIME(%9f%%%)%", "%START_TIME(%E4n)%", "%START_TIME(%s%0f%10f)%", "%DURATION%:1%", "%COMMON_DURATION(::)%", "%COMMON_DURATION(DS_RX_BEG:DS_RX_BEG:s)%", // times
		"%FILTER_STATE(a:FIELD:)%", "%FILTER_STATE(:PLAIN):3%", "%ENVIRONMENT()%", "\x00%REQ(\x00)%\xff", "ä%REQ(ä)%",
	} {
		f.Add(text)
	}
	for name := range operators {
		f.Add("%" + name + "%")
		f.Add("%" + name + "()%")
		f.Add("%" + name + "(a:b:c):0%")
		f.Add("%" + name + "(%Y):5%")
	}
	f.Fuzz(func(t *testing.T, text string) {
		if format, err := Compile(text); err == nil {
			format.Append(nil, teapot())
			format.Append(nil, new(Record))
		}
	})
}

// FuzzJSON: whatever bytes a client sends, a JSON line stays JSON.
func FuzzJSON(f *testing.F) {
	f.Add([]byte("curl/8"))
	f.Add([]byte("\"\\\x00\xff\xc3\x28\u2028"))
	format, err := CompileJSON(map[string]any{"a": "%REQ(USER-AGENT)%", "b": "x %REQ(USER-AGENT):3%"}, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, agent []byte) {
		r := teapot()
		r.Request.Set(header.UserAgent, agent)
		line := format.Append(nil, r)
		if !json.Valid(line) || strings.Count(string(line), "\n") != 1 {
			t.Errorf("not one line of JSON: %q", line)
		}
	})
}

// A Unix socket is logged by its path, and a client of one by the socket's.
func TestUnixSocketsAreLoggedByPath(t *testing.T) {
	r := &Record{UpstreamHost: pipe.Addr("/run/app.sock"), DownstreamLocal: pipe.Addr("/run/in.sock"), DirectLocal: pipe.Addr("/run/in.sock")}
	r.UpstreamRemote = r.UpstreamHost
	f, err := Compile("%UPSTREAM_HOST% %UPSTREAM_REMOTE_PORT% %DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(f.Append(nil, r))), "/run/app.sock  /run/in.sock /run/in.sock"; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	j, err := CompileJSON(map[string]any{"port": "%UPSTREAM_REMOTE_PORT%"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(j.Append(nil, r))), `{"port":null}`; got != want {
		t.Errorf("logged %s, want %s", got, want)
	}
}

// What a client sends makes no line of its own, in a log. A field, or a body, is another matter.
func TestLine(t *testing.T) {
	var m header.Map
	m.Add(header.Path, []byte("/?q=a%0d%0ab&r=c"))
	r := &Record{Request: &m}
	f, err := Compile("%QUERY_PARAM(q)%\n%QUERY_PARAM(r)%\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		f    *Format
		want string
	}{
		{f, "before a\r\nb\nc\n"},
		{f.Line(), `before a\r\nb` + "\nc\n"},
	} {
		if got := string(test.f.Append([]byte("before "), r)); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
