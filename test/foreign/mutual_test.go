package foreign

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/mallamesh/malla/node/sds"
	"github.com/mallamesh/malla/pki"
)

// certificate is one of somebody's.
func (p *play) certificate(who string) *tls.Certificate {
	p.t.Helper()
	id, err := pki.ParseID(who)
	if err != nil {
		p.t.Fatal(err)
	}
	key, chain, err := authority(p.t).Serve(id, nil, nil, time.Hour, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	return &tls.Certificate{PrivateKey: key, Leaf: chain[0], Certificate: [][]byte{chain[0].Raw}}
}

// secrets gives a proxy its certificate and roots.
func (p *play) secrets(static map[string]any, stock bool, me *tls.Certificate) {
	if stock {
		static["clusters"] = append(static["clusters"].([]any), grpcCluster("sds-grpc", p.agent(me)))
		return
	}
	key, err := pki.EncodeKey(me.PrivateKey.(crypto.Signer))
	if err != nil {
		p.t.Fatal(err)
	}
	text := func(b []byte) any { return map[string]any{"inline_string": string(b)} }
	static["secrets"] = []any{
		map[string]any{"name": "default", "tls_certificate": map[string]any{"certificate_chain": text(pki.EncodeCertificates(me.Leaf)), "private_key": text(key)}},
		map[string]any{"name": "ROOTCA", "validation_context": map[string]any{"trusted_ca": text(authority(p.t).RootPEM())}},
	}
}

// systemRoots is the name by which an agent beside a real Envoy gives it the roots of the system.
const systemRoots = "file-root:system"

// agent gives a proxy its certificate, as the one beside it would, and returns its address.
func (p *play) agent(me *tls.Certificate) string {
	p.t.Helper()
	s := sds.New(slog.New(slog.DiscardHandler))
	if err := s.SetIdentity("default", me); err != nil {
		p.t.Fatal(err)
	}
	if err := s.SetRoots("ROOTCA", authority(p.t).Roots()); err != nil {
		p.t.Fatal(err)
	}
	if bundle, err := os.ReadFile(filepath.Join(p.root, machine)); p.root != "" && err == nil {
		if err := s.SetBundle(systemRoots, bundle); err != nil {
			p.t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	g := grpc.NewServer()
	s.Register(g)
	go func() { _ = g.Serve(l) }()
	p.t.Cleanup(g.Stop)
	return l.Addr().String()
}

func roots(ca *pki.CA) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range ca.Roots() {
		pool.AddCert(c)
	}
	return pool
}

// secure listens for connections with TLS; a permissive one takes others, too. The server above does not see that they have it: it
// would close those that speak one of Istio's protocols.
type secure struct {
	net.Listener
	config     *tls.Config
	permissive bool
}

func (l secure) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if l.permissive {
		first, err := c.(*introduced).r.Peek(1)
		if err != nil || first[0] != 0x16 { // a handshake's first byte
			return c, nil
		}
	}
	return hidden{tls.Server(c, l.config)}, nil
}

type hidden struct{ net.Conn }

// connection is the key of a request's connection in its context.
type connection struct{}

// hideHash leaves out of x-forwarded-client-cert what every certificate has its own of.
func hideHash(value string) string {
	parts := strings.Split(value, ";")
	for i, part := range parts {
		if name, _, _ := strings.Cut(part, "="); name == "Hash" || name == "Cert" {
			parts[i] = name + "=..."
		}
	}
	return strings.Join(parts, ";")
}
