package main

import (
	"strings"
	"testing"
)

const wrkSaid = `Running 3s test @ http://127.0.0.1:9103/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.12ms    1.05ms  21.40ms   88.10%
    Req/Sec    20.80k     1.20k   23.10k    70.00%
  Latency Distribution
     50%  812.00us
     75%    3.51ms
     90%    4.11ms
     99%    1.20s
  62400 requests in 3.00s, 11.90MB read
Requests/sec:  20790.10
Transfer/sec:      3.96MB
`

func TestParseWrk(t *testing.T) {
	l, err := parseWrk(wrkSaid)
	if want := (wrkLoad{62400, 0.812, 1200}); err != nil || l != want {
		t.Errorf("found %+v, %v, want %+v", l, err, want)
	}
	for _, c := range []struct{ why, out, want string }{
		{"broken connections are no measurement", wrkSaid + "  Socket errors: connect 0, read 3, write 0, timeout 0\n", "read 3"},
		{"answers that are errors are cheap", wrkSaid + "  Non-2xx or 3xx responses: 17\n", "Non-2xx or 3xx responses: 17"},
		{"no answer", strings.Replace(wrkSaid, "62400 requests", "0 requests", 1), "0 requests"},
		{"not wrk", "hello", "no number of requests"},
	} {
		if _, err := parseWrk(c.out); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.why, err, c.want)
		}
	}
}

func TestBackendsAnswerTheSame(t *testing.T) {
	conf, err := files.ReadFile("testdata/backend.conf")
	if err != nil {
		t.Fatal(err)
	}
	if quoted := `"` + strings.ReplaceAll(small, "\n", `\n`) + `"`; !strings.Contains(string(conf), quoted) {
		t.Errorf("nginx does not answer with %s", quoted)
	}
}
