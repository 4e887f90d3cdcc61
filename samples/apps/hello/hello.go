// Package hello has the two greeters of the mesh tutorials: Istio's helloworld
// (port 5000, says its version) and Google's hello-app (port 8080, says its
// host name).
package hello

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

// World is examples-helloworld-v1 and -v2. The version is SERVICE_VERSION, else
// the one in the image's name.
func World(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	version := env("SERVICE_VERSION")
	if version == "" {
		version = imageVersion(env("MALLA_IMAGE"))
	}
	return serve.HTTP(ctx, serve.Port(env, "PORT", "5000"), world(version, instance(env)))
}

func world(version, instance string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		plain(w)
		fmt.Fprintf(w, "Hello version: %s, instance: %s\n", version, instance)
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		plain(w)
		io.WriteString(w, "Helloworld is healthy")
	})
	return mux
}

// App is google-samples/hello-app, 1.0 and 2.0: every path is answered.
func App(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	return serve.HTTP(ctx, serve.Port(env, "PORT", "8080"), app(appVersion(env("MALLA_IMAGE")), instance(env)))
}

func app(version, host string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plain(w)
		fmt.Fprintf(w, "Hello, world!\nVersion: %s\nHostname: %s\n", version, host)
	})
}

func plain(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/plain; charset=utf-8") }

// instance is the pod's name. The kernel knows it; HOSTNAME may be inherited.
func instance(env func(string) string) string {
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return env("HOSTNAME")
}

// imageVersion is "v2" for docker.io/istio/examples-helloworld-v2:1.0.
func imageVersion(image string) string {
	name := image[strings.LastIndexByte(image, '/')+1:]
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	if i := strings.LastIndexByte(name, '-'); i >= 0 && strings.HasPrefix(name[i+1:], "v") {
		return name[i+1:]
	}
	return "v1"
}

// appVersion is "2.0.0" for gcr.io/google-samples/hello-app:2.0.
func appVersion(image string) string {
	image, _, _ = strings.Cut(image, "@")
	name := image[strings.LastIndexByte(image, '/')+1:]
	if _, tag, ok := strings.Cut(name, ":"); ok && strings.HasPrefix(tag, "2") {
		return "2.0.0"
	}
	return "1.0.0"
}
