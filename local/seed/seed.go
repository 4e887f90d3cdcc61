// Package seed holds the objects that every local mesh starts with: the control
// plane, the mesh's configuration, and the default gateway if somebody needs it.
//
// They are ordinary manifests, embedded; an object that exists already is its
// owner's and stays as it is, except the control plane's, which belongs to the
// running version.
package seed

import (
	"context"
	_ "embed"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"

	"github.com/mallamesh/malla/config/load"
)

// Namespace is the control plane's.
const Namespace = "istio-system"

var (
	//go:embed istiod.yaml
	istiod []byte
	//go:embed istio.yaml
	istio []byte
	//go:embed ingressgateway.yaml
	ingressGateway []byte
)

// objects reads an embedded manifest.
func objects(name string, text []byte) []*unstructured.Unstructured {
	docs, errs := load.Bytes(name, text)
	if len(errs) > 0 {
		panic("seed: embedded manifest: " + errs.Error()) // a test reads every one
	}
	var out []*unstructured.Unstructured
	for _, d := range docs {
		out = append(out, d.Object)
	}
	return out
}

// ControlPlane creates the control plane. A Deployment that an earlier version
// left is replaced.
func ControlPlane(ctx context.Context, client dynamic.Interface) error {
	for _, o := range objects("istiod.yaml", istiod) {
		if err := create(ctx, client, o, o.GetKind() == "Deployment"); err != nil {
			return err
		}
	}
	return nil
}

// MeshConfig creates the mesh's configuration unless there is one.
func MeshConfig(ctx context.Context, client dynamic.Interface) error {
	for _, name := range []string{"istio", "malla"} {
		_, err := client.Resource(mustGVR("ConfigMap")).Namespace(Namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			return nil
		}
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("read ConfigMap %s/%s: %w", Namespace, name, err)
		}
	}
	for _, o := range objects("istio.yaml", istio) {
		if err := create(ctx, client, o, false); err != nil {
			return err
		}
	}
	return nil
}

// IngressGateway creates the default gateway's objects.
func IngressGateway(ctx context.Context, client dynamic.Interface) error {
	for _, o := range objects("ingressgateway.yaml", ingressGateway) {
		if err := create(ctx, client, o, false); err != nil {
			return err
		}
	}
	return nil
}

// Mark is the annotation of the objects in this package. The default gateway's go
// when they are not needed; whoever applies them without it keeps them.
const Mark = "malla.dev/seed"

// Clear removes the default gateway that an earlier run made. [Follow] makes it
// anew if it is needed.
func Clear(ctx context.Context, client dynamic.Interface) error {
	for _, o := range objects("ingressgateway.yaml", ingressGateway) {
		r := client.Resource(mustGVR(o.GetKind())).Namespace(o.GetNamespace())
		have, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err == nil && have.GetAnnotations()[Mark] != "" {
			err = r.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove the default gateway: %w", err)
		}
	}
	return nil
}

// NeedsIngressGateway reports whether one of the Gateways' selectors selects the
// default gateway's pods while no workload (their pod labels) is selected by it.
func NeedsIngressGateway(selectors []map[string]string, workloads []map[string]string) bool {
	ours := labels.Set{"app": "istio-ingressgateway", "istio": "ingressgateway"}
	for _, s := range selectors {
		selector := labels.SelectorFromSet(s)
		if len(s) == 0 || !selector.Matches(ours) {
			continue
		}
		served := false
		for _, w := range workloads {
			served = served || selector.Matches(labels.Set(w))
		}
		if !served {
			return true
		}
	}
	return false
}

func create(ctx context.Context, client dynamic.Interface, o *unstructured.Unstructured, replace bool) error {
	r := client.Resource(mustGVR(o.GetKind())).Namespace(o.GetNamespace())
	_, err := r.Create(ctx, o, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		if !replace {
			return nil
		}
		return update(ctx, r, o)
	}
	if err != nil {
		return fmt.Errorf("create %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
	}
	return nil
}

// conflicts is how often an update is tried again: the controllers of a mesh that
// starts again write the Deployment's status meanwhile.
const conflicts = 20

// update replaces what an earlier version wrote.
func update(ctx context.Context, r dynamic.ResourceInterface, o *unstructured.Unstructured) error {
	for try := 0; ; try++ {
		have, err := r.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
		o.SetResourceVersion(have.GetResourceVersion())
		_, err = r.Update(ctx, o, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) && try < conflicts {
			continue
		}
		if err != nil {
			return fmt.Errorf("update %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
		return nil
	}
}
