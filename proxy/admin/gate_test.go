package admin

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"

	"github.com/mallamesh/malla/proxy/stats"
)

// However many ask for what may be large, few such answers are under way; the next waits for a while, and then is sent
// away with a word about when to come again.
func TestFewLargeAnswersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var inside atomic.Int32
		h := newGate().admit(func(w http.ResponseWriter, _ *http.Request) {
			inside.Add(1)
			<-release
			_, _ = w.Write([]byte("large"))
		})
		answers := make([]*httptest.ResponseRecorder, maxLarge+3)
		for i := range answers {
			answers[i] = httptest.NewRecorder()
			go h(answers[i], httptest.NewRequest("GET", "/stats", nil))
			synctest.Wait()
		}
		time.Sleep(turnTimeout - time.Second)
		synctest.Wait()
		if n := inside.Load(); n != maxLarge {
			t.Errorf("%d answers are under way, want %d", n, maxLarge)
		}
		release <- struct{}{} // one has its turn in time
		time.Sleep(2 * time.Second)
		close(release)
		synctest.Wait()
		codes := map[int]int{}
		for _, a := range answers {
			codes[a.Code]++
			if a.Code == http.StatusServiceUnavailable && a.Header().Get("Retry-After") == "" {
				t.Error("who is sent away is not told when to come again")
			}
		}
		if codes[200] != maxLarge+1 || codes[503] != 2 {
			t.Errorf("answers by code: %v, want %d of 200 and 2 of 503", codes, maxLarge+1)
		}
	})
}

// While all large answers are held by those who do not take them, probes are answered on every port.
func TestProbesDoNotWaitForLargeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(chan struct{})
		s := New(Options{State: func() adminv3.ServerInfo_State { return adminv3.ServerInfo_LIVE }, Fail: func(bool) {}, Stats: stats.NewRegistry(false), Refresh: func() { <-held }})
		status := &Status{Ready: func() (bool, string) { return true, "" }, Proxy: func(io.Writer) error { <-held; return nil }}
		for _, port := range []struct {
			handler http.Handler
			large   string
			probes  []string
		}{
			{s.Handler(), "/stats", []string{"GET /ready", "POST /healthcheck/ok", "GET /help"}},
			{s.Prometheus(nil), "/stats/prometheus", nil},
			{status.Handler(), "/metrics", []string{"GET /healthz/ready"}},
		} {
			var away atomic.Int32
			for range 2 * maxLarge {
				go func() {
					if code, _ := get(port.handler, "GET", port.large, ""); code == http.StatusServiceUnavailable {
						away.Add(1)
					}
				}()
			}
			synctest.Wait()
			for _, probe := range port.probes {
				method, path, _ := strings.Cut(probe, " ")
				if code, body := get(port.handler, method, path, ""); code != 200 {
					t.Errorf("%s: %d %q", probe, code, body)
				}
			}
			time.Sleep(turnTimeout + time.Second)
			synctest.Wait()
			if n := away.Load(); n != maxLarge {
				t.Errorf("%s: %d of %d are sent away, want %d", port.large, n, 2*maxLarge, maxLarge)
			}
		}
		close(held)
	})
}

// An expression that a client sends is bounded like one of a route, and in its length.
func TestExpressionsOfClientsAreBounded(t *testing.T) {
	s := New(Options{})
	for name, expr := range map[string]string{
		"long":            strings.Repeat("a", maxPattern+1),
		"many places":     "(.*a){200}",
		"many steps":      strings.Repeat("a{1000}", 50),
		"no expression":   "(",
		"64 KiB, written": strings.Repeat("a{1000}", 9000),
	} {
		for _, path := range []string{"/stats?filter=", "/stats/prometheus?filter=", "/config_dump?name_regex="} {
			code, body := get(s.Handler(), "GET", path+url.QueryEscape(expr), "")
			if code != http.StatusBadRequest || len(body) > 2000 {
				t.Errorf("%s, %s: %d %.200q, want 400 and few words", path, name, code, body)
			}
		}
		if code, _ := get(s.Prometheus(nil), "GET", "/stats/prometheus?filter="+url.QueryEscape(expr), ""); code != http.StatusBadRequest {
			t.Errorf("the port for metrics, %s: %d, want 400", name, code)
		}
	}
}

// An expression that is within its bounds may still be slow on very many names. Then there is no answer, and it comes soon.
func TestSlowExpressionsEnd(t *testing.T) {
	reg := stats.NewRegistry(false)
	for i := range 200 {
		reg.HTTP(strings.Repeat("a", 400) + strconv.Itoa(i))
	}
	s := New(Options{Stats: reg})
	for _, path := range []string{"/stats?filter=", "/stats?format=json&filter=", "/stats/prometheus?filter="} {
		began := time.Now()
		code, body := get(s.Handler(), "GET", path+url.QueryEscape("(.*a){20}b"), "")
		if took := time.Since(began); code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "the expression takes too long") || took > 20*time.Second {
			t.Errorf("%s: %d %.100q after %v", path, code, body, took)
		}
		if code, body := get(s.Handler(), "GET", path+"a0.downstream_rq_total", ""); code != http.StatusOK || !strings.Contains(body, "downstream_rq_total") {
			t.Errorf("%s: another expression is answered by %d %.100q", path, code, body)
		}
	}
}

// A client that takes an answer slowly is left: each piece has its time, and so has the whole.
func TestAnswersAreTakenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		newGate().admit(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, 3*pieceSize))
			time.Sleep(largeTimeout - time.Second)
			_, _ = w.Write([]byte("x"))
		})(d, httptest.NewRequest("GET", "/stats", nil))
		want := []time.Duration{takeTimeout, takeTimeout, takeTimeout, largeTimeout}
		if len(d.at) != len(want) {
			t.Fatalf("deadlines %v, want %v after the start", d.at, want)
		}
		for i, at := range d.at {
			if got := at.Sub(start); got != want[i] {
				t.Errorf("piece %d is to be taken within %v, want %v", i, got, want[i])
			}
		}
	})
}

type deadlines struct {
	*httptest.ResponseRecorder
	at []time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.at = append(d.at, t)
	return nil
}
