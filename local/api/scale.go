package api

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/mallamesh/malla/local/api/store"
)

// scale answers .../scale: the replicas of a workload, without the rest of it.
func (s *Server) scale(w http.ResponseWriter, q *request) error {
	o := s.store.Get(q.key(q.name))
	if o == nil {
		return notFound(q.res, q.name)
	}
	var edit func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error)
	switch q.Method {
	case http.MethodGet:
		sc, err := scaleOf(o.Value)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, sc)
		return nil
	case http.MethodPut:
		raw, err := jsonBody(q)
		if err != nil {
			return err
		}
		want := &autoscalingv1.Scale{}
		if err := json.Unmarshal(raw, want); err != nil {
			return badRequest("Scale: %v", err)
		}
		edit = func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) { return want, nil }
	case http.MethodPatch:
		raw, err := readBody(q.Request)
		if err != nil {
			return err
		}
		typ, _, _ := mime.ParseMediaType(q.Header.Get("Content-Type"))
		edit = func(sc *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
			return patchScale(sc, types.PatchType(typ), raw)
		}
	default:
		return methodNotAllowed(q.res, strings.ToLower(q.Method))
	}
	o, err := s.rescale(q, edit)
	if err != nil {
		return err
	}
	sc, err := scaleOf(o.Value)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, sc)
	return nil
}

func (s *Server) rescale(q *request, edit func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error)) (*store.Object, error) {
	c := q.change()
	c.next = func(old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		if old == nil {
			return nil, notFound(c.res, c.name)
		}
		sc, err := scaleOf(old)
		if err != nil {
			return nil, err
		}
		want, err := edit(sc)
		if err != nil {
			return nil, err
		}
		if rv := want.ResourceVersion; rv != "" && rv != old.GetResourceVersion() {
			return nil, conflict(c.res, c.name, errStale)
		}
		if want.Spec.Replicas < 0 {
			return nil, badRequest("spec.replicas: %d, want 0 or more", want.Spec.Replicas)
		}
		u := old.DeepCopy()
		return u, unstructured.SetNestedField(u.Object, int64(want.Spec.Replicas), "spec", "replicas")
	}
	return s.write(q.Context(), c)
}

func patchScale(sc *autoscalingv1.Scale, typ types.PatchType, raw []byte) (*autoscalingv1.Scale, error) {
	before, err := json.Marshal(sc)
	if err != nil {
		return nil, err
	}
	var after []byte
	switch typ {
	case types.JSONPatchType:
		ops, e := jsonpatch.DecodePatch(raw)
		if e != nil {
			return nil, badRequest("JSON patch: %v", e)
		}
		after, err = ops.Apply(before)
	case types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, raw)
	case types.StrategicMergePatchType:
		after, err = strategicpatch.StrategicMergePatch(before, raw, sc)
	default:
		return nil, unsupportedMedia(string(typ), string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType))
	}
	if err != nil {
		return nil, badRequest("patch: %v", err)
	}
	out := &autoscalingv1.Scale{}
	if err := json.Unmarshal(after, out); err != nil {
		return nil, badRequest("patch: %v", err)
	}
	return out, nil
}

func scaleOf(u *unstructured.Unstructured) (*autoscalingv1.Scale, error) {
	spec, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	have, _, _ := unstructured.NestedInt64(u.Object, "status", "replicas")
	sc := &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{Kind: "Scale", APIVersion: "autoscaling/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(),
			ResourceVersion: u.GetResourceVersion(), CreationTimestamp: u.GetCreationTimestamp()},
		Spec:   autoscalingv1.ScaleSpec{Replicas: int32(spec)},
		Status: autoscalingv1.ScaleStatus{Replicas: int32(have)},
	}
	if raw, ok, _ := unstructured.NestedMap(u.Object, "spec", "selector"); ok {
		l := &metav1.LabelSelector{}
		if err := fromMap(raw, l); err != nil {
			return nil, err
		}
		sel, err := metav1.LabelSelectorAsSelector(l)
		if err != nil {
			return nil, err
		}
		sc.Status.Selector = sel.String()
	}
	return sc, nil
}
