// Package config holds an immutable picture of all configuration.
//
// A [Snapshot] is what everything after it reads: the registry, compilation and
// status. It never changes, so it may be shared between goroutines and compared
// by generation; a kind that did not change shares its memory with the snapshot
// before. A [Store] gathers changes and makes snapshots; sources feed it.
//
// Where objects come from (a Kubernetes API server, a test) is not known here,
// nor is what they mean.
package config

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mallamesh/malla/config/kind"
)

// SourceAnnotation holds where an object was written, as file:line. Objects that
// `malla up` and `malla apply` take from files carry it, so that errors point there.
const SourceAnnotation = "malla.dev/source"

// An Object is one configuration object. It is never written after it was made.
type Object struct {
	Kind                *kind.Kind
	Namespace, Name     string
	Labels, Annotations map[string]string
	Created             time.Time
	UID                 string
	Version             string         // resourceVersion
	Pos                 string         // file:line of its source, if known
	Value               runtime.Object // of the Go type that Kind.New makes
}

// String returns the object's name as errors show it: "VirtualService prod/reviews".
func (o *Object) String() string {
	if o.Namespace == "" {
		return o.Kind.Key() + " " + o.Name
	}
	return o.Kind.Key() + " " + o.Namespace + "/" + o.Name
}

// A Snapshot is all configuration at one moment.
type Snapshot struct {
	generation uint64
	kinds      map[string]*set
}

// set is the objects of one kind, sorted by namespace and name.
type set struct {
	generation uint64 // of the snapshot in which the kind last changed
	list       []*Object
}

// Empty is the snapshot without objects.
var Empty = &Snapshot{}

// Generation returns the snapshot's number; every change makes a higher one.
func (s *Snapshot) Generation() uint64 { return s.generation }

// KindGeneration returns the generation in which the objects of a kind last
// changed, so that what is made from them can be kept.
func (s *Snapshot) KindGeneration(kindName string) uint64 {
	if k := s.kinds[kindName]; k != nil {
		return k.generation
	}
	return 0
}

// List returns the objects of a kind, sorted by namespace and name. It must not be written.
func (s *Snapshot) List(kindName string) []*Object {
	if k := s.kinds[kindName]; k != nil {
		return k.list
	}
	return nil
}

// In returns the objects of a kind in one namespace, sorted by name. It must not be written.
func (s *Snapshot) In(kindName, namespace string) []*Object {
	list := s.List(kindName)
	from, _ := slices.BinarySearchFunc(list, namespace, func(o *Object, ns string) int { return cmp.Compare(o.Namespace, ns) })
	to := from
	for to < len(list) && list[to].Namespace == namespace {
		to++
	}
	return list[from:to:to]
}

// Get returns the object of that kind, namespace and name, and whether there is one.
func (s *Snapshot) Get(kindName, namespace, name string) (*Object, bool) {
	list := s.List(kindName)
	i, ok := slices.BinarySearchFunc(list, key{namespace, name}, func(o *Object, k key) int { return compareKeys(o.key(), k) })
	if !ok {
		return nil, false
	}
	return list[i], true
}

type key struct{ namespace, name string }

func (o *Object) key() key { return key{o.Namespace, o.Name} }

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}
