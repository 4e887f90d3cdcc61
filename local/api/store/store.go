// Package store holds objects and puts all changes to them in one order.
//
// Every change gets the next version, a number that counts changes of all
// objects together, as etcd's revision does. A [Watcher] sees the changes of one
// resource in that order, without gaps, from any version that is still
// remembered; one that falls too far behind is told so and must list again.
//
// Objects are stored as JSON beside their decoded form, so that lists and
// watches copy bytes and encode nothing. Both forms are immutable: a change puts
// a new [Object] in place of the old one.
//
// The store knows nothing of HTTP, kinds, admission or time.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Errors of the store.
var (
	// ErrConflict: the object is not at the version that the caller expects.
	ErrConflict = errors.New("the object has changed")
	// ErrExpired: the version is no longer remembered, or the watcher fell behind.
	ErrExpired = errors.New("too old resource version")
)

// A Key names one object. Resource is "deployments.apps", or "pods" in the core group.
type Key struct {
	Resource, Namespace, Name string
}

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Resource + " " + k.Name
	}
	return k.Resource + " " + k.Namespace + "/" + k.Name
}

// An Object is one version of an object. It is never written.
type Object struct {
	Key     Key
	Version uint64
	JSON    []byte // of the stored API version
	Value   *unstructured.Unstructured
	Notices []string // what people are told once about this object
}

// Type is what happened to an object.
type Type uint8

const (
	Added Type = iota
	Modified
	Deleted
)

// An Event is one change. Of a deleted object, Object is its last state with
// the version of the deletion.
type Event struct {
	Type    Type
	Version uint64
	Object  *Object
	Old     *Object // nil when added
}

// A Log keeps changes over restarts. The store calls it in order, under its lock.
type Log interface {
	// Put records an object's new state.
	Put(o *Object)
	// Delete records that an object is gone since version.
	Delete(k Key, version uint64)
}

// Store is safe for concurrent use.
type Store struct {
	mu      sync.RWMutex // guards all below, and the order of log and watchers
	version uint64
	start   uint64 // version of New: changes before it were never remembered
	tables  map[string]*table
	log     Log

	everything map[*Watcher]struct{} // watchers of all resources
}

// table is the objects of one resource, and the memory of their latest changes.
type table struct {
	objects  map[string]map[string]*Object // by namespace, then name
	count    int
	recent   []Event // oldest first
	bytes    int     // of the objects in recent
	floor    uint64  // versions before this one are no longer remembered
	watchers map[*Watcher]struct{}
}

// Remembered is how many changes of one resource a late watcher can catch up
// with, if they have no more than RememberedBytes together: each holds a whole
// object. Who is later lists anew.
const (
	Remembered      = 512
	RememberedBytes = 16 << 20
)

// New returns a store that starts after version with the objects given, in which
// changes are written to log (which may be nil).
func New(version uint64, objects []*Object, log Log) *Store {
	s := &Store{version: version, start: version, tables: map[string]*table{}, log: log, everything: map[*Watcher]struct{}{}}
	for _, o := range objects {
		s.table(o.Key.Resource).put(o)
	}
	return s
}

// table returns the resource's table; the caller holds the lock for writing.
func (s *Store) table(resource string) *table {
	t := s.tables[resource]
	if t == nil {
		t = &table{objects: map[string]map[string]*Object{}, watchers: map[*Watcher]struct{}{}, floor: s.start}
		s.tables[resource] = t
	}
	return t
}

func (t *table) put(o *Object) {
	ns := t.objects[o.Key.Namespace]
	if ns == nil {
		ns = map[string]*Object{}
		t.objects[o.Key.Namespace] = ns
	}
	if ns[o.Key.Name] == nil {
		t.count++
	}
	ns[o.Key.Name] = o
}

func (t *table) remove(k Key) {
	ns := t.objects[k.Namespace]
	delete(ns, k.Name)
	t.count--
	if len(ns) == 0 {
		delete(t.objects, k.Namespace)
	}
}

func (t *table) remember(e Event) {
	t.recent = append(t.recent, e)
	t.bytes += len(e.Object.JSON)
	for len(t.recent) > Remembered || t.bytes > RememberedBytes && len(t.recent) > 1 {
		oldest := t.recent[0]
		t.floor = oldest.Version
		t.bytes -= len(oldest.Object.JSON)
		t.recent[0] = Event{} // the array stays until append needs a larger one
		t.recent = t.recent[1:]
	}
}

