package tls

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tls/openssl"
)

// Count counts a handshake that has succeeded, as Envoy does; peer is nil if none was seen.
func Count(st *stats.TLS, state *tls.ConnectionState, peer *Peer) {
	st.Handshake.Inc()
	if state.DidResume {
		st.SessionReused.Inc()
	}
	switch {
	case peer == nil:
		st.NoCertificate.Inc()
	case peer.Doubt != nil:
		CountFailure(st, peer.Doubt)
	}
	st.Ciphers.Inc(openssl.Suite(state.CipherSuite))
	st.Versions.Inc(openssl.Version(state.Version))
	if state.CurveID != 0 {
		st.Curves.Inc(curveName(state.CurveID))
	}
	if peer != nil && !state.DidResume {
		if name := signature(peer.Leaf); name != "" {
			st.SigAlgs.Inc(name)
		}
	}
}

// CountFailure counts a handshake that has failed. A certificate that is refused is no error of the connection.
func CountFailure(st *stats.TLS, err error) {
	var failed *Failure
	if errors.Is(err, ErrNotReady) {
		return // nobody's mistake
	}
	if !errors.As(err, &failed) {
		if isNoCertificate(err) {
			st.FailVerifyNoCert.Inc()
		} else {
			st.ConnectionError.Inc()
		}
		return
	}
	switch failed.Kind {
	case NoCertificate:
		st.FailVerifyNoCert.Inc()
	case WrongName:
		st.FailVerifySAN.Inc()
	case WrongHash:
		st.FailVerifyCertHash.Inc()
	default:
		st.FailVerifyError.Inc()
	}
}

// CountLoss counts the end of a connection after its handshake, if it was TLS that ended it, and reports whether it
// was: an alert, as that of a server of TLS 1.3 which wanted a certificate, or bytes that cannot be read.
func CountLoss(st *stats.TLS, err error) bool {
	var op *net.OpError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	if errors.As(err, &alert) || errors.As(err, &record) || Alert(err) != "" || errors.As(err, &op) && op.Op == "local error" {
		st.ConnectionError.Inc()
		return true
	}
	return false
}

// Alert is the name of the alert by which the peer has ended a connection, empty if it has not.
func Alert(err error) string {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return ""
	}
	return strings.ReplaceAll(strings.TrimPrefix(op.Err.Error(), "tls: "), " ", "_")
}

// isNoCertificate recognises the error of crypto/tls for a client that shows nothing where something is required.
func isNoCertificate(err error) bool {
	return err != nil && err.Error() == "tls: client didn't provide a certificate"
}

// signature is the algorithm by which a peer has signed, where its key leaves no choice. crypto/tls does not say
// which one an RSA key was used with.
func signature(leaf *x509.Certificate) string {
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return "ecdsa_secp256r1_sha256"
		case 384:
			return "ecdsa_secp384r1_sha384"
		case 521:
			return "ecdsa_secp521r1_sha512"
		}
	case ed25519.PublicKey:
		return "ed25519"
	}
	return ""
}

// curveName is BoringSSL's name of a way to exchange keys.
func curveName(id tls.CurveID) string {
	for name, c := range curves {
		if c == id {
			return name
		}
	}
	return id.String()
}
