package gateways

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/mallamesh/malla/model"
)

// Retries of what could not be written.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = time.Minute
)

// Options of a [Controller].
type Options struct {
	Client  kubernetes.Interface
	Objects dynamic.Interface // for GatewayClasses
	Root    string            // namespace of the ConfigMaps with defaults
	AsIstio bool              // there is no istiod: class istio is of its controller's name
	Log     *slog.Logger
}

// A Picture is all that is wanted at one moment.
type Picture struct {
	Gateways []Wanted
	Classes  map[model.Name]string // of all Gateways that are there, ours or not; "": it is served by others' pods
	Missing  []string              // GatewayClasses of ours that are not there
}

// A Controller keeps the workloads of Gateways equal to what is wanted.
type Controller struct {
	o    Options
	wake chan struct{}

	mu   sync.Mutex
	want *Picture // guarded by mu; nil before the first Set

	accounts    corelisters.ServiceAccountLister
	deployments appslisters.DeploymentLister
	services    corelisters.ServiceLister
	defaults    corelisters.ConfigMapNamespaceLister
	told        map[string]string // the last trouble of each; Run's own
}

// New returns a controller that has made nothing.
func New(o Options) *Controller {
	return &Controller{o: o, wake: make(chan struct{}, 1), told: map[string]string{}}
}

// Set says what is wanted, all of it. It does not wait.
func (c *Controller) Set(p Picture) {
	c.mu.Lock()
	same := c.want != nil && reflect.DeepEqual(*c.want, p)
	c.want = &p
	c.mu.Unlock()
	if !same {
		c.look()
	}
}

func (c *Controller) look() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run makes, changes and removes until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	ours := informers.NewSharedInformerFactoryWithOptions(c.o.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = ManagedLabel + "=" + managed }))
	texts := informers.NewSharedInformerFactoryWithOptions(c.o.Client, 0, informers.WithNamespace(c.o.Root),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = DefaultsLabel }))
	c.accounts = ours.Core().V1().ServiceAccounts().Lister()
	c.deployments = ours.Apps().V1().Deployments().Lister()
	c.services = ours.Core().V1().Services().Lister()
	c.defaults = texts.Core().V1().ConfigMaps().Lister().ConfigMaps(c.o.Root)
	for _, i := range []cache.SharedIndexInformer{
		ours.Core().V1().ServiceAccounts().Informer(), ours.Apps().V1().Deployments().Informer(),
		ours.Core().V1().Services().Informer(), texts.Core().V1().ConfigMaps().Informer(),
	} {
		if _, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { c.look() }, UpdateFunc: func(any, any) { c.look() }, DeleteFunc: func(any) { c.look() },
		}); err != nil {
			return err
		}
	}
	for _, f := range []informers.SharedInformerFactory{ours, texts} {
		f.Start(ctx.Done())
		for _, synced := range f.WaitForCacheSync(ctx.Done()) {
			if !synced {
				return ctx.Err()
			}
		}
	}
	again, wait := time.NewTimer(0), firstRetry
	defer again.Stop()
	for {
		select {
		case <-c.wake:
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
		if c.reconcile(ctx) {
			wait = firstRetry
			continue
		}
		again.Reset(wait)
		wait = min(2*wait, lastRetry)
	}
}

// reconcile reports whether all is as it is wanted.
func (c *Controller) reconcile(ctx context.Context) bool {
	c.mu.Lock()
	want := c.want
	c.mu.Unlock()
	if want == nil {
		return true
	}
	good := true
	for _, name := range want.Missing {
		good = c.tell("GatewayClass "+name, c.class(ctx, name)) && good
	}
	patches, err := c.patches()
	if !c.tell("the defaults of Gateways", err) {
		return false
	}
	for _, w := range want.Gateways {
		s, err := objects(w, patches[w.Class])
		if err == nil {
			err = c.make(ctx, s)
		}
		good = c.tell(w.Gateway.String(), err) && good
	}
	return c.tell("what Gateways had before", c.remove(ctx, want)) && good
}

// tell logs a trouble when it is a new one, and reports whether there is none.
func (c *Controller) tell(about string, err error) bool {
	if err == nil {
		delete(c.told, about)
		return true
	}
	if !apierrors.IsConflict(err) && c.told[about] != err.Error() {
		c.told[about] = err.Error()
		c.o.Log.Warn("the workload of a Gateway is not as it should be; it is tried again", "about", about, "err", err)
	}
	return false
}

