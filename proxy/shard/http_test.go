package shard

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/fault"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
)

func ptr[T any](v T) *T { return &v }

func prefix(name, path string, f *route.ForwardConfig) route.RouteConfig {
	return route.RouteConfig{Name: name, Match: route.Match{Kind: route.PrefixPath, Path: path}, Forward: f}
}

var istioRetry = &route.RetryPolicy{
	On:         route.RetryConnectFailure | route.RetryRefusedStream | route.RetryGRPCUnavailable | route.RetryGRPCCancelled | route.RetryStatusCodes,
	NumRetries: ptr(uint32(2)), PreviousHosts: true, HostAttempts: 5,
}

// full is a bench with a route for each situation that Envoy was asked about.
func full(t *testing.T) *bench {
	none := ptr(time.Duration(0))
	abort := prefix("abort", "/abort", &route.ForwardConfig{Cluster: "app"})
	abort.PerFilter = map[string]any{fault.Name: &fault.Config{Status: 418, AbortShare: fault.Share{Numerator: 100, Denominator: 100}}}
	delay := prefix("delay", "/delay", &route.ForwardConfig{Cluster: "app"})
	delay.PerFilter = map[string]any{fault.Name: &fault.Config{Delay: 100 * time.Millisecond, DelayShare: fault.Share{Numerator: 1, Denominator: 1}}}
	b := newBench(t, []route.RouteConfig{
		prefix("nocluster", "/nc", &route.ForwardConfig{Cluster: "nope"}),
		prefix("nohost", "/uh", &route.ForwardConfig{Cluster: "empty"}),
		prefix("refused", "/uf", &route.ForwardConfig{Cluster: "refused"}),
		prefix("r2", "/retry", &route.ForwardConfig{Cluster: "refused", Retry: istioRetry}),
		prefix("half", "/half", &route.ForwardConfig{Cluster: "half", Retry: istioRetry}),
		prefix("tmo", "/slow", &route.ForwardConfig{Cluster: "app", Timeout: ptr(300 * time.Millisecond)}),
		prefix("ptt", "/pts", &route.ForwardConfig{Cluster: "app", Retry: &route.RetryPolicy{On: route.Retry5xx, NumRetries: ptr(uint32(1)), PerTryTimeout: 200 * time.Millisecond}}),
		prefix("overflow", "/over", &route.ForwardConfig{Cluster: "over"}),
		{Name: "redirect", Match: route.Match{Kind: route.PrefixPath, Path: "/redir"}, Redirect: &route.RedirectConfig{Path: "/new"}},
		{Name: "direct", Match: route.Match{Kind: route.PrefixPath, Path: "/direct"}, Direct: &route.Direct{Status: 503, Body: []byte("hello direct")}},
		{Name: "dempty", Match: route.Match{Kind: route.PrefixPath, Path: "/dempty"}, Direct: &route.Direct{Status: 204}},
		prefix("rewrite", "/rew/", &route.ForwardConfig{Cluster: "app", Rewrite: route.RewriteConfig{Prefix: "/new/", Host: "other.host"}}),
		prefix("mirror", "/mir", &route.ForwardConfig{Cluster: "app", Mirrors: []route.MirrorConfig{{Cluster: "shadow"}}}),
		abort, delay,
		prefix("raw", "/raw", &route.ForwardConfig{Cluster: "app", Timeout: none}),
	}, static("app"), static("empty"), static("refused"), static("half"), static("shadow"), cluster.Config{
		Name: "over", Breakers: [2]cluster.Limits{{Connections: ptr(uint32(1)), Pending: ptr(uint32(0))}},
	})
	b.endpoints("app", app1)
	b.endpoints("shadow", app2)
	b.endpoints("refused", gone)
	b.endpoints("half", gone, app2)
	b.endpoints("over", app1)
	b.answer = answers
	return b
}

