// Package memory is a source of configuration that tests fill by hand.
//
// It has the methods of source/kube.Source, so that what reads configuration can
// be driven without an API server.
package memory

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/crd"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
)

// A Source holds objects. Its methods may be called from several goroutines.
type Source struct {
	store   config.Store
	changes chan struct{}
}

// New returns a source that holds the objects.
func New(objects ...*config.Object) *Source {
	s := &Source{changes: make(chan struct{}, 1)}
	s.Put(objects...)
	return s
}

// Put adds or replaces objects.
func (s *Source) Put(objects ...*config.Object) {
	for _, o := range objects {
		s.store.Put(o)
	}
	s.changed()
}

// PutYAML adds or replaces the objects of a multi-document text; those that name
// no namespace go to "default" where their kind has namespaces.
func (s *Source) PutYAML(text string) error {
	objects, err := Parse(text)
	if err != nil {
		return err
	}
	s.Put(objects...)
	return nil
}

// Delete takes an object away.
func (s *Source) Delete(kindName, namespace, name string) {
	s.store.Delete(kindName, namespace, name)
	s.changed()
}

// Snapshot returns the picture of all changes up to now.
func (s *Source) Snapshot() *config.Snapshot { return s.store.Snapshot() }

// Changes receives a value after changes; several changes may be one value.
func (s *Source) Changes() <-chan struct{} { return s.changes }

// HasSynced reports that the first picture is complete, which is always so.
func (s *Source) HasSynced() bool { return true }

// Run waits for the end of ctx.
func (s *Source) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (s *Source) changed() {
	select {
	case s.changes <- struct{}{}:
	default: // one is waiting to be read
	}
}

// Parse reads objects from a multi-document text, as tests write them.
func Parse(text string) ([]*config.Object, error) {
	docs, errs := load.Bytes("test.yaml", []byte(text))
	if err := errs.Err(); err != nil {
		return nil, err
	}
	var objects []*config.Object
	for _, d := range docs {
		o, err := object(d.Object)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// object makes an object as an API server would hand it out: with its namespace and the
// defaults of its kind's definition.
func object(u *unstructured.Unstructured) (*config.Object, error) {
	if k, ok := kind.ByGVK(u.GroupVersionKind()); ok {
		if d := crd.Of(k); d != nil {
			u = u.DeepCopy()
			d.Complete(u.Object)
		}
	}
	o, err := config.FromUnstructured(u)
	if err != nil {
		return nil, err
	}
	if o.Kind.Namespaced && o.Namespace == "" {
		u.SetNamespace("default")
		return config.FromUnstructured(u)
	}
	return o, nil
}
