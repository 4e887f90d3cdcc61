package api

import (
	"encoding/json"
	"mime"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// maxPatchOps is Kubernetes' bound on the operations of one JSON patch.
const maxPatchOps = 10000

func (s *Server) patch(w http.ResponseWriter, q *request) error {
	if q.res.Namespaced && s.namespace(q.namespace) == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, q.namespace)
	}
	raw, err := readBody(q.Request)
	if err != nil {
		return err
	}
	typ, _, _ := mime.ParseMediaType(q.Header.Get("Content-Type"))
	c := q.change()
	existed := s.store.Get(q.key(q.name)) != nil
	switch types.PatchType(typ) {
	case types.ApplyPatchType:
		err = s.prepareApply(q, c, raw)
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType:
		err = preparePatch(q, c, types.PatchType(typ), raw)
	default:
		return unsupportedMedia(typ, string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType))
	}
	if err != nil {
		return err
	}
	o, err := s.write(q.Context(), c)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if !existed {
		code = http.StatusCreated
	}
	return s.writeObject(w, q, code, o)
}

// preparePatch makes a change of a patch that tells what to alter.
func preparePatch(q *request, c *change, typ types.PatchType, raw []byte) error {
	apply, err := patcher(q, typ, raw)
	if err != nil {
		return err
	}
	c.next = func(old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		if old == nil {
			return nil, notFound(c.res, c.name)
		}
		before, err := json.Marshal(q.in(old).Object)
		if err != nil {
			return nil, err
		}
		after, err := apply(before)
		if err != nil {
			return nil, err
		}
		u, err := q.document(after)
		if err != nil {
			return nil, err
		}
		if u.GetName() != c.name || u.GetNamespace() != c.namespace {
			return nil, badRequest("a patch may not change metadata.name or metadata.namespace")
		}
		// A patch that names a resourceVersion insists on it.
		want, err := versionOf(u)
		if err != nil {
			return nil, err
		}
		if have, _ := versionOf(old); want != 0 && want != have {
			return nil, conflict(c.res, c.name, errStale)
		}
		if uid := u.GetUID(); uid != "" && uid != old.GetUID() {
			return nil, conflict(c.res, c.name, errStale)
		}
		return u, nil
	}
	return nil
}

// A JSON patch can double a document with each of its operations. The library has one limit
// for everybody, which a cluster's API server sets as well.
func init() { jsonpatch.AccumulatedCopySizeLimit = maxBody }

// patcher returns the function that applies a patch to an object's JSON.
func patcher(q *request, typ types.PatchType, raw []byte) (func([]byte) ([]byte, error), error) {
	switch typ {
	case types.JSONPatchType:
		ops, err := jsonpatch.DecodePatch(raw)
		if err != nil {
			return nil, badRequest("JSON patch: %v", err)
		}
		if len(ops) > maxPatchOps {
			return nil, tooLarge(maxPatchOps)
		}
		return func(doc []byte) ([]byte, error) {
			out, err := ops.Apply(doc)
			if err != nil {
				return nil, invalidPatch(q, err)
			}
			return out, nil
		}, nil
	case types.MergePatchType:
		if !json.Valid(raw) {
			return nil, badRequest("merge patch: not valid JSON")
		}
		return func(doc []byte) ([]byte, error) {
			out, err := jsonpatch.MergePatch(doc, raw)
			if err != nil {
				return nil, badRequest("merge patch: %v", err)
			}
			return out, nil
		}, nil
	}
	if !q.res.strategic {
		// As in a cluster: without a Go type there is no patch strategy.
		return nil, unsupportedMedia(string(typ), string(types.JSONPatchType), string(types.MergePatchType), string(types.ApplyYAMLPatchType))
	}
	var patch map[string]any
	if err := json.Unmarshal(raw, &patch); err != nil {
		return nil, badRequest("strategic merge patch: %v", err)
	}
	return func(doc []byte) ([]byte, error) {
		out, err := strategicpatch.StrategicMergePatch(doc, raw, q.res.New())
		if err != nil {
			return nil, badRequest("strategic merge patch: %v", err)
		}
		return out, nil
	}, nil
}

// invalidPatch is Kubernetes' answer to a JSON patch that does not fit the object.
func invalidPatch(q *request, err error) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", q.res.gr, q.name, err.Error(), 0, false)
}

// prepareApply makes a change of a server-side apply: the document says what its
// manager wants, and fields that it wanted before and names no more go.
func (s *Server) prepareApply(q *request, c *change, raw []byte) error {
	if q.query.Get("fieldManager") == "" {
		return apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "PatchOptions"}, "",
			field.ErrorList{field.Required(field.NewPath("fieldManager"), "is required for apply patch")})
	}
	doc, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return badRequest("apply: %v", err)
	}
	want, err := q.document(doc)
	if err != nil {
		return err
	}
	if n := want.GetName(); n != "" && n != q.name {
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", n, q.name)
	}
	want.SetName(q.name)
	want.SetNamespace(q.namespace)
	if len(want.GetManagedFields()) > 0 {
		return badRequest("metadata.managedFields must be nil")
	}
	if c.expect, err = versionOf(want); err != nil {
		return err
	}
	c.uid = string(want.GetUID())
	c.apply = true
	force := isTrue(q.query.Get("force"))
	c.next = func(old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		if old == nil && c.subresource != "" {
			return nil, notFound(c.res, c.name)
		}
		if old == nil && c.uid != "" {
			return nil, conflict(c.res, c.name, errStale)
		}
		return s.applies.apply(c, old, want.DeepCopy(), force)
	}
	return nil
}
