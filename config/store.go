package config

import (
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mallamesh/malla/config/kind"
)

// A Store gathers changes and makes snapshots of them. Its methods may be called
// from several goroutines. The zero Store is empty and ready.
type Store struct {
	mu      sync.Mutex // guards what follows
	current *Snapshot
	pending map[string]map[key]*Object // by kind; nil means deleted
}

// Put adds the object or replaces the one of the same kind, namespace and name.
func (s *Store) Put(o *Object) { s.change(o.Kind.Key(), o.key(), o) }

// Delete takes the object away, if it is there.
func (s *Store) Delete(kindName, namespace, name string) {
	s.change(kindName, key{namespace, name}, nil)
}

// Replace makes the objects all that there are of a kind.
func (s *Store) Replace(kindName string, objects []*Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[key]*Object, len(objects))
	for k := range s.pending[kindName] {
		all[k] = nil
	}
	if s.current != nil {
		for _, o := range s.current.List(kindName) {
			all[o.key()] = nil
		}
	}
	for _, o := range objects {
		all[o.key()] = o
	}
	if s.pending == nil {
		s.pending = map[string]map[key]*Object{}
	}
	s.pending[kindName] = all
}

// Latest returns the newest version of an object, be it in a snapshot yet or not.
func (s *Store) Latest(kindName, namespace, name string) (*Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, changed := s.pending[kindName][key{namespace, name}]; changed {
		return o, o != nil
	}
	if s.current == nil {
		return nil, false
	}
	return s.current.Get(kindName, namespace, name)
}

func (s *Store) change(kindName string, k key, o *Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		s.pending = map[string]map[key]*Object{}
	}
	if s.pending[kindName] == nil {
		s.pending[kindName] = map[key]*Object{}
	}
	s.pending[kindName][k] = o
}

// Snapshot returns the picture of all changes up to now; without a change since
// the last call it is the same one.
func (s *Store) Snapshot() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		s.current = Empty
	}
	next := &Snapshot{generation: s.current.generation + 1, kinds: make(map[string]*set, len(s.current.kinds)+len(s.pending))}
	for name, old := range s.current.kinds {
		next.kinds[name] = old
	}
	changed := false
	for name, pending := range s.pending {
		old := s.current.List(name)
		if list := merge(old, pending); !slices.Equal(list, old) {
			next.kinds[name] = &set{generation: next.generation, list: list}
			changed = true
		}
	}
	s.pending = nil
	if changed {
		s.current = next
	}
	return s.current
}

// merge returns the sorted old list with the changes applied.
func merge(old []*Object, pending map[key]*Object) []*Object {
	keys := make([]key, 0, len(pending))
	for k := range pending {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeys)
	list := make([]*Object, 0, len(old)+len(pending))
	for _, k := range keys {
		n, found := slices.BinarySearchFunc(old, k, func(o *Object, k key) int { return compareKeys(o.key(), k) })
		list = append(list, old[:n]...)
		old = old[n:]
		o := pending[k]
		if found {
			if o != nil && o.Version != "" && o.Version == old[0].Version && o.UID == old[0].UID {
				o = old[0] // a resync brings the same object again
			}
			old = old[1:]
		}
		if o != nil {
			list = append(list, o)
		}
	}
	return append(list, old...)
}

// FromTyped makes an Object of a value whose Go type is that of k.New. The value
// belongs to the Object from then on.
func FromTyped(k *kind.Kind, value runtime.Object) (*Object, error) {
	m, err := meta.Accessor(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.Kind, err)
	}
	return &Object{
		Kind: k, Namespace: m.GetNamespace(), Name: m.GetName(), Labels: m.GetLabels(), Annotations: m.GetAnnotations(),
		Created: m.GetCreationTimestamp().Time, UID: string(m.GetUID()), Version: m.GetResourceVersion(),
		Pos: m.GetAnnotations()[SourceAnnotation], Value: value,
	}, nil
}

// FromUnstructured makes an Object of one in any served version of its kind.
// Fields that the kind does not have are dropped: validation has refused them before.
func FromUnstructured(u *unstructured.Unstructured) (*Object, error) {
	k, ok := kind.ByGVK(u.GroupVersionKind())
	if !ok {
		return nil, fmt.Errorf("kind %s in apiVersion %s is not known", u.GetKind(), u.GetAPIVersion())
	}
	value, err := Typed(k, u)
	if err != nil {
		return nil, err
	}
	return FromTyped(k, value)
}

// Objects makes the snapshot of the given objects; later ones replace earlier ones.
func Objects(objects ...*Object) *Snapshot {
	var s Store
	for _, o := range objects {
		s.Put(o)
	}
	return s.Snapshot()
}
