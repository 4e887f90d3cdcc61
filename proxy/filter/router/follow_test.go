package router

import (
	"testing"

	"github.com/mallamesh/malla/proxy/header"
)

func TestTargetsOfRedirects(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{"http://a.example/x?y", "http a.example /x?y"},
		{"HTTPS://a.example:8443/", "https a.example:8443 /"},
		{"http://a.example", "http a.example /"},         // RFC 9110, section 4.2.3: an empty path is /
		{"http://a.example?q", "http a.example /?q"},     //
		{"http://a.example/x#part", "http a.example /x"}, // a fragment is the client's
		{"http://[::1]:80/x", "http [::1]:80 /x"},        //
		{"/relative", ""}, {"//a.example/x", ""}, {"", ""}, // as in Envoy, only absolute URLs
		{"ftp://a.example/x", ""}, // we speak HTTP
		{"http:///x", ""}, {"http://a b/", ""},
		{"http://a.example/x HTTP/1.1 y", ""}, {"http://a.example/\tx", ""}, // another request line
	} {
		scheme, host, path, ok := split([]byte(test.url))
		got := string(scheme) + " " + string(host) + " " + string(path)
		if !ok {
			got = ""
		}
		if got != test.want {
			t.Errorf("%q leads to %q, want %q", test.url, got, test.want)
		}
	}
}

// FuzzSplit looks for targets that are no targets of a request.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("http://a.example/x?y#z"))
	f.Add([]byte("https://[::1]:80?"))
	f.Fuzz(func(t *testing.T, url []byte) {
		if _, host, path, ok := split(url); ok && (len(host) == 0 || len(path) == 0 || path[0] != '/' || !header.ValidTarget(path)) {
			t.Errorf("%q leads to host %q, path %q", url, host, path)
		}
	})
}
