package shard

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/buffer"
	"github.com/mallamesh/malla/proxy/filter/cors"
	"github.com/mallamesh/malla/proxy/filter/fault"
	"github.com/mallamesh/malla/proxy/filter/filterstate"
	"github.com/mallamesh/malla/proxy/filter/grpcstats"
	"github.com/mallamesh/malla/proxy/filter/grpcweb"
	"github.com/mallamesh/malla/proxy/filter/headermutation"
	"github.com/mallamesh/malla/proxy/filter/health"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// filtered is a bench with one filter before the router, and a route that says something to it.
func filtered(t testing.TB, f stream.Factory, word any) *bench {
	r := to("app")
	if word != nil {
		r.PerFilter = map[string]any{f.Name(): word}
	}
	b := newBench(t, []route.RouteConfig{r}, static("app"))
	b.endpoints("app", app1)
	b.config.Filters = []stream.Factory{f, router.New(router.Config{})}
	return b
}

func matcher(t testing.TB, m route.StringMatch) *route.Matcher {
	t.Helper()
	c, err := route.NewMatcher(m)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func has(t *testing.T, got string, wants ...string) {
	t.Helper()
	for _, w := range wants {
		if !strings.Contains(got, w) {
			t.Errorf("%q is not in\n%q", w, got)
		}
	}
}

func TestCors(t *testing.T) {
	set, _ := stats.NewRegistry(false).Cors("in")
	policy := &cors.Policy{
		Origins: []*route.Matcher{matcher(t, route.StringMatch{Kind: route.Suffix, Value: ".good.org"})},
		Methods: []byte("GET,PUT"), Headers: []byte("*"), Expose: []byte("x-seen"), MaxAge: []byte("60"), Credentials: ptr(true), Private: ptr(true),
		ForwardOthers: ptr(false), Enabled: route.Fraction{Numerator: 1, Denominator: 1},
	}
	b := filtered(t, cors.New("c", set), policy)
	ask := func(origin string, fields ...string) string {
		return strings.Replace(get("/", append(fields, "Origin: "+origin)...), "GET", "OPTIONS", 1)
	}
	got := b.do(ask("https://a.good.org", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-a,x-b", "Access-Control-Request-Private-Network: true"))
	has(t, got, "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://a.good.org\r\naccess-control-allow-credentials: true\r\naccess-control-allow-methods: GET,PUT\r\n"+
		"access-control-allow-headers: x-a,x-b\r\naccess-control-max-age: 60\r\naccess-control-allow-private-network: true\r\naccess-control-expose-headers: x-seen\r\n", "content-length: 0")
	if len(b.requests) != 0 {
		t.Error("the application got a preflight")
	}
	got = b.do(ask("https://evil.org", "Access-Control-Request-Method: PUT"))
	if strings.Contains(got, "allow-origin") {
		t.Errorf("another origin is allowed: %q", got)
	}
	has(t, b.do(get("/", "Origin: https://a.good.org")), "access-control-allow-origin: https://a.good.org\r\n", "access-control-expose-headers: x-seen\r\n")
	if got := b.do(get("/", "Origin: https://evil.org")); strings.Contains(got, "access-control") {
		t.Errorf("another origin is allowed: %q", got)
	}
	if set.OriginValid.Value() != 2 || set.OriginInvalid.Value() != 2 {
		t.Errorf("counted %d valid and %d invalid", set.OriginValid.Value(), set.OriginInvalid.Value())
	}
}

func mutations(t testing.TB, list ...route.Mutation) *route.Mutations {
	t.Helper()
	m, err := route.NewMutations(list)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func set(name, value string) route.Mutation {
	return route.Mutation{Append: &route.HeaderValue{Name: name, Value: value, Action: route.OverwriteIfExistsOrAdd}}
}

func TestHeaderMutationFilter(t *testing.T) {
	format, _ := access.CompileHeader("%REQ(x-a)%")
	c := &headermutation.Config{
		Request: mutations(t, route.Mutation{RemoveOnMatch: &route.StringMatch{Kind: route.Prefix, Value: "x-drop"}}, set("x-a", "1"), set("x-b", "%REQ(x-a)%2")),
		Query:   []headermutation.Parameter{{Name: "gone"}, {Name: "a", Value: format}},
	}
	word := &headermutation.Config{Request: mutations(t, set("x-a", "route")), Response: mutations(t, set("x-out", "%REQ(x-a)%"))}
	b := filtered(t, headermutation.New("m", c, true), word)
	got := b.do(get("/p?z=9&gone=1", "x-drop-me: 1", "x-dropped: 2", "x-keep: 3"))
	has(t, got, "x-out: route\r\n")
	has(t, b.requests[0], "GET /p?a=1&z=9 HTTP/1.1\r\n", "x-a: route\r\n", "x-b: 12\r\n", "x-keep: 3\r\n")
	if strings.Contains(b.requests[0], "x-drop") {
		t.Errorf("the application got %q", b.requests[0])
	}
}

// A route table can say something to a name that is meant for a filter of another kind than the one that has it.
func TestWordForAnotherKindOfFilterIsNone(t *testing.T) {
	counts, _ := stats.NewRegistry(false).Cors("in")
	change := &headermutation.Config{Request: mutations(t, set("x-a", "1"))}
	for _, test := range []struct {
		f    stream.Factory
		word any
	}{{headermutation.New("f", change, true), &cors.Policy{}}, {cors.New("f", counts), change}} {
		b := filtered(t, test.f, test.word)
		has(t, b.do(get("/", "Origin: https://a.org")), "HTTP/1.1 200 OK")
	}
}

func TestBufferFilter(t *testing.T) {
	b := filtered(t, buffer.New("b", 10), nil)
	p := b.dial()
	p.WriteString("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	b.Step()
	if len(b.requests) != 0 {
		t.Fatal("the application got a request that is not whole")
	}
	p.WriteString("3\r\ndef\r\n0\r\n\r\n")
	b.Step()
	has(t, p.Take(), "HTTP/1.1 200 OK")
	has(t, b.requests[0], "content-length: 6\r\n", "\r\n\r\nabcdef")
	has(t, b.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n01234567890"), "HTTP/1.1 413 Payload Too Large", "Payload Too Large")
	has(t, b.log.last(), "request_payload_too_large")

	off := filtered(t, buffer.New("b", 10), buffer.Off)
	has(t, off.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n01234567890"), "HTTP/1.1 200 OK")
}

func TestFilterStateReachesLog(t *testing.T) {
	value, _ := access.CompileHeader("v-%REQ(x-a)%")
	b := filtered(t, filterstate.New("s", &filterstate.Config{Values: []filterstate.Value{{Key: "k", Format: value}}}), nil)
	f, err := access.Compile("%FILTER_STATE(k:PLAIN)% %FILTER_STATE(k)% %FILTER_STATE(none)%")
	if err != nil {
		t.Fatal(err)
	}
	b.log.format = f
	b.do(get("/", "x-a: 1"))
	if got := b.log.last(); got != `v-1 "v-1" -` {
		t.Errorf("log %q", got)
	}
}

// A filter that gives the request a name can have the route picked once more by it.
func TestFilterStateRoutes(t *testing.T) {
	special := to("special")
	special.Match.State = []route.StateMatch{{Key: "k", StringMatch: route.StringMatch{Value: "yes"}}}
	b := newBench(t, []route.RouteConfig{special, to("app")}, static("app"), static("special"))
	b.endpoints("app", app1)
	b.endpoints("special", app2)
	value, _ := access.CompileHeader("%REQ(x-special)%")
	c := &filterstate.Config{Values: []filterstate.Value{{Key: "k", Format: value, SkipIfEmpty: true}}, Reroute: true}
	b.config.Filters = []stream.Factory{filterstate.New("s", c), router.New(router.Config{})}
	b.do(get("/"))
	has(t, b.log.last(), "cluster=app route=app")
	b.do(get("/", "x-special: yes"))
	has(t, b.log.last(), "cluster=special route=special")
}

func TestFaultByHeaders(t *testing.T) {
	c := &fault.Config{DelayHeader: true, DelayShare: fault.Share{Numerator: 100, Denominator: 100}, AbortHeader: true, AbortShare: fault.Share{Numerator: 100, Denominator: 100}}
	b := filtered(t, fault.New("f", c), nil)
	has(t, b.do(get("/")), "HTTP/1.1 200 OK")
	has(t, b.do(get("/", "x-envoy-fault-abort-request: 418")), "HTTP/1.1 418 ", "fault filter abort")
	has(t, b.do(get("/", "x-envoy-fault-abort-request: 418", "x-envoy-fault-abort-request-percentage: 0")), "HTTP/1.1 200 OK")
	has(t, b.do(get("/", "x-envoy-fault-abort-request: 99")), "HTTP/1.1 200 OK")
	p := b.dial()
	p.WriteString(get("/", "x-envoy-fault-delay-request: 200"))
	b.Step()
	if got := p.Take(); got != "" {
		t.Fatalf("answer %q before the delay is over", got)
	}
	b.Advance(210 * time.Millisecond)
	has(t, p.Take(), "HTTP/1.1 200 OK")
	has(t, b.log.last(), " DI ")
}

func TestFaultsHaveALimit(t *testing.T) {
	all := fault.Share{Numerator: 1, Denominator: 1}
	b := filtered(t, fault.New("f", &fault.Config{Delay: time.Second, DelayShare: all, MaxActive: ptr(uint32(1))}), nil)
	p := b.dial()
	p.WriteString(get("/"))
	b.Step()
	has(t, b.do(get("/")), "HTTP/1.1 200 OK") // at once: one request is being delayed already
	if n := b.config.Stats.Fault.Overflow.Value(); n != 1 {
		t.Errorf("%d overflows, want 1", n)
	}
	b.Advance(1100 * time.Millisecond)
	has(t, p.Take(), "HTTP/1.1 200 OK")
	if n := b.config.Stats.Fault.Active.Value(); n != 0 {
		t.Errorf("%d faults are active, want 0", n)
	}
}

// A response that is slowed down comes bit by bit, whole and with its trailers.
func TestResponseRateLimit(t *testing.T) {
	c := &fault.Config{Rate: 1, RateShare: fault.Share{Numerator: 1, Denominator: 1}}
	b := filtered(t, fault.New("f", c), nil)
	body := strings.Repeat("x", 3000)
	b.answer = func(_ *bench, p *drive.Pipe, _ string) {
		p.WriteString("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + strconv.FormatInt(int64(len(body)), 16) + "\r\n" + body + "\r\n0\r\nt: 1\r\n\r\n")
	}
	p := b.dial()
	p.WriteString(get("/"))
	b.Step()
	got := p.Take()
	if n := strings.Count(got, "x") - strings.Count(got, "x-"); n < 40 || n > 60 {
		t.Errorf("%d bytes at once, want about 51", n)
	}
	b.Advance(500 * time.Millisecond)
	half := p.Take()
	if n := strings.Count(half, "x"); n < 400 || n > 600 {
		t.Errorf("%d bytes in half a second, want about 512", n)
	}
	b.Advance(3 * time.Second)
	rest := p.Take()
	has(t, rest, "0\r\nt: 1\r\n\r\n")
	if n := strings.Count(got+half+rest, "x") - strings.Count(got, "x-"); n != len(body) {
		t.Errorf("%d bytes in all, want %d", n, len(body))
	}
}

func healthy(t *testing.T) route.HeaderMatchers {
	t.Helper()
	m, err := route.NewHeaderMatchers([]route.HeaderMatch{{Name: ":path", StringMatch: route.StringMatch{Value: "/healthz"}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestHealthCheck(t *testing.T) {
	set, _ := stats.NewRegistry(false).HealthCheck("in")
	failed := false
	c := &health.Config{Headers: healthy(t), Cluster: "me", Minimum: []health.Minimum{{Cluster: "app", Percent: 50}}, Failed: func() bool { return failed }}
	b := filtered(t, health.New("h", c, set), nil)
	has(t, b.do(get("/healthz")), "HTTP/1.1 200 OK\r\nx-envoy-upstream-healthchecked-cluster: me\r\n")
	has(t, b.log.last(), " 200 - health_check_ok_cluster_healthy ")
	b.rt.Clusters["app"].SetEndpoints([]cluster.Endpoint{{Addr: app1, Weight: 1, Health: cluster.Unhealthy}})
	has(t, b.do(get("/healthz")), "HTTP/1.1 503 ")
	has(t, b.log.last(), " 503 LH health_check_failed_cluster_unhealthy ")
	b.endpoints("app", app1)
	failed = true
	has(t, b.do(get("/healthz")), "HTTP/1.1 503 ")
	has(t, b.do(get("/other")), "x-envoy-immediate-health-check-fail: true\r\n")
	if len(b.requests) != 1 {
		t.Errorf("the application got %d requests, want 1", len(b.requests))
	}
}

func TestHealthCheckIsKept(t *testing.T) {
	set, _ := stats.NewRegistry(false).HealthCheck("in")
	c := &health.Config{Headers: healthy(t), PassThrough: true, CacheTime: 10 * time.Second}
	b := filtered(t, health.New("h", c, set), nil)
	b.do(get("/healthz"))
	b.do(get("/healthz"))
	has(t, b.log.last(), " health_check_cached ")
	if len(b.requests) != 1 {
		t.Errorf("the application was asked %d times, want 1", len(b.requests))
	}
	b.Advance(11 * time.Second)
	b.do(get("/healthz"))
	if len(b.requests) != 2 {
		t.Errorf("the application was asked %d times, want 2", len(b.requests))
	}
}

const frame = "\x00\x00\x00\x00\x03abc"

func TestGRPCWeb(t *testing.T) {
	reg := stats.NewRegistry(false)
	b := filtered(t, grpcweb.New("w", grpcstats.NewCounters(reg, "grpc-web", true)), nil)
	b.answer = func(_ *bench, p *drive.Pipe, request string) {
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n8\r\n" + frame + "\r\n0\r\ngrpc-status: 0\r\ngrpc-message: fine\r\n\r\n")
	}
	trailers := "\x80\x00\x00\x00\x22grpc-status:0\r\ngrpc-message:fine\r\n"
	got := b.do("POST /s.S/M HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: 8\r\n\r\n" + frame)
	has(t, got, "content-type: application/grpc-web+proto\r\n", "\r\n8\r\n"+frame+"\r\n", trailers, "\r\n0\r\n\r\n")
	has(t, b.requests[0], "content-type: application/grpc\r\n", "te: trailers\r\n", "grpc-accept-encoding: identity\r\n", frame)

	text := base64.StdEncoding.EncodeToString([]byte(frame))
	got = b.do("POST /s.S/M HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\nAccept: application/grpc-web-text\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text)
	has(t, got, "content-type: application/grpc-web-text+proto\r\n", text, base64.StdEncoding.EncodeToString([]byte(trailers)))
	has(t, b.requests[1], frame)
	if set, _ := reg.GRPC("app", "grpc-web", "s.S", "M"); set.Success.Value() != 2 || set.Total.Value() != 2 {
		t.Errorf("counted %d successes of %d", set.Success.Value(), set.Total.Value())
	}

	bad := "!!!!"
	has(t, b.do("POST /s.S/M HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\nContent-Length: 4\r\n\r\n"+bad), "HTTP/1.1 400 Bad Request", "grpc-status: 13\r\n", "grpc-message: Bad gRPC-web request, invalid base64 data.\r\n")

	b.answer = func(_ *bench, p *drive.Pipe, _ string) {
		p.WriteString("HTTP/1.1 503 No\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nsorry")
	}
	got = b.do("POST /s.S/M HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nContent-Length: 8\r\n\r\n" + frame)
	has(t, got, "grpc-status: 14\r\n", "grpc-message: sorry\r\n", "content-length: 0\r\n")
}

func TestGRPCStats(t *testing.T) {
	reg := stats.NewRegistry(false)
	c := &grpcstats.Config{Methods: map[string]bool{"/s.S/M": true}, Upstream: true}
	b := filtered(t, grpcstats.New("g", c, grpcstats.NewCounters(reg, "grpc", false)), nil)
	b.answer = func(_ *bench, p *drive.Pipe, request string) {
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n10\r\n" + frame + frame + "\r\n0\r\ngrpc-status: 5\r\n\r\n")
	}
	call := "POST /s.S/M HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 8\r\n\r\n" + frame
	b.do(call)
	b.do(strings.Replace(call, "S/M", "S/N", 1))
	for _, test := range []struct{ service, method string }{{"s_S", "M"}, {"", ""}} {
		set, _ := reg.GRPC("app", "grpc", test.service, test.method)
		if set.Failure.Value() != 1 || set.NotFound.Value() != 1 || set.RequestMessageCount.Value() != 1 || set.ResponseMessageCount.Value() != 2 {
			t.Errorf("%+v: %d failures, %d messages and %d back", test, set.Failure.Value(), set.RequestMessageCount.Value(), set.ResponseMessageCount.Value())
		}
		if n := set.UpstreamRqTime.Count(); n != 1 {
			t.Errorf("%+v: the time of %d calls is known, want 1", test, n)
		}
	}
}

// The bound on methods that strangers name holds over changes of the configuration, until the metrics are given back.
func TestGRPCMethodsOutliveChanges(t *testing.T) {
	c := grpcstats.NewCounters(stats.NewRegistry(false), "grpc", true)
	b := filtered(t, grpcstats.New("g", &grpcstats.Config{All: true}, c), nil)
	found := func() any { return b.Worker.Local(c, func() any { return c.Cache() }) }
	apply := func() {
		if err := b.Apply(b.rt); err != nil {
			t.Fatal(err)
		}
	}
	before := found()
	if apply(); found() != before {
		t.Error("a change began the methods anew")
	}
	c.Close()
	if apply(); found() == before {
		t.Error("methods are kept though their metrics are gone")
	}
}

// A filter can be off for a route, and on for one that speaks to it where the chain has it off.
func TestFilterSwitches(t *testing.T) {
	abort := &fault.Config{Status: 418, AbortShare: fault.Share{Numerator: 1, Denominator: 1}}
	b := filtered(t, fault.New("f", abort), route.Off{})
	has(t, b.do(get("/")), "HTTP/1.1 200 OK")
	b = filtered(t, fault.New("f", abort), nil)
	b.config.FiltersOff = 1
	has(t, b.do(get("/")), "HTTP/1.1 200 OK")
	b = filtered(t, fault.New("f", nil), abort)
	b.config.FiltersOff = 1
	has(t, b.do(get("/")), "HTTP/1.1 418 ")
}

// What filters do to a request that they do not hold back allocates nothing.
func TestFiltersDoNotAllocate(t *testing.T) {
	b, p := sidecar(t)
	reg := stats.NewRegistry(false)
	corsSet, _ := reg.Cors("in")
	healthSet, _ := reg.HealthCheck("in")
	value, _ := access.CompileHeader("%REQ(user-agent)%")
	b.config.Filters = []stream.Factory{
		cors.New("c", corsSet), fault.New("f", &fault.Config{DelayHeader: true, AbortHeader: true}), buffer.New("b", 100),
		headermutation.New("m", &headermutation.Config{Request: mutations(t, set("x-a", "%REQ(user-agent)%")), Response: mutations(t, set("x-b", "1"))}, false),
		filterstate.New("s", &filterstate.Config{Values: []filterstate.Value{{Key: "k", Format: value}}}),
		health.New("h", &health.Config{Headers: healthy(t)}, healthSet),
		grpcweb.New("w", grpcstats.NewCounters(reg, "grpc-web", true)), grpcstats.New("g", &grpcstats.Config{}, grpcstats.NewCounters(reg, "grpc", true)),
		router.New(router.Config{}),
	}
	wantNoAllocs(t, b, p)
}
