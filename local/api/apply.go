package api

import (
	"encoding/json"
	"sync"

	corev1 "k8s.io/api/core/v1"
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
	applied := appliedIn(live, c.res)
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
	applied.restore(u)
	return u, nil
}

// lastApplied is the annotation in which a client-side apply notes what it wants.
const lastApplied = corev1.LastAppliedConfigAnnotation

// A versioned is a note of what was applied last, as it was and in the version in which objects are kept.
type versioned struct{ was, is string }

// appliedIn has an object's note of what was applied last speak of the version in which its kind is kept. The rules by
// which a server-side apply takes over from a client-side one (the conflicts that kubectl's own annotation allows) want them to be
// of one version; here all served versions are, but for their names.
func appliedIn(u *unstructured.Unstructured, res *resource) versioned {
	annotations := u.GetAnnotations()
	v := versioned{was: annotations[lastApplied]}
	var doc map[string]any
	if v.was == "" || json.Unmarshal([]byte(v.was), &doc) != nil {
		return v
	}
	version, _ := doc["apiVersion"].(string)
	gv, err := schema.ParseGroupVersion(version)
	if err != nil || gv.Group != res.Group || gv == res.GVK().GroupVersion() || !res.Serves(gv.Version) {
		return v
	}
	doc["apiVersion"] = res.GVK().GroupVersion().String()
	text, err := json.Marshal(doc)
	if err != nil {
		return v
	}
	v.is = string(text)
	annotations[lastApplied] = v.is
	u.SetAnnotations(annotations)
	return v
}

// restore writes the note as it was, unless the apply has written another.
func (v versioned) restore(u *unstructured.Unstructured) {
	if annotations := u.GetAnnotations(); v.is != "" && annotations[lastApplied] == v.is {
		annotations[lastApplied] = v.was
		u.SetAnnotations(annotations)
	}
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
