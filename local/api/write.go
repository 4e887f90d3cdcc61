package api

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilrand "k8s.io/apimachinery/pkg/util/rand"

	"github.com/mallamesh/malla/local/api/store"
)

// A change is one write on its way: what the client asked for, and how it is done.
type change struct {
	res         *resource
	namespace   string
	name        string
	subresource string
	user        string
	manager     string
	dryRun      bool
	warnings    *warnings
	// expect is the resourceVersion that the client insists on; 0 is any.
	expect uint64
	// uid that the client insists on; "" is any.
	uid string
	// next makes the new object from the old one, which is nil if there is none.
	// It is called again if the object changes meanwhile.
	next func(old *unstructured.Unstructured) (*unstructured.Unstructured, error)
	// apply, if set, says that next is a server-side apply, which keeps its own managedFields.
	apply bool
}

// tries bounds how often a write without a version is repeated because others
// wrote the same object meanwhile.
const tries = 20

func (q *request) change() *change {
	manager := q.query.Get("fieldManager")
	if manager == "" {
		// Kubernetes takes the first part of the user agent: "kubectl/v1.37.1 (linux/amd64)".
		manager, _, _ = strings.Cut(q.UserAgent(), "/")
		if len(manager) > 128 {
			manager = manager[:128]
		}
	}
	return &change{res: q.res, namespace: q.namespace, name: q.name, subresource: q.subresource,
		user: q.user.name, manager: manager, dryRun: q.dryRun(), warnings: q.warnings}
}

func (s *Server) create(w http.ResponseWriter, q *request) error {
	raw, err := jsonBody(q)
	if err != nil {
		return err
	}
	u, err := q.document(raw)
	if err != nil {
		return err
	}
	if q.res.Namespaced {
		if err := q.fillNamespace(u); err != nil {
			return err
		}
	} else {
		u.SetNamespace("")
	}
	if u.GetResourceVersion() != "" {
		return badRequest("resourceVersion should not be set on objects to be created")
	}
	c := q.change()
	o, err := s.createObject(q.Context(), c, u)
	if err != nil {
		return err
	}
	return s.writeObject(w, q, http.StatusCreated, o)
}

