package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// An ID is the identity of a workload: a trust domain, a namespace and a
// service account. The zero ID is nobody.
type ID struct {
	TrustDomain, Namespace, Account string
}

// ParseID reads spiffe://<trust domain>/ns/<namespace>/sa/<account>.
func ParseID(s string) (ID, error) {
	id, err := spiffeid.FromString(s)
	if err != nil {
		return ID{}, fmt.Errorf("parse SPIFFE id %q: %w", s, err)
	}
	parts := strings.Split(id.Path(), "/") // "", ns, <namespace>, sa, <account>
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
		return ID{}, fmt.Errorf("parse SPIFFE id %q: want the path /ns/<namespace>/sa/<account>", s)
	}
	return ID{TrustDomain: id.TrustDomain().Name(), Namespace: parts[2], Account: parts[4]}, nil
}

// IsZero reports whether the id is nobody.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the SPIFFE id, "" for nobody.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return "spiffe://" + id.TrustDomain + "/ns/" + id.Namespace + "/sa/" + id.Account
}

// URL returns the id as a URI SAN.
func (id ID) URL() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.TrustDomain, Path: "/ns/" + id.Namespace + "/sa/" + id.Account}
}

// IDOf returns the identity in a certificate: its only URI SAN (X509-SVID,
// section 2: exactly one).
func IDOf(c *x509.Certificate) (ID, error) {
	if len(c.URIs) != 1 {
		return ID{}, fmt.Errorf("read identity: certificate has %d URI names, want exactly one", len(c.URIs))
	}
	return ParseID(c.URIs[0].String())
}

var errNobody = errors.New("sign certificate: no identity")
