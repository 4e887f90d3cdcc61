package access

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"
	"time"

	"github.com/mallamesh/malla/proxy/tls/openssl"
)

// tlsOp writes a fact about one end of the stream; without TLS it is missing.
func tlsOp(of func(*Record) *TLS, fact func(*TLS) string) operator {
	return operator{compile: textOp(func(r *Record) string {
		if t := of(r); t != nil {
			return fact(t)
		}
		return ""
	})}
}

// certTime writes a moment of the peer's certificate, with a layout as START_TIME has.
func certTime(of func(*Record) *TLS, moment func(*x509.Certificate) time.Time) operator {
	return operator{argument: mayArgument, compile: func(c command) (*op, error) {
		l, err := newLayout(c.arg, false)
		if err != nil {
			return nil, err
		}
		return &op{layout: l, write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
			t := of(r)
			if t == nil || t.Peer == nil {
				return dst, false
			}
			return o.layout.append(dst, moment(t.Peer)), true
		}}, nil
	}}
}

func peerStart(c *x509.Certificate) time.Time { return c.NotBefore }
func peerEnd(c *x509.Certificate) time.Time   { return c.NotAfter }

func peer(fact func(*x509.Certificate) string) func(*TLS) string {
	return func(t *TLS) string {
		if t.Peer == nil {
			return ""
		}
		return fact(t.Peer)
	}
}

func local(fact func(*x509.Certificate) string) func(*TLS) string {
	return func(t *TLS) string {
		if t.Local == nil {
			return ""
		}
		return fact(t.Local)
	}
}

func tlsVersion(t *TLS) string { return openssl.Version(t.Version) }
func tlsCipher(t *TLS) string  { return openssl.Suite(t.Cipher) }
func tlsGroup(t *TLS) string   { return t.Group }
func tlsSession(t *TLS) string { return hex.EncodeToString(t.SessionID) }

func uriSANs(c *x509.Certificate) string   { return join(c.URIs, (*url.URL).String) }
func dnsSANs(c *x509.Certificate) string   { return strings.Join(c.DNSNames, ",") }
func emailSANs(c *x509.Certificate) string { return strings.Join(c.EmailAddresses, ",") }
func subject(c *x509.Certificate) string   { return DistinguishedName(c.RawSubject) }
func issuer(c *x509.Certificate) string    { return DistinguishedName(c.RawIssuer) }

// serial is written byte by byte, as OpenSSL does: 0c and not c.
func serial(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }

func ipSANs(c *x509.Certificate) string {
	names := make([]string, len(c.IPAddresses))
	for i, ip := range c.IPAddresses {
		names[i] = ip.String()
	}
	return strings.Join(names, ",")
}

func fingerprint1(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw)
	return hex.EncodeToString(sum[:])
}

func fingerprint256(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// oneLine encodes PEM into one line, as Envoy does.
var oneLine = strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D")

// EncodePEM writes certificates as Envoy prints them: PEM, percent-encoded into one line.
func EncodePEM(list ...*x509.Certificate) string {
	var text []byte
	for _, c := range list {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return oneLine.Replace(string(text))
}

func pemOf(c *x509.Certificate) string { return EncodePEM(c) }

// issuerOf writes a fact about the authority that a verified peer's certificate is of.
func issuerOf(fact func(*x509.Certificate) string) func(*TLS) string {
	return func(t *TLS) string {
		if t.Issuer == nil {
			return ""
		}
		return fact(t.Issuer)
	}
}

// chain writes a fact about each certificate that the peer has shown.
func chain(fact func(*x509.Certificate) string) func(*TLS) string {
	return func(t *TLS) string { return join(t.Chain, fact) }
}

func join[T any](list []T, text func(T) string) string {
	names := make([]string, len(list))
	for i, v := range list {
		names[i] = text(v)
	}
	return strings.Join(names, ",")
}

// oneWord writes a reason as Envoy logs it, so that a line can be cut at its spaces.
func oneWord(reason string) string { return strings.ReplaceAll(reason, " ", "_") }
