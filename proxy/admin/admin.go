// Package admin is the proxy's administration interface, Envoy's on port 15000: what
// istioctl, dashboards and people with curl ask for, in Envoy's text and JSON.
//
// A [Server] reads; what changes something (log level, drain, quit) is done by the
// functions it is given, and asks for POST as Envoy does. It has no authentication
// and belongs on a loopback address.
//
// [Status] is the other half of what Istio's agent offers: readiness on 15021 and
// 15020, and the metrics of proxy and application in one answer. What Envoy offers
// beyond the paths in [Server.Handler] is not here.
package admin

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mallamesh/malla/base/regex"
	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tap"
	"github.com/mallamesh/malla/proxy/tap/sink"
)

// Options are what a server shows and does.
type Options struct {
	Store     *build.Store
	Secrets   *build.Secrets
	Stats     *stats.Registry
	Metrics   []func([]byte, stats.Options, stats.Flush) []byte // more in the Prometheus form: Istio's
	Bootstrap *bootstrapv3.Bootstrap
	Values    *build.Values // of the runtime
	Profile   string        // the file that profiles are written to
	Node      *corev3.Node
	Level     *slog.LevelVar
	Workers   int
	Version   string
	Started   time.Time
	Arguments *adminv3.CommandLineOptions

	State func() adminv3.ServerInfo_State // of the process
	Drain func(graceful, inboundOnly, stay bool)
	Quit  func()
	Taps  *tap.Registry
	// ReadTap reads what a client wants to have recorded.
	ReadTap func(text []byte) (id string, c *tap.Config, reader *sink.Reader, err error)
	// Fail has health checks of this proxy fail, or succeed again.
	Fail func(bool)
	// Refresh brings up to date what is shown next; may be nil.
	Refresh func()
	// Unready tells what the proxy waits for before it is ready; may be nil.
	Unready func() []string
	Now     func() time.Time
}

// A Server answers the administration interface.
type Server struct {
	Options
	profiler  profiler
	recording atomic.Bool // of lookups
}

// New returns a server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Refresh == nil {
		o.Refresh = func() {}
	}
	if o.Unready == nil {
		o.Unready = func() []string { return nil }
	}
	s := &Server{Options: o}
	s.profiler.path = o.Profile
	return s
}

// A page is one path.
type page struct {
	path  string
	help  string
	post  bool // it changes something
	large bool // its answer grows with the configuration
	serve http.HandlerFunc
}

func (s *Server) pages() []page {
	return []page{
		{"/certs", "print certs on machine", false, true, s.certs},
		{"/clusters", "upstream cluster status", false, true, s.clusters},
		{"/config_dump", "dump current Envoy configs (experimental)", false, true, s.configDump},
		{"/contention", "dump current Envoy mutex contention stats (if enabled)", false, false, text("Mutex contention tracing is not enabled: goroutines that wait for each other are at no lock of the workers.")},
		{"/cpuprofiler", "enable/disable the CPU profiler", true, false, s.profiler.cpu},
		{"/drain_listeners", "drain listeners", true, false, s.drain},
		{"/healthcheck/fail", "cause the server to fail health checks", true, false, s.failing(true)},
		{"/healthcheck/ok", "cause the server to pass health checks", true, false, s.failing(false)},
		{"/heap_dump", "dump current Envoy heap (if supported)", false, true, s.heap},
		{"/heapprofiler", "enable/disable the heap profiler", true, false, s.heapProfiler},
		{"/help", "print out list of admin commands", false, false, s.help},
		{"/hot_restart_version", "print the hot restart compatibility version", false, false, text("disabled")},
		{"/init_dump", "dump current Envoy init manager information (experimental)", false, true, s.initDump},
		{"/listeners", "print listener info", false, true, s.listeners},
		{"/logging", "query/change logging levels", true, false, s.logging},
		{"/memory", "print current allocation/heap usage", false, false, s.memory},
		{"/quitquitquit", "exit the server", true, false, s.quit},
		{"/ready", "print server state, return 200 if LIVE, otherwise return 503", false, false, s.ready},
		{"/reset_counters", "reset all counters to zero", true, false, s.resetCounters},
		{"/runtime", "print runtime values", false, true, s.runtime},
		{"/runtime_modify", "adds or modifies runtime values, which are read once here", true, false, s.runtimeModify},
		{"/server_info", "print server version/status information", false, false, s.serverInfo},
		{"/stats", "print server stats", false, true, s.stats},
		{"/stats/prometheus", "print server stats in prometheus format", false, true, s.prometheus},
		{"/stats/recentlookups", "show recent stat-name lookups", false, true, s.lookups},
		{"/stats/recentlookups/clear", "clear list of stat-name lookups and counter", true, false, text("OK\n")},
		{"/stats/recentlookups/disable", "disable recording of reset stat-name lookup names", true, false, s.recordLookups(false)},
		{"/stats/recentlookups/enable", "enable recording of reset stat-name lookup names", true, false, s.recordLookups(true)},
		{"/tap", "tap filter control", true, false, s.tap},
	}
}

