package stream

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/access"
)

// Nobody gets a name into x-forwarded-client-cert that passes for a part of its own, let alone for a field.
func TestElementOfOddNames(t *testing.T) {
	id := &url.URL{Scheme: "spiffe", Host: "a", Path: "/ns/x;URI=spiffe://evil"}
	peer := &x509.Certificate{URIs: []*url.URL{id}, DNSNames: []string{"a.example", `b;By=c,d"e`, "f\r\ng: h"}}
	d := ClientCertDetails{URI: true, DNS: true}
	got := string(d.element(&access.TLS{Peer: peer}))
	want := `;URI="spiffe://a/ns/x;URI=spiffe://evil";DNS=a.example;DNS="b;By=c,d\"e"`
	if _, rest, _ := strings.Cut(got, "Hash="); rest[min(64, len(rest)):] != want {
		t.Errorf("%q, want it to end with %q", got, want)
	}
}
