package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	securityv1alpha1 "istio.io/api/security/v1alpha1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mallamesh/malla/pki"
)

const trustDomain = "cluster.local"

// tokens reviews like an API server that knows these tokens.
type tokens map[string][2]string

func (t tokens) Review(_ context.Context, token string) (string, string, error) {
	who, ok := t[token]
	if !ok {
		return "", "", errors.New("unknown")
	}
	return who[0], who[1], nil
}

// call dials a CA server over TLS and asks for a certificate.
type setup struct {
	ca   *pki.CA
	dial func(client *tls.Certificate) securityv1alpha1.IstioCertificateServiceClient
}

func start(t *testing.T) setup {
	t.Helper()
	now := time.Now()
	root, err := pki.NewCA(trustDomain, now)
	if err != nil {
		t.Fatal(err)
	}
	key, chain, err := root.Serve(pki.ID{TrustDomain: trustDomain, Namespace: "istio-system", Account: "istiod"}, []string{"istiod"}, nil, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root.Root())
	authority := NewAuthority(root)
	server := grpc.NewServer(grpc.Creds(authority.Credentials(func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key}, nil
	})))
	(&Server{Authority: authority, TrustDomain: func() string { return trustDomain }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Reviewer: tokens{"good": {"default", "reviews"}}}).Register(server)
	l := bufconn.Listen(1 << 20)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return setup{root, func(cert *tls.Certificate) securityv1alpha1.IstioCertificateServiceClient {
		config := &tls.Config{RootCAs: pool, ServerName: "istiod", MinVersion: tls.VersionTLS12}
		if cert != nil {
			config.Certificates = []tls.Certificate{*cert}
		}
		conn, err := grpc.NewClient("passthrough:///ca", grpc.WithTransportCredentials(credentials.NewTLS(config)),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return securityv1alpha1.NewIstioCertificateServiceClient(conn)
	}}
}

func withToken(t *testing.T, token string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

func TestOnlyATokenRenews(t *testing.T) {
	s := start(t)
	key, _ := pki.NewKey()
	csr, _ := pki.Request(key, pki.ID{})
	got, err := s.dial(nil).CreateCertificate(withToken(t, "good"), &securityv1alpha1.IstioCertificateRequest{Csr: string(csr), ValidityDuration: 3600})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.DecodeCertificates([]byte(got.GetCertChain()[0]))
	if err != nil {
		t.Fatal(err)
	}
	want := pki.ID{TrustDomain: trustDomain, Namespace: "default", Account: "reviews"}
	if id, _ := pki.IDOf(leaf[0]); id != want {
		t.Errorf("identity %v, want %v", id, want)
	}
	if life := time.Until(leaf[0].NotAfter); life > time.Hour || life < 50*time.Minute {
		t.Errorf("lives %v, want the hour that was asked for", life)
	}

	// The certificate does not prolong itself.
	_, err = s.dial(&tls.Certificate{Certificate: [][]byte{leaf[0].Raw}, PrivateKey: key}).
		CreateCertificate(t.Context(), &securityv1alpha1.IstioCertificateRequest{Csr: string(csr)})
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "no token") {
		t.Errorf("a certificate renews itself: %v", err)
	}
}

func TestCallersWithoutProofAreRefused(t *testing.T) {
	s := start(t)
	key, _ := pki.NewKey()
	csr, _ := pki.Request(key, pki.ID{TrustDomain: trustDomain, Namespace: "default", Account: "reviews"})
	for name, ctx := range map[string]context.Context{
		"nothing":     t.Context(),
		"wrong token": withToken(t, "bad"),
		"empty token": withToken(t, ""),
	} {
		_, err := s.dial(nil).CreateCertificate(ctx, &securityv1alpha1.IstioCertificateRequest{Csr: string(csr)})
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: got %v, want Unauthenticated", name, err)
		}
	}
	foreign, _ := pki.NewCA("elsewhere", time.Now())
	chain, _ := foreign.Sign(csr, pki.ID{TrustDomain: trustDomain, Namespace: "default", Account: "reviews"}, 0, time.Now())
	_, err := s.dial(&tls.Certificate{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key}).
		CreateCertificate(t.Context(), &securityv1alpha1.IstioCertificateRequest{Csr: string(csr)})
	if err == nil {
		t.Error("a certificate of a foreign CA was accepted")
	}
}

// A connection ends with the certificate that it began with.
func TestConnectionEndsWithItsCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, err := pki.NewCA(trustDomain, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		certificate := func(life time.Duration) tls.Certificate {
			key, chain, err := root.Serve(pki.ID{TrustDomain: trustDomain, Namespace: "default", Account: "reviews"}, []string{"istiod"}, nil, life, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return tls.Certificate{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key}
		}
		own := certificate(24 * time.Hour)
		creds := NewAuthority(root).Credentials(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil })
		pool := x509.NewCertPool()
		pool.AddCert(root.Root())
		here, there := net.Pipe()
		client := tls.Client(here, &tls.Config{RootCAs: pool, ServerName: "istiod", NextProtos: []string{"h2"}, Certificates: []tls.Certificate{certificate(time.Hour)}})
		go func() { _ = client.Handshake() }()
		conn, info, err := creds.ServerHandshake(there)
		if err != nil || clientCertificate(info) == nil {
			t.Fatalf("handshake: %v", err)
		}
		ended := make(chan time.Time, 1)
		began := time.Now()
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			ended <- time.Now()
		}()
		if life := (<-ended).Sub(began); life != time.Hour {
			t.Errorf("the connection lives %v, its certificate an hour", life)
		}
		_ = conn.Close()
		_ = client.Close()
	})
}
