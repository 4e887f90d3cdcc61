// Package httpbin is the answering machine that people point curl at to see
// what a mesh does to a request: paths and answers are those of httpbin.org's
// program, and, for the images called go-httpbin, those of that program where
// the two differ (port 8080, lists of values in JSON, another teapot).
//
// What nobody uses through a mesh is not built in and answers 404: brotli,
// digest authentication, the legacy pages.
package httpbin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

// Main serves on port 80, for go-httpbin on 8080; PORT and, as the images'
// commands have it, "-b ADDRESS:PORT" or "-port PORT" say otherwise.
func Main(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	goStyle := strings.Contains(env("MALLA_IMAGE"), "go-httpbin")
	port := "80"
	if goStyle {
		port = "8080"
	}
	port, err := listenPort(args, serve.Port(env, "PORT", port))
	if err != nil {
		return err
	}
	return serve.HTTP(ctx, port, handler(goStyle))
}

// listenPort reads gunicorn's and go-httpbin's flags. Those about workers and
// logs say nothing about the answers.
func listenPort(args []string, port string) (string, error) {
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		switch name {
		case "-b", "--bind", "-port", "--port", "-k", "-w", "--access-logfile", "--worker-class", "--workers", "-host", "--host":
			if !joined {
				if i++; i >= len(args) {
					return "", fmt.Errorf("argument %s: found nothing after it, want a value", name)
				}
				value = args[i]
			}
			switch name {
			case "-b", "--bind":
				_, p, err := net.SplitHostPort(value)
				if err != nil {
					return "", fmt.Errorf("argument %s %s: want ADDRESS:PORT", name, value)
				}
				port = p
			case "-port", "--port":
				port = value
			}
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("port: found %q, want a number from 1 to 65535", port)
	}
	return port, nil
}

// A bin is one of the two flavors.
type bin struct{ goStyle bool }

func handler(goStyle bool) http.Handler {
	b := bin{goStyle}
	mux := http.NewServeMux()
	b.inspect(mux)
	b.statuses(mux)
	b.streams(mux)
	b.redirects(mux)
	b.cookies(mux)
	b.auth(mux)
	b.formats(mux)
	b.caches(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if !goStyle {
			h.Set("Server", "gunicorn/19.9.0")
		}
		origin := r.Header.Get("Origin")
		if origin == "" {
			origin = "*"
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, PATCH, OPTIONS")
			h.Set("Access-Control-Max-Age", "3600")
			if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
				h.Set("Access-Control-Allow-Headers", asked)
			}
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// writeJSON writes as the originals do: indented, keys sorted, ended by a
// newline, nothing escaped for HTML.
func writeJSON(w http.ResponseWriter, v any) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	body(w, http.StatusOK, b.String())
}

func body(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // a caller that has gone does not want it
}

// number reads a number from the path and brings it between two bounds.
func number(w http.ResponseWriter, r *http.Request, name string, least, most int) (int, bool) {
	n, err := strconv.Atoi(r.PathValue(name))
	if err != nil {
		http.Error(w, fmt.Sprintf("%s: found %q, want a number", name, r.PathValue(name)), http.StatusBadRequest)
		return 0, false
	}
	return min(max(n, least), most), true
}

// query is a number of the query, or def.
func query(r *http.Request, name string, def int) int {
	if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil {
		return n
	}
	return def
}
