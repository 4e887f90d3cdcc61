package credential

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/pki"
)

// What of an object is used, and why the rest is not.
func TestRead(t *testing.T) {
	ca, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keyOf := func(ca *pki.CA) []byte {
		key, err := ca.KeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	cert, key, bad := ca.RootPEM(), keyOf(ca), []byte("x")
	const noCert, noCA = "has neither tls.crt and tls.key nor cert and key", "has neither ca.crt nor cacert"
	for _, test := range []struct {
		what         string
		data         map[string][]byte
		cert, ca     bool
		noCert, noCA string
	}{
		{"nothing", map[string][]byte{"password": bad}, false, false, "", ""},
		{"kubectl create secret tls", map[string][]byte{"tls.crt": cert, "tls.key": key}, true, false, "", noCA},
		{"with roots", map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": cert}, true, true, "", ""},
		{"generic", map[string][]byte{"cert": cert, "key": key, "cacert": cert}, true, true, "", ""},
		{"both forms: the generic one counts", map[string][]byte{"cert": cert, "key": keyOf(other), "tls.crt": cert, "tls.key": key}, false, false, "cert and key: private key does not match public key", noCA},
		{"half of the generic form", map[string][]byte{"key": key, "tls.crt": cert, "tls.key": key}, true, false, "", noCA},
		{"no key", map[string][]byte{"tls.crt": cert}, false, false, "has tls.crt, but no tls.key", noCA},
		{"roots alone", map[string][]byte{"cacert": cert}, false, true, noCert, ""},
		{"no roots in it", map[string][]byte{"ca.crt": key}, false, false, noCert, "ca.crt: holds no CERTIFICATE in PEM"},
		{"a list that is none", map[string][]byte{"ca.crt": cert, "ca.crl": bad}, false, false, noCert, "ca.crl: holds no X509 CRL in PEM"},
	} {
		k, _ := kind.Named("Secret")
		c := Read(&config.Object{Kind: k, Namespace: "a", Name: "b", Value: &corev1.Secret{Data: test.data}})
		if c == nil {
			if test.cert || test.ca || test.noCert != "" {
				t.Errorf("%s: nothing is read", test.what)
			}
			continue
		}
		if (c.Cert != nil) != test.cert || (c.CA != nil) != test.ca || c.NoCert != test.noCert || c.NoCA != test.noCA {
			t.Errorf("%s: certificate %v %q, roots %v %q", test.what, c.Cert != nil, c.NoCert, c.CA != nil, c.NoCA)
		}
		if text := fmt.Sprintf("%v %+v %#v %s", c, c, c, c.Key); len(c.Key) > 0 && strings.Contains(text, string(c.Key)) {
			t.Errorf("%s: the key is in %q", test.what, text)
		}
	}
}
