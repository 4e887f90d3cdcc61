// Package pods runs the pods of a local mesh: it is the kubelet, and the part of
// the network that must know pods.
//
// Every Pod object becomes a sandbox with the containers' programs as processes
// of this machine: volumes, environment, init containers, probes, restarts with
// back-off, preStop, logs and status as in a cluster. The sidecar starts first
// and ends last. Services and names of the router follow the pods.
//
// A [worker] is one pod: it lives in one sandbox after another (a sandbox that is
// killed whole is replaced, with a new address and empty emptyDirs) and ends with
// its object. A [container] is its programs' restarts, a [run] one process and its
// probes. Nothing here polls for what a signal can tell.
//
// There is no scheduler and no image: what an image stands for is asked of
// [Options.Program]. Cgroups, users and security contexts have no effect here;
// config/kind says so to people.
package pods

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/mallamesh/malla/local/broker"
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
	Router  *router.Router // says which address families there are; see also [Network]
	// Program says what stands for an image and a manifest's command and args.
	Program func(image string, command, args []string) (Program, error)
	// Dir holds the logs of containers.
	Dir string
	// Claims holds a directory for each claim, in one for its namespace.
	Claims string
	// Broker opens ports of the machine for gateways; nil: none are opened.
	Broker *broker.Client
	// RootCA (PEM) is of the API server, for pods that talk to it.
	RootCA []byte
	Log    *slog.Logger
}

// A Kubelet runs pods. Its methods may be called from any goroutine.
type Kubelet struct {
	Options
	boxes boxes
	addrs *addresses

	secrets  corelisters.SecretLister
	configs  corelisters.ConfigMapLister
	services corelisters.ServiceLister

	mu      sync.Mutex
	workers map[types.UID]*worker // guarded by mu
	closed  bool                  // no worker begins any more; guarded by mu
	running sync.WaitGroup
}

// New returns a kubelet that runs nothing yet.
func New(o Options) *Kubelet {
	return &Kubelet{Options: o, boxes: machine{o.Runtime}, addrs: newAddresses(), workers: map[types.UID]*worker{}}
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
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
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
	if w := k.workers[p.UID]; w != nil {
		w.update(p)
		return
	}
	if k.closed || ctx.Err() != nil {
		return
	}
	w := newWorker(ctx, k, p)
	k.workers[p.UID] = w
	k.running.Go(func() {
		w.run()
		k.mu.Lock()
		delete(k.workers, p.UID)
		k.mu.Unlock()
	})
}

// deleted ends the worker of a pod whose object has gone.
func (k *Kubelet) deleted(p *corev1.Pod) {
	k.mu.Lock()
	w := k.workers[p.UID]
	k.mu.Unlock()
	if w != nil {
		w.kill()
	}
}

// volumeChanged wakes the pods that may mount a ConfigMap or Secret, or wait for
// one.
func (k *Kubelet) volumeChanged(o any) {
	m, ok := o.(metav1.Object)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		if w.namespace == m.GetNamespace() {
			w.changes.notify()
		}
	}
}

// find returns the worker of a pod. One whose object has gone makes way for its
// successor of the same name.
func (k *Kubelet) find(namespace, name string) (*worker, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		if w.namespace == namespace && w.name == name && w.ctx.Err() == nil {
			return w, nil
		}
	}
	return nil, fmt.Errorf("pod %s/%s does not run here", namespace, name)
}
