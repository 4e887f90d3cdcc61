package tls

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"time"
)

// errStaple is a handshake's error where the policy wants a valid OCSP response and there is none.
var errStaple = errors.New("no certificate has a valid OCSP response")

// certificate picks one for a client: among those whose names cover the name that it asks for, one that it can work with,
// ECDSA before RSA. If no name fits, the first is shown, or all are looked at in the same way.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	ids := s.config.Identities
	if len(ids) > 1 {
		if id := s.best(hello, true); id != nil {
			return s.stapled(id)
		}
		if s.config.FullScan {
			if id := s.best(hello, false); id != nil {
				return s.stapled(id)
			}
		}
	}
	return s.stapled(ids[0])
}

// best returns the identity that suits a client best, nil if none does.
func (s *Server) best(hello *tls.ClientHelloInfo, byName bool) *Identity {
	if byName && hello.ServerName == "" {
		return nil
	}
	able := *hello
	able.ServerName = "" // names are compared here: a certificate that is shown in spite of its name is one, too
	var first *Identity
	exact := false
	for _, id := range s.config.Identities {
		c := id.Certificate()
		if c == nil || able.SupportsCertificate(c) != nil {
			continue
		}
		fits, whole := true, false
		if byName {
			fits, whole = covers(c.Leaf, hello.ServerName)
		}
		if !fits || exact && !whole {
			continue
		}
		if _, ec := c.PrivateKey.(*ecdsa.PrivateKey); first == nil || whole && !exact || ec && !isECDSA(first) {
			first, exact = id, whole
		}
	}
	return first
}

func isECDSA(id *Identity) bool {
	c := id.Certificate()
	if c == nil {
		return false
	}
	_, ec := c.PrivateKey.(*ecdsa.PrivateKey)
	return ec
}

// covers reports whether a certificate is for a server's name, and whether it has it in full and not by a star. Without names
// of hosts the subject's common name counts.
func covers(leaf *x509.Certificate, server string) (fits, whole bool) {
	names := leaf.DNSNames
	if len(names) == 0 && leaf.Subject.CommonName != "" {
		names = []string{leaf.Subject.CommonName}
	}
	for _, n := range names {
		if strings.EqualFold(n, server) {
			return true, true
		}
		if strings.HasPrefix(n, "*.") && matchDNS(n, server) {
			fits = true
		}
	}
	return fits, false
}

// stapled returns an identity's certificate with its OCSP response as the policy wants it.
func (s *Server) stapled(id *Identity) (*tls.Certificate, error) {
	shown := id.shown.Load()
	if shown == nil {
		return nil, ErrNotReady
	}
	c := shown.Certificate
	valid := len(c.OCSPStaple) > 0 && time.Now().Before(shown.staple.until)
	switch {
	case valid:
		return c, nil
	case s.config.Staple == MustStaple, s.config.Staple == StrictStapling && len(c.OCSPStaple) > 0:
		return nil, errStaple
	case len(c.OCSPStaple) > 0:
		bare := *c
		bare.OCSPStaple = nil
		return &bare, nil
	}
	return c, nil
}
