package pki

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// IsKeyHash reports whether a text is the SHA-256 of a public key as proxies read it: in base64.
func IsKeyHash(text string) bool {
	sum, err := base64.StdEncoding.DecodeString(text)
	return err == nil && len(sum) == 32 && len(text) == 44
}

// IsCertificateHash reports whether a text is the SHA-256 of a certificate as proxies read it: in
// hex, with a colon between any two bytes or none at all.
func IsCertificateHash(text string) bool {
	if len(text) == 95 {
		parts := strings.Split(text, ":")
		for _, p := range parts {
			if len(p) != 2 {
				return false
			}
		}
		text = strings.Join(parts, "")
	}
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == 32
}
