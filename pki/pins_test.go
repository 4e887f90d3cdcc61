package pki

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// Hashes are taken as Envoy takes them: what it refuses would take a whole listener with it.
func TestHashes(t *testing.T) {
	sum := sha256.Sum256([]byte("x"))
	b64, plain := base64.StdEncoding.EncodeToString(sum[:]), hex.EncodeToString(sum[:])
	var pairs []string
	for _, b := range sum {
		pairs = append(pairs, hex.EncodeToString([]byte{b}))
	}
	colons := strings.Join(pairs, ":")
	for _, test := range []struct {
		text      string
		key, cert bool
	}{
		{b64, true, false},
		{b64[:40], false, false},
		{b64[:20] + "\n" + b64[20:], false, false}, // which Go's decoder skips
		{plain, false, true},
		{strings.ToUpper(plain), false, true},
		{colons, false, true},
		{strings.ToUpper(colons), false, true},
		{plain[:32] + ":" + plain[32:], false, false},
		{strings.Repeat(":", 31) + plain, false, false},
		{plain[:62], false, false},
		{"", false, false},
	} {
		if key, cert := IsKeyHash(test.text), IsCertificateHash(test.text); key != test.key || cert != test.cert {
			t.Errorf("%q: a key's %t, a certificate's %t; want %t, %t", test.text, key, cert, test.key, test.cert)
		}
	}
}
