package openssl

import (
	"crypto/tls"
	"testing"
)

func TestNames(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Suite(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384), "ECDHE-ECDSA-AES256-GCM-SHA384"},
		{Suite(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), "AES128-GCM-SHA256"}, // without an exchange of keys the name does not say so
		{Suite(tls.TLS_CHACHA20_POLY1305_SHA256), "TLS_CHACHA20_POLY1305_SHA256"},
		{Version(tls.VersionTLS10), "TLSv1"},
		{Version(tls.VersionTLS13), "TLSv1.3"},
		{Version(0), ""}, // no connection of TLS
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
