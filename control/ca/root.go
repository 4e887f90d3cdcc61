package ca

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/pki"
)

// Names under which Istio keeps and publishes the root, so that what people
// have made for Istio (cacerts, mounts of the ConfigMap) works.
const (
	OwnSecret     = "istio-ca-secret" // our own root, made when there is no other
	GivenSecret   = "cacerts"         // an operator's CA, preferred
	RootConfigMap = "istio-ca-root-cert"
	RootKey       = "root-cert.pem"
)

// Load returns the mesh's CA from the namespace of the control plane: the
// operator's if Secret cacerts is there, else our own, which is made the first
// time. Of several control planes that start at once, one makes it.
func Load(ctx context.Context, client kubernetes.Interface, namespace, trustDomain string, now time.Time) (*pki.CA, error) {
	secrets := client.CoreV1().Secrets(namespace)
	given, err := secrets.Get(ctx, GivenSecret, metav1.GetOptions{})
	if err == nil {
		return read(given)
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
	return read(own)
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
		Data:       map[string][]byte{"ca-cert.pem": made.CertificatePEM(), "ca-key.pem": key, RootKey: made.RootPEM()},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) { // another one was first: its root counts
		return secrets.Get(ctx, OwnSecret, metav1.GetOptions{})
	}
	return secret, err
}

func read(s *corev1.Secret) (*pki.CA, error) {
	ca, err := pki.LoadCA(s.Data["ca-cert.pem"], s.Data["ca-key.pem"], s.Data["cert-chain.pem"], s.Data[RootKey])
	if err != nil {
		return nil, fmt.Errorf("read CA from Secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	return ca, nil
}

// Publish writes the root into ConfigMap istio-ca-root-cert of a namespace, if
// it is not there already. Sidecars mount it to know whom to trust first.
func Publish(ctx context.Context, client kubernetes.Interface, namespace string, root []byte) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	want := map[string]string{RootKey: string(root)}
	have, err := maps.Get(ctx, RootConfigMap, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = maps.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: RootConfigMap, Namespace: namespace, Labels: map[string]string{"istio.io/config": "true"}},
			Data:       want,
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return Publish(ctx, client, namespace, root)
		}
	case err == nil && have.Data[RootKey] != want[RootKey]:
		changed := have.DeepCopy()
		changed.Data = want
		_, err = maps.Update(ctx, changed, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("publish root in ConfigMap %s/%s: %w", namespace, RootConfigMap, err)
	}
	return nil
}

// Keep publishes the root in every namespace whose name it receives, until ctx
// ends. A failure is tried again after a while.
func Keep(ctx context.Context, client kubernetes.Interface, namespaces <-chan string, root []byte, log *slog.Logger) {
	failed := map[string]bool{}
	retry := time.NewTicker(2 * time.Second)
	defer retry.Stop()
	try := func(ns string) {
		err := Publish(ctx, client, ns, root)
		if err == nil || apierrors.IsNotFound(err) { // the namespace has gone
			delete(failed, ns)
			return
		}
		if !failed[ns] {
			log.Warn("root not published, trying again", "namespace", ns, "reason", err)
		}
		failed[ns] = true
	}
	for {
		select {
		case ns := <-namespaces:
			try(ns)
		case <-retry.C:
			for ns := range failed {
				try(ns)
			}
		case <-ctx.Done():
			return
		}
	}
}
