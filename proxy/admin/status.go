package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	scrapeTimeout = 5 * time.Second
	maxScrape     = 64 << 20 // of an application's metrics
)

// Application says where an application has its metrics: the annotations
// prometheus.io/scrape, port, path and scheme of its pod.
type Application struct {
	Scrape             bool
	Port, Path, Scheme string
}

// ParseApplication reads the annotations of a pod.
func ParseApplication(annotations map[string]string) Application {
	a := Application{Scrape: annotations["prometheus.io/scrape"] == "true", Port: annotations["prometheus.io/port"], Path: annotations["prometheus.io/path"], Scheme: annotations["prometheus.io/scheme"]}
	if a.Port == "" {
		a.Port = "80"
	}
	if a.Path == "" {
		a.Path = "/metrics"
	}
	if a.Scheme == "" {
		a.Scheme = "http"
	}
	if !strings.HasPrefix(a.Path, "/") {
		a.Path = "/" + a.Path
	}
	return a
}

// Status serves what Istio's agent does on 15020 and, of it, readiness on 15021.
type Status struct {
	Ready       func() (bool, string)
	Proxy       func(w io.Writer) error // the proxy's own metrics
	Application Application
	Quit        func()
	Drain       func()
	Client      *http.Client // for the application's metrics; nil: one of our own
}

// Handler serves all of 15020.
func (s *Status) Handler() http.Handler {
	mux := http.NewServeMux()
	metrics := newGate().admit(s.metrics)
	mux.HandleFunc("GET /healthz/ready", s.ready)
	mux.HandleFunc("GET /stats/prometheus", metrics)
	mux.HandleFunc("GET /metrics", metrics)
	mux.HandleFunc("POST /quitquitquit", local(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "OK")
		s.Quit()
	}))
	mux.HandleFunc("POST /drain", local(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "OK")
		s.Drain()
	}))
	return mux
}

// Health serves readiness only, on 15021.
func (s *Status) Health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", s.ready)
	return mux
}

// local refuses callers from elsewhere: 15020 is open to the cluster.
func local(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			fail(w, "Only requests from localhost are allowed", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

func (s *Status) ready(w http.ResponseWriter, _ *http.Request) {
	ok, why := s.Ready()
	if !ok {
		fail(w, why, http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// metrics joins the proxy's metrics with the application's. What the application
// does not deliver must not hide what the proxy has.
func (s *Status) metrics(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	var b bytes.Buffer
	if err := s.Proxy(&b); err != nil {
		fail(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if s.Application.Scrape {
		text, err := s.scrape(r.Context())
		if err != nil {
			fmt.Fprintf(&b, "# application: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		}
		b.Write(text)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			b.WriteByte('\n')
		}
	}
	_, _ = w.Write(b.Bytes()) // the client has gone
}

// scrape gets the application's metrics in the text form.
func (s *Status) scrape(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	a := s.Application
	url := a.Scheme + "://" + net.JoinHostPort("localhost", a.Port) + a.Path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	client := s.Client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, res.Status)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxScrape))
	if err != nil {
		return nil, err
	}
	return text, nil
}
