package files

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/mallamesh/malla/config/kind"
)

// lastApplied is kubectl's annotation: what the last apply said. Writing the same
// one makes a saved file and `malla apply -f` understand each other.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// A Change says what applying an object did.
type Change string

const (
	Created    Change = "created"
	Configured Change = "configured"
	Unchanged  Change = "unchanged"
	Deleted    Change = "deleted"
)

// conflicts is how often an apply is tried again because somebody else wrote in between.
const conflicts = 5

// apply makes the server's object agree with want as `kubectl apply` does: what
// the last apply said and this one no longer says goes, what others set stays.
func apply(ctx context.Context, client dynamic.Interface, want *unstructured.Unstructured) (Change, error) {
	want = want.DeepCopy()
	text, err := json.Marshal(want)
	if err != nil {
		return "", fmt.Errorf("encode: %w", err)
	}
	annotations := want.GetAnnotations()
	annotations[lastApplied] = string(text) // Source is there already, so the map is
	want.SetAnnotations(annotations)
	resource, err := resource(client, want)
	if err != nil {
		return "", err
	}
	for try := 0; ; try++ {
		have, err := resource.Get(ctx, want.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = resource.Create(ctx, want, metav1.CreateOptions{FieldManager: manager})
			if err == nil {
				return Created, nil
			}
			if !apierrors.IsAlreadyExists(err) || try == conflicts {
				return "", err
			}
			continue
		}
		if err != nil {
			return "", err
		}
		kind, patch, err := threeWay(have, want)
		if err != nil {
			return "", err
		}
		if patch == nil {
			return Unchanged, nil
		}
		got, err := resource.Patch(ctx, want.GetName(), kind, patch, metav1.PatchOptions{FieldManager: manager})
		if apierrors.IsConflict(err) && try < conflicts {
			continue
		}
		if err != nil {
			return "", err
		}
		if equality.Semantic.DeepEqual(got.Object, have.Object) {
			return Unchanged, nil
		}
		return Configured, nil
	}
}

// manager is our name as a writer.
const manager = "malla-up"

// threeWay returns the patch from have to want, given what have was last said to
// be; nil if there is nothing to do.
func threeWay(have, want *unstructured.Unstructured) (types.PatchType, []byte, error) {
	current, err := json.Marshal(have)
	if err != nil {
		return "", nil, fmt.Errorf("encode: %w", err)
	}
	modified, err := json.Marshal(want)
	if err != nil {
		return "", nil, fmt.Errorf("encode: %w", err)
	}
	original := []byte(have.GetAnnotations()[lastApplied])
	if len(original) == 0 {
		original = []byte("{}")
	}
	kind, patch := types.MergePatchType, []byte(nil)
	if typed, missing := scheme.Scheme.New(want.GroupVersionKind()); missing == nil {
		// Kubernetes' own kinds know which of their lists are merged by which key.
		kind = types.StrategicMergePatchType
		meta, err := strategicpatch.NewPatchMetaFromStruct(typed)
		if err != nil {
			return "", nil, fmt.Errorf("merge: %w", err)
		}
		if patch, err = strategicpatch.CreateThreeWayMergePatch(original, modified, current, meta, true); err != nil {
			return "", nil, fmt.Errorf("merge: %w", err)
		}
	} else if patch, err = jsonmergepatch.CreateThreeWayJSONMergePatch(original, modified, current,
		mergepatch.RequireKeyUnchanged("apiVersion"), mergepatch.RequireKeyUnchanged("kind"), mergepatch.RequireMetadataKeyUnchanged("name")); err != nil {
		return "", nil, fmt.Errorf("merge: %w", err)
	}
	if string(patch) == "{}" {
		return "", nil, nil
	}
	return kind, patch, nil
}

// resource returns the client of the object's kind, in its namespace.
func resource(client dynamic.Interface, u *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := u.GroupVersionKind()
	k, ok := kind.ByGVK(gvk)
	if !ok {
		return nil, fmt.Errorf("kind %s of %s is not known here", gvk.Kind, gvk.GroupVersion())
	}
	r := client.Resource(schema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: k.Plural})
	if !k.Namespaced {
		return r, nil
	}
	return r.Namespace(u.GetNamespace()), nil
}
