package main

import (
	"strings"
	"testing"
)

const h2loadSaid = `starting benchmark...
Main benchmark duration is over for thread #0. Stopping all clients.

finished in 400.31ms, 158090.00 req/s, 11.04MB/s
requests: 63364 total, 63492 started, 63364 done, 63364 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 63364 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 4.42MB (4630000) total, 1.03MB (1080000) headers (space savings 94.12%), 2.72MB (2851380) data
`

func TestParseH2load(t *testing.T) {
	if n, err := parseH2load(h2loadSaid); err != nil || n != 63364 {
		t.Errorf("found %d, %v, want 63364: those that were answered, not those that were under way at the end", n, err)
	}
	for _, c := range []struct{ why, out, want string }{
		{"refused streams are no measurement", strings.Replace(h2loadSaid, "0 failed", "28 failed", 1), "28 failed"},
		{"broken connections neither", strings.Replace(h2loadSaid, "0 errored", "3 errored", 1), "3 errored"},
		{"answers that are errors are cheap", strings.Replace(h2loadSaid, "0 5xx", "17 5xx", 1), "17 5xx"},
		{"no answer", strings.Replace(h2loadSaid, "63364 succeeded", "0 succeeded", 1), "0 requests"},
		{"not h2load", "hello", "no number of requests"},
	} {
		if _, err := parseH2load(c.out); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.why, err, c.want)
		}
	}
}
