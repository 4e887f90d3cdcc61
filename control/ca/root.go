package ca

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/mallamesh/malla/pki"
)

// Names under which Istio keeps and publishes the root, so that what people
// have made for Istio (cacerts, mounts of the ConfigMap) works.
const (
	OwnSecret     = "istio-ca-secret" // our own root, made when there is no other
	GivenSecret   = "cacerts"         // an operator's CA, preferred
	RootConfigMap = "istio-ca-root-cert"
	RootKey       = pki.RootFile
)

// A SecretError says that a Secret is there and holds no usable CA. Waiting does
// not help; somebody must mend the Secret.
type SecretError struct {
	Namespace, Name string
	Err             error // begins with the key that is to blame
}

func (e *SecretError) Error() string {
	return fmt.Sprintf("Secret %s/%s: %v", e.Namespace, e.Name, e.Err)
}

func (e *SecretError) Unwrap() error { return e.Err }

// Load returns the mesh's CA from the namespace of the control plane: the
// operator's if Secret cacerts is there, else our own, which is made the first
// time. Of several control planes that start at once, one makes it.
//
// A cacerts that does not load is a [SecretError] and nothing else is tried, as in
// istiod: a mesh that silently starts on another root trusts nobody it should.
func Load(ctx context.Context, client kubernetes.Interface, namespace, trustDomain string, now time.Time) (*pki.CA, error) {
	secrets := client.CoreV1().Secrets(namespace)
	given, err := secrets.Get(ctx, GivenSecret, metav1.GetOptions{})
	if err == nil {
		return read(given, now)
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read Secret %s/%s: %w", namespace, GivenSecret, err)
	}
	own, err := secrets.Get(ctx, OwnSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		own, err = create(ctx, client, namespace, trustDomain, now)
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s/%s: %w", namespace, OwnSecret, err)
	}
	return read(own, now)
}

func create(ctx context.Context, client kubernetes.Interface, namespace, trustDomain string, now time.Time) (*corev1.Secret, error) {
	made, err := pki.NewCA(trustDomain, now)
	if err != nil {
		return nil, err
	}
	key, err := made.KeyPEM()
	if err != nil {
		return nil, err
	}
	secrets := client.CoreV1().Secrets(namespace)
	secret, err := secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: OwnSecret, Namespace: namespace},
		Type:       "istio.io/ca-root",
		Data:       map[string][]byte{pki.CAFile: made.CertificatePEM(), pki.KeyFile: key, RootKey: made.RootPEM()},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) { // another one was first: its root counts
		return secrets.Get(ctx, OwnSecret, metav1.GetOptions{})
	}
	return secret, err
}

func read(s *corev1.Secret, now time.Time) (*pki.CA, error) {
	ca, err := pki.LoadCA(s.Data, now)
	if err != nil {
		return nil, &SecretError{s.Namespace, s.Name, err}
	}
	return ca, nil
}

// An Authority is the CA in use, which an operator may replace while we run.
type Authority struct{ now atomic.Pointer[pki.CA] }

// NewAuthority begins with ca.
func NewAuthority(ca *pki.CA) *Authority {
	a := &Authority{}
	a.now.Store(ca)
	return a
}

// CA returns the CA of this moment.
func (a *Authority) CA() *pki.CA { return a.now.Load() }

// Watch follows Secret cacerts until ctx ends and calls changed, from one
// goroutine, after it took a new CA. A CA whose roots have nothing in common with
// the roots in use is not taken: proxies would trust each other no longer, from one
// moment to the next. (Istiod has the same rule.) What is not taken is told.
func (a *Authority) Watch(ctx context.Context, client kubernetes.Interface, namespace string, log *slog.Logger, changed func()) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, GivenSecret).String()
		}))
	informer := factory.Core().V1().Secrets().Informer()
	take := func(v any) {
		secret, ok := v.(*corev1.Secret)
		if !ok || secret.Name != GivenSecret {
			return
		}
		switch took, err := a.take(secret, time.Now()); {
		case err != nil:
			log.Error("the CA of before stays in use", "reason", err)
		case took:
			log.Info("CA taken from Secret "+GivenSecret, "until", a.CA().NotAfter(), "roots", len(a.CA().Roots()))
			changed()
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: take, UpdateFunc: func(_, v any) { take(v) }})
	if err != nil {
		panic("ca: an informer that was not started refuses a handler: " + err.Error())
	}
	informer.RunWithContext(quiet(ctx))
}

// quiet takes client-go's own log away: it reports each retry of a server that is
// away, of which the source of configuration tells once.
func quiet(ctx context.Context) context.Context { return klog.NewContext(ctx, logr.Discard()) }

// take puts the CA of a secret to use, and says whether it is another one.
func (a *Authority) take(s *corev1.Secret, now time.Time) (bool, error) {
	next, err := read(s, now)
	if err != nil {
		return false, err
	}
	have := a.CA()
	if next.Equal(have) {
		return false, nil
	}
	for _, root := range next.Roots() {
		for _, old := range have.Roots() {
			if root.Equal(old) {
				a.now.Store(next)
				return true, nil
			}
		}
	}
	return false, &SecretError{s.Namespace, s.Name, fmt.Errorf("%s: has none of the roots in use; add the root in use to it until all certificates are renewed, or restart the control plane and then all workloads", RootKey)}
}
