package shard

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/localratelimit"
	"github.com/mallamesh/malla/proxy/filter/ratelimitservice"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

var always = route.Fraction{Numerator: 1, Denominator: 1}

// limited is a configuration with one bucket for all, and one for each value of the field x-who.
func limited(all, each uint32) (*localratelimit.Config, *stats.LocalRateLimit) {
	set, _ := stats.NewRegistry(false).LocalRateLimit("l")
	return &localratelimit.Config{
		Stats: set, Enabled: always, Enforced: always, Status: 429, MaxDynamic: 2, Headers: true,
		HasDefault: true, Fill: ratelimit.Fill{Max: all, PerFill: 1, Interval: time.Hour},
		Limits: []*ratelimit.Limit{{Actions: []ratelimit.Action{&ratelimit.Header{Key: "who", Name: []byte("x-who")}}}},
		Rules: []localratelimit.Rule{{Entries: []ratelimit.Entry{{Key: "who"}}, Fill: ratelimit.Fill{Max: each, PerFill: 1, Interval: time.Hour}},
			{Entries: []ratelimit.Entry{{Key: "who", Value: []byte("ann")}}, Fill: ratelimit.Fill{Max: 1000, PerFill: 1, Interval: time.Hour}}},
	}, set
}

func TestLocalRateLimit(t *testing.T) {
	config, set := limited(2, 1)
	b := filtered(t, localratelimit.New("l", config), nil)
	status := func(fields ...string) string { return b.do(get("/", fields...))[9:12] }
	for i, step := range []struct{ who, want string }{
		{"", "200"}, {"bob", "200"}, {"bob", "429"}, {"eve", "200"}, {"ann", "200"}, {"", "200"}, {"", "429"},
		{"dan", "200"}, // bob has been forgotten
		{"bob", "200"},
	} {
		fields := []string{"x-who: " + step.who}
		if step.who == "" {
			fields = nil
		}
		if got := status(fields...); got != step.want {
			t.Errorf("request %d, of %q: %s, want %s", i, step.who, got, step.want)
		}
	}
	if got := set.Enforced.Value(); got != 2 {
		t.Errorf("%d requests were refused, want 2", got)
	}
	got := b.do(get("/"))
	has(t, got, "HTTP/1.1 429 Too Many Requests\r\n", "x-ratelimit-limit: 2\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 3600\r\n", "\r\n\r\nlocal_rate_limited")
	if got := b.log.last(); !strings.Contains(got, " 429 RL local_rate_limited ") {
		t.Errorf("log %q", got)
	}
}

// allocations is how often a request allocates on its way through a filter, in steady state.
func allocations(t *testing.T, f stream.Factory, request string) float64 {
	t.Helper()
	b, _ := sidecar(t)
	b.config.Filters = append([]stream.Factory{f}, b.config.Filters...)
	p, bytes := b.dial(), []byte(request)
	do := func() {
		p.Write(bytes)
		b.Step()
		p.In = p.In[:0]
	}
	for range 100 {
		do()
	}
	return testing.AllocsPerRun(1000, do)
}

func TestLocalRateLimitDoesNotAllocate(t *testing.T) {
	config, set := limited(1<<30, 1<<30)
	for _, who := range []string{"ann", "bob"} { // with a bucket that is named, and with one by value
		if n := allocations(t, localratelimit.New("l", config), get("/", "x-who: "+who)); n != 0 {
			t.Errorf("a request of %s allocates %v times, want 0", who, n)
		}
	}
	if set.OK.Value() < 2000 {
		t.Errorf("%d requests were counted", set.OK.Value())
	}
}

