package gatewayapi

import (
	"testing"

	"github.com/mallamesh/malla/model"
)

// A redirect leads to its own port, else to its scheme's, else back to the one on which the request came; a
// port that Envoy would say or leave out of itself is left to it.
func TestRedirectPorts(t *testing.T) {
	for _, c := range []struct {
		what   string
		r      model.Redirect
		port   uint16
		secure bool
		want   uint16
	}{
		{"to another path", model.Redirect{}, 80, false, 0},
		{"to another path of another port", model.Redirect{}, 8080, false, 8080},
		{"to another path with TLS", model.Redirect{}, 443, true, 0},
		{"to https", model.Redirect{Scheme: "https"}, 80, false, 0},
		{"to https from another port", model.Redirect{Scheme: "https"}, 8080, false, 443},
		{"to http from another port with TLS", model.Redirect{Scheme: "http"}, 8443, true, 80},
		{"to https at another host, from another port", model.Redirect{Scheme: "https", Authority: "other.example"}, 8080, false, 0},
		{"to a port", model.Redirect{Scheme: "https", Port: 8443}, 8080, false, 8443},
		{"to a scheme's own port", model.Redirect{Scheme: "https", Port: 443}, 80, false, 0},
	} {
		if got := forListener(&c.r, c.port, c.secure).Port; got != c.want {
			t.Errorf("%s: port %d, want %d", c.what, got, c.want)
		}
	}
}
