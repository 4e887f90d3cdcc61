package ca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/mallamesh/malla/pki"
)

// cacerts is an operator's Secret with the CA; files change or add to what it holds.
func cacerts(t *testing.T, ca *pki.CA, files map[string][]byte) *corev1.Secret {
	t.Helper()
	key, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: GivenSecret, Namespace: "istio-system"},
		Data: map[string][]byte{pki.CAFile: ca.CertificatePEM(), pki.KeyFile: key, pki.RootFile: ca.RootPEM()}}
	for name, text := range files {
		s.Data[name] = text
	}
	return s
}

func newRoot(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(trustDomain, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestRootIsMadeOnceAndKept(t *testing.T) {
	client := fake.NewClientset()
	load := func() *pki.CA {
		t.Helper()
		ca, err := Load(t.Context(), client, "istio-system", trustDomain, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	if !load().Root().Equal(load().Root()) {
		t.Error("a restart made a new root")
	}
	given := newRoot(t)
	if _, err := client.CoreV1().Secrets("istio-system").Create(t.Context(), cacerts(t, given, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if !load().Root().Equal(given.Root()) {
		t.Error("the operator's CA is not preferred")
	}
}

// The Secret that istiod made for itself before, with an RSA key, is taken over.
func TestIstiodsOwnSecret(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{trustDomain}}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	client := fake.NewClientset(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: OwnSecret, Namespace: "istio-system"}, Type: "istio.io/ca-root", Data: map[string][]byte{
		"ca-cert.pem": text, "ca-key.pem": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		"cert-chain.pem": {}, "key.pem": {}, "root-cert.pem": {},
	}})
	ca, err := Load(t.Context(), client, "istio-system", trustDomain, time.Now())
	if err != nil || !bytes.Equal(ca.RootPEM(), text) {
		t.Errorf("%v", err)
	}
}

// A cacerts that does not load ends the start with the Secret and the key that is
// to blame; no other root is made in its place.
func TestBadSecretIsNamed(t *testing.T) {
	client := fake.NewClientset(cacerts(t, newRoot(t), map[string][]byte{pki.KeyFile: []byte("hello")}))
	_, err := Load(t.Context(), client, "istio-system", trustDomain, time.Now())
	var bad *SecretError
	if !errors.As(err, &bad) || !strings.HasPrefix(err.Error(), "Secret istio-system/cacerts: ca-key.pem: ") {
		t.Errorf("got %v", err)
	}
	if list, _ := client.CoreV1().Secrets("istio-system").List(t.Context(), metav1.ListOptions{}); len(list.Items) != 1 {
		t.Error("a root was made beside it")
	}
}

// A new intermediate, or a bundle that grows and shrinks, is taken while we run; a
// root that has nothing to do with the one in use is not.
func TestReplacedCA(t *testing.T) {
	first, second := newRoot(t), newRoot(t)
	a := NewAuthority(first)
	if took, err := a.take(cacerts(t, first, nil), time.Now()); took || err != nil {
		t.Errorf("the same CA: %v, %v", took, err)
	}
	if took, err := a.take(cacerts(t, second, nil), time.Now()); took || err == nil || !strings.Contains(err.Error(), "none of the roots in use") {
		t.Errorf("a stranger: %v, %v", took, err)
	}
	both := append(first.RootPEM(), second.RootPEM()...)
	if took, err := a.take(cacerts(t, second, map[string][]byte{pki.RootFile: both}), time.Now()); !took || err != nil {
		t.Errorf("with both roots: %v, %v", took, err)
	}
	if took, err := a.take(cacerts(t, second, nil), time.Now()); !took || err != nil || len(a.CA().Roots()) != 1 {
		t.Errorf("without the old root: %v, %v", took, err)
	}
	if _, err := a.take(cacerts(t, second, map[string][]byte{pki.CAFile: nil}), time.Now()); err == nil || !a.CA().Root().Equal(second.Root()) {
		t.Errorf("a broken Secret takes effect: %v", err)
	}
}

// What the API does not take, for its size, is not sent again and again.
func TestWhatIsTooLargeIsPublishedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var tries atomic.Int32
		client.PrependReactor("create", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
			tries.Add(1)
			return true, nil, apierrors.NewInvalid(schema.GroupKind{Kind: "ConfigMap"}, RootConfigMap, field.ErrorList{field.TooLong(field.NewPath("data"), "", 1<<20)})
		})
		p := NewPublisher(client, NewAuthority(newRoot(t)), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			p.Run(ctx)
			close(done)
		}()
		p.Namespaces(map[string]string{"default": "1"})
		time.Sleep(time.Minute)
		if n := tries.Load(); n != 1 {
			t.Errorf("%d tries in a minute, want 1", n)
		}
		p.Anchors("other")
		time.Sleep(time.Minute)
		if n := tries.Load(); n != 2 {
			t.Errorf("%d tries after other anchors, want 2", n)
		}
		cancel()
		<-done
	})
}

// The root is in every namespace, and comes back when somebody deletes or changes it.
func TestRootIsPublishedAndRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		a := NewAuthority(newRoot(t))
		p := NewPublisher(client, a, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			p.Run(ctx)
			close(done)
		}()
		maps := client.CoreV1().ConfigMaps("default")
		has := func(when string) {
			t.Helper()
			time.Sleep(10 * time.Second)
			m, err := maps.Get(ctx, RootConfigMap, metav1.GetOptions{})
			if err != nil || m.Data[RootKey] != string(a.CA().RootPEM()) {
				t.Errorf("%s: %v, want the root", when, err)
			}
		}
		p.Namespaces(map[string]string{"default": "1"})
		has("a namespace comes")
		if err := maps.Delete(ctx, RootConfigMap, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		has("deleted")
		m, err := maps.Get(ctx, RootConfigMap, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m.Data = map[string]string{RootKey: "nonsense"}
		if _, err := maps.Update(ctx, m, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		has("changed")
		a.now.Store(newRoot(t))
		p.Changed()
		has("another CA")

		p.Namespaces(nil)
		if err := maps.Delete(ctx, RootConfigMap, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if _, err := maps.Get(ctx, RootConfigMap, metav1.GetOptions{}); err == nil {
			t.Error("it comes back in a namespace that has gone")
		}
		cancel()
		<-done
	})
}
