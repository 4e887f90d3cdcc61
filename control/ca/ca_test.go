package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	securityv1alpha1 "istio.io/api/security/v1alpha1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

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
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key}},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: pool, MinVersion: tls.VersionTLS12,
	})))
	(&Server{CA: root, TrustDomain: trustDomain, Now: time.Now, Log: slog.New(slog.DiscardHandler),
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

func TestTokenThenCertificate(t *testing.T) {
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

	// A renewal is proved by the certificate, without a token.
	renewed, err := s.dial(&tls.Certificate{Certificate: [][]byte{leaf[0].Raw}, PrivateKey: key}).
		CreateCertificate(t.Context(), &securityv1alpha1.IstioCertificateRequest{Csr: string(csr)})
	if err != nil {
		t.Fatal(err)
	}
	again, _ := pki.DecodeCertificates([]byte(renewed.GetCertChain()[0]))
	if id, _ := pki.IDOf(again[0]); id != want {
		t.Errorf("renewed identity %v, want %v", id, want)
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

func TestRootIsMadeOnceAndKept(t *testing.T) {
	client := fake.NewClientset()
	first, err := Load(t.Context(), client, "istio-system", trustDomain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	second, err := Load(t.Context(), client, "istio-system", trustDomain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !first.Root().Equal(second.Root()) {
		t.Error("a restart made a new root")
	}
	given, _ := pki.NewCA(trustDomain, time.Now())
	key, _ := given.KeyPEM()
	_, err = client.CoreV1().Secrets("istio-system").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: GivenSecret},
		Data: map[string][]byte{"ca-cert.pem": given.CertificatePEM(), "ca-key.pem": key, RootKey: given.RootPEM()}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	third, err := Load(t.Context(), client, "istio-system", trustDomain, time.Now())
	if err != nil || !third.Root().Equal(given.Root()) {
		t.Errorf("the operator's CA is not preferred: %v", err)
	}
}

func TestPublishRepairs(t *testing.T) {
	client := fake.NewClientset()
	for _, root := range []string{"one", "one", "two"} {
		if err := Publish(t.Context(), client, "default", []byte(root)); err != nil {
			t.Fatal(err)
		}
		got, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), RootConfigMap, metav1.GetOptions{})
		if err != nil || got.Data[RootKey] != root {
			t.Errorf("root %q, %v, want %q", got.Data[RootKey], err, root)
		}
	}
}