// Handler serves all pages.
func (s *Server) Handler() http.Handler {
	mux, few := http.NewServeMux(), newGate()
	for _, p := range s.pages() {
		if p.large {
			p.serve = few.admit(p.serve)
		}
		mux.HandleFunc(p.path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache, max-age=0")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			if p.post && r.Method != http.MethodPost {
				fail(w, fmt.Sprintf("Method %s not allowed, POST required.", r.Method), http.StatusMethodNotAllowed)
				return
			}
			p.serve(w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintln(w, "invalid path. admin commands are:")
		}
		s.help(w, r)
	})
	return mux
}

func (s *Server) help(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "admin commands are:")
	pages := s.pages()
	slices.SortFunc(pages, func(a, b page) int { return cmp.Compare(a.path, b.path) })
	for _, p := range pages {
		post := ""
		if p.post {
			post = " (POST)"
		}
		fmt.Fprintf(w, "  %s%s: %s\n", p.path, post, p.help)
	}
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	state := s.State()
	if state != adminv3.ServerInfo_LIVE {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, state)
}

// stats serves /stats?filter=<regex>&usedonly&format=text|json|prometheus&histogram_buckets=cumulative|disjoint|summary.
func (s *Server) stats(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o, err := options(r)
	if err != nil {
		fail(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.Refresh()
	switch format := q.Get("format"); format {
	case "", "text":
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		err = s.Stats.WriteText(w, o)
	case "json":
		w.Header().Set("Content-Type", "application/json")
		err = s.Stats.WriteJSON(w, o)
	case "prometheus":
		s.prometheus(w, r)
		return
	default:
		fail(w, fmt.Sprintf("usage: /stats?format=(html|active-html|json|prometheus|text)\n\nfound %q, want text, json or prometheus", format), http.StatusBadRequest)
	}
	failSlow(w, err)
}

// failSlow answers a request whose expression has taken too long. Other errors are those of clients that have gone.
func failSlow(w http.ResponseWriter, err error) {
	if errors.Is(err, regex.ErrSlow) {
		fail(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func options(r *http.Request) (stats.Options, error) {
	q := r.URL.Query()
	o := stats.Options{UsedOnly: q.Has("usedonly"), Invert: q.Has("invert_filter")}
	switch kind := q.Get("type"); kind {
	case "", "All":
	case "Counters":
		o.Only = stats.Counters
	case "Gauges":
		o.Only = stats.Gauges
	case "Histograms":
		o.Only = stats.Histograms
	case "TextReadouts":
		o.Only = stats.Texts
	default:
		return o, errors.New("invalid &type= param")
	}
	switch buckets := q.Get("histogram_buckets"); buckets {
	case "", "summary":
	case "cumulative":
		o.Buckets = stats.Cumulative
	case "disjoint":
		o.Buckets = stats.Disjoint
	default:
		return o, fmt.Errorf("usage: /stats?histogram_buckets=(cumulative|disjoint|summary)\n\nfound %q", buckets)
	}
	shown, err := sieve(q.Get("filter"))
	if shown != nil {
		o.Filter = shown
	}
	return o, err
}

// sieve makes a client's expression for names; nil: there is none.
func sieve(filter string) (*regex.Sieve, error) {
	if filter == "" {
		return nil, nil
	}
	re, err := pattern(filter)
	if err != nil {
		return nil, fmt.Errorf("invalid regex: %.*q: %w", maxPattern, filter, err)
	}
	return regex.NewSieve(re, maxMatching), nil
}

// maxPattern is how many bytes a client's expression may have: it is tried on every name there is.
const maxPattern = 512

// maxMatching is how long it may be tried in all.
const maxMatching = time.Second

// pattern compiles a client's expression, which may cost as much as one of a route.
func pattern(text string) (*regexp.Regexp, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("it has %d bytes, want at most %d", len(text), maxPattern)
	}
	return regex.Compile(text)
}

func (s *Server) prometheus(w http.ResponseWriter, r *http.Request) { s.writePrometheus(w, r, nil) }

func (s *Server) writePrometheus(w http.ResponseWriter, r *http.Request, shown *regexp.Regexp) {
	o, err := options(r)
	if err != nil {
		fail(w, err.Error(), http.StatusBadRequest)
		return
	}
	if b := r.URL.Query().Get("histogram_buckets"); b != "" && b != "cumulative" {
		fail(w, fmt.Sprintf("unsupported prometheus histogram bucket mode: found %q, want cumulative", b), http.StatusBadRequest)
		return
	}
	var more []func([]byte, stats.Flush) []byte
	asked := o // which of Envoy's are shown says nothing of the others
	for _, m := range s.Metrics {
		more = append(more, func(b []byte, flush stats.Flush) []byte { return m(b, asked, flush) })
	}
	if o.Filter == nil && shown != nil {
		o.Filter = shown
	}
	s.Refresh()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	failSlow(w, s.Stats.WritePrometheus(w, o, more...))
}

// Prometheus serves metrics alone, on port 15090: of Envoy's those whose names match
// shown, unless the request has a filter of its own.
func (s *Server) Prometheus(shown *regexp.Regexp) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats/prometheus", newGate().admit(func(w http.ResponseWriter, r *http.Request) { s.writePrometheus(w, r, shown) }))
	return mux
}

// fail answers a request that is wrong, or that failed; without a line's end, as Envoy does.
func fail(w http.ResponseWriter, words string, status int) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, words) // the client has gone
}

// text serves the same words to everybody.
func text(words string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, words) } // the client has gone
}