// answers does what the path says.
func answers(b *bench, p *drive.Pipe, request string) {
	path := strings.Fields(request)[1]
	switch {
	case strings.Contains(path, "slow"), strings.Contains(path, "pts"):
	case strings.Contains(path, "rst"):
		p.CloseWrite()
	case strings.Contains(path, "bad"):
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n")
	case strings.Contains(path, "garb"):
		p.WriteString("blah blah\r\n\r\n")
	case strings.Contains(path, "short"):
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\nabc")
		p.CloseWrite()
	case strings.Contains(path, "eofbody"):
		p.WriteString("HTTP/1.1 200 Fine\r\nx: y\r\n\r\nabc")
		p.CloseWrite()
	case strings.Contains(path, "chunk"):
		p.WriteString("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nServer: x\r\nDate: d\r\nX-Y: 1\r\n\r\n3\r\nabc\r\n0\r\ntr: 1\r\n\r\n")
	case strings.Contains(path, "101"):
		p.WriteString("HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nHELLO")
	case strings.Contains(path, "100c"):
		p.WriteString("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
	case strings.Contains(path, "close"):
		p.WriteString("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
		p.CloseWrite()
	default:
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nServer: x\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\nok")
	}
}

// TestAsEnvoy holds what the real Envoy 1.40 answered and logged in the same situations.
func TestAsEnvoy(t *testing.T) {
	const date = "date: Sat, 21 Nov 2026 07:00:00 GMT\r\n"
	text := func(status string, body, more string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\n%scontent-length: %d\r\ncontent-type: text/plain\r\n"+date+"server: envoy\r\n\r\n%s", status, more, len(body), body)
	}
	const reset = "upstream connect error or disconnect/reset before headers. "
	ok := "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nserver: envoy\r\nx-envoy-upstream-service-time: 0\r\n" + date + "\r\nok"
	refused := func(status, why string) string {
		return "HTTP/1.1 " + status + "\r\ncontent-length: " + fmt.Sprint(len(why)) + "\r\ncontent-type: text/plain\r\n" + date + "server: envoy\r\nconnection: close\r\n\r\n" + why
	}
	empty := func(status, connection string) string {
		return "HTTP/1.1 " + status + "\r\n" + date + "server: envoy\r\n" + connection + "content-length: 0\r\n\r\n"
	}
	for _, test := range []struct {
		what, request string
		wait          time.Duration
		answer, log   string
	}{
		{"no route", get("/none"), 0, empty("404 Not Found", ""), `GET /none HTTP/1.1 404 NR route_not_found "-" 0 0 host=- cluster=- route=- attempts=0`},
		{"no cluster", get("/nc"), 0, empty("503 Service Unavailable", ""), `GET /nc HTTP/1.1 503 NC cluster_not_found "-" 0 0 host=- cluster=- route=nocluster attempts=0`},
		{"no host", get("/uh"), 0, text("503 Service Unavailable", "no healthy upstream", ""), `GET /uh HTTP/1.1 503 UH no_healthy_upstream "-" 0 19 host=- cluster=empty route=nohost attempts=1`},
		{"refused", get("/uf"), 0, text("503 Service Unavailable", reset+"reset reason: remote connection failure", ""), `GET /uf HTTP/1.1 503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused} "delayed_connect_error:_Connection_refused" 0 98 host=10.0.0.3:80 cluster=refused route=refused attempts=1`},
		{"refused, tried thrice", get("/retry"), time.Second, strings.ReplaceAll(text("503 Service Unavailable", reset+"retried and the latest reset reason: remote connection failure", ""), "07:00:00", "*"), `GET /retry HTTP/1.1 503 URX,UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused} "delayed_connect_error:_Connection_refused" 0 121 host=10.0.0.3:80 cluster=refused route=r2 attempts=3`},
		{"response timeout", get("/slow"), 310 * time.Millisecond, text("504 Gateway Timeout", "upstream request timeout", ""), `GET /slow HTTP/1.1 504 UT response_timeout "-" 0 24 host=10.0.0.1:80 cluster=app route=tmo attempts=1`},
		{"per-try timeout", get("/pts"), 600 * time.Millisecond, text("504 Gateway Timeout", "upstream request timeout", ""), `GET /pts HTTP/1.1 504 URX,UT upstream_per_try_timeout "-" 0 24 host=10.0.0.1:80 cluster=app route=ptt attempts=2`},
		{"overflow", get("/over"), 0, text("503 Service Unavailable", reset+"reset reason: overflow", "x-envoy-overloaded: true\r\n"), `GET /over HTTP/1.1 503 UO upstream_reset_before_response_started{overflow} "-" 0 81 host=- cluster=over route=overflow attempts=1`},
		{"redirect", get("/redir?x=1"), 0, "HTTP/1.1 301 Moved Permanently\r\nlocation: http://a.b/new?x=1\r\n" + date + "server: envoy\r\ncontent-length: 0\r\n\r\n", `GET /redir?x=1 HTTP/1.1 301 - direct_response "-" 0 0 host=- cluster=- route=redirect attempts=0`},
		{"direct", get("/direct"), 0, text("503 Service Unavailable", "hello direct", ""), `GET /direct HTTP/1.1 503 - direct_response "-" 0 12 host=- cluster=- route=direct attempts=0`},
		{"direct, no body", get("/dempty"), 0, "HTTP/1.1 204 No Content\r\n" + date + "server: envoy\r\n\r\n", `GET /dempty HTTP/1.1 204 - direct_response "-" 0 0 host=- cluster=- route=dempty attempts=0`},
		{"rewrite", get("/rew/x?y=1"), 0, ok, `GET /rew/x?y=1 HTTP/1.1 200 - via_upstream "-" 0 2 host=10.0.0.1:80 cluster=app route=rewrite attempts=1`},
		{"abort", get("/abort"), 0, text("418 Unknown", "fault filter abort", ""), `GET /abort HTTP/1.1 418 FI fault_filter_abort "-" 0 18 host=- cluster=app route=abort attempts=0`},
		{"delay", get("/delay"), 110 * time.Millisecond, ok, `GET /delay HTTP/1.1 200 DI via_upstream "-" 0 2 host=10.0.0.1:80 cluster=app route=delay attempts=1`},
		{"head", strings.Replace(get("/raw"), "GET", "HEAD", 1), 0, strings.TrimSuffix(ok, "ok"), `HEAD /raw HTTP/1.1 200 - via_upstream "-" 0 0 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
		{"connection ends before the response", get("/raw/rst"), 0, text("503 Service Unavailable", reset+"reset reason: connection termination", ""), `GET /raw/rst HTTP/1.1 503 UC upstream_reset_before_response_started{connection_termination} "-" 0 95 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
		{"both lengths", get("/raw/bad"), 0, text("502 Bad Gateway", reset+"reset reason: protocol error", ""), `GET /raw/bad HTTP/1.1 502 UPE upstream_reset_before_response_started{protocol_error} "-" 0 87 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
		{"garbage", get("/raw/garb"), 0, text("502 Bad Gateway", reset+"reset reason: protocol error", ""), `GET /raw/garb HTTP/1.1 502 UPE upstream_reset_before_response_started{protocol_error} "-" 0 87 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
		{"body too short", get("/raw/short"), 0, "HTTP/1.1 200 OK\r\ncontent-length: 30\r\nx-envoy-upstream-service-time: 0\r\n" + date + "server: envoy\r\n\r\nabc", `GET /raw/short HTTP/1.1 200 UPE upstream_reset_after_response_started{protocol_error} "-" 0 3 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
		{"body until close", get("/raw/eofbody"), 0, "HTTP/1.1 200 OK\r\nx: y\r\nx-envoy-upstream-service-time: 0\r\n" + date + "server: envoy\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `GET /raw/eofbody HTTP/1.1 200 - via_upstream "-" 0 3 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
		{"upgrade that nobody allows", get("/raw", "Connection: Upgrade", "Upgrade: foo"), 0, empty("403 Forbidden", "connection: close\r\n"), `GET /raw HTTP/1.1 403 - upgrade_failed "-" 0 0 host=- cluster=app route=raw attempts=0`},
		{"100 that nobody asked for", get("/raw/100c"), 0, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-envoy-upstream-service-time: 0\r\n" + date + "server: envoy\r\n\r\nok", `GET /raw/100c HTTP/1.1 200 - via_upstream "-" 0 2 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
		{"HTTP/1.0", "GET /raw HTTP/1.0\r\nHost: a.b\r\n\r\n", 0, refused("426 Upgrade Required", "Upgrade Required"), `- - HTTP/1.1 426 DPE low_version "-" 0 16 host=- cluster=- route=- attempts=0`},
		{"no host field", "GET /raw HTTP/1.1\r\n\r\n", 0, empty("400 Bad Request", "connection: close\r\n"), `GET /raw HTTP/1.1 400 - missing_host_header "-" 0 0 host=- cluster=- route=- attempts=0`},
		{"length and coding", "POST /raw HTTP/1.1\r\nHost: a.b\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, refused("400 Bad Request", "Bad Request"), `- - HTTP/1.1 400 DPE http1.content_length_and_chunked_not_allowed "-" 0 11 host=- cluster=- route=- attempts=0`},
		{"unknown coding", "POST /raw HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: gzip\r\n\r\n", 0, refused("501 Not Implemented", "Not Implemented"), `- - HTTP/1.1 501 DPE http1.invalid_transfer_encoding "-" 0 15 host=- cluster=- route=- attempts=0`},
		{"two lengths", "POST /raw HTTP/1.1\r\nHost: a.b\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 0, refused("400 Bad Request", "Bad Request"), `- - HTTP/1.1 400 DPE http1.codec_error "-" 0 11 host=- cluster=- route=- attempts=0`},
		{"bad chunk", "POST /raw HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0, refused("400 Bad Request", "Bad Request"), `POST /raw HTTP/1.1 400 DPE http1.codec_error "-" 0 11 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
		{"bad name", get("/raw", "X Y: 1"), 0, refused("400 Bad Request", "Bad Request"), `- - HTTP/1.1 400 DPE http1.codec_error "-" 0 11 host=- cluster=- route=- attempts=0`},
		{"too large", get("/raw", "X: "+strings.Repeat("a", 62000)), 0, refused("431 Request Header Fields Too Large", "Request Header Fields Too Large"), `- - HTTP/1.1 431 DPE http1.headers_too_large "-" 0 31 host=- cluster=- route=- attempts=0`},
		{"too many", get("/raw", strings.Repeat("X: a\r\n", 120)+"y: z"), 0, refused("431 Request Header Fields Too Large", "Request Header Fields Too Large"), `- - HTTP/1.1 431 DPE http1.too_many_headers "-" 0 31 host=- cluster=- route=- attempts=0`},
		{"absolute form", "GET http://foo.com/raw?q=1 HTTP/1.1\r\nHost: a\r\n\r\n", 0, ok, `GET /raw?q=1 HTTP/1.1 200 - via_upstream "-" 0 2 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
		{"CONNECT", "CONNECT foo.com:80 HTTP/1.1\r\nHost: a\r\n\r\n", 0, empty("404 Not Found", "connection: close\r\n"), `CONNECT - HTTP/1.1 404 NR route_not_found "-" 0 0 host=- cluster=- route=- attempts=0`},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0, empty("404 Not Found", ""), `OPTIONS * HTTP/1.1 404 - absolute_path_rejected "-" 0 0 host=- cluster=- route=- attempts=0`},
		{"fragment", get("/raw#x"), 0, empty("400 Bad Request", "connection: close\r\n"), `GET /raw#x HTTP/1.1 400 - path_normalization_failed "-" 0 0 host=- cluster=- route=- attempts=0`},
		{"gRPC without a route", "POST /none HTTP/1.1\r\nHost: a.b\r\ncontent-type: application/grpc\r\n\r\n", 0, "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 12\r\n" + date + "server: envoy\r\ncontent-length: 0\r\n\r\n", `POST /none HTTP/1.1 200 NR route_not_found "-" 0 0 host=- cluster=- route=- attempts=0`},
		{"close", get("/raw", "Connection: close"), 0, strings.Replace(ok, "\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1), `GET /raw HTTP/1.1 200 - via_upstream "-" 0 2 host=10.0.0.1:80 cluster=app route=raw attempts=1`},
	} {
		t.Run(test.what, func(t *testing.T) {
			b := full(t)
			p := b.dial()
			p.WriteString(test.request)
			b.Advance(test.wait)
			got, want := p.Take(), test.answer
			if strings.Contains(want, "*") {
				got = strings.ReplaceAll(got, "07:00:00", "*")
			}
			if test.wait > 0 {
				got = serviceTime.ReplaceAllString(got, "x-envoy-upstream-service-time: 0")
			}
			if got != want {
				t.Errorf("answer\n%q\nwant\n%q", got, want)
			}
			if got := b.log.last(); got != test.log {
				t.Errorf("log\n%s\nwant\n%s", got, test.log)
			}
		})
	}
}

func TestClientGoesInTheMiddle(t *testing.T) {
	b := full(t)
	p := b.dial()
	p.WriteString(get("/slow"))
	b.Step()
	p.CloseWrite()
	b.Step()
	if got, want := b.log.last(), `GET /slow HTTP/1.1 0 DC downstream_remote_disconnect "-" 0 0 host=10.0.0.1:80 cluster=app route=tmo attempts=1`; got != want {
		t.Errorf("log\n%s\nwant\n%s", got, want)
	}
	if !p.Closed {
		t.Error("the connection is still open")
	}
	if n := b.rt.Clusters["app"].Stats.UpstreamRqActive.Value(); n != 0 {
		t.Errorf("%d upstream requests are still in flight", n)
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	b := full(t)
	p := b.dial()
	p.WriteString(get("/raw/1") + get("/raw/chunk") + get("/none") + get("/direct"))
	b.Step()
	got := p.Take()
	var codes []string
	for _, part := range strings.Split(got, "HTTP/1.1 ")[1:] {
		codes = append(codes, part[:3])
	}
	if strings.Join(codes, " ") != "200 200 404 503" {
		t.Errorf("answers %v in\n%s", codes, got)
	}
	if p.Closed || p.EOF {
		t.Error("the connection was closed")
	}
	if len(b.requests) != 2 {
		t.Errorf("the application got %d requests, want 2", len(b.requests))
	}
}

func TestWebSocketBytesPassBothWays(t *testing.T) {
	b := full(t)
	var up *drive.Pipe
	b.answer = func(b *bench, p *drive.Pipe, request string) {
		answers(b, p, request)
		up = p
		p.OnData = nil
	}
	p := b.dial()
	p.WriteString(get("/raw/101", "Connection: Upgrade", "Upgrade: websocket") + "EARLY")
	b.Step()
	got := p.Take()
	if !strings.HasPrefix(got, "HTTP/1.1 101 Switching Protocols\r\n") || !strings.Contains(got, "\r\nconnection: upgrade\r\n") || !strings.HasSuffix(got, "\r\n\r\nHELLO") {
		t.Fatalf("answer %q", got)
	}
	if want := "connection: Upgrade\r\nupgrade: websocket\r\n"; !strings.Contains(b.requests[0], want) {
		t.Errorf("the application got %q, want in it %q", b.requests[0], want)
	}
	if got := up.Take(); got != "EARLY" {
		t.Errorf("the application got %q after the switch, want EARLY", got)
	}
	p.WriteString("ping")
	b.Step()
	up.WriteString("pong")
	b.Step()
	if got := up.Take() + p.Take(); got != "pingpong" {
		t.Errorf("got %q, want pingpong", got)
	}
	up.CloseWrite()
	b.Step()
	if !p.Closed {
		t.Error("the application has gone and the client's connection is open")
	}
}

// A client must not reach behind our back a server that does not switch.
func TestBytesBehindAnUpgradeWaitForTheSwitch(t *testing.T) {
	b := full(t)
	p := b.dial()
	p.WriteString(get("/raw", "Connection: Upgrade", "Upgrade: websocket") + get("/secret"))
	b.Step()
	if len(b.requests) != 1 {
		t.Errorf("the application got %d requests, want 1", len(b.requests))
	}
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") || strings.Count(got, "HTTP/1.1") != 1 || !p.EOF {
		t.Errorf("answer %q, closed %v; want one answer and the end", got, p.EOF)
	}
}

func TestExpectContinueIsAnsweredHere(t *testing.T) {
	b := full(t)
	p := b.dial()
	p.WriteString("POST /raw HTTP/1.1\r\nHost: a.b\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	b.Step()
	if got := p.Take(); got != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Fatalf("got %q, want 100 Continue", got)
	}
	p.WriteString("hi")
	b.Step()
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("got %q, want 200", got)
	}
	if strings.Contains(b.requests[0], "xpect") || !strings.HasSuffix(b.requests[0], "hi") {
		t.Errorf("the application got %q", b.requests[0])
	}
}

func TestTrailersPassBothWays(t *testing.T) {
	b := full(t)
	got := b.do("POST /raw/chunk HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nFoo: bar\r\n\r\n")
	if want := "\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\ntr: 1\r\n\r\n"; !strings.HasSuffix(got, want) {
		t.Errorf("answer %q, want at its end %q", got, want)
	}
	if want := "\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nfoo: bar\r\n\r\n"; !strings.HasSuffix(b.requests[0], want) {
		t.Errorf("request %q, want at its end %q", b.requests[0], want)
	}
	b.config.NoTrailers = true
	got = b.do("POST /raw/chunk HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nFoo: bar\r\n\r\n")
	if strings.Contains(got, "tr: 1") || strings.Contains(b.requests[1], "foo") {
		t.Errorf("trailers passed although they should not: %q %q", b.requests[1], got)
	}
}

// What one response left behind must not be seen in the next.
func TestResponsesDoNotMix(t *testing.T) {
	b := full(t)
	for range 3 {
		for _, path := range []string{"/raw/chunk", "/raw", "/raw/eofbody", "/raw", "/raw/short", "/raw"} {
			got := b.do(get(path))
			if path == "/raw" && !strings.HasSuffix(got, "\r\n\r\nok") {
				t.Fatalf("answer %q", got)
			}
		}
	}
}

func TestMirror(t *testing.T) {
	b := full(t)
	got := b.do("POST /mir HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 3\r\n\r\nabc")
	if !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Fatalf("answer %q", got)
	}
	b.Step()
	if len(b.requests) != 2 {
		t.Fatalf("applications got %d requests, want 2", len(b.requests))
	}
	for i, host := range []string{"a.b:80", "a.b-shadow:80"} {
		found := false
		for _, r := range b.requests {
			found = found || strings.Contains(r, "host: "+host+"\r\n") && strings.HasSuffix(r, "abc")
		}
		if !found {
			t.Errorf("no request %d with host %s and the body: %q", i, host, b.requests)
		}
	}
	b.endpoints("shadow", gone)
	if got := b.do("POST /mir HTTP/1.1\r\nHost: a.b\r\nContent-Length: 3\r\n\r\nabc"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("a mirror that is not there changed the answer: %q", got)
	}
}

func TestRetryGoesToAnotherHost(t *testing.T) {
	b := full(t)
	for range 10 {
		p := b.dial()
		p.WriteString(get("/half"))
		b.Advance(time.Second)
		if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Fatalf("answer %q", got)
		}
	}
	st := b.rt.Clusters["half"].Stats
	if st.UpstreamRqRetry.Value() == 0 || st.UpstreamRqRetry.Value() != st.UpstreamRqRetrySuccess.Value() {
		t.Errorf("%d retries, %d successful; want some and all", st.UpstreamRqRetry.Value(), st.UpstreamRqRetrySuccess.Value())
	}
}

// A body that has been sent is sent again with the next try.
func TestRetrySendsTheBodyAgain(t *testing.T) {
	b := full(t)
	for range 4 {
		p := b.dial()
		p.WriteString("POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		b.Advance(time.Second)
		if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Fatalf("answer %q", got)
		}
	}
	for _, r := range b.requests {
		if !strings.HasSuffix(r, "\r\n\r\nabc") {
			t.Errorf("request %q, want the body abc", r)
		}
	}
}

func TestKeptConnectionIsUsedAgain(t *testing.T) {
	b := full(t)
	p := b.dial()
	for range 5 {
		p.WriteString(get("/raw"))
		b.Step()
		if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Fatalf("answer %q", got)
		}
	}
	if n := b.rt.Clusters["app"].Stats.UpstreamCxTotal.Value(); n != 1 {
		t.Errorf("%d upstream connections for 5 requests, want 1", n)
	}
	p.WriteString(get("/raw/close"))
	b.Step()
	p.WriteString(get("/raw"))
	b.Step()
	if n := b.rt.Clusters["app"].Stats.UpstreamCxTotal.Value(); n != 2 {
		t.Errorf("%d upstream connections after one was closed by its server, want 2", n)
	}
}

// A server that closes an idle connection just when a request is on its way costs nobody an error, as far as
// it is sure, or does no harm, that the server has not read it.
func TestRaceWithAnIdleClose(t *testing.T) {
	reset := func(b *bench, p *drive.Pipe) { p.Reset() }
	closed := func(arrived, then bool) func(*bench, *drive.Pipe) {
		return func(b *bench, p *drive.Pipe) {
			if !arrived {
				p.Unacked = 1 << 20
			}
			p.CloseWrite()
			b.Step()
			if then {
				p.Reset()
			}
		}
	}
	for _, test := range []struct {
		what   string
		method string
		race   func(*bench, *drive.Pipe)
		want   string
	}{
		{"a reset, and the method may be repeated", "GET", reset, "HTTP/1.1 200"},
		{"a reset: the server may have read it", "POST", reset, "HTTP/1.1 503"},
		{"closed before it arrived, and reset when it did", "POST", closed(false, true), "HTTP/1.1 200"},
		{"closed before it arrived, and nothing more", "POST", closed(false, false), "HTTP/1.1 503"},
		{"closed after it arrived", "POST", closed(true, true), "HTTP/1.1 503"},
		{"closed before it arrived, and the method may be repeated", "DELETE", closed(false, false), "HTTP/1.1 200"},
		{"closed after it arrived: the server has read it", "DELETE", closed(true, false), "HTTP/1.1 503"},
	} {
		b := full(t)
		n := 0
		var raced *drive.Pipe
		b.answer = func(b *bench, p *drive.Pipe, request string) {
			if n++; n == 2 {
				raced = p
				return
			}
			answers(b, p, request)
		}
		p := b.dial()
		request := strings.Replace(get("/raw", "content-length: 0"), "GET", test.method, 1)
		p.WriteString(request)
		b.Step()
		p.Take()
		p.WriteString(request)
		b.Step()
		test.race(b, raced)
		b.Step()
		if got := p.Take(); got == "" {
			b.Advance(time.Second) // no proof comes
			p.In = append(p.In, p.Take()...)
		} else {
			p.In = []byte(got)
		}
		if got := p.Take(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s (%s): answer %q, want %s", test.what, test.method, got, test.want)
		}
	}
}

// A connection is not kept for longer than its server keeps it.
func TestConnectionsEndBeforeTheServerEndsThem(t *testing.T) {
	for _, test := range []struct {
		name   string
		says   string
		idle   time.Duration // between requests
		closes time.Duration // after which the server closes; 0: never
		want   uint64        // connections for four requests
	}{
		{"the server says how long", "keep-alive: timeout=5, max=100\r\n", 4600 * time.Millisecond, 0, 4},
		{"and that was not over", "keep-alive: timeout=5\r\n", 4 * time.Second, 0, 1},
		{"it says nothing", "", 10 * time.Second, 0, 1},
		{"it has closed after 5 seconds", "", 4600 * time.Millisecond, 5 * time.Second, 4},
	} {
		b := full(t)
		var last *drive.Pipe
		b.answer = func(b *bench, p *drive.Pipe, request string) {
			last = p
			p.WriteString("HTTP/1.1 200 OK\r\n" + test.says + "content-length: 0\r\n\r\n")
		}
		p := b.dial()
		ask := func() {
			p.WriteString(get("/raw"))
			b.Step()
			if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") {
				t.Fatalf("%s: answer %q", test.name, got)
			}
		}
		total := &b.rt.Clusters["app"].Stats.UpstreamCxTotal
		if test.closes > 0 {
			ask()
			b.Advance(test.closes)
			last.CloseWrite()
			b.Step()
		}
		before := total.Value()
		for range 4 {
			ask()
			b.Advance(test.idle)
		}
		if got := total.Value() - before; got != test.want {
			t.Errorf("%s: %d connections, want %d", test.name, got, test.want)
		}
	}
}

func TestConnectTimeout(t *testing.T) {
	b := full(t)
	b.Refuse(func(drive.Dial) error { return io.EOF }) // nobody answers
	p := b.dial()
	p.WriteString(get("/raw"))
	b.Advance(4900 * time.Millisecond)
	if got := p.Take(); got != "" {
		t.Fatalf("answer %q before the time is up", got)
	}
	b.Advance(200 * time.Millisecond)
	if got := p.Take(); !strings.HasSuffix(got, "reset reason: connection timeout") {
		t.Errorf("answer %q", got)
	}
	if got, want := b.log.last(), `GET /raw HTTP/1.1 503 UF upstream_reset_before_response_started{connection_timeout}`; !strings.HasPrefix(got, want) {
		t.Errorf("log\n%s\nwant\n%s", got, want)
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	b := full(t)
	b.config.IdleTimeout = 10 * time.Second
	p := b.dial()
	p.WriteString(get("/raw"))
	b.Advance(9 * time.Second)
	if p.Closed {
		t.Fatal("closed too early")
	}
	b.Advance(3 * time.Second)
	if !p.Closed {
		t.Error("the client's connection is open after its idle time")
	}
	b.Advance(time.Hour)
	if n := b.rt.Clusters["app"].Stats.UpstreamCxActive.Value(); n != 0 {
		t.Errorf("%d upstream connections are open after an hour", n)
	}
}

func TestDrainSaysConnectionClose(t *testing.T) {
	b := full(t)
	p := b.dial()
	p.WriteString(get("/raw"))
	b.Step()
	p.Take()
	b.Memory.Drain(false, listen.Pace{Time: time.Minute})
	b.Step()
	if p.EOF {
		t.Fatal("an idle connection was closed: the client's next request may be on its way")
	}
	p.WriteString(get("/raw"))
	b.Step()
	if got := p.Take(); !strings.Contains(got, "\r\nconnection: close\r\n") || p.EOF {
		t.Errorf("answer %q, ended %v; want connection: close, and the end later: a pipelined request may be on its way", got, p.EOF)
	}
	b.Advance(10 * time.Second)
	if !p.EOF {
		t.Error("the connection is there after its drain time")
	}
}

// New configuration: a connection keeps its listener for the request in flight and then goes.
func TestReplacedListenerDrains(t *testing.T) {
	b := full(t)
	p := b.dial()
	p.WriteString(get("/delay"))
	b.Step()
	next := *b.rt
	l := *b.rt.Listeners[0].Chains[0]
	next.Listeners = append(next.Listeners[:0:0], clone(b, &l, "2"))
	if err := b.Apply(&next); err != nil {
		t.Fatal(err)
	}
	b.Advance(110 * time.Millisecond)
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.Contains(got, "connection: close") {
		t.Errorf("answer %q, want 200 and connection: close", got)
	}
	if got := b.do(get("/raw")); !strings.HasPrefix(got, "HTTP/1.1 200") || strings.Contains(got, "connection: close") {
		t.Errorf("answer of the new listener %q", got)
	}
}

func TestSlowClientStopsTheServer(t *testing.T) {
	b := full(t)
	var up *drive.Pipe
	const piece = 64 << 10
	b.answer = func(_ *bench, p *drive.Pipe, _ string) {
		up = p
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n")
	}
	p := b.dial()
	p.Window = 1000
	p.WriteString(get("/raw"))
	b.Step()
	sent := 0
	for range 100 {
		up.WriteString(strings.Repeat("x", piece))
		b.Step()
		sent += piece
		if up.Unread() > 0 {
			break
		}
	}
	if sent > 4<<20 {
		t.Fatalf("the proxy took %d bytes for a client that takes 1000", sent)
	}
	for range 2 * sent / 1000 {
		p.Take()
		b.Step()
	}
	if up.Unread() != 0 {
		t.Errorf("%d bytes are still unread after the client has taken all", up.Unread())
	}
}

func TestSlowServerStopsTheClient(t *testing.T) {
	b := full(t)
	var up *drive.Pipe
	b.Handle(app1, func(p *drive.Pipe) { up = p; p.Window = 1000 })
	p := b.dial()
	p.WriteString("POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n")
	b.Step()
	sent := 0
	for range 200 {
		p.WriteString(strings.Repeat("x", 64<<10))
		b.Step()
		sent += 64 << 10
		if p.Unread() > 0 {
			break
		}
	}
	if sent > 8<<20 {
		t.Fatalf("the proxy took %d bytes for a server that takes 1000", sent)
	}
	for range 2 * sent / 1000 {
		up.Take()
		b.Step()
	}
	if p.Unread() != 0 {
		t.Errorf("%d bytes are still unread after the server has taken all", p.Unread())
	}
}
