package tls

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
)

// ErrNotReady is a handshake's error while a secret has not arrived.
var ErrNotReady = errors.New("TLS context is not ready: secret is not supplied by SDS")

// A Server is a downstream transport socket.
type Server struct {
	config  ServerConfig
	base    *tls.Config
	verify  *verifier
	tickets ticketKeys
}

// Context is what it was made of.
func (s *Server) Context() *Common { return &s.config.Common }

// NewServer checks a configuration and makes a transport socket of it.
func NewServer(c ServerConfig) (*Server, error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	if len(c.Identities) == 0 {
		return nil, errors.New("a downstream TLS context needs a certificate")
	}
	for _, id := range c.Identities {
		if cert := id.Certificate(); c.Staple == MustStaple && cert != nil && len(cert.OCSPStaple) == 0 {
			return nil, fmt.Errorf("%s: has no ocsp_staple, which MUST_STAPLE asks for", id.Name())
		}
	}
	if c.RequireClientCertificate && c.Trust == nil && !c.Rules.demanding() && !c.Rules.AcceptUntrusted {
		return nil, errors.New("require_client_certificate needs a validation context that says who is trusted") // Envoy does not even ask
	}
	s := &Server{config: c, base: base, verify: newVerifier(&c.Common, x509.ExtKeyUsageClientAuth), tickets: ticketKeys{from: c.Tickets}}
	base.SessionTicketsDisabled = c.DisableTickets
	return s, nil
}

// clientAuth says whether a client is asked for a certificate, and whether it must have one: a list of names or hashes
// is there to be met.
func (s *Server) clientAuth() tls.ClientAuthType {
	bundle, rules := s.verify.effective()
	switch {
	case s.config.RequireClientCertificate, rules.demanding() && !rules.AcceptUntrusted:
		return tls.RequireAnyClientCert
	case bundle != nil, s.config.Trust != nil, rules.demanding(), rules.AcceptUntrusted:
		return tls.RequestClientCert
	}
	return tls.NoClientCert
}

// A Client is an upstream transport socket.
type Client struct {
	config ClientConfig
	mesh   bool
	base   *tls.Config
	verify *verifier
}

// Context is what it was made of.
func (c *Client) Context() *Common { return &c.config.Common }

// NewClient checks a configuration and makes a transport socket of it.
func NewClient(c ClientConfig) (*Client, error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	t := &Client{config: c, mesh: slices.Contains(c.ALPN, "istio"), base: base, verify: newVerifier(&c.Common, x509.ExtKeyUsageServerAuth)}
	base.InsecureSkipVerify = true // verifier decides
	base.SessionTicketsDisabled = c.MaxSessions == 0
	base.ClientSessionCache = &sessions{of: t, max: c.MaxSessions, byName: map[string]session{}}
	if len(c.Identities) > 0 {
		base.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert := c.Identities[0].Certificate(); cert != nil {
				return cert, nil
			}
			return nil, ErrNotReady
		}
	}
	return t, nil
}

// base holds what is common to both sides.
func (c *Common) base() (*tls.Config, error) {
	ids, err := c.suites()
	if err != nil {
		return nil, err
	}
	groups, err := c.curves()
	if err != nil {
		return nil, err
	}
	b := &tls.Config{
		MinVersion: c.MinVersion, MaxVersion: c.MaxVersion, CipherSuites: ids, CurvePreferences: groups,
		NextProtos: slices.Clone(c.ALPN), DynamicRecordSizingDisabled: true, // one record per flush, not one per packet
	}
	if b.MinVersion == 0 {
		b.MinVersion = tls.VersionTLS12
	}
	if b.MaxVersion != 0 && b.MaxVersion < b.MinVersion {
		return nil, fmt.Errorf("maximum TLS version %#x is below the minimum %#x", b.MaxVersion, b.MinVersion)
	}
	return b, nil
}

// Ready reports whether every secret that a handshake needs has arrived.
func (s *Server) Ready() bool {
	return s.config.ready() && (s.config.Tickets == nil || s.config.Tickets.Ready())
}

// Ready reports whether every secret that a handshake needs has arrived.
func (c *Client) Ready() bool { return c.config.ready() }

func (c *Common) ready() bool {
	for _, id := range c.Identities {
		if id.Certificate() == nil {
			return false
		}
	}
	return c.Trust == nil || c.Trust.Bundle() != nil
}

// Found is what a handshake has brought to light, beside what crypto/tls says of it.
type Found struct {
	Peer  *Peer             // nil: it showed no certificate
	Local *x509.Certificate // that we showed; nil: none
}

