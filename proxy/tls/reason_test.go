package tls

import (
	"errors"
	"net"
	"testing"

	"github.com/mallamesh/malla/proxy/stats"
)

// People look for BoringSSL's words in logs; the numbers are those that Envoy prints.
func TestReason(t *testing.T) {
	for _, test := range []struct{ err, want string }{
		{"remote error: tls: bad certificate", "268436498:SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE"},
		{"remote error: tls: unknown certificate", "268436502:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_UNKNOWN"},
		{"remote error: tls: unknown certificate authority", "268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA"},
		{"remote error: tls: protocol version not supported", "268436526:SSL routines:OPENSSL_internal:TLSV1_ALERT_PROTOCOL_VERSION"},
		{"tls: first record does not look like a TLS handshake", "268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER"},
		{"tls: client offered only unsupported versions: [303]", "268435696:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL"},
		{"tls: no cipher suite supported by both client and server", "268435640:SSL routines:OPENSSL_internal:NO_SHARED_CIPHER"},
		{"tls: something else", "tls: something else"},
	} {
		if got := Reason(errors.New(test.err)); got != "TLS_error:|"+test.want+":TLS_error_end" {
			t.Errorf("%s: %s, want %s", test.err, got, test.want)
		}
	}
}

// What TLS ends is an error of TLS, and what the network ends is not.
func TestCountLoss(t *testing.T) {
	var st stats.TLS
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}
	if !CountLoss(&st, alert) || CountLoss(&st, &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}) || CountLoss(&st, nil) {
		t.Error("want an alert to be one, a reset and an end not")
	}
	if n := st.ConnectionError.Value(); n != 1 {
		t.Errorf("%d errors are counted, want 1", n)
	}
}
