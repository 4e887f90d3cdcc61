// Package pods runs the pods of a local mesh: it is the kubelet, and the part of
// the network that must know pods.
//
// Every Pod object becomes a sandbox with the containers' programs as processes
// of this machine: volumes, environment, init containers, probes, restarts with
// back-off, preStop, logs and status as in a cluster. The sidecar starts first
// and ends last. Services and names of the router follow the pods.
//
// There is no scheduler and no image: what an image stands for is asked of
// [Options.Program]. Cgroups, users and security contexts have no effect here;
// config/kind says so to people.
package pods

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/mallamesh/malla/local/router"
	"github.com/mallamesh/malla/local/sandbox"
)

// Node is the name of the only node, this machine.
const Node = "malla"

// A Program is what a container runs.
type Program struct {
	Argv   []string
	Env    []string
	Dir    string // where the manifest names none
	Mounts []sandbox.Mount
}

// Options are what a kubelet is made of.
type Options struct {
	Client  kubernetes.Interface
	Runtime *sandbox.Runtime
	Router  *router.Router
	// Program says what stands for an image and a manifest's command and args.
	Program func(image string, command, args []string) (Program, error)
	// Dir holds the logs of containers.
	Dir string
	// Broker is the path of the broker's socket, given to gateways.
	Broker string
	// RootCA (PEM) is of the API server, for pods that talk to it.
	RootCA []byte
	Log    *slog.Logger
}

// A Kubelet runs pods. Its methods may be called from any goroutine.
type Kubelet struct {
	Options
	addrs *addresses

	secrets  corelisters.SecretLister
	configs  corelisters.ConfigMapLister
	services corelisters.ServiceLister

	mu      sync.Mutex
	workers map[types.UID]*worker // guarded by mu
	running sync.WaitGroup
}

// New returns a kubelet that runs nothing yet.
func New(o Options) *Kubelet {
	return &Kubelet{Options: o, addrs: newAddresses(), workers: map[types.UID]*worker{}}
}

// Recover makes order after the end of an earlier run, whose processes are gone:
// pods of a controller are deleted (it makes new ones), others start anew. It is
// called once, before the controllers run.
func (k *Kubelet) Recover(ctx context.Context) error {
	list, err := k.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		p := &list.Items[i]
		if metav1.GetControllerOf(p) != nil || p.DeletionTimestamp != nil {
			if err := k.remove(ctx, p); err != nil {
				return err
			}
			continue
		}
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		p.Status = corev1.PodStatus{Phase: corev1.PodPending}
		if _, err := k.Client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// remove takes a pod that has ended out of the API server.
func (k *Kubelet) remove(ctx context.Context, p *corev1.Pod) error {
	zero := int64(0)
	err := k.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// Run works until ctx ends, then kills what runs.
func (k *Kubelet) Run(ctx context.Context, factory informers.SharedInformerFactory) error {
	core := factory.Core().V1()
	pods := core.Pods().Informer()
	k.secrets, k.configs, k.services = core.Secrets().Lister(), core.ConfigMaps().Lister(), core.Services().Lister()
	refresh := cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { k.volumeChanged(o) }, UpdateFunc: func(_, o any) { k.volumeChanged(o) },
	}
	for _, i := range []cache.SharedIndexInformer{core.Secrets().Informer(), core.ConfigMaps().Informer()} {
		if _, err := i.AddEventHandler(refresh); err != nil {
			return err
		}
	}
	core.Services().Informer() // read by the lister
	factory.Start(ctx.Done())
	for _, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return ctx.Err()
		}
	}
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.saw(ctx, o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { k.saw(ctx, o.(*corev1.Pod)) },
		DeleteFunc: func(o any) {
			if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if p, ok := o.(*corev1.Pod); ok {
				k.deleted(p)
			}
		},
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	k.running.Wait()
	return nil
}

// saw hands a pod to its worker, a new one if need be.
func (k *Kubelet) saw(ctx context.Context, p *corev1.Pod) {
	if p.Spec.NodeName != "" && p.Spec.NodeName != Node {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.workers[p.UID]
	if w == nil {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			return
		}
		w = newWorker(k, p)
		k.workers[p.UID] = w
		k.running.Go(func() {
			w.run(ctx)
			k.mu.Lock()
			delete(k.workers, p.UID)
			k.mu.Unlock()
		})
		return
	}
	w.update(p)
}

// deleted ends the worker of a pod that was removed by force.
func (k *Kubelet) deleted(p *corev1.Pod) {
	k.mu.Lock()
	w := k.workers[p.UID]
	k.mu.Unlock()
	if w != nil {
		w.kill()
	}
}

// volumeChanged refreshes the files of the pods that mount a ConfigMap or Secret,
// and wakes those that wait for one.
func (k *Kubelet) volumeChanged(o any) {
	m, ok := o.(metav1.Object)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		if w.namespace == m.GetNamespace() {
			w.poke()
		}
	}
}

// find returns the worker of a running pod.
func (k *Kubelet) find(namespace, name string) (*worker, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		if w.namespace == namespace && w.name == name {
			return w, nil
		}
	}
	return nil, errNotRunning
}

var errNotRunning = errors.New("the pod does not run here")

// addresses gives pods their addresses, in turn, so that one that was given back
// is not reused at once.
type addresses struct {
	mu   sync.Mutex
	used map[uint16]bool // guarded by mu
	next uint16          // guarded by mu
}

// first is the lowest address given; those below are the router's.
const first = 16

func newAddresses() *addresses { return &addresses{used: map[uint16]bool{}, next: first} }

// take returns an unused v4 and v6 address with the same number.
func (a *addresses) take() (n uint16, ips []netip.Addr, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range 1 << 16 {
		n = a.next
		a.next++
		if a.next < first || a.next >= 65500 {
			a.next = first
		}
		if low := byte(n); a.used[n] || low == 0 || low == 255 {
			continue
		}
		a.used[n] = true
		v4 := router.PodCIDR4.Addr().As4()
		v4[2], v4[3] = byte(n>>8), byte(n)
		v6 := router.PodCIDR6.Addr().As16()
		v6[14], v6[15] = byte(n>>8), byte(n)
		return n, []netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}, nil
	}
	return 0, nil, errors.New("all addresses for pods are in use")
}

func (a *addresses) give(n uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.used, n)
}

// backOff returns how long to wait before the n-th restart in a row: none for
// the first, then 1 s doubling to 5 min. (Kubernetes begins at 10 s; somebody
// who tries things on a laptop should not wait that long.)
func backOff(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return min(time.Second<<min(n-2, 12), 5*time.Minute)
}

// calm is how long a container must have run for its restarts to be forgotten.
const calm = time.Minute