// Config returns the crypto/tls configuration of one handshake, which fills found. aside may be nil.
func (s *Server) Config(aside Aside, found *Found) *tls.Config {
	s.tickets.renew(s.base)
	c := s.base.Clone()
	if c.ClientAuth = s.clientAuth(); c.ClientAuth != tls.NoClientCert {
		c.ClientCAs = s.verify.authorities()
	}
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := s.certificate(hello)
		if err == nil {
			found.Local = cert.Leaf
		}
		return cert, err
	}
	s.verify.hook(c, nil, aside, found)
	if !c.SessionTicketsDisabled {
		s.sessions(c)
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if !s.config.ready() { // who could not be verified is not shown who we are
			return nil, ErrNotReady
		}
		// Whoever resumes a session is shown no certificate; who we are is what we would have shown.
		if cert, err := s.certificate(hello); err == nil {
			found.Local = cert.Leaf
		}
		return withoutALPN(c, hello), nil
	}
	return c
}

// withoutALPN returns c without protocols if the client offers none of them, else nil, which means c.
// RFC 7301, section 3.2, wants such a handshake to fail, and crypto/tls fails it; Envoy
// goes on without a protocol, and clients in the wild count on that.
func withoutALPN(c *tls.Config, hello *tls.ClientHelloInfo) *tls.Config {
	if len(c.NextProtos) == 0 || len(hello.SupportedProtos) == 0 {
		return nil
	}
	for _, offered := range hello.SupportedProtos {
		if slices.Contains(c.NextProtos, offered) {
			return nil
		}
	}
	bare := c.Clone()
	bare.NextProtos, bare.GetConfigForClient = nil, nil
	return bare
}

// Config returns the crypto/tls configuration of one handshake, which fills found. authority is
// the host of the request for which the connection is made, host the name of the host that it goes to; they are used
// only where the configuration says so. aside may be nil.
func (t *Client) Config(authority, host string, wish *Wish, aside Aside, found *Found) *tls.Config {
	c := t.base.Clone()
	c.ServerName = t.ServerName(authority, host)
	found.Local = t.config.local()
	var expected *expectation
	if t.config.AutoSANs && c.ServerName != "" {
		expected = &expectation{names: []string{c.ServerName}, rule: t.config.SANsAreRule}
	}
	if wish != nil {
		c.ServerName = cmp.Or(wish.ServerName, c.ServerName)
		if len(wish.Names) > 0 {
			expected = &expectation{names: wish.Names}
		}
	}
	t.verify.hook(c, expected, aside, found)
	return c
}

// A Wish is what a request or connection asks of the connection that is made for it, in the place of what the
// configuration says. What is empty asks for nothing.
type Wish struct {
	ServerName string
	Names      []string // one of which the certificate must bear
	ALPN       []string
}

// ServerName is the SNI that a connection for this authority to a host of this name sends.
func (t *Client) ServerName(authority, host string) string {
	if t.config.AutoSNI && authority != "" {
		if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
			authority = authority[:i]
		}
		return strings.Trim(authority, "[]")
	}
	if t.config.HostSNI && host != "" {
		return host
	}
	return t.config.SNI
}

// ByAuthority reports whether connections differ by the request's authority.
func (t *Client) ByAuthority() bool { return t.config.AutoSNI }

// ALPN is what the client offers.
func (t *Client) ALPN() []string { return t.config.ALPN }

// InMesh reports whether the connections go to a sidecar: they offer "istio". Only there
// does a request's own ALPN take the place of the context's; a server outside would not know the names.
func (t *Client) InMesh() bool { return t.mesh }

// Identities are the certificates that the server may show, for the admin interface.
func (s *Server) Identities() []*Identity { return s.config.Identities }

// local is who we are in a connection that is made now: the first identity.
func (c *Common) local() *x509.Certificate {
	if len(c.Identities) == 0 {
		return nil
	}
	if cert := c.Identities[0].Certificate(); cert != nil {
		return cert.Leaf
	}
	return nil
}

// Describe says what a record tells of a connection after its handshake.
func Describe(state *tls.ConnectionState, found *Found) *access.TLS {
	d := &access.TLS{
		Version: state.Version, Cipher: state.CipherSuite, SNI: state.ServerName, ALPN: state.NegotiatedProtocol,
		Group: curveName(state.CurveID), Local: found.Local,
	}
	if d.Local != nil && len(d.Local.URIs) > 0 {
		d.LocalID = d.Local.URIs[0].String()
	}
	if peer := found.Peer; peer != nil {
		d.Peer, d.Chain, d.PeerID, d.Verified = peer.Leaf, peer.Chain, peer.Principal(), peer.Verified
		d.Issuer = peer.Authority
	}
	return d
}
