package api

import (
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// applyManagers merge server-side applies and keep managedFields. They are made
// when first needed: the schema of Kubernetes' types takes its time to read.
//
// An object has managedFields from its first apply on. Before, nobody needs to
// know who wrote what, and most objects of a mesh are never applied that way.
type applyManagers struct {
	mu     sync.Mutex
	native managedfields.TypeConverter
	by     map[applyKey]*managedfields.FieldManager
}

type applyKey struct{ resource, subresource string }

func (a *applyManagers) of(res *resource, subresource string) (*managedfields.FieldManager, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := applyKey{res.key, subresource}
	if m := a.by[k]; m != nil {
		return m, nil
	}
	types := managedfields.NewDeducedTypeConverter()
	make := managedfields.NewDefaultCRDFieldManager
	if res.native {
		if a.native == nil {
			a.native = applyconfigurations.NewTypeConverter(scheme.Scheme)
		}
		types, make = a.native, managedfields.NewDefaultFieldManager
	}
	m, err := make(types, convertor{}, convertor{}, convertor{}, res.GVK(), res.GVK().GroupVersion(), subresource, nil)
	if err != nil {
		return nil, err
	}
	if a.by == nil {
		a.by = map[applyKey]*managedfields.FieldManager{}
	}
	a.by[k] = m
	return m, nil
}

// apply merges what a manager wants into the object; old is nil if there is none.
func (a *applyManagers) apply(c *change, old, want *unstructured.Unstructured, force bool) (*unstructured.Unstructured, error) {
	m, err := a.of(c.res, c.subresource)
	if err != nil {
		return nil, err
	}
	live := &unstructured.Unstructured{Object: map[string]any{}}
	if old != nil {
		live = old.DeepCopy()
	}
	live.SetAPIVersion(want.GetAPIVersion())
	live.SetKind(want.GetKind())
	out, err := m.Apply(live, want, c.manager, force)
	if err != nil {
		if isStatusError(err) {
			return nil, err
		}
		return nil, apierrors.NewBadRequest(err.Error())
	}
	u, ok := out.(*unstructured.Unstructured)
	if !ok {
		return nil, badRequest("apply: unexpected result %T", out)
	}
	if old == nil {
		u.SetUID("")
	}
	return u, nil
}

// manage keeps the managedFields of an object that has been applied: a write of
// another kind takes over the fields that it changed.
func (s *Server) manage(c *change, was, u *unstructured.Unstructured) {
	if c.apply {
		return
	}
	if was == nil || len(was.GetManagedFields()) == 0 {
		u.SetManagedFields(nil)
		return
	}
	m, err := s.applies.of(c.res, c.subresource)
	if err != nil {
		s.log.Error("managed fields", "kind", c.res.Kind.Kind, "error", err)
		u.SetManagedFields(was.GetManagedFields())
		return
	}
	out := m.UpdateNoErrors(was.DeepCopy(), u.DeepCopy(), c.manager)
	if v, ok := out.(*unstructured.Unstructured); ok {
		u.SetManagedFields(v.GetManagedFields())
	}
}

// convertor converts between the versions of a kind, which differ in their name
// only; it makes empty objects and sets no defaults.
type convertor struct{}

var (
	_ runtime.ObjectConvertor = convertor{}
	_ runtime.ObjectDefaulter = convertor{}
	_ runtime.ObjectCreater   = convertor{}
)

func (convertor) Default(runtime.Object) {}

func (convertor) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	return u, nil
}

func (convertor) Convert(in, out, _ any) error {
	from, ok1 := in.(*unstructured.Unstructured)
	to, ok2 := out.(*unstructured.Unstructured)
	if !ok1 || !ok2 {
		return badRequest("convert %T to %T: not known", in, out)
	}
	to.Object = from.DeepCopy().Object
	return nil
}

func (convertor) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return nil, badRequest("convert %T: not known", in)
	}
	gvk := u.GroupVersionKind()
	to, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{gvk})
	if !ok || to == gvk {
		return in, nil
	}
	u = u.DeepCopy()
	u.SetGroupVersionKind(to)
	return u, nil
}

func (convertor) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}
