package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	securityv1alpha1 "istio.io/api/security/v1alpha1"

	"github.com/mallamesh/malla/pki"
)

var me = pki.ID{TrustDomain: "cluster.local", Namespace: "default", Account: "reviews"}

// authority signs for everybody, unless it is away.
type authority struct {
	ca   *pki.CA
	away atomic.Bool
}

func (a *authority) Sign(_ context.Context, request []byte, ttl time.Duration) ([]*x509.Certificate, error) {
	if a.away.Load() {
		return nil, errors.New("CA is away")
	}
	return a.ca.Sign(request, me, ttl, time.Now())
}

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// A certificate is renewed at half of its life. While the CA is away it stays in
// use, the CA is asked again and again, and the first answer counts.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleep := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		ca := &authority{ca: newCA(t)}
		var mu sync.Mutex
		var list []*tls.Certificate
		all := func() []*tls.Certificate {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(list)
		}
		a := New(Options{ID: me, Signer: ca, Roots: NewRoots("", nil), TTL: time.Hour, Log: slog.New(slog.DiscardHandler), Jitter: func() float64 { return 0 },
			Issued: func(c *tls.Certificate) {
				mu.Lock()
				defer mu.Unlock()
				list = append(list, c)
			}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		sleep(time.Minute)
		if len(all()) != 1 || a.Certificate() != all()[0] {
			t.Fatalf("%d certificates after a minute, want one in use", len(all()))
		}
		first := all()[0]
		sleep(30 * time.Minute)
		if len(all()) != 2 {
			t.Fatalf("%d certificates after half an hour, want the second", len(all()))
		}
		if first.PrivateKey == all()[1].PrivateKey {
			t.Error("the key is the old one")
		}
		ca.away.Store(true)
		sleep(29 * time.Minute)
		if len(all()) != 2 || a.Certificate() != all()[1] {
			t.Error("the certificate was taken out of use with half of its life before it")
		}
		sleep(4 * time.Minute)
		if n, err := a.Status(); n != 2 || err == nil {
			t.Errorf("status %d, %v; want two certificates and why there is no third", n, err)
		}
		ca.away.Store(false)
		sleep(maxRetry * 2)
		if len(all()) != 3 {
			t.Error("no new certificate although the CA is back")
		}
		a.Renew()
		synctest.Wait()
		if len(all()) != 4 {
			t.Error("Renew does nothing")
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

// Times come from the moment a certificate came, and agents differ.
func TestSchedule(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		life   time.Duration
		jitter float64
		want   time.Duration
	}{
		{24 * time.Hour, 0, 12 * time.Hour},
		{24 * time.Hour, 1, 14*time.Hour + 24*time.Minute},
		{24 * time.Hour, -1, 9*time.Hour + 36*time.Minute},
		{10 * time.Second, 0, 5 * time.Second},
		{time.Second, 0, minRenew}, // a CA that issues for moments is not run over
		{-time.Hour, 0, minRenew},
	} {
		if got := renewAfter(now, now.Add(test.life), test.jitter); got != test.want {
			t.Errorf("life %v, jitter %v: renewed after %v, want %v", test.life, test.jitter, got, test.want)
		}
	}
	if retryAfter(0, 0, maxRetry) != minRetry || retryAfter(3, 0, maxRetry) != 8*minRetry || retryAfter(60, 0, maxRetry) != maxRetry {
		t.Error("retries do not double up to their bound")
	}
}

// What the CA answers is checked before it is used.
func TestAnswersThatAreRefused(t *testing.T) {
	ca := newCA(t)
	mine, _ := pki.NewKey()
	other, _ := pki.NewKey()
	request, _ := pki.Request(other, me)
	chain, err := ca.Sign(request, me, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := assemble(mine, chain, time.Now()); err == nil || !strings.Contains(err.Error(), "not for our key") {
		t.Errorf("another's certificate: %v", err)
	}
	if _, err := assemble(other, chain, time.Now().Add(2*time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired certificate: %v", err)
	}
	if _, err := assemble(other, nil, time.Now()); err == nil {
		t.Error("an empty chain is taken")
	}
	cert, err := assemble(other, chain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.Certificate) != 1 {
		t.Errorf("shows %d certificates, want the leaf without the root", len(cert.Certificate))
	}
}

// Roots come from the file as it is at the moment, and from our own chain.
func TestRoots(t *testing.T) {
	a, b := newCA(t), newCA(t)
	path := filepath.Join(t.TempDir(), "root.pem")
	var seen int
	r := NewRoots(path, func(all []*x509.Certificate) { seen = len(all) })
	if err := r.Load(); err == nil {
		t.Error("a file that is not there loads")
	}
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(a.RootPEM())
	if err := r.Load(); err != nil || seen != 1 {
		t.Fatalf("%v; %d roots, want 1", err, seen)
	}
	r.FromCA(a.Roots())
	if len(r.All()) != 1 {
		t.Error("a root that is there is added once more")
	}
	r.FromCA(b.Roots())
	if seen != 2 {
		t.Errorf("%d roots, want 2", seen)
	}
	write([]byte("nonsense"))
	if err := r.Load(); err == nil || len(r.All()) != 2 {
		t.Error("a broken file took roots away")
	}
	write(b.RootPEM())
	if err := r.Load(); err != nil || len(r.All()) != 1 || !r.All()[0].Equal(b.Root()) {
		t.Errorf("%v; want the new file's root, once", err)
	}
}

// service is Istio's certificate service; it notes who calls.
type service struct {
	securityv1alpha1.UnimplementedIstioCertificateServiceServer
	ca    *pki.CA
	token string
	ttl   int64
}

func (s *service) CreateCertificate(ctx context.Context, r *securityv1alpha1.IstioCertificateRequest) (*securityv1alpha1.IstioCertificateResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.token, s.ttl = strings.Join(md.Get("authorization"), ","), r.GetValidityDuration()
	chain, err := s.ca.Sign([]byte(r.GetCsr()), me, time.Hour, time.Now())
	if err != nil {
		return nil, err
	}
	out := &securityv1alpha1.IstioCertificateResponse{}
	for _, c := range chain {
		out.CertChain = append(out.CertChain, string(pki.EncodeCertificates(c)))
	}
	return out, nil
}

// The signer shows its token, and only to the server that its roots vouch for.
// Whom anchors vouch for may be a workload, but not the control plane.
func TestAnchors(t *testing.T) {
	own, partner, other := newCA(t), newCA(t), newCA(t)
	dir := t.TempDir()
	root, anchors := filepath.Join(dir, "root.pem"), filepath.Join(dir, "anchors.pem")
	var seen []*x509.Certificate
	r := NewRoots(root, func(all []*x509.Certificate) { seen = all }).Besides(anchors, other.Roots())
	write := func(path string, text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, cas ...*pki.CA) {
		t.Helper()
		if err := r.Load(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		same := len(seen) == len(cas)
		for i := range min(len(seen), len(cas)) {
			same = same && seen[i].Equal(cas[i].Root())
		}
		if !same {
			t.Errorf("%s: %d authorities, not the %d that are wanted, in their order", when, len(seen), len(cas))
		}
		if all := r.All(); len(all) != 1 || !all[0].Equal(own.Root()) {
			t.Errorf("%s: the control plane is believed by %d authorities, want the mesh's own only", when, len(all))
		}
	}
	write(root, own.RootPEM())
	want("without a file of anchors", own, other)
	write(anchors, partner.RootPEM())
	want("with one", own, partner, other)
	write(anchors, own.RootPEM())
	want("which is the root", own, other)
	write(anchors, partner.RootPEM())
	want("and another", own, partner, other)
	write(anchors, []byte("nonsense"))
	if err := r.Load(); err == nil || len(seen) != 3 {
		t.Errorf("a broken file of anchors: %v, %d authorities", err, len(seen))
	}
	if err := os.Remove(anchors); err != nil {
		t.Fatal(err)
	}
	want("and gone", own, other)
}

func TestCA(t *testing.T) {
	mesh, stranger := newCA(t), newCA(t)
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("proof\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(ca *pki.CA, name string) (*service, *CA) {
		key, chain, err := ca.Serve(pki.ID{}, []string{name}, nil, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		l := bufconn.Listen(1 << 16)
		g := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key})))
		s := &service{ca: mesh}
		securityv1alpha1.RegisterIstioCertificateServiceServer(g, s)
		go func() { _ = g.Serve(l) }()
		t.Cleanup(g.Stop)
		roots := NewRoots(filepath.Join(dir, "root.pem"), nil)
		return s, &CA{Address: "istiod.istio-system.svc:15012", TokenPath: token, Roots: roots, Dial: func(context.Context, string) (net.Conn, error) { return l.Dial() }}
	}
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), mesh.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	key, _ := pki.NewKey()
	request, _ := pki.Request(key, me)

	s, good := serve(mesh, "istiod.istio-system.svc")
	chain, err := good.Sign(t.Context(), request, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := pki.IDOf(chain[0]); err != nil || id != me {
		t.Errorf("certificate of %v, %v", id, err)
	}
	if s.token != "Bearer proof" || s.ttl != 3600 {
		t.Errorf("the CA saw token %q and %d s", s.token, s.ttl)
	}
	for why, ca := range map[string]*pki.CA{"another mesh's server": stranger, "a server of another name": mesh} {
		name := "istiod.istio-system.svc"
		if ca == mesh {
			name = "elsewhere.svc"
		}
		s, bad := serve(ca, name)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := bad.Sign(ctx, request, time.Hour); err == nil || s.token != "" {
			t.Errorf("%s got the token %q, %v", why, s.token, err)
		}
		cancel()
	}
	good.TokenPath = filepath.Join(dir, "none")
	if _, err := good.Sign(t.Context(), request, time.Hour); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("without a token: %v", err)
	}
}

// While a root is replaced the CA's answer ends with the old and the new: both are
// trusted, neither is shown, and what the next answer lacks is forgotten.
func TestRootsOfAnAnswer(t *testing.T) {
	old, next := newCA(t), newCA(t)
	key, _ := next.KeyPEM()
	both, err := pki.LoadCA(map[string][]byte{pki.CAFile: next.CertificatePEM(), pki.KeyFile: key, pki.RootFile: append(old.RootPEM(), next.RootPEM()...)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca := &authority{ca: both}
	roots := NewRoots("", nil)
	a := New(Options{ID: me, Signer: ca, Roots: roots, Log: slog.New(slog.DiscardHandler)})
	if _, err := a.attempt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(roots.All()); n != 2 {
		t.Errorf("%d roots, want both", n)
	}
	if n := len(a.Certificate().Certificate); n != 1 {
		t.Errorf("shows %d certificates, want the leaf alone", n)
	}
	ca.ca = next
	if _, err := a.attempt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := roots.All(); len(all) != 1 || !all[0].Equal(next.Root()) {
		t.Errorf("%d roots, want the new one alone", len(all))
	}
}

// A certificate that has ended is shown to nobody.
func TestEndedCertificateIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		key, chain, err := ca.Serve(me, nil, nil, time.Hour, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		cert := &tls.Certificate{PrivateKey: key, Certificate: [][]byte{chain[0].Raw}, Leaf: chain[0]}
		config := NewRoots("", nil).ClientTLS("istiod", func() *tls.Certificate { return cert })
		shown := func() int {
			c, err := config.GetClientCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			return len(c.Certificate)
		}
		if shown() != 1 {
			t.Error("a good certificate is not shown")
		}
		time.Sleep(time.Hour + time.Second)
		if shown() != 0 {
			t.Error("an ended certificate is shown")
		}
	})
}
