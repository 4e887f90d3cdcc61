package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mallamesh/malla/local/api/store"
)

func (s *Server) delete(w http.ResponseWriter, q *request) error {
	opts, err := q.deleteOptions()
	if err != nil {
		return err
	}
	o, gone, err := s.remove(q.Context(), q.res, q.key(q.name), opts, q.user.name)
	if err != nil {
		return err
	}
	if !gone {
		return s.writeObject(w, q, http.StatusOK, o) // deletion has begun
	}
	s.tellUnsaved(q)
	q.warnings.write(w.Header())
	writeJSON(w, http.StatusOK, deletedStatus(q.res, o))
	return nil
}

func deletedStatus(res *resource, o *store.Object) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusSuccess,
		Details:  &metav1.StatusDetails{Name: o.Key.Name, Group: res.Group, Kind: res.Plural, UID: o.Value.GetUID()},
	}
}

// deleteOptions come in the body, or as parameters.
func (q *request) deleteOptions() (*metav1.DeleteOptions, error) {
	opts := &metav1.DeleteOptions{}
	raw, err := jsonBody(q)
	if err != nil {
		return nil, err
	}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, opts); err != nil {
			return nil, badRequest("DeleteOptions: %v", err)
		}
	}
	if v := q.query.Get("gracePeriodSeconds"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, badRequest("gracePeriodSeconds: %q is not a number of seconds", v)
		}
		opts.GracePeriodSeconds = &n
	}
	if v := q.query.Get("propagationPolicy"); v != "" {
		p := metav1.DeletionPropagation(v)
		opts.PropagationPolicy = &p
	}
	if q.dryRun() {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	if opts.GracePeriodSeconds != nil && *opts.GracePeriodSeconds < 0 {
		return nil, badRequest("gracePeriodSeconds: %d, want 0 or more", *opts.GracePeriodSeconds)
	}
	if p := opts.PropagationPolicy; p != nil {
		switch *p {
		case metav1.DeletePropagationOrphan, metav1.DeletePropagationBackground, metav1.DeletePropagationForeground:
		default:
			return nil, badRequest("propagationPolicy: %q, want Orphan, Background or Foreground", *p)
		}
	}
	return opts, nil
}

func (s *Server) deleteCollection(w http.ResponseWriter, q *request) error {
	if q.res.Namespaced && q.namespace == "" {
		return methodNotAllowed(q.res, "deletecollection")
	}
	match, err := q.selector()
	if err != nil {
		return err
	}
	opts, err := q.deleteOptions()
	if err != nil {
		return err
	}
	all, version := s.store.List(q.res.key, q.namespace)
	var done []*store.Object
	for _, o := range all {
		if !match.matches(o) {
			continue
		}
		if _, _, err := s.remove(q.Context(), q.res, o.Key, opts, q.user.name); err != nil && !isNotFound(err) {
			return err
		}
		done = append(done, o)
	}
	writeRaw(w, http.StatusOK, q.listBody(done, version))
	return nil
}

// immortal namespaces are Kubernetes' own.
var immortal = []string{"default", "kube-system", "kube-public"}

// remove deletes an object, or begins to: a pod has its grace period, an object
// with finalizers waits for those who set them. It returns the object's state and
// whether it is gone.
func (s *Server) remove(ctx context.Context, res *resource, k store.Key, opts *metav1.DeleteOptions, by string) (*store.Object, bool, error) {
	for range tries {
		old := s.store.Get(k)
		if old == nil {
			return nil, false, notFound(res, k.Name)
		}
		if k.Resource == "namespaces" && slices.Contains(immortal, k.Name) {
			return nil, false, forbidden(res.gr, k.Name, errors.New("this namespace may not be deleted"))
		}
		if err := checkPreconditions(res, old, opts.Preconditions); err != nil {
			return nil, false, err
		}
		r := &Request{Operation: Delete, Kind: res.Kind, Namespace: k.Namespace, Name: k.Name, Old: old.Value, User: by, DryRun: len(opts.DryRun) > 0}
		for _, a := range s.o.Admit {
			if _, err := a.Admit(ctx, r); err != nil {
				return nil, false, asStatus(res, k.Name, err)
			}
		}
		u, wait := s.beginDeletion(res, old.Value, opts)
		if len(opts.DryRun) > 0 {
			return old, !wait, nil
		}
		var o *store.Object
		var err error
		switch {
		case !wait:
			o, err = s.store.Delete(k, old.Version, u)
		case unchanged(old.Value, u):
			return old, false, nil
		default:
			o, err = s.store.Put(k, old.Version, u, old.Notices)
		}
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		return o, !wait, err
	}
	return nil, false, conflict(res, k.Name, errStale)
}

