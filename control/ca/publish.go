package ca

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/mallamesh/malla/pki"
)

// Publish writes the root, and the anchors if there are some, into ConfigMap istio-ca-root-cert of a namespace, if
// they are not there already. Sidecars mount it to know whom to trust first.
func Publish(ctx context.Context, client kubernetes.Interface, namespace string, root []byte, anchors string) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	want := map[string]string{RootKey: string(root)}
	if anchors != "" {
		want[pki.AnchorsFile] = anchors
	}
	have, err := maps.Get(ctx, RootConfigMap, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = maps.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: RootConfigMap, Namespace: namespace, Labels: map[string]string{"istio.io/config": "true"}},
			Data:       want,
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return Publish(ctx, client, namespace, root, anchors)
		}
	case err == nil && (have.Data[RootKey] != want[RootKey] || have.Data[pki.AnchorsFile] != want[pki.AnchorsFile]):
		changed := have.DeepCopy()
		changed.Data = want
		_, err = maps.Update(ctx, changed, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("publish root in ConfigMap %s/%s: %w", namespace, RootConfigMap, err)
	}
	return nil
}

// A Publisher keeps the root in every namespace that it was told of, whatever
// others do to the ConfigMap. Make it with [NewPublisher] and start it with Run.
type Publisher struct {
	client    kubernetes.Interface
	authority *Authority
	log       *slog.Logger
	queue     workqueue.TypedRateLimitingInterface[string] // of namespaces to look at

	mu      sync.Mutex
	known   map[string]string // guarded by mu: the UID of each namespace
	anchors string            // guarded by mu
}

// NewPublisher returns a publisher of the authority's roots.
func NewPublisher(client kubernetes.Interface, authority *Authority, log *slog.Logger) *Publisher {
	limits := workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 10*time.Second)
	return &Publisher{client: client, authority: authority, log: log, queue: workqueue.NewTypedRateLimitingQueue(limits), known: map[string]string{}}
}

// Namespaces says which namespaces there are, by name with their UIDs.
func (p *Publisher) Namespaces(now map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, uid := range now {
		if have, ok := p.known[name]; !ok || have != uid {
			p.queue.Add(name)
		}
	}
	p.known = now
}

// Anchors says which further authorities are trusted, as PEM.
func (p *Publisher) Anchors(text string) {
	p.mu.Lock()
	same := p.anchors == text
	p.anchors = text
	p.mu.Unlock()
	if !same {
		p.Changed()
	}
}

// Changed says that there are other roots.
func (p *Publisher) Changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.known {
		p.queue.Add(name)
	}
}

func (p *Publisher) wanted(namespace string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.known[namespace]
	return ok
}

// Run publishes until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	factory := informers.NewSharedInformerFactoryWithOptions(p.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, RootConfigMap).String()
	}))
	informer := factory.Core().V1().ConfigMaps().Informer()
	look := func(v any) {
		if gone, ok := v.(cache.DeletedFinalStateUnknown); ok {
			v = gone.Obj
		}
		if m, ok := v.(*corev1.ConfigMap); ok && m.Name == RootConfigMap && p.wanted(m.Namespace) {
			p.queue.Add(m.Namespace)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, v any) { look(v) }, DeleteFunc: look})
	if err != nil {
		panic("ca: an informer that was not started refuses a handler: " + err.Error())
	}
	var wg sync.WaitGroup
	wg.Go(func() { informer.RunWithContext(quiet(ctx)) })
	wg.Go(func() {
		<-ctx.Done()
		p.queue.ShutDown()
	})
	for p.next(ctx) {
	}
	wg.Wait()
}

// next publishes in one namespace; a failure is tried again after a while.
func (p *Publisher) next(ctx context.Context) bool {
	ns, quit := p.queue.Get()
	if quit {
		return false
	}
	defer p.queue.Done(ns)
	p.mu.Lock()
	anchors := p.anchors
	p.mu.Unlock()
	err := Publish(ctx, p.client, ns, p.authority.CA().RootPEM(), anchors)
	switch {
	case err == nil, apierrors.IsNotFound(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause): // the namespace has gone, or goes
		p.queue.Forget(ns)
	case apierrors.IsInvalid(err), apierrors.IsRequestEntityTooLargeError(err): // it will not be better until there are other roots
		p.log.Error("root not published", "namespace", ns, "reason", err)
		p.queue.Forget(ns)
	case ctx.Err() == nil:
		if p.queue.NumRequeues(ns) == 0 {
			p.log.Warn("root not published, trying again", "namespace", ns, "reason", err)
		}
		p.queue.AddRateLimited(ns)
	}
	return true
}