// patches are the defaults by class.
func (c *Controller) patches() (map[string]map[string]string, error) {
	list, err := c.defaults.List(labels.Everything())
	out := make(map[string]map[string]string, len(list))
	for _, cm := range list {
		out[cm.Labels[DefaultsLabel]] = cm.Data
		for _, key := range slices.Sorted(maps.Keys(cm.Data)) {
			if about := "ConfigMap " + cm.Namespace + "/" + cm.Name + ", key " + key; !slices.Contains(model.GatewayEntries(), key) && c.told[about] == "" {
				c.told[about] = "unknown"
				c.o.Log.Warn("a default of Gateways is without effect", "about", about, "want", model.GatewayEntries())
			}
		}
	}
	return out, err
}

// make creates or changes what is not right. What is there but not in the cache of our
// own is somebody else's.
func (c *Controller) make(ctx context.Context, s set) error {
	ns, core := s.service.Namespace, c.o.Client.CoreV1()
	if have, err := c.accounts.ServiceAccounts(ns).Get(s.account.Name); err != nil {
		if _, err := core.ServiceAccounts(ns).Create(ctx, s.account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err // one that somebody brought serves as well
		}
	} else if compare(have, s.account) == changed {
		out := have.DeepCopy()
		renew(out, s.account)
		if _, err := core.ServiceAccounts(ns).Update(ctx, out, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	if err := c.makeDeployment(ctx, ns, s.deployment); err != nil {
		return err
	}
	return c.makeService(ctx, ns, s.service)
}

func (c *Controller) makeDeployment(ctx context.Context, ns string, want *appsv1.Deployment) error {
	client := c.o.Client.AppsV1().Deployments(ns)
	have, err := c.deployments.Deployments(ns).Get(want.Name)
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, want, metav1.CreateOptions{})
		return ifOurs(err, func() (metav1.Object, error) { return client.Get(ctx, want.Name, metav1.GetOptions{}) }, "Deployment")
	case err == nil && compare(have, want) == changed:
		_, err = client.Update(ctx, renewDeployment(have, want), metav1.UpdateOptions{})
	}
	return err
}

func (c *Controller) makeService(ctx context.Context, ns string, want *corev1.Service) error {
	client := c.o.Client.CoreV1().Services(ns)
	have, err := c.services.Services(ns).Get(want.Name)
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, want, metav1.CreateOptions{})
		return ifOurs(err, func() (metav1.Object, error) { return client.Get(ctx, want.Name, metav1.GetOptions{}) }, "Service")
	case err == nil && compare(have, want) == changed:
		_, err = client.Update(ctx, renewService(have, want), metav1.UpdateOptions{})
	}
	return err
}

// ifOurs passes over that an object is there already, if it is ours: the cache is late.
func ifOurs(err error, get func() (metav1.Object, error), what string) error {
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	have, err := get()
	if err == nil && have.GetLabels()[ManagedLabel] != managed {
		return fmt.Errorf("%s %s/%s is there already, and somebody else made it; name it as an address of the Gateway, or another way", what, have.GetNamespace(), have.GetName())
	}
	return err
}

// remove deletes what was made for Gateways that are of another class now, or have pods of
// somebody else serve them. What belongs to those that are gone goes with them.
func (c *Controller) remove(ctx context.Context, want *Picture) error {
	stale := func(o metav1.Object) bool {
		class, there := want.Classes[model.Name{Namespace: o.GetNamespace(), Name: o.GetLabels()[NameLabel]}]
		return there && class != o.GetLabels()[ClassLabel] && o.GetAnnotations()[madeOf] != "" // istiod labels what it makes likewise
	}
	deployments, err := c.deployments.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, d := range deployments {
		if stale(d) {
			if err := c.o.Client.AppsV1().Deployments(d.Namespace).Delete(ctx, d.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	services, err := c.services.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, s := range services {
		if stale(s) {
			if err := c.o.Client.CoreV1().Services(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	accounts, err := c.accounts.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if stale(a) {
			if err := c.o.Client.CoreV1().ServiceAccounts(a.Namespace).Delete(ctx, a.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return nil
}
