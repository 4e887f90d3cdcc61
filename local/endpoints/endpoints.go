// Package endpoints keeps the EndpointSlices of Services with a selector equal
// to the pods they select, as Kubernetes' controller does.
//
// A pod that becomes ready or stops being so is seen within a turn of the loop,
// not after a period: nothing here waits. Services without a selector are their
// author's business, ExternalName has no endpoints.
//
// Endpoints, the API that slices have replaced, is what people still ask for and write: it is kept equal
// to the slices, and what somebody writes of it for a Service without a selector becomes slices.
package endpoints

import (
	"context"
	"errors"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// managedBy marks the slices that are ours to write.
const managedBy = "endpointslice-controller.k8s.io"

// A Controller writes EndpointSlices.
type Controller struct {
	client   kubernetes.Interface
	log      *slog.Logger
	queue    workqueue.TypedRateLimitingInterface[cache.ObjectName]
	services corelisters.ServiceLister
	pods     corelisters.PodLister
	old      corelisters.EndpointsLister
}

// New returns a controller that works through client.
func New(client kubernetes.Interface, log *slog.Logger) *Controller {
	limit := workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](5*time.Millisecond, 10*time.Second)
	return &Controller{client: client, log: log, queue: workqueue.NewTypedRateLimitingQueue(limit)}
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context, factory informers.SharedInformerFactory) error {
	defer c.queue.ShutDown()
	services, pods, old := factory.Core().V1().Services(), factory.Core().V1().Pods(), factory.Core().V1().Endpoints()
	c.services, c.pods, c.old = services.Lister(), pods.Lister(), old.Lister()
	_, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: c.service, UpdateFunc: func(_, o any) { c.service(o) }, DeleteFunc: c.service,
	})
	if err != nil {
		return err
	}
	// A service's Endpoints have its name.
	_, err = old.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: c.service, UpdateFunc: func(_, o any) { c.service(o) }, DeleteFunc: c.service,
	})
	if err != nil {
		return err
	}
	_, err = pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: c.pod, DeleteFunc: c.pod,
		UpdateFunc: func(old, now any) {
			c.pod(now)
			if !equality.Semantic.DeepEqual(old.(*corev1.Pod).Labels, now.(*corev1.Pod).Labels) {
				c.pod(old) // it may have left a service
			}
		},
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), services.Informer().HasSynced, pods.Informer().HasSynced, old.Informer().HasSynced) {
		return ctx.Err()
	}
	go func() {
		<-ctx.Done()
		c.queue.ShutDown()
	}()
	for {
		key, done := c.queue.Get()
		if done {
			return nil
		}
		err := c.sync(ctx, key)
		switch {
		case err == nil:
			c.queue.Forget(key)
		case ctx.Err() == nil:
			if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !errors.Is(err, context.Canceled) {
				c.log.Warn("endpoints not written, trying again", "service", key.String(), "reason", err)
			}
			c.queue.AddRateLimited(key)
		}
		c.queue.Done(key)
	}
}

func (c *Controller) service(o any) {
	if name, err := cache.DeletionHandlingObjectToName(o); err == nil {
		c.queue.Add(name)
	}
}

// pod queues the services that select the pod.
func (c *Controller) pod(o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	p, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	all, err := c.services.Services(p.Namespace).List(labels.Everything())
	if err != nil {
		return
	}
	for _, s := range all {
		if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) {
			c.queue.Add(cache.MetaObjectToName(s))
		}
	}
}

// sync writes the slices of one service, and its Endpoints.
func (c *Controller) sync(ctx context.Context, key cache.ObjectName) error {
	s, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return nil // its slices go with it, by owner reference
	}
	if err != nil || s.Spec.Type == corev1.ServiceTypeExternalName {
		return err
	}
	old, err := c.old.Endpoints(key.Namespace).Get(key.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if len(s.Spec.Selector) == 0 {
		var want []*discoveryv1.EndpointSlice
		if err == nil {
			want = Mirrored(s, old)
		}
		return c.write(ctx, s, mirroredBy, want)
	}
	pods, err := c.pods.Pods(key.Namespace).List(labels.SelectorFromSet(s.Spec.Selector))
	if err != nil {
		return err
	}
	want := Slices(s, pods)
	if err := c.write(ctx, s, managedBy, want); err != nil {
		return err
	}
	return c.writeOld(ctx, old, Old(s, want))
}

// writeOld writes a service's Endpoints, if they are not what was there.
func (c *Controller) writeOld(ctx context.Context, was, want *corev1.Endpoints) (err error) {
	client := c.client.CoreV1().Endpoints(want.Namespace)
	if was == nil {
		_, err = client.Create(ctx, want, metav1.CreateOptions{})
	} else if !equality.Semantic.DeepEqual(was.Subsets, want.Subsets) || !equality.Semantic.DeepEqual(was.Labels, want.Labels) {
		want.ResourceVersion = was.ResourceVersion
		_, err = client.Update(ctx, want, metav1.UpdateOptions{})
	}
	return err
}

// write has the service's slices of one writer be those that are wanted.
func (c *Controller) write(ctx context.Context, s *corev1.Service, writer string, want []*discoveryv1.EndpointSlice) error {
	slices := c.client.DiscoveryV1().EndpointSlices(s.Namespace)
	have, err := slices.List(ctx, metav1.ListOptions{LabelSelector: labels.Set{
		discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: writer}.String()})
	if err != nil {
		return err
	}
	old := map[string]*discoveryv1.EndpointSlice{}
	for i := range have.Items {
		old[have.Items[i].Name] = &have.Items[i]
	}
	for _, w := range want {
		was := old[w.Name]
		delete(old, w.Name)
		if was == nil {
			_, err = slices.Create(ctx, w, metav1.CreateOptions{})
		} else if !same(was, w) {
			w.ResourceVersion = was.ResourceVersion
			_, err = slices.Update(ctx, w, metav1.UpdateOptions{})
		}
		if err != nil {
			return err
		}
	}
	for name := range old {
		if err := slices.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func same(a, b *discoveryv1.EndpointSlice) bool {
	return equality.Semantic.DeepEqual(a.Endpoints, b.Endpoints) && equality.Semantic.DeepEqual(a.Ports, b.Ports) && equality.Semantic.DeepEqual(a.Labels, b.Labels)
}
