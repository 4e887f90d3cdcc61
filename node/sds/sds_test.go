package sds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mallamesh/malla/pki"
)

// stream opens a stream of a server over memory.
func stream(t *testing.T, s *Server) secretv3.SecretDiscoveryService_StreamSecretsClient {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	g := grpc.NewServer()
	s.Register(g)
	go func() { _ = g.Serve(l) }()
	c, err := grpc.NewClient("passthrough:///sds", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); g.Stop() })
	out, err := secretv3.NewSecretDiscoveryServiceClient(c).StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func identity(t *testing.T, ca *pki.CA) *tls.Certificate {
	t.Helper()
	key, chain, err := ca.Serve(pki.ID{TrustDomain: "cluster.local", Namespace: "default", Account: "web"}, nil, nil, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{PrivateKey: key, Certificate: [][]byte{chain[0].Raw}, Leaf: chain[0]}
}

// A name is answered when there is something for it, and again when that changes; an answer to an answer is none.
func TestSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := pki.NewCA("cluster.local", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		s := New(slog.New(slog.DiscardHandler))
		c := stream(t, s)
		got := make(chan *discovery.DiscoveryResponse, 10)
		go func() {
			for {
				r, err := c.Recv()
				if err != nil {
					return
				}
				got <- r
			}
		}()
		ask := func(nonce string, names ...string) {
			t.Helper()
			if err := c.Send(&discovery.DiscoveryRequest{TypeUrl: TypeURL, ResourceNames: names, ResponseNonce: nonce}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		next := func() *discovery.DiscoveryResponse {
			t.Helper()
			synctest.Wait()
			if len(got) != 1 {
				t.Fatalf("%d responses, want one", len(got))
			}
			return <-got
		}
		ask("", "default")
		if len(got) != 0 {
			t.Fatal("a response before there is a certificate")
		}
		first := identity(t, ca)
		if err := s.SetIdentity("default", first); err != nil {
			t.Fatal(err)
		}
		secret := func(r *discovery.DiscoveryResponse) *tlsv3.Secret {
			t.Helper()
			m := new(tlsv3.Secret)
			if err := r.GetResources()[0].UnmarshalTo(m); err != nil || len(r.GetResources()) != 1 {
				t.Fatalf("%v, %v", r, err)
			}
			return m
		}
		r := next()
		pair := secret(r).GetTlsCertificate()
		have, err := tls.X509KeyPair(pair.GetCertificateChain().GetInlineBytes(), pair.GetPrivateKey().GetInlineBytes())
		if err != nil || !slices.Equal(have.Certificate[0], first.Certificate[0]) {
			t.Errorf("the certificate and key: %v", err)
		}
		ask(r.GetNonce(), "default")
		if err := s.SetBundle("file-root:system", pki.EncodeCertificates(ca.Roots()...)); err != nil {
			t.Fatal(err)
		}
		if err := s.SetRoots("ROOTCA", ca.Roots()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Error("a response to an answer, or for a name that nobody asked for")
		}
		if err := s.SetIdentity("default", identity(t, ca)); err != nil {
			t.Fatal(err)
		}
		if again := next(); again.GetVersionInfo() == r.GetVersionInfo() || again.GetNonce() == r.GetNonce() {
			t.Error("a new certificate with the version or nonce of the old")
		}
		ask("", "default", "ROOTCA")
		roots, err := pki.DecodeCertificates(secret(next()).GetValidationContext().GetTrustedCa().GetInlineBytes())
		if err != nil || !slices.EqualFunc(roots, ca.Roots(), (*x509.Certificate).Equal) {
			t.Errorf("the roots: %v", err)
		}
	})
}

// Other types end the stream, and a key that cannot sign is no identity.
func TestRefused(t *testing.T) {
	s := New(slog.New(slog.DiscardHandler))
	c := stream(t, s)
	if err := c.Send(&discovery.DiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster", ResourceNames: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("another type: %v", err)
	}
	if err := s.SetIdentity("default", &tls.Certificate{PrivateKey: errors.New("no key")}); err == nil {
		t.Error("a certificate without a key is taken")
	}
}