// since returns the remembered changes after version, oldest first.
func (t *table) since(version uint64) []Event {
	first := sort.Search(len(t.recent), func(i int) bool { return t.recent[i].Version > version })
	return slices.Clone(t.recent[first:])
}

// Version returns the version of the latest change.
func (s *Store) Version() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version
}

// Get returns the object, or nil.
func (s *Store) Get(k Key) *Object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.get(k)
}

func (s *Store) get(k Key) *Object {
	t := s.tables[k.Resource]
	if t == nil {
		return nil
	}
	return t.objects[k.Namespace][k.Name]
}

// List returns the objects of a resource, sorted by namespace and name, and the
// version at which they are all of them. An empty namespace is all namespaces.
func (s *Store) List(resource, namespace string) ([]*Object, uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.list(resource, namespace), s.version
}

func (s *Store) list(resource, namespace string) []*Object {
	t := s.tables[resource]
	if t == nil {
		return nil
	}
	var out []*Object
	if namespace != "" {
		out = make([]*Object, 0, len(t.objects[namespace]))
		for _, o := range t.objects[namespace] {
			out = append(out, o)
		}
	} else {
		out = make([]*Object, 0, t.count)
		for _, ns := range t.objects {
			for _, o := range ns {
				out = append(out, o)
			}
		}
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := &out[i].Key, &out[j].Key
		if a.Namespace != b.Namespace {
			return a.Namespace < b.Namespace
		}
		return a.Name < b.Name
	})
	return out
}

// All returns every object, in the order of their versions.
func (s *Store) All() []*Object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.all()
}

func (s *Store) all() []*Object {
	var out []*Object
	for _, t := range s.tables {
		for _, ns := range t.objects {
			for _, o := range ns {
				out = append(out, o)
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Version < out[j].Version })
	return out
}

// Put stores value as the object's next version if the object is at version
// expect (0: there is none). It takes value over and writes its resourceVersion.
func (s *Store) Put(k Key, expect uint64, value *unstructured.Unstructured, notices []string) (*Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.get(k)
	if at(old) != expect {
		return nil, ErrConflict
	}
	o, err := s.encode(k, value)
	if err != nil {
		return nil, err
	}
	o.Notices = notices
	s.version = o.Version
	t := s.table(k.Resource)
	t.put(o)
	e := Event{Type: Added, Version: o.Version, Object: o, Old: old}
	if old != nil {
		e.Type = Modified
	}
	if s.log != nil {
		s.log.Put(o)
	}
	s.publish(t, e)
	return o, nil
}

// Delete removes the object if it is at version expect and returns its last state.
func (s *Store) Delete(k Key, expect uint64, last *unstructured.Unstructured) (*Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.get(k)
	if old == nil || old.Version != expect {
		return nil, ErrConflict
	}
	if last == nil {
		last = old.Value.DeepCopy()
	}
	o, err := s.encode(k, last)
	if err != nil {
		return nil, err
	}
	s.version = o.Version
	t := s.table(k.Resource)
	t.remove(k)
	if s.log != nil {
		s.log.Delete(k, o.Version)
	}
	s.publish(t, Event{Type: Deleted, Version: o.Version, Object: o, Old: old})
	return o, nil
}

func (s *Store) encode(k Key, value *unstructured.Unstructured) (*Object, error) {
	version := s.version + 1
	value.SetResourceVersion(strconv.FormatUint(version, 10))
	raw, err := json.Marshal(value.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", k, err)
	}
	return &Object{Key: k, Version: version, JSON: raw, Value: value}, nil
}

func at(o *Object) uint64 {
	if o == nil {
		return 0
	}
	return o.Version
}

func (s *Store) publish(t *table, e Event) {
	t.remember(e)
	for _, set := range []map[*Watcher]struct{}{t.watchers, s.everything} {
		for w := range set {
			if !w.push(e) {
				delete(set, w)
			}
		}
	}
}

// Snapshot returns every object with the version at which they are all of them.
func (s *Store) Snapshot() (uint64, []*Object) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version, s.all()
}
