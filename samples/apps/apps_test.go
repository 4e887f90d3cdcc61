package apps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestForImage(t *testing.T) {
	for _, test := range []struct{ image, want string }{
		{"docker.io/istio/examples-bookinfo-productpage-v1:1.20.3", "productpage"},
		{"istio/examples-bookinfo-details-v2:1.20.3", "details"},
		{"docker.io/istio/examples-bookinfo-reviews-v3:1.20.3", "reviews"},
		{"docker.io/istio/examples-bookinfo-ratings-v1:1.20.3", "ratings"},
		{"malla/examples-bookinfo-ratingsdb:1", "ratingsdb"},
		{"docker.io/istio/examples-bookinfo-mongodb:1.20.3", ""}, // its protocol is not built in
		{"docker.io/kennethreitz/httpbin", "httpbin"},
		{"docker.io/kong/httpbin:0.1.0", "httpbin"},
		{"docker.io/mccutchen/go-httpbin:v2.15.0", "httpbin"},
		{"curlimages/curl", "curl"},
		{"curlimages/curl:8.16.0@sha256:0123", "curl"},
		{"docker.io/istio/examples-helloworld-v2:1.0", "helloworld"},
		{"docker.io/istio/tcp-echo-server:1.3", "tcp-echo"},
		{"gcr.io/google-samples/hello-app:1.0", "hello-app"},
		{"us-docker.pkg.dev/google-samples/containers/gke/hello-app:2.0", "hello-app"},
		{"nginx", "nginx"},
		{"nginx:1.29-alpine", "nginx"},
		{"docker.io/library/nginx:latest", "nginx"},
		{"nginx/nginx-ingress:5", ""}, // another program by the same people
		{"nginxdemos/hello", ""},
		{"malla/provider:v2", "provider"},
		{"malla/consumer:v1", "consumer"},
		{"malla/load:1", "load"},
		{"fortio/fortio:latest_release", "fortio"},
		{"mysql:8", ""},
		{"", ""},
	} {
		app, ok := ForImage(test.image)
		if app.Name != test.want || ok != (test.want != "") {
			t.Errorf("ForImage(%q) = %q, want %q", test.image, app.Name, test.want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"a*b*c", "abc", true},
		{"a*b*c", "aXbYc", true},
		{"a*b*c", "aXcYb", false},
		{"*ab*ab", "ab", false}, // one place cannot serve twice
		{"*", "", true},
		{"a*a", "a", false},
		{"", "", true},
	} {
		if got := glob(test.pattern, test.s); got != test.want {
			t.Errorf("glob(%q, %q) = %v, want %v", test.pattern, test.s, got, test.want)
		}
	}
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range All {
		if seen[a.Name] || a.Main == nil {
			t.Errorf("program %q is listed twice or has no Main", a.Name)
		}
		seen[a.Name] = true
		if got, ok := Lookup(a.Name); !ok || got.Name != a.Name {
			t.Errorf("Lookup(%q) = %q, %v", a.Name, got.Name, ok)
		}
	}
	if _, ok := Lookup("nothing"); ok {
		t.Error("Lookup finds a program called nothing")
	}
}

type coded int

func (c coded) Error() string { return "coded" }
func (c coded) ExitCode() int { return int(c) }

func TestExitCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{context.Canceled, 1},
		{fmt.Errorf("wrapped: %w", coded(7)), 7},
	} {
		if got := ExitCode(test.err); got != test.want {
			t.Errorf("ExitCode(%v) = %d, want %d", test.err, got, test.want)
		}
	}
	for _, args := range [][]string{nil, {"nothing"}} {
		var stderr bytes.Buffer
		if code := Run(args, func(string) string { return "" }, io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), "productpage") {
			t.Errorf("Run(%q) = %d %q, want 2 and the list of programs", args, code, &stderr)
		}
	}
}
