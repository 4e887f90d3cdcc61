package api

import (
	"net/http"
	"runtime"

	apiversion "k8s.io/apimachinery/pkg/version"

	"github.com/mallamesh/malla/base/version"
)

// Kubernetes is the version of Kubernetes whose API this is.
const Kubernetes = "v1.37.1"

// serveOther answers what is not about objects.
func (s *Server) serveOther(w http.ResponseWriter, q *request) error {
	p := q.path
	switch {
	case q.URL.Path == "/healthz" || q.URL.Path == "/livez" || q.URL.Path == "/readyz":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("ok"))
		return nil
	case q.URL.Path == "/version":
		writeJSON(w, http.StatusOK, &apiversion.Info{
			Major: "1", Minor: "37", GitVersion: Kubernetes + "+malla-" + version.String(),
			GitCommit: "", GitTreeState: "", BuildDate: "",
			GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
		})
		return nil
	case p[0] == "openapi":
		return s.openAPI(w, q)
	case len(p) == 4 && p[0] == "apis" && p[2] == "v1" && reviews[p[1]+"/"+p[3]]:
		return s.review(w, q, p[3])
	case q.Method == http.MethodGet || q.Method == http.MethodHead:
		return s.discover(w, q)
	}
	return noSuchPath(q.URL.Path)
}

// reviews are questions in the shape of objects; they are not stored.
var reviews = map[string]bool{
	"authentication.k8s.io/tokenreviews":            true,
	"authentication.k8s.io/selfsubjectreviews":      true,
	"authorization.k8s.io/selfsubjectaccessreviews": true,
}
