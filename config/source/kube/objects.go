package kube

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
)

// core has Kubernetes' own kinds, which are read into their types at once. All
// others go by way of unstructured objects: a single one that cannot be
// converted would make a typed list fail as a whole.
var core = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme} {
		if err := add(s); err != nil {
			panic("config/source/kube: " + err.Error())
		}
	}
	return s
})

func (s *Source) listWatch(k *kind.Kind, gvr schema.GroupVersionResource) (*cache.ListWatch, error) {
	const namespace = metav1.NamespaceAll
	if !core().Recognizes(k.GVK()) {
		client, err := dynamic.NewForConfig(s.cfg)
		if err != nil {
			return nil, err
		}
		res := client.Resource(gvr).Namespace(namespace)
		return &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return res.List(ctx, o)
			},
			WatchFuncWithContext: res.Watch,
		}, nil
	}
	cfg := rest.CopyConfig(s.cfg)
	gv := gvr.GroupVersion()
	cfg.GroupVersion, cfg.APIPath = &gv, "/apis"
	if gv.Group == "" {
		cfg.APIPath = "/api"
	}
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(core()).WithoutConversion()
	client, err := rest.RESTClientFor(cfg)
	if err != nil {
		return nil, err
	}
	params := runtime.NewParameterCodec(core())
	request := func(o metav1.ListOptions) *rest.Request {
		return client.Get().Resource(gvr.Resource).VersionedParams(&o, params)
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return request(o).Do(ctx).Get()
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			return request(o).Watch(ctx)
		},
	}, nil
}

// object converts what the reflector brought; false if it is of no interest, an
// error if it cannot be read.
func (k *sink) object(v any) (o *config.Object, ok bool, err error) {
	value, ok := v.(runtime.Object)
	if !ok {
		return nil, false, nil
	}
	if !k.keep(value) {
		return nil, false, nil
	}
	if u, ok := value.(*unstructured.Unstructured); ok {
		u.SetManagedFields(nil)
		typed, err := config.Typed(k.k, u)
		k.noteStanding(u, err)
		if err != nil {
			k.s.o.Log.Error("an object cannot be read; what was known of it before stays in force", "object", k.k.Key()+" "+u.GetNamespace()+"/"+u.GetName(), "err", err)
			return nil, false, err
		}
		value = typed
	}
	slim(value)
	o, err = config.FromTyped(k.k, value)
	return o, err == nil, err
}

// last returns the version of an object that was good before.
func (k *sink) last(v any) (*config.Object, bool) {
	m, err := meta.Accessor(v)
	if err != nil {
		return nil, false
	}
	return k.s.store.Latest(k.k.Key(), m.GetNamespace(), m.GetName())
}

// slim drops what the control plane never reads: a pod's spec is most of the
// memory that a large cluster would cost.
func slim(value runtime.Object) {
	if m, err := meta.Accessor(value); err == nil {
		m.SetManagedFields(nil)
		if a := m.GetAnnotations(); a[corev1.LastAppliedConfigAnnotation] != "" {
			delete(a, corev1.LastAppliedConfigAnnotation)
		}
	}
	p, ok := value.(*corev1.Pod)
	if !ok {
		return
	}
	spec := corev1.PodSpec{
		NodeName: p.Spec.NodeName, ServiceAccountName: p.Spec.ServiceAccountName, HostNetwork: p.Spec.HostNetwork,
		Hostname: p.Spec.Hostname, Subdomain: p.Spec.Subdomain,
		Containers: slimContainers(p.Spec.Containers), InitContainers: slimContainers(p.Spec.InitContainers),
	}
	p.Spec = spec
	p.Status = corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs, HostIP: p.Status.HostIP, Conditions: p.Status.Conditions}
}

func slimContainers(all []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(all))
	for i, c := range all {
		out[i] = corev1.Container{Name: c.Name, Ports: c.Ports}
	}
	return out
}