// service is a bench whose requests a service at app2 is asked about first; it says what say writes.
func service(t *testing.T, say string, config ratelimitservice.Config) (*bench, *stats.RateLimit) {
	t.Helper()
	b := newBench(t, []route.RouteConfig{to("app")}, static("app"), static("rls"))
	b.endpoints("app", app1)
	b.endpoints("rls", app2)
	set := &stats.RateLimit{}
	config.Cluster, config.Authority, config.Domain, config.Enabled, config.Enforced = "rls", "rls", "d", always, always
	config.Status, config.ErrorStatus = 429, 500
	config.Counters = func(string) *stats.RateLimit { return set }
	if config.Limits == nil {
		config.Limits = []*ratelimit.Limit{{Actions: []ratelimit.Action{&ratelimit.Header{Key: "who", Name: []byte("x-who")}}}}
	}
	b.config.Filters = []stream.Factory{ratelimitservice.New("r", &config), router.New(router.Config{})}
	b.answer = func(_ *bench, p *drive.Pipe, request string) {
		if strings.Contains(request, "ShouldRateLimit") {
			p.WriteString(say)
			return
		}
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
	}
	return b, set
}

func grpcAnswer(message string) string {
	frame := "\x00\x00\x00\x00" + string(rune(len(message))) + message
	return "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 0\r\ncontent-length: " + strconv.Itoa(len(frame)) + "\r\n\r\n" + frame
}

func TestRateLimitService(t *testing.T) {
	for _, test := range []struct {
		say, want       string
		config          ratelimitservice.Config
		ok, over, error uint64
	}{
		{say: grpcAnswer("\x08\x01"), want: "200", ok: 1},
		{say: grpcAnswer("\x08\x02"), want: "429", over: 1},
		{say: grpcAnswer("\x08"), want: "200", error: 1},  // what does not parse says nothing
		{say: grpcAnswer("\x08\x00"), want: "200", ok: 1}, // nor does it say no
		{say: "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", want: "500", config: ratelimitservice.Config{Deny: always}, error: 1},
	} {
		b, set := service(t, test.say, test.config)
		if got := b.do(get("/", "x-who: bob")); got[9:12] != test.want {
			t.Errorf("the service says %q: %q, want %s", test.say, got, test.want)
		}
		if set.OK.Value() != test.ok || set.OverLimit.Value() != test.over || set.Error.Value() != test.error {
			t.Errorf("the service says %q: counted %d, %d, %d", test.say, set.OK.Value(), set.OverLimit.Value(), set.Error.Value())
		}
	}
	b, _ := service(t, "", ratelimitservice.Config{})
	if b.do(get("/")); len(b.requests) != 1 {
		t.Errorf("a request without descriptors was asked about: %q", b.requests)
	}
}

// A service that says nothing holds a request as long as the configuration lets it; a client that leaves is not asked about any more.
func TestRateLimitServiceIsSilent(t *testing.T) {
	b, set := service(t, "", ratelimitservice.Config{Timeout: time.Second})
	p := b.dial()
	p.WriteString(get("/", "x-who: bob"))
	b.Step()
	if got := p.Take(); got != "" {
		t.Fatalf("answer %q before the service's", got)
	}
	b.Advance(1100 * time.Millisecond)
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") || set.FailureModeAllowed.Value() != 1 {
		t.Errorf("after the time: %q", got)
	}
	p.WriteString(get("/", "x-who: bob"))
	b.Step()
	p.Reset()
	b.Step()
	b.Advance(1100 * time.Millisecond)
	if n := set.Error.Value(); n != 1 {
		t.Errorf("%d requests had no answer, want 1", n)
	}
}

// A limit that counts at the end may count by how long the request took. A service that never answers to that is given up, though
// it has no timeout.
func TestRateLimitServiceIsToldAtTheEnd(t *testing.T) {
	took, err := access.CompileHeader("%DURATION%")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := service(t, "", ratelimitservice.Config{Limits: []*ratelimit.Limit{
		{AtEnd: true, HitsField: took, Actions: []ratelimit.Action{&ratelimit.Header{Key: "who", Name: []byte("x-who")}}},
	}})
	has(t, b.do(get("/", "x-who: bob")), "HTTP/1.1 200 OK")
	b.Step()
	open := func() int64 { return b.rt.Clusters["rls"].Stats.UpstreamRqActive.Value() }
	if open() != 1 {
		t.Fatalf("the service is told of %d requests, want 1", open())
	}
	if b.Advance(11 * time.Second); open() != 0 {
		t.Errorf("after 11 s %d requests wait for the service, want none", open())
	}
}
