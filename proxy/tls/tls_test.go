package tls

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/pki"
)

const spiffe = "spiffe://cluster.local/ns/default/sa/reviews"

func authority(t testing.TB) *pki.CA {
	ca, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t testing.TB, ca *pki.CA, ttl time.Duration) (*tls.Certificate, [][]byte) {
	t.Helper()
	id, err := pki.ParseID(spiffe)
	if err != nil {
		t.Fatal(err)
	}
	key, chain, err := ca.Serve(id, []string{"reviews.default.svc"}, nil, ttl, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, x := range chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c, c.Certificate
}

func trusting(t testing.TB, ca *pki.CA) *Trust {
	trust := NewTrust("ROOTCA")
	if err := trust.Set([]*x509.Certificate{ca.Root()}); err != nil {
		t.Fatal(err)
	}
	return trust
}

func TestNames(t *testing.T) {
	ca := authority(t)
	_, chain := issue(t, ca, time.Hour)
	trust := trusting(t, ca)
	for _, test := range []struct {
		matchers []SANMatcher
		host     string
		ok       bool
		why      string
	}{
		{nil, "", true, "nobody asks for a name"},
		{[]SANMatcher{{Type: URISAN, Exact: spiffe}}, "", true, ""},
		{[]SANMatcher{{Type: URISAN, Prefix: "spiffe://cluster.local/ns/default/"}}, "", true, ""},
		{[]SANMatcher{{Type: URISAN, Exact: "spiffe://x"}, {Type: URISAN, Exact: spiffe}}, "", true, "one is enough"},
		{[]SANMatcher{{Type: AnySAN, Exact: spiffe}}, "", true, ""},
		{[]SANMatcher{{Type: DNSSAN, Exact: "reviews.default.svc"}}, "", true, ""},
		{[]SANMatcher{{Type: URISAN, Regex: regexp.MustCompile(`spiffe://.*/sa/reviews`)}}, "", true, ""},
		{nil, "reviews.default.svc", true, ""},
		{[]SANMatcher{{Type: DNSSAN, Exact: spiffe}}, "", false, "another kind of name"},
		{[]SANMatcher{{Type: URISAN, Exact: spiffe + "x"}}, "", false, ""},
		{[]SANMatcher{{Type: URISAN, Prefix: "spiffe://other.local/"}}, "", false, ""},
		{[]SANMatcher{{Type: URISAN, Regex: regexp.MustCompile(`spiffe://cluster`)}}, "", false, "an expression matches the whole name"},
		{nil, "ratings.default.svc", false, ""},
	} {
		v := newVerifier(&Common{Trust: trust, Rules: Rules{SANs: test.matchers}}, x509.ExtKeyUsageServerAuth)
		for range 2 { // the second time from memory
			var expected *expectation
			if test.host != "" {
				expected = &expectation{names: []string{test.host}}
			}
			peer, err := v.verify(chain, expected, nil)
			if (err == nil) != test.ok {
				t.Errorf("%+v %q (%s): %v", test.matchers, test.host, test.why, err)
			}
			if err == nil && (peer.Principal() != spiffe || !peer.Verified) {
				t.Errorf("peer %+v", peer)
			}
			if err != nil && !strings.Contains(err.Error(), "CERTIFICATE_VERIFY_FAILED") {
				t.Errorf("error %v", err)
			}
		}
	}
}

// Only a chain that nobody has seen keeps its handshake waiting for another goroutine, and one
// whose connection has gone is not taken for good.
func TestUnknownChainsAreVerifiedAside(t *testing.T) {
	ca := authority(t)
	_, chain := issue(t, ca, time.Hour)
	v := newVerifier(&Common{Trust: trusting(t, ca)}, x509.ExtKeyUsageServerAuth)
	if _, err := v.verify(chain, nil, func(func()) bool { return false }); err == nil || len(v.cache) > 0 {
		t.Errorf("when nobody waits: %v, %d are remembered", err, len(v.cache))
	}
	asides := 0
	aside := func(f func()) bool { asides++; f(); return true }
	for range 3 {
		if _, err := v.verify(chain, nil, aside); err != nil {
			t.Fatal(err)
		}
	}
	if asides != 1 {
		t.Errorf("%d verifications aside, want 1", asides)
	}
}

// What was found good is found good again without its signatures, but not beyond its
// dates, and not under other roots.
func TestMemoryOfVerifications(t *testing.T) {
	ca := authority(t)
	_, chain := issue(t, ca, time.Hour)
	trust := trusting(t, ca)
	v := newVerifier(&Common{Trust: trust}, x509.ExtKeyUsageServerAuth)
	now := time.Now()
	v.now = func() time.Time { return now }
	if _, err := v.verify(chain, nil, nil); err != nil {
		t.Fatal(err)
	}
	if len(v.cache) != 1 {
		t.Fatalf("%d verifications are remembered, want 1", len(v.cache))
	}
	now = now.Add(2 * time.Hour)
	if _, err := v.verify(chain, nil, nil); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("after its end: %v", err)
	}
	now = now.Add(-2 * time.Hour)
	other := authority(t)
	if err := trust.Set([]*x509.Certificate{other.Root()}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.verify(chain, nil, nil); err == nil {
		t.Error("a chain that was good under the old roots is taken under the new ones")
	}
	if err := trust.Set([]*x509.Certificate{other.Root(), ca.Root()}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.verify(chain, nil, nil); err != nil {
		t.Errorf("under both roots: %v", err)
	}
	if len(v.cache) != 1 {
		t.Errorf("%d verifications are remembered, want those of the present roots only", len(v.cache))
	}
}

// A certificate is good on the dates that it says, wherever the clock jumps: what is remembered of it is not believed on others, and
// is believed again on its own.
func TestVerificationsFollowTheClock(t *testing.T) {
	ca := authority(t)
	_, chain := issue(t, ca, 30*time.Minute)
	v := newVerifier(&Common{Trust: trusting(t, ca)}, x509.ExtKeyUsageServerAuth)
	for _, test := range []struct {
		jump time.Duration
		want string // "": good
	}{{0, ""}, {time.Hour, "expired"}, {0, ""}, {-time.Hour, "not yet valid"}, {0, ""}} {
		v.now = func() time.Time { return time.Now().Add(test.jump) }
		switch _, err := v.verify(chain, nil, nil); {
		case test.want == "" && err != nil:
			t.Errorf("%v: %v, want none", test.jump, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%v: %v, want %q", test.jump, err, test.want)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	ca := authority(t)
	v := newVerifier(&Common{Trust: trusting(t, ca)}, x509.ExtKeyUsageServerAuth)
	_, chain := issue(t, ca, time.Hour)
	g := v.trust.Bundle().Generation
	for i := range 3 * maxVerified {
		v.cache[chainKey{generation: g, sum: [32]byte{byte(i), byte(i >> 8), byte(i >> 16), 1}}] = &verified{}
	}
	if _, err := v.verify(chain, nil, nil); err != nil {
		t.Fatal(err)
	}
	if len(v.cache) > maxVerified {
		t.Errorf("%d verifications are remembered, want at most %d", len(v.cache), maxVerified)
	}
}

func TestBadChains(t *testing.T) {
	ca := authority(t)
	_, chain := issue(t, ca, time.Hour)
	v := newVerifier(&Common{Trust: trusting(t, ca)}, x509.ExtKeyUsageServerAuth)
	if _, err := v.verify(nil, nil, nil); !strings.Contains(err.Error(), "PEER_DID_NOT_RETURN_A_CERTIFICATE") {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := v.verify([][]byte{[]byte("x")}, nil, nil); err == nil {
		t.Error("garbage is taken for a certificate")
	}
	// A chain is remembered by all its bytes, so that nothing can be slipped in behind a known leaf.
	if _, err := v.verify(chain, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := v.verify(append(append([][]byte{}, chain...), []byte("x")), nil, nil); err == nil {
		t.Error("garbage behind a good leaf is taken")
	}
	if v := newVerifier(&Common{Trust: NewTrust("ROOTCA")}, x509.ExtKeyUsageServerAuth); true {
		if _, err := v.verify(chain, nil, nil); err == nil {
			t.Error("without roots nobody is trusted")
		}
	}
}

func TestContexts(t *testing.T) {
	ca := authority(t)
	id := NewIdentity("default")
	if _, err := NewServer(ServerConfig{}); err == nil {
		t.Error("a server without a certificate is accepted")
	}
	if _, err := NewServer(ServerConfig{RequireClientCertificate: true, Common: Common{Identities: []*Identity{id}}}); err == nil {
		t.Error("client certificates are wanted and nothing says who is trusted")
	}
	if _, err := NewClient(ClientConfig{Common: Common{Ciphers: []string{"RC4-MD5"}}}); err == nil || !strings.Contains(err.Error(), `"RC4-MD5"`) {
		t.Errorf("cipher: %v", err)
	}
	if _, err := NewClient(ClientConfig{Common: Common{Curves: []string{"X448"}}}); err == nil {
		t.Error("an unknown curve is accepted")
	}
	s, err := NewServer(ServerConfig{Common: Common{Identities: []*Identity{id}}})
	if err != nil {
		t.Fatal(err)
	}
	ready := 0
	id.OnReady(func() { ready++ })
	if s.Ready() || ready != 0 {
		t.Error("ready without a secret")
	}
	cert, _ := issue(t, ca, time.Hour)
	if err := id.Set(cert); err != nil {
		t.Fatal(err)
	}
	if !s.Ready() || ready != 1 {
		t.Errorf("ready %v, told %d times; want true and once", s.Ready(), ready)
	}
	if got := s.Config(nil, &Found{}); got.MinVersion != tls.VersionTLS12 || !got.DynamicRecordSizingDisabled {
		t.Errorf("minimum %#x, dynamic records %v", got.MinVersion, !got.DynamicRecordSizingDisabled)
	}
	c, err := NewClient(ClientConfig{AutoSNI: true})
	if err != nil {
		t.Fatal(err)
	}
	for authority, want := range map[string]string{"a.b:443": "a.b", "a.b": "a.b", "[::1]:8": "::1"} {
		if got := c.ServerName(authority, ""); got != want {
			t.Errorf("SNI of %q is %q, want %q", authority, got, want)
		}
	}
}

// A client that offers only protocols that we do not know is served without one, as by Envoy.
func TestProtocols(t *testing.T) {
	ca := authority(t)
	cert, _ := issue(t, ca, time.Hour)
	id := NewIdentity("default")
	if err := id.Set(cert); err != nil {
		t.Fatal(err)
	}
	server, err := NewServer(ServerConfig{Common: Common{Identities: []*Identity{id}, ALPN: []string{"h2", "http/1.1"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		offers []string
		want   string
		why    string
	}{
		{nil, "", "a client without ALPN"},
		{[]string{"istio"}, "", "nothing in common"},
		{[]string{"istio-http/1.1", "istio", "http/1.1"}, "http/1.1", "what Istio's sidecars offer for HTTP"},
		{[]string{"http/1.1", "h2"}, "h2", "the server's order counts"},
	} {
		a, b := net.Pipe()
		done := make(chan error, 1)
		accepted := tls.Server(b, server.Config(nil, &Found{}))
		go func() { done <- accepted.Handshake() }()
		c := tls.Client(a, &tls.Config{InsecureSkipVerify: true, NextProtos: test.offers})
		if err := c.Handshake(); err != nil {
			t.Errorf("%s: %v", test.why, err)
		} else if err := <-done; err != nil {
			t.Errorf("%s: server: %v", test.why, err)
		} else if got := c.ConnectionState().NegotiatedProtocol; got != test.want {
			t.Errorf("%s: agreed on %q, want %q", test.why, got, test.want)
		}
		a.Close()
		b.Close()
	}
}

// A client is told whose certificates we take, as by Envoy: who has several chooses by it, and who has none of theirs shows none. Until
// we know, nobody is shown who we are.
func TestAuthorities(t *testing.T) {
	ca := authority(t)
	cert, _ := issue(t, ca, time.Hour)
	id := NewIdentity("default")
	if err := id.Set(cert); err != nil {
		t.Fatal(err)
	}
	trust := NewTrust("ROOTCA")
	server, err := NewServer(ServerConfig{Common: Common{Identities: []*Identity{id}, Trust: trust}})
	if err != nil {
		t.Fatal(err)
	}
	told := func() (names [][]byte, err error) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		accepted := tls.Server(b, server.Config(nil, &Found{}))
		go func() {
			_ = accepted.Handshake()
			b.Close()
		}()
		c := tls.Client(a, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			names = r.AcceptableCAs
			return &tls.Certificate{}, nil
		}})
		return names, c.Handshake()
	}
	if _, err := told(); err == nil {
		t.Error("there is a handshake before there are roots")
	}
	if err := trust.Set(ca.Roots()); err != nil {
		t.Fatal(err)
	}
	names, err := told()
	if err != nil || len(names) != 1 || string(names[0]) != string(ca.Roots()[0].RawSubject) {
		t.Errorf("told of %q, %v; want the one root", names, err)
	}
}