// levels are Envoy's names of log levels and ours.
var levels = []struct {
	name  string
	level slog.Level
}{
	{"trace", slog.LevelDebug - 4}, {"debug", slog.LevelDebug}, {"info", slog.LevelInfo}, {"warning", slog.LevelWarn}, {"error", slog.LevelError},
	{"critical", slog.LevelError + 4}, {"off", slog.LevelError + 8},
}

// ParseLevel returns the level with one of Envoy's names.
func ParseLevel(name string) (slog.Level, error) {
	if name == "warn" {
		name = "warning"
	}
	var names []string
	for _, l := range levels {
		if l.name == strings.ToLower(name) {
			return l.level, nil
		}
		names = append(names, l.name)
	}
	return 0, fmt.Errorf("found log level %q, want one of %s", name, strings.Join(names, ", "))
}

func levelName(at slog.Level) string {
	for _, l := range levels {
		if l.level >= at {
			return l.name
		}
	}
	return "off"
}

// logging serves /logging?level=<level>. There is one logger.
func (s *Server) logging(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if name := q.Get("level"); name != "" {
		level, err := ParseLevel(name)
		if err != nil {
			fail(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.Level.Set(level)
	}
	if q.Has("paths") {
		fail(w, "there is one logger: use /logging?level=<level>", http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "active loggers:\n  main: %s\n\n", levelName(s.Level.Level()))
}

// drain serves /drain_listeners?graceful&inboundonly&skip_exit.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.Drain(q.Has("graceful"), q.Has("inboundonly"), q.Has("skip_exit"))
	fmt.Fprintln(w, "OK")
}

// failing serves /healthcheck/fail and /healthcheck/ok.
func (s *Server) failing(on bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.Fail(on)
		fmt.Fprintln(w, "OK")
	}
}

func (s *Server) quit(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "OK")
	s.Quit()
}
