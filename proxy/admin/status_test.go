package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func get(h http.Handler, method, path, from string) (int, string) {
	r := httptest.NewRequest(method, path, nil)
	if from != "" {
		r.RemoteAddr = from
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// Readiness is told with its reason.
func TestReady(t *testing.T) {
	ready := false
	s := &Status{Ready: func() (bool, string) { return ready, "no configuration yet" }}
	for _, h := range []http.Handler{s.Handler(), s.Health()} {
		ready = false
		if code, body := get(h, "GET", "/healthz/ready", ""); code != 503 || !strings.Contains(body, "no configuration yet") {
			t.Errorf("not ready: %d %q", code, body)
		}
		ready = true
		if code, _ := get(h, "GET", "/healthz/ready", ""); code != 200 {
			t.Errorf("ready: %d", code)
		}
	}
}

// The metrics of proxy and application come in one answer; an application that
// fails costs its own part only.
func TestMergedMetrics(t *testing.T) {
	fails := false
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fails || r.URL.Path != "/m" {
			http.Error(w, "no", http.StatusTeapot)
			return
		}
		fmt.Fprint(w, "app_requests 7")
	}))
	defer app.Close()
	u, _ := url.Parse(app.URL)
	s := &Status{Proxy: func(w io.Writer) error { _, err := fmt.Fprint(w, "istio_build 1\n"); return err },
		Application: ParseApplication(map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": u.Port(), "prometheus.io/path": "m"})}
	for _, path := range []string{"/metrics", "/stats/prometheus"} {
		if code, body := get(s.Handler(), "GET", path, ""); code != 200 || body != "istio_build 1\napp_requests 7\n" {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	fails = true
	if code, body := get(s.Handler(), "GET", "/metrics", ""); code != 200 || !strings.HasPrefix(body, "istio_build 1\n# application: ") {
		t.Errorf("application fails: %d %q", code, body)
	}
	s.Proxy = func(io.Writer) error { return errors.New("broken") }
	if code, _ := get(s.Handler(), "GET", "/metrics", ""); code != 500 {
		t.Errorf("proxy fails: %d", code)
	}
}

// What ends or drains the proxy is for its own pod only.
func TestOnlyFromHere(t *testing.T) {
	quits, drains := 0, 0
	s := &Status{Quit: func() { quits++ }, Drain: func() { drains++ }}
	for _, test := range []struct {
		method, path, from string
		code               int
	}{
		{"POST", "/quitquitquit", "127.0.0.1:1", 200},
		{"POST", "/quitquitquit", "[::1]:1", 200},
		{"POST", "/quitquitquit", "10.244.0.9:1", 403},
		{"GET", "/quitquitquit", "127.0.0.1:1", 405},
		{"POST", "/drain", "10.244.0.9:1", 403},
		{"POST", "/drain", "127.0.0.1:1", 200},
	} {
		if code, _ := get(s.Handler(), test.method, test.path, test.from); code != test.code {
			t.Errorf("%s %s from %s: %d, want %d", test.method, test.path, test.from, code, test.code)
		}
	}
	if quits != 2 || drains != 1 {
		t.Errorf("%d quits and %d drains, want 2 and 1", quits, drains)
	}
}

// Annotations without a word about port and path mean Prometheus' own defaults.
func TestParseApplication(t *testing.T) {
	if a := ParseApplication(nil); a.Scrape {
		t.Error("scrapes an application that did not ask for it")
	}
	a := ParseApplication(map[string]string{"prometheus.io/scrape": "true"})
	if want := (Application{true, "80", "/metrics", "http"}); a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
}
