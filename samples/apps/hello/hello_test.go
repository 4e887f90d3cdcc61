package hello

import (
	"net/http/httptest"
	"testing"
)

func TestAnswers(t *testing.T) {
	get := func(path string) string {
		w := httptest.NewRecorder()
		world("v2", "helloworld-v2-5d7-x2k").ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Body.String()
	}
	if got, want := get("/hello"), "Hello version: v2, instance: helloworld-v2-5d7-x2k\n"; got != want {
		t.Errorf("/hello answers %q, want %q", got, want)
	}
	if got, want := get("/health"), "Helloworld is healthy"; got != want {
		t.Errorf("/health answers %q, want %q", got, want)
	}

	// hello-app answers every path, also the one a prefix route passes on.
	for _, path := range []string{"/", "/hello", "/a/b?c"} {
		w := httptest.NewRecorder()
		app("1.0.0", "hello-v1-abc").ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if got, want := w.Body.String(), "Hello, world!\nVersion: 1.0.0\nHostname: hello-v1-abc\n"; got != want {
			t.Errorf("%s answers %q, want %q", path, got, want)
		}
	}
}

func TestVersionOfImage(t *testing.T) {
	for _, test := range []struct{ image, want string }{
		{"docker.io/istio/examples-helloworld-v1:1.0", "v1"},
		{"istio/examples-helloworld-v2@sha256:00-v9", "v2"}, // a digest is not a version
		{"registry:5000/examples-helloworld-v2", "v2"},      // neither is a registry's port
		{"", "v1"},
	} {
		if got := imageVersion(test.image); got != test.want {
			t.Errorf("imageVersion(%q) = %q, want %q", test.image, got, test.want)
		}
	}
	for _, test := range []struct{ image, want string }{
		{"gcr.io/google-samples/hello-app:1.0", "1.0.0"},
		{"gcr.io/google-samples/hello-app:2.0", "2.0.0"},
		{"us-docker.pkg.dev/google-samples/containers/gke/hello-app:2.0", "2.0.0"},
		{"", "1.0.0"},
	} {
		if got := appVersion(test.image); got != test.want {
			t.Errorf("appVersion(%q) = %q, want %q", test.image, got, test.want)
		}
	}
}