// fillNamespace makes path and document agree on the namespace.
func (q *request) fillNamespace(u *unstructured.Unstructured) error {
	have := u.GetNamespace()
	if q.namespace == "" {
		q.namespace = have
	}
	if q.namespace == "" {
		return badRequest("an empty namespace may not be set during creation")
	}
	if have != "" && have != q.namespace {
		return badRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	u.SetNamespace(q.namespace)
	return nil
}

// createObject makes a new object, choosing its name if it asks for that.
func (s *Server) createObject(ctx context.Context, c *change, u *unstructured.Unstructured) (*store.Object, error) {
	prefix := u.GetGenerateName()
	u.SetUID("")
	for range tries {
		v := u.DeepCopy()
		if v.GetName() == "" && prefix != "" {
			if len(prefix) > 58 {
				prefix = prefix[:58]
			}
			v.SetName(prefix + utilrand.String(5))
		}
		c.name, c.namespace = v.GetName(), v.GetNamespace()
		c.next = func(old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
			if old != nil {
				return nil, apierrors.NewAlreadyExists(c.res.gr, c.name)
			}
			return v, nil
		}
		o, err := s.write(ctx, c)
		if apierrors.IsAlreadyExists(err) && u.GetName() == "" {
			continue
		}
		return o, err
	}
	return nil, apierrors.NewAlreadyExists(c.res.gr, prefix)
}

func (s *Server) update(w http.ResponseWriter, q *request) error {
	raw, err := jsonBody(q)
	if err != nil {
		return err
	}
	u, err := q.document(raw)
	if err != nil {
		return err
	}
	if n := u.GetName(); n != "" && n != q.name {
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", n, q.name)
	}
	u.SetName(q.name)
	if q.res.Namespaced {
		if err := q.fillNamespace(u); err != nil {
			return err
		}
	}
	c := q.change()
	if c.expect, err = versionOf(u); err != nil {
		return err
	}
	c.uid = string(u.GetUID())
	c.next = func(old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		if old == nil {
			return nil, notFound(c.res, c.name)
		}
		return u.DeepCopy(), nil
	}
	o, err := s.write(q.Context(), c)
	if err != nil {
		return err
	}
	return s.writeObject(w, q, http.StatusOK, o)
}

func versionOf(u *unstructured.Unstructured) (uint64, error) {
	rv := u.GetResourceVersion()
	if rv == "" || rv == "0" {
		return 0, nil
	}
	v, err := strconv.ParseUint(rv, 10, 64)
	if err != nil {
		return 0, badRequest("metadata.resourceVersion: %q is not a version of this server", rv)
	}
	return v, nil
}

// write carries a change out: the object as next makes it, with what the server
// itself decides, admitted, checked and stored. No lock is held meanwhile; if
// the object changes under it, it begins anew unless the client insists on a version.
func (s *Server) write(ctx context.Context, c *change) (*store.Object, error) {
	k := store.Key{Resource: c.res.key, Namespace: c.namespace, Name: c.name}
	for range tries {
		old := s.store.Get(k)
		if err := c.precondition(old); err != nil {
			return nil, err
		}
		o, err := s.writeOnce(ctx, c, k, old)
		if !errors.Is(err, store.ErrConflict) {
			return o, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return nil, conflict(c.res, c.name, errStale)
}

func (c *change) precondition(old *store.Object) error {
	if c.expect != 0 {
		if old == nil {
			if c.apply {
				return conflict(c.res, c.name, errStale)
			}
			return notFound(c.res, c.name)
		}
		if old.Version != c.expect {
			return conflict(c.res, c.name, errStale)
		}
	}
	if c.uid != "" && old != nil && string(old.Value.GetUID()) != c.uid {
		return conflict(c.res, c.name, errors.New("the uid in the request ("+c.uid+") is not that of the object ("+string(old.Value.GetUID())+")"))
	}
	return nil
}

func (s *Server) writeOnce(ctx context.Context, c *change, k store.Key, old *store.Object) (*store.Object, error) {
	var was *unstructured.Unstructured
	if old != nil {
		was = old.Value
	}
	u, err := c.next(was)
	if err != nil {
		return nil, err
	}
	if u, err = c.res.normal(u); err != nil {
		return nil, err
	}
	s.settle(c, was, u)
	var notices []string
	if c.subresource == "" {
		if u, notices, err = s.admit(ctx, c, was, u); err != nil {
			return nil, err
		}
		if old == nil || !slices.Equal(notices, old.Notices) {
			c.warnings.add(about(c.res, c.namespace, c.name, notices)...)
		}
	} else if old != nil {
		notices = old.Notices
	}
	if err := s.check(c, was, u); err != nil {
		return nil, err
	}
	s.manage(c, was, u)
	if was != nil && unchanged(was, u) {
		return old, nil
	}
	if err := s.checkNamespace(c, was); err != nil {
		return nil, err
	}
	release, err := s.allocate(c.res, was, u)
	if err != nil {
		return nil, err
	}
	defer release()
	if c.dryRun {
		return s.dryObject(k, u)
	}
	return s.store1(c, k, old, u, notices)
}

// store1 stores u, or removes the object if this write took away the last thing
// that a deletion waited for.
func (s *Server) store1(c *change, k store.Key, old *store.Object, u *unstructured.Unstructured, notices []string) (*store.Object, error) {
	var expect uint64
	if old != nil {
		expect = old.Version
	}
	if old != nil && u.GetDeletionTimestamp() != nil && len(u.GetFinalizers()) == 0 && len(old.Value.GetFinalizers()) > 0 && graceOver(u) {
		return s.store.Delete(k, expect, u)
	}
	o, err := s.store.Put(k, expect, u, notices)
	if err == nil && old == nil && c.res.key == "namespaces" {
		s.furnish(k.Name)
	}
	return o, err
}

// dryObject is what the store would have answered.
func (s *Server) dryObject(k store.Key, u *unstructured.Unstructured) (*store.Object, error) {
	raw, err := u.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return &store.Object{Key: k, JSON: raw, Value: u}, nil
}

// admit asks the admitters, and brings the object into its stored form again.
func (s *Server) admit(ctx context.Context, c *change, was, u *unstructured.Unstructured) (*unstructured.Unstructured, []string, error) {
	r := &Request{Operation: Create, Kind: c.res.Kind, Subresource: c.subresource, Namespace: c.namespace, Name: c.name,
		Old: was, Object: u, User: c.user, Manager: c.manager, DryRun: c.dryRun}
	if was != nil {
		r.Operation = Update
	}
	if err := s.admitServiceAccount(r); err != nil {
		return nil, nil, err
	}
	var notices []string
	for _, a := range s.o.Admit {
		texts, err := a.Admit(ctx, r)
		notices = append(notices, texts...)
		if err != nil {
			return nil, nil, asStatus(c.res, c.name, err)
		}
	}
	u, err := c.res.normal(r.Object)
	if err != nil {
		return nil, nil, err
	}
	s.settle(c, was, u) // whatever admitters did, these are the server's
	return u, notices, nil
}

// unchanged reports whether a write would change nothing that anybody sees: then
// nothing is written, and nobody is woken.
func unchanged(was, u *unstructured.Unstructured) bool {
	a, b := shallow(was.Object), shallow(u.Object)
	delete(a, "metadata")
	delete(b, "metadata")
	if !reflect.DeepEqual(a, b) {
		return false
	}
	return reflect.DeepEqual(comparableMeta(was), comparableMeta(u))
}

func comparableMeta(u *unstructured.Unstructured) map[string]any {
	m, _ := u.Object["metadata"].(map[string]any)
	m = shallow(m)
	delete(m, "resourceVersion")
	if fields, ok := m["managedFields"].([]any); ok {
		plain := make([]any, len(fields))
		for i, f := range fields {
			e, _ := f.(map[string]any)
			e = shallow(e)
			delete(e, "time")
			plain[i] = e
		}
		m["managedFields"] = plain
	}
	return m
}
