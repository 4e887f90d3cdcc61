package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func flags(t *testing.T, args ...string) *options {
	t.Helper()
	o, err := parse(append(args, "http://h/"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The rate is kept whether answers are fast or slow, as long as the connections
// suffice; -n counts requests, -t time.
func TestPace(t *testing.T) {
	for _, test := range []struct {
		args  []string
		takes time.Duration // of one answer
		calls int64
		time  time.Duration
	}{
		{[]string{"-qps", "200", "-t", "10s", "-c", "4"}, 0, 2000, 10 * time.Second},
		{[]string{"-qps", "200", "-t", "10s", "-c", "4"}, 10 * time.Millisecond, 2000, 10*time.Second + 5*time.Millisecond}, // the last is due at 9.995 s
		{[]string{"-qps", "200", "-n", "100", "-c", "4"}, time.Millisecond, 100, 496 * time.Millisecond},                    // the last is due at 495 ms
		{[]string{"-qps", "0", "-n", "20", "-c", "2"}, 100 * time.Millisecond, 20, time.Second},
		{[]string{"-qps", "200", "-t", "1s", "-c", "1"}, 95 * time.Millisecond, 11, 1045 * time.Millisecond}, // too few connections
	} {
		synctest.Test(t, func(t *testing.T) {
			r := drive(t.Context(), flags(t, test.args...), func(context.Context) (int, error) {
				time.Sleep(test.takes)
				return 200, nil
			})
			if r.Calls != test.calls || r.Seconds != test.time.Seconds() || !r.allOK() {
				t.Errorf("%q with answers after %v: %d calls in %vs, want %d in %v", test.args, test.takes, r.Calls, r.Seconds, test.calls, test.time)
			}
		})
	}
}

func TestCounts(t *testing.T) {
	var n atomic.Int64
	r := drive(t.Context(), flags(t, "-qps", "0", "-n", "10", "-c", "3"), func(context.Context) (int, error) {
		switch k := n.Add(1); {
		case k <= 3:
			return 503, nil
		case k == 4:
			return 0, fmt.Errorf("dial 1.2.3.4:5: %w", errors.New("connection refused"))
		}
		return 200, nil
	})
	if r.Codes[200] != 6 || r.Codes[503] != 3 || r.Codes[-1] != 1 || r.Errors["connection refused"] != 1 || r.allOK() {
		t.Errorf("%+v", r)
	}
}

func TestPercentiles(t *testing.T) {
	var h histogram
	var all []time.Duration
	for range 10000 {
		d := time.Duration(rand.ExpFloat64() * float64(time.Millisecond))
		h.add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, p := range []float64{1, 50, 90, 99, 99.9, 100} {
		want := all[int(p/100*10000+0.999999)-1]
		if got := h.percentile(p); got < want || float64(got) > float64(want)*1.04 {
			t.Errorf("percentile %v = %v, want %v and at most 4 %% more", p, got, want)
		}
	}
	for _, d := range []time.Duration{0, 1, 31, 32, 33, 63, 64, time.Second, 1<<63 - 1} {
		if b := bucket(d); upper(b) < d || b > 0 && upper(b-1) >= d {
			t.Errorf("%d is in bucket %d, which ends at %d", d, b, upper(b))
		}
	}
	var empty histogram
	if empty.percentile(50) != 0 || empty.average() != 0 {
		t.Error("nothing measured is not 0")
	}
}

func TestCommand(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("A") != "b" || r.Host != "shop" || r.Method != "POST" {
			t.Errorf("%s %s %v", r.Method, r.Host, r.Header)
		}
		if n.Add(1)%4 == 0 {
			w.WriteHeader(503)
		}
	}))
	defer s.Close()
	var out bytes.Buffer
	run := func(args ...string) error {
		out.Reset()
		return Main(t.Context(), append(args, "-H", "A: b", "-H", "Host: shop", "-payload", "x", s.URL), func(string) string { return "" }, &out, io.Discard)
	}
	// The form that the circuit breaking task is known by.
	if err := run("/usr/bin/fortio", "load", "-c", "2", "-qps", "0", "-n", "20", "-loglevel", "Warning"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Code 200 : 15 (75.0 %)", "Code 503 : 5 (25.0 %)", "All done 20 calls", "# target 99%", "for perfect keepalive, would be 2)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, &out)
		}
	}
	err := run("-n", "4", "-qps", "0", "-fail", "-json", "-")
	var r result
	if json.Unmarshal(out.Bytes(), &r) != nil || r.Calls != 4 || r.Codes[503] != 1 {
		t.Errorf("JSON %s", &out)
	}
	var coded interface{ ExitCode() int }
	if !errors.As(err, &coded) || coded.ExitCode() != 1 {
		t.Errorf("-fail with failures: %v, want exit code 1", err)
	}
	if run("curl"); !strings.Contains(out.String(), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("curl prints %q", &out)
	}
	for _, bad := range [][]string{{"-c", "0"}, {"-p", "x"}, {"-H", "x"}, {"-nothing"}, {"http://two"}} {
		if err := run(bad...); !errors.As(err, &coded) || coded.ExitCode() != 2 {
			t.Errorf("%q: %v, want exit code 2", bad, err)
		}
	}
}
