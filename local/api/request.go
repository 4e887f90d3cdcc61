package api

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A request is an HTTP request taken apart.
type request struct {
	*http.Request
	path  []string // segments of the URL's path
	query url.Values
	user  user

	// Of a request for objects:
	res         *resource
	version     string // the API version that the client speaks
	namespace   string
	name        string
	subresource string
	warnings    *warnings
}

// parse takes r apart. A path that names no kind of ours has no res.
func (s *Server) parse(r *http.Request) (*request, error) {
	q := &request{Request: r, warnings: &warnings{}}
	var err error
	if q.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return nil, badRequest("query: %v", err)
	}
	q.path = strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	rest := q.path
	var group string
	switch {
	case len(rest) >= 3 && rest[0] == "api":
		q.version, rest = rest[1], rest[2:]
	case len(rest) >= 4 && rest[0] == "apis":
		group, q.version, rest = rest[1], rest[2], rest[3:]
	default:
		return q, nil
	}
	// .../namespaces/NS/RESOURCE..., but .../namespaces/NS and .../namespaces/NS/status are namespaces.
	if rest[0] == "namespaces" && len(rest) >= 3 && !(group == "" && len(rest) == 3 && (rest[2] == "status" || rest[2] == "finalize")) {
		q.namespace, rest = rest[1], rest[2:]
	}
	if len(rest) > 3 {
		return q, nil
	}
	for _, res := range s.kinds.in(group, q.version) {
		if res.Plural == rest[0] {
			q.res = res
		}
	}
	if len(rest) > 1 {
		q.name = rest[1]
	}
	if len(rest) > 2 {
		q.subresource = rest[2]
	}
	return q, nil
}

// route answers a request whose user is known.
func (s *Server) route(w http.ResponseWriter, q *request) error {
	if q.res != nil {
		if q.namespace != "" && !q.res.Namespaced {
			return noSuchPath(q.URL.Path)
		}
		return s.serveObjects(w, q)
	}
	return s.serveOther(w, q)
}

// serveObjects answers requests for objects of the table's kinds.
func (s *Server) serveObjects(w http.ResponseWriter, q *request) error {
	if q.subresource != "" {
		return s.serveSubresource(w, q)
	}
	if q.name == "" {
		switch q.Method {
		case http.MethodGet, http.MethodHead:
			if isTrue(q.query.Get("watch")) {
				return s.watch(w, q)
			}
			return s.list(w, q)
		case http.MethodPost:
			return s.create(w, q)
		case http.MethodDelete:
			return s.deleteCollection(w, q)
		}
		return methodNotAllowed(q.res, strings.ToLower(q.Method))
	}
	if q.res.Namespaced && q.namespace == "" {
		return noSuchPath(q.URL.Path)
	}
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		if isTrue(q.query.Get("watch")) {
			return s.watch(w, q)
		}
		return s.get(w, q)
	case http.MethodPut:
		return s.update(w, q)
	case http.MethodPatch:
		return s.patch(w, q)
	case http.MethodDelete:
		return s.delete(w, q)
	}
	return methodNotAllowed(q.res, strings.ToLower(q.Method))
}

// serveSubresource answers requests for a part of an object.
func (s *Server) serveSubresource(w http.ResponseWriter, q *request) error {
	known := q.res.Has(q.subresource) ||
		q.res.key == "pods" && (q.subresource == "binding" || q.subresource == "eviction") ||
		q.res.key == "namespaces" && q.subresource == "finalize"
	if !known {
		return noSuchPath(q.URL.Path)
	}
	switch q.subresource {
	case "status":
		switch q.Method {
		case http.MethodGet:
			return s.get(w, q)
		case http.MethodPut:
			return s.update(w, q)
		case http.MethodPatch:
			return s.patch(w, q)
		}
	case "scale":
		return s.scale(w, q)
	case "token":
		return s.issueToken(w, q)
	case "log":
		return s.podLogs(w, q)
	case "exec":
		return s.podExec(w, q)
	case "binding":
		return s.bindPod(w, q)
	case "eviction":
		return s.evictPod(w, q)
	}
	return methodNotAllowed(q.res, q.subresource)
}

// storedVersion is the API version of stored objects of the request's kind.
func (q *request) stored() string { return q.res.Versions[0] }

// dryRun reports whether nothing may be written.
func (q *request) dryRun() bool {
	return len(q.query["dryRun"]) > 0 && q.query["dryRun"][0] == metav1.DryRunAll
}

// isTrue reads a boolean parameter, as Kubernetes does: "0" and "false" are the false ones.
func isTrue(v string) bool { return v != "" && v != "0" && !strings.EqualFold(v, "false") }

func writeJSON(w http.ResponseWriter, code int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeRaw(w, code, raw)
}

func writeRaw(w http.ResponseWriter, code int, raw []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(code)
	w.Write(raw)
}
