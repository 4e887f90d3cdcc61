package api

import (
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/mallamesh/malla/config/crd"
)

// settle writes the fields of u that the server decides, not the client: its
// identity, its age, its deletion, its generation, and whichever of spec and
// status this path of the API does not write.
func (s *Server) settle(c *change, was, u *unstructured.Unstructured) {
	u.SetName(c.name)
	if c.res.Namespaced {
		u.SetNamespace(c.namespace)
	}
	u.SetSelfLink("")
	if was == nil {
		if u.GetUID() == "" { // set already when admitters have had their turn
			u.SetUID(types.UID(uuid.NewUUID()))
		}
		u.SetCreationTimestamp(metav1.NewTime(s.now().Truncate(time.Second)))
		u.SetDeletionTimestamp(nil)
		u.SetDeletionGracePeriodSeconds(nil)
		if c.res.Has("status") {
			s.newStatus(c.res, u)
		}
		if c.res.counted() {
			u.SetGeneration(1)
		}
		return
	}
	if c.subresource == "status" {
		keepAllButStatus(was, u)
		return
	}
	u.SetUID(was.GetUID())
	u.SetCreationTimestamp(was.GetCreationTimestamp())
	u.SetDeletionTimestamp(was.GetDeletionTimestamp())
	u.SetDeletionGracePeriodSeconds(was.GetDeletionGracePeriodSeconds())
	u.SetGenerateName(was.GetGenerateName())
	if c.res.Has("status") {
		copyField(was, u, "status")
	}
	if c.res.key == "secrets" && u.Object["type"] == nil {
		copyField(was, u, "type")
	}
	if c.res.counted() {
		u.SetGeneration(was.GetGeneration())
		if !sameSpec(was, u) {
			u.SetGeneration(was.GetGeneration() + 1)
		}
	}
}

// counted reports whether the kind's generation counts changes of its spec.
// Namespaces and Services have none in Kubernetes either.
func (res *resource) counted() bool {
	return (res.Has("status") || crd.Of(res.Kind) != nil) && res.key != "namespaces" && res.key != "services"
}

// newStatus gives a new object the status that its kind begins with.
func (s *Server) newStatus(res *resource, u *unstructured.Unstructured) {
	switch res.key {
	case "namespaces":
		u.Object["status"] = map[string]any{"phase": "Active"}
		unstructured.SetNestedStringSlice(u.Object, []string{"kubernetes"}, "spec", "finalizers")
		labels := u.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels["kubernetes.io/metadata.name"] = u.GetName()
		u.SetLabels(labels)
	case "pods":
		u.Object["status"] = map[string]any{"phase": "Pending"}
	case "services":
		u.Object["status"] = map[string]any{"loadBalancer": map[string]any{}}
	case "deployments.apps":
		u.Object["status"] = map[string]any{}
	case "replicasets.apps":
		u.Object["status"] = map[string]any{"replicas": int64(0)}
	default:
		delete(u.Object, "status")
		if d := crd.Of(res.Kind); d != nil && d.Status != nil {
			u.Object["status"] = runtime.DeepCopyJSONValue(d.Status)
		}
	}
}

// keepAllButStatus undoes what a write to /status must not write.
func keepAllButStatus(was, u *unstructured.Unstructured) {
	status, has := u.Object["status"]
	managed := u.GetManagedFields()
	for k := range u.Object {
		delete(u.Object, k)
	}
	for k, v := range was.DeepCopy().Object {
		u.Object[k] = v
	}
	delete(u.Object, "status")
	if has {
		u.Object["status"] = status
	}
	u.SetManagedFields(managed)
}

func copyField(from, to *unstructured.Unstructured, field string) {
	if v, ok := from.Object[field]; ok {
		to.Object[field] = v // stored values are never written, so both may hold it
	} else {
		delete(to.Object, field)
	}
}

// sameSpec reports whether two versions differ at most in metadata and status.
func sameSpec(a, b *unstructured.Unstructured) bool {
	x, y := shallow(a.Object), shallow(b.Object)
	for _, m := range []map[string]any{x, y} {
		delete(m, "metadata")
		delete(m, "status")
	}
	return reflect.DeepEqual(x, y)
}

// graceOver reports whether an object under deletion waits for finalizers only.
func graceOver(u *unstructured.Unstructured) bool {
	g := u.GetDeletionGracePeriodSeconds()
	return g == nil || *g == 0
}

// checkNamespace refuses writes into namespaces that are not there, or are going.
func (s *Server) checkNamespace(c *change, was *unstructured.Unstructured) error {
	if !c.res.Namespaced {
		return nil
	}
	ns := s.namespace(c.namespace)
	if ns == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, c.namespace)
	}
	if was == nil && ns.GetDeletionTimestamp() != nil {
		err := forbidden(c.res.gr, c.name, errTerminating(c.namespace))
		err.(*apierrors.StatusError).ErrStatus.Details.Causes = []metav1.StatusCause{{
			Type: "NamespaceTerminating", Message: "namespace " + c.namespace + " is being terminated", Field: "metadata.namespace",
		}}
		return err
	}
	return nil
}

type errTerminating string

func (e errTerminating) Error() string {
	return "unable to create new content in namespace " + string(e) + " because it is being terminated"
}
