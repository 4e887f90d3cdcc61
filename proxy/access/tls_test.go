package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

func certificate(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := url.Parse("spiffe://cluster.local/ns/default/sa/sleep")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x1234), Subject: pkix.Name{CommonName: "sleep", Organization: []string{"malla"}},
		URIs: []*url.URL{id}, DNSNames: []string{"a.example", "b.example"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}, EmailAddresses: []string{"a@b.c"},
		NotBefore: time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC), NotAfter: time.Date(2026, 11, 21, 2, 3, 4, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTLSFacts(t *testing.T) {
	c := certificate(t)
	both := &TLS{Version: tls.VersionTLS13, Cipher: tls.TLS_AES_128_GCM_SHA256, Group: "X25519", SNI: "outbound_.80_._.a", SessionID: []byte{0xab}, Peer: c, Local: c}
	r := &Record{Downstream: both, Upstream: both}
	for _, test := range []struct{ format, want string }{
		{"%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %UPSTREAM_TLS_GROUP% %DOWNSTREAM_TLS_SESSION_ID%", "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519 ab"},
		{"%DOWNSTREAM_PEER_URI_SAN% %UPSTREAM_LOCAL_URI_SAN%", "spiffe://cluster.local/ns/default/sa/sleep spiffe://cluster.local/ns/default/sa/sleep"},
		{"%DOWNSTREAM_PEER_DNS_SAN% %DOWNSTREAM_PEER_IP_SAN% %DOWNSTREAM_PEER_EMAIL_SAN%", "a.example,b.example 10.0.0.1 a@b.c"},
		{"%DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_SERIAL%", "CN=sleep,O=malla 1234"},
		{"%DOWNSTREAM_PEER_CERT_V_START%", "2026-11-01T02:03:04.000Z"},
		{"%UPSTREAM_PEER_CERT_V_END(%Y-%m-%d)%", "2026-11-21"},
		{"%UPSTREAM_SERVER_NAME%", "outbound_.80_._.a"},
	} {
		f, err := Compile(test.format)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(f.Append(nil, r)); got != test.want {
			t.Errorf("%s = %q, want %q", test.format, got, test.want)
		}
	}
	f, err := Compile("%DOWNSTREAM_PEER_CERT% %DOWNSTREAM_PEER_FINGERPRINT_256%")
	if err != nil {
		t.Fatal(err)
	}
	got := string(f.Append(nil, r))
	if !strings.HasPrefix(got, "-----BEGIN%20CERTIFICATE-----%0A") || len(got[strings.LastIndexByte(got, ' ')+1:]) != 64 {
		t.Errorf("certificate and fingerprint: %s", got)
	}
	older := &Record{Downstream: &TLS{Version: tls.VersionTLS12, Cipher: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	f, err = Compile("%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %DOWNSTREAM_PEER_SUBJECT%")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(f.Append(nil, older)); got != "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256 -" {
		t.Errorf("TLS 1.2 without client certificate: %q", got)
	}
}

func TestProcessFacts(t *testing.T) {
	t.Setenv("POD_NAME", "reviews-v1-abc")
	for _, test := range []struct{ format, want string }{
		{"%ENVIRONMENT(POD_NAME)% %ENVIRONMENT(POD_NAME):7%", "reviews-v1-abc reviews"},
		{"%ENVIRONMENT(NO_SUCH_VARIABLE)%", "-"},
	} {
		f, err := Compile(test.format)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(f.Append(nil, &Record{})); got != test.want {
			t.Errorf("%s = %q, want %q", test.format, got, test.want)
		}
	}
	f, err := Compile("%HOSTNAME%%EMIT_TIME(%Y)%")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(f.Append(nil, &Record{})); len(got) < 5 {
		t.Errorf("host name and year: %q", got)
	}
}
