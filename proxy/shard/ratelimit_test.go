package shard

import (
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/filter/localratelimit"
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
