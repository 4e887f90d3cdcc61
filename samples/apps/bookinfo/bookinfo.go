// Package bookinfo is the bookshop of the service mesh tutorials: a page about
// one book, made by four services.
//
//	productpage ─┬─ details
//	             └─ reviews (v1 no stars, v2 black, v3 red) ── ratings ── ratingsdb (v2)
//
// Ports, paths, JSON, environment and the traps that the tutorials are about
// (productpage gives reviews three seconds and asks twice; reviews gives
// ratings ten) are the original's. The words, pages and pictures are our own.
//
// Not built in are the original's MongoDB and MySQL: ratings v2 reads from
// ratingsdb, a data service that speaks Redis' protocol. A manifest that asks
// for the former is refused by the name of its variable.
package bookinfo

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

// port is where each of the HTTP services listens and is called.
const port = "9080"

// listenPort is the image's only argument, or 9080.
func listenPort(args []string) string {
	if len(args) > 0 {
		last := args[len(args)-1]
		if _, err := strconv.ParseUint(last, 10, 16); err == nil {
			return last
		}
	}
	return port
}

// version is the one that SERVICE_VERSION or else the image's name says: v2 for
// docker.io/istio/examples-bookinfo-reviews-v2:1.20.3.
func version(env func(string) string) string {
	if v := env("SERVICE_VERSION"); v != "" {
		return v
	}
	name := env("MALLA_IMAGE")
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	if _, v, ok := strings.Cut(name, "-v"); ok && v != "" {
		return "v" + v
	}
	return "v1"
}

// service is the base URL of one of the other services. The original images
// know NAME_HOSTNAME and NAME_SERVICE_PORT for each and SERVICES_DOMAIN for all.
func service(env func(string) string, name string) string {
	upper := strings.ToUpper(name)
	host := env(upper + "_HOSTNAME")
	if host == "" {
		host = name
	}
	if domain := env("SERVICES_DOMAIN"); domain != "" {
		host += "." + domain
	}
	return "http://" + net.JoinHostPort(host, serve.Port(env, upper+"_SERVICE_PORT", port))
}

// instance is the name of this pod.
func instance(env func(string) string) string {
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return env("HOSTNAME")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that has gone does not want it
}

type failure struct {
	Error string `json:"error"`
}

type healthy struct {
	Status string `json:"status"`
}

// productID reads the number at the end of the path and answers 400 if it is
// none.
func productID(w http.ResponseWriter, r *http.Request) (int, bool) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || id < 0 {
		writeJSON(w, http.StatusBadRequest, failure{"please provide numeric product id"})
		return 0, false
	}
	return id, true
}
