package tls

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
)

// A FailureKind says what was wrong with a peer's certificate, as far as statistics tell it apart.
type FailureKind uint8

const (
	NotTrusted    FailureKind = iota // no chain to a root, expired, revoked
	NoCertificate                    // none was shown
	WrongName                        // none of its names is allowed
	WrongHash                        // neither it nor its key is on the list
)

// A Failure is why a peer was refused. Its text is Envoy's, which people know from access logs.
type Failure struct {
	Kind FailureKind
	Why  string
}

func (f *Failure) Error() string {
	if f.Kind == NoCertificate {
		return "TLS_error:|268435648:SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:peer did not provide required client certificate:TLS_error_end"
	}
	return "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: " + f.Why + ":TLS_error_end"
}

// chainFailure puts what crypto/x509 says of a chain into the words of OpenSSL.
func chainFailure(err error, presented []*x509.Certificate) *Failure {
	depth, why := 0, err.Error()
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var at depthError
	switch {
	case errors.As(err, &at):
		depth, why = at.depth, at.why
	case errors.As(err, &unknown):
		depth, why = issuerMissing(presented)
	case errors.As(err, &invalid):
		for i, c := range presented {
			if invalid.Cert != nil && bytes.Equal(c.Raw, invalid.Cert.Raw) {
				depth = i
			}
		}
		switch invalid.Reason {
		case x509.Expired:
			why = "certificate has expired"
		case x509.IncompatibleUsage:
			why = "unsuitable certificate purpose"
		case x509.TooManyIntermediates:
			why = "path length constraint exceeded"
		case x509.NotAuthorizedToSign:
			depth, why = depth+1, "invalid CA certificate"
		case x509.CANotAuthorizedForThisName:
			why = "permitted subtree violation"
		}
	}
	return &Failure{Kind: NotTrusted, Why: fmt.Sprintf("X509_verify_cert: certificate verification error at depth %d: %s", depth, why)}
}

// issuerMissing says where the chain that was shown stops.
func issuerMissing(presented []*x509.Certificate) (depth int, why string) {
	at := presented[0]
	for range presented { // a chain is no longer than what was shown
		if bytes.Equal(at.RawIssuer, at.RawSubject) {
			if depth == 0 {
				return 0, "self signed certificate"
			}
			return depth, "self signed certificate in certificate chain"
		}
		next := issuerOf(at, presented)
		if next == nil {
			break
		}
		at, depth = next, depth+1
	}
	return depth, "unable to get local issuer certificate"
}

func issuerOf(c *x509.Certificate, among []*x509.Certificate) *x509.Certificate {
	for _, i := range among {
		if bytes.Equal(c.RawIssuer, i.RawSubject) {
			return i
		}
	}
	return nil
}

// A depthError is a fault of one certificate of a chain that is complete.
type depthError struct {
	depth int
	why   string
}

func (e depthError) Error() string { return e.why }
