package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// dated are the files of the proxy that look at the system's clock as a date, which somebody may set by an hour, and what for.
// Everything else that lasts a time (timeouts, pools, ejections, health checks, tokens, delays) goes by clocks that nobody can set: the
// loop's, or differences of time.Time, which Go takes by its monotonic reading.
var dated = map[string]string{
	"proxy/access/layout.go":          "writes dates",
	"proxy/build/ledger.go":           "statistics of when something was loaded",
	"proxy/cel/print.go":              "writes what an expression comes to",
	"proxy/cluster/outlierlog.go":     "writes dates",
	"proxy/drive/loop.go":             "gives the date",
	"proxy/filter/lua/handle.go":      "timestamp()",
	"proxy/filter/lua/info.go":        "the dates of a certificate",
	"proxy/filter/router/journal.go":  "when a try began, for logs",
	"proxy/filter/router/retry.go":    "a host may say as a date when to come again; it is believed within max_interval",
	"proxy/filter/session/session.go": "a session's end is a date, as its client may take it elsewhere",
	"proxy/filter/tap/tap.go":         "writes dates",
	"proxy/healthcheck/event.go":      "writes dates",
	"proxy/listen/record.go":          "when a connection came, for logs",
	"proxy/resolve/resolve.go":        "a time that is long past",
	"proxy/route/retry.go":            "as filter/router/retry.go",
	"proxy/stream/again.go":           "when a request came, for logs",
	"proxy/stream/manager.go":         "the header date, and logs",
	"proxy/stream/server.go":          "when a request came, for logs",
	"proxy/tcp/proxy.go":              "when a connection came, for logs",
	"proxy/tls/session.go":            "a ticket's end is a date, as another proxy may be shown it",
}

var asDate = regexp.MustCompile(`\.(Wall|WallAt|Unix|UnixMilli|UnixMicro|UTC)\(`)

// Nothing in the proxy measures a time by a clock that may jump.
func TestTimesAreNotDates(t *testing.T) {
	left := map[string]bool{}
	for name := range dated {
		left[name] = true
	}
	walk(t, func(path string) {
		name := filepath.ToSlash(strings.TrimPrefix(path, "../"))
		if !strings.HasPrefix(name, "proxy/") || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range strings.Split(string(text), "\n") {
			if !asDate.MatchString(l) {
				continue
			}
			if delete(left, name); dated[name] == "" {
				t.Errorf("%s:%d takes a time as a date: %s\nwant one of the loop's, or a time.Time as it is; if it has to be a date, say here why", name, i+1, strings.TrimSpace(l))
			}
		}
	})
	for name := range left {
		t.Errorf("%s takes no time as a date any more: take it off the list", name)
	}
}