func checkPreconditions(res *resource, o *store.Object, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	if p.UID != nil && *p.UID != o.Value.GetUID() {
		return conflict(res, o.Key.Name, errors.New("Precondition failed: UID in precondition: "+string(*p.UID)+", UID in object meta: "+string(o.Value.GetUID())))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != o.Value.GetResourceVersion() {
		return conflict(res, o.Key.Name, errStale)
	}
	return nil
}

// beginDeletion returns the object as its deletion leaves it, and whether
// somebody must still act before it may go.
func (s *Server) beginDeletion(res *resource, old *unstructured.Unstructured, opts *metav1.DeleteOptions) (u *unstructured.Unstructured, wait bool) {
	u = old.DeepCopy()
	s.propagate(u, opts)
	grace := int64(0)
	if res.key == "pods" {
		grace = podGrace(u, opts)
	}
	if res.key == "namespaces" {
		unstructured.SetNestedField(u.Object, "Terminating", "status", "phase")
	} else if len(u.GetFinalizers()) == 0 && grace == 0 {
		return u, false
	}
	now := s.now()
	if u.GetDeletionTimestamp() == nil {
		t := metav1.NewTime(now.Add(time.Duration(grace) * time.Second).Truncate(time.Second))
		u.SetDeletionTimestamp(&t)
		u.SetDeletionGracePeriodSeconds(&grace)
		if res.counted() {
			u.SetGeneration(u.GetGeneration() + 1)
		}
	} else if had := u.GetDeletionGracePeriodSeconds(); had != nil && grace < *had {
		// A second delete may shorten the grace, never lengthen it.
		t := metav1.NewTime(now.Add(time.Duration(grace) * time.Second).Truncate(time.Second))
		u.SetDeletionTimestamp(&t)
		u.SetDeletionGracePeriodSeconds(&grace)
	}
	return u, true
}

// podGrace is how long a pod may take to end. One that runs nowhere needs no time.
func podGrace(u *unstructured.Unstructured, opts *metav1.DeleteOptions) int64 {
	node, _, _ := unstructured.NestedString(u.Object, "spec", "nodeName")
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	if node == "" || phase == "Succeeded" || phase == "Failed" {
		return 0
	}
	if opts.GracePeriodSeconds != nil {
		return *opts.GracePeriodSeconds
	}
	if g, ok, _ := unstructured.NestedInt64(u.Object, "spec", "terminationGracePeriodSeconds"); ok {
		return g
	}
	return 30
}

// propagate marks an object for what its deletion does to its dependents.
// Background, the default, needs no mark.
func (s *Server) propagate(u *unstructured.Unstructured, opts *metav1.DeleteOptions) {
	if u.GetDeletionTimestamp() != nil || opts.PropagationPolicy == nil {
		return
	}
	switch *opts.PropagationPolicy {
	case metav1.DeletePropagationForeground:
		u.SetFinalizers(append(u.GetFinalizers(), metav1.FinalizerDeleteDependents))
	case metav1.DeletePropagationOrphan:
		u.SetFinalizers(append(u.GetFinalizers(), metav1.FinalizerOrphanDependents))
	}
}
