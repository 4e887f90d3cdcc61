// Package kube is the source of configuration in real life: a Kubernetes API
// server, that of a cluster or the small one of a local mesh.
//
// A [Source] lists and watches the kinds that the control plane reads, in the
// version that the server has; kinds that the server does not have are looked
// for again from time to time. It keeps only what the control plane needs of an
// object: of a Secret its certificate, if it has one. An object that cannot be read is logged and leaves its last good
// version in force.
package kube

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
)

// Kinds are those that the control plane reads.
var Kinds = []string{
	"Namespace", "ConfigMap", "Secret", "Service", "EndpointSlice", "Pod", "Ingress", "IngressClass",
	"VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "WorkloadEntry", "WorkloadGroup", "PeerAuthentication", "Sidecar", "EnvoyFilter", "DNSPolicy",
	"GatewayClass", kind.APIGateway, "ListenerSet", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "ReferenceGrant", "BackendTLSPolicy",
}

// Options say what to read.
type Options struct {
	// Namespace is the one whose ConfigMaps istio and malla are read: istio-system if empty.
	Namespace string
	// Shared is another ConfigMap there that is read (see [mesh.SharedEnv]), if not empty.
	Shared string
	// Kinds are read in place of the package's Kinds, if not nil.
	Kinds []string
	Log   *slog.Logger // slog.Default() if nil
}

// absentRetry is how long a kind that the server does not have is left alone.
const absentRetry = 30 * time.Second

// A Source reads an API server. Make it with [New], start it with Run.
type Source struct {
	cfg       *rest.Config
	o         Options
	discovery *discovery.DiscoveryClient
	store     config.Store
	changes   chan struct{}
	synced    chan struct{} // closed when the first picture is complete

	mu        sync.Mutex         // guards what follows
	waiting   map[string]bool    // kinds that have not been listed yet
	troubles  map[string]trouble // of kinds that cannot be read now
	standings map[ID]Standing
	resources map[string]schema.GroupVersionResource // by kind
}

// New returns a source that reads the API server of cfg.
func New(cfg *rest.Config, o Options) (*Source, error) {
	cfg = rest.CopyConfig(cfg)
	if cfg.QPS == 0 { // client-go's default of 5 a second would make a start slow
		cfg.QPS, cfg.Burst = 50, 100
	}
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	if o.Namespace == "" {
		o.Namespace = "istio-system"
	}
	if o.Kinds == nil {
		o.Kinds = Kinds
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Source{cfg: cfg, o: o, discovery: d, changes: make(chan struct{}, 1), synced: make(chan struct{}), waiting: map[string]bool{}, troubles: map[string]trouble{},
		standings: map[ID]Standing{}, resources: map[string]schema.GroupVersionResource{}}
	for _, name := range o.Kinds {
		if _, ok := kind.Named(name); !ok {
			return nil, errors.New("kind " + name + " is not in the table of kinds")
		}
		s.waiting[name] = true
	}
	return s, nil
}

// Run reads until ctx ends. Trouble with the API server is logged and tried
// again, so there is no other reason to return.
func (s *Source) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, name := range s.o.Kinds {
		wg.Go(func() { s.runKind(ctx, name) })
	}
	wg.Wait()
	return ctx.Err()
}

// Snapshot returns the picture of all changes up to now.
func (s *Source) Snapshot() *config.Snapshot { return s.store.Snapshot() }

// Changes receives a value after changes; several changes may be one value.
func (s *Source) Changes() <-chan struct{} { return s.changes }

// HasSynced reports whether the first picture is complete.
func (s *Source) HasSynced() bool {
	select {
	case <-s.synced:
		return true
	default:
		return false
	}
}

// Synced is closed when the first picture is complete.
func (s *Source) Synced() <-chan struct{} { return s.synced }

func (s *Source) changed() {
	select {
	case s.changes <- struct{}{}:
	default: // one is waiting to be read
	}
}

// listed notes that all there is of a kind is known.
func (s *Source) listed(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return
	}
	delete(s.waiting, name)
	if len(s.waiting) == 0 {
		close(s.synced)
	}
}

// runKind watches one kind, in the version that the server has.
func (s *Source) runKind(ctx context.Context, name string) {
	k, _ := kind.Named(name)
	for ctx.Err() == nil {
		gvr, err := s.find(k)
		switch {
		case err != nil:
			s.failed(name, "ask for the kind", err)
			sleep(ctx, time.Second)
			continue
		case gvr.Resource == "":
			s.listed(name) // nothing to wait for
			sleep(ctx, absentRetry)
			continue
		}
		s.mu.Lock()
		s.resources[name] = gvr
		s.mu.Unlock()
		lw, err := s.listWatch(k, gvr)
		if err != nil {
			s.o.Log.Error("watch", "kind", name, "err", err)
			return
		}
		// The reflector's own log is off: it would report each retry of a server that is away.
		quiet := logr.Discard()
		r := cache.NewReflectorWithOptions(s.reporting(name, lw), nil, &sink{s, k}, cache.ReflectorOptions{
			Name: name, TypeDescription: name, Logger: (*klog.Logger)(&quiet),
			Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 5 * time.Second},
		})
		r.RunWithContext(ctx)
	}
}

// find returns the resource in the first version of the kind that the server has.
func (s *Source) find(k *kind.Kind) (schema.GroupVersionResource, error) {
	for _, v := range k.Versions {
		gv := schema.GroupVersion{Group: k.Group, Version: v}
		list, err := s.discovery.ServerResourcesForGroupVersion(gv.String())
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return schema.GroupVersionResource{}, err
		}
		for _, r := range list.APIResources {
			if r.Name == k.Plural {
				return gv.WithResource(k.Plural), nil
			}
		}
	}
	return schema.GroupVersionResource{}, nil
}

// sleep waits about d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// A sink takes what a reflector brings into the store.
type sink struct {
	s *Source
	k *kind.Kind
}

func (k *sink) Add(v any) error    { return k.Update(v) }
func (k *sink) Resync() error      { return nil }
func (k *sink) Update(v any) error { k.put(v); return nil }

func (k *sink) put(v any) {
	o, ok, err := k.object(v)
	switch {
	case err != nil:
		k.s.changed() // nothing of the configuration, but somebody has to be told
	case ok && k.settled(o) == o:
		k.s.store.Put(o)
		k.s.changed()
	case !ok:
		if old, there := k.last(v); there {
			k.s.store.Delete(k.k.Key(), old.Namespace, old.Name) // nothing of it concerns us any more
			k.s.changed()
		}
	}
}

// Delete takes an object away, whether it can be read or not.
func (k *sink) Delete(v any) error {
	m, err := meta.Accessor(v)
	if err != nil {
		return err
	}
	k.forgetStanding(m)
	k.s.store.Delete(k.k.Key(), m.GetNamespace(), m.GetName())
	k.s.changed()
	return nil
}

// Replace takes a complete list. What cannot be read keeps its last good version.
func (k *sink) Replace(list []any, _ string) error {
	objects := make([]*config.Object, 0, len(list))
	k.keepStandings(list)
	for _, v := range list {
		if o, ok, err := k.object(v); ok {
			objects = append(objects, k.settled(o))
		} else if old, there := k.last(v); there && err != nil {
			objects = append(objects, old)
		}
	}
	k.s.store.Replace(k.k.Key(), slices.Clip(objects))
	k.s.listed(k.k.Key())
	k.s.changed()
	return nil
}
