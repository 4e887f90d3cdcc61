// Package credential reads certificates, keys and roots out of Secrets and
// ConfigMaps.
//
// All forms are read that Istio reads: those of `kubectl create secret tls` (tls.crt,
// tls.key, ca.crt, ca.crl, tls.ocsp-staple) and the generic ones (cert, key, cacert,
// crl), of which the generic are looked at first. An object may have a certificate,
// roots, or both. What is there and no good is left out, and the author is told why;
// the key itself is in no message.
package credential

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// Kinds lists the kinds that Read knows.
var Kinds = []string{"Secret", "ConfigMap"}

// Read returns what an object holds, nil if it has nothing to do with TLS.
func Read(o *config.Object) *model.Credential {
	data := map[string][]byte{}
	switch v := o.Value.(type) {
	case *corev1.Secret:
		data = v.Data
	case *corev1.ConfigMap:
		for k, text := range v.Data {
			data[k] = []byte(text)
		}
		for k, text := range v.BinaryData {
			data[k] = text
		}
	}
	any := false
	for _, k := range model.CredentialEntries() {
		any = any || len(data[k]) > 0
	}
	if !any {
		return nil
	}
	c := &model.Credential{From: model.Ref{Kind: o.Kind.Kind, Namespace: o.Namespace, Name: o.Name, Pos: o.Pos, Version: o.Version}}
	if o.Kind.Kind == "Secret" {
		pair(c, data)
	} else {
		c.NoCert = "a ConfigMap holds no certificates with keys"
	}
	roots(c, data)
	return c
}

// pair reads a certificate with its key.
func pair(c *model.Credential, data map[string][]byte) {
	for _, form := range [][3]string{{"cert", "key", ""}, {"tls.crt", "tls.key", "tls.ocsp-staple"}} {
		cert, key := data[form[0]], data[form[1]]
		switch {
		case len(cert) == 0 && len(key) == 0:
			continue
		case len(cert) == 0:
			c.NoCert = fmt.Sprintf("has %s, but no %s", form[1], form[0])
			continue
		case len(key) == 0:
			c.NoCert = fmt.Sprintf("has %s, but no %s", form[0], form[1])
			continue
		}
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			c.NoCert = fmt.Sprintf("%s and %s: %s", form[0], form[1], strings.TrimPrefix(err.Error(), "tls: "))
			return
		}
		c.Cert, c.Key, c.Staple, c.NoCert = cert, key, data[form[2]], ""
		return
	}
	if c.NoCert == "" {
		c.NoCert = "has neither tls.crt and tls.key nor cert and key"
	}
}

// roots reads what certificates of peers are verified by.
func roots(c *model.Credential, data map[string][]byte) {
	for _, form := range [][2]string{{"cacert", "crl"}, {"ca.crt", "ca.crl"}} {
		ca := data[form[0]]
		if len(ca) == 0 {
			continue
		}
		if err := certificates(ca); err != nil {
			c.NoCA = fmt.Sprintf("%s: %v", form[0], err)
			return
		}
		if crl := data[form[1]]; len(crl) > 0 {
			if err := lists(crl); err != nil {
				c.NoCA = fmt.Sprintf("%s: %v", form[1], err) // without its list a root would let in who was turned out
				return
			}
			c.CRL = crl
		}
		c.CA = ca
		return
	}
	c.NoCA = "has neither ca.crt nor cacert"
}

func certificates(text []byte) error {
	return blocks(text, "CERTIFICATE", func(der []byte) error {
		_, err := x509.ParseCertificate(der)
		return err
	})
}

func lists(text []byte) error {
	return blocks(text, "X509 CRL", func(der []byte) error {
		_, err := x509.ParseRevocationList(der)
		return err
	})
}

// blocks parses all PEM blocks of a type, of which there must be one.
func blocks(text []byte, of string, parse func(der []byte) error) error {
	n := 0
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != of {
			continue
		}
		if err := parse(block.Bytes); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("holds no %s in PEM", of)
	}
	return nil
}
