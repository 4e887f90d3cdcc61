package kube

import (
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
)

// An ID names an object.
type ID struct{ Kind, Namespace, Name string }

// A Standing is what an API server holds of an object beside its configuration.
// It is no part of a snapshot: who writes a status must not set off what made it.
type Standing struct {
	UID        string
	Version    string // resourceVersion, the newest that was seen
	Generation int64
	Status     map[string]any // shared; never written
	Unreadable string         // why the newest version is not in force; "" if it is
}

// statusIsOurs reports whether the objects of a kind get their status from a
// control plane of a mesh: that of Kubernetes' own kinds is configuration to us
// (a pod's address), but for Ingresses.
func statusIsOurs(group string) bool {
	return strings.HasSuffix(group, ".istio.io") || group == kind.GatewayAPI || group == "networking.k8s.io"
}

// Standing returns what is known of an object, and whether it is there. It is
// kept for Istio's kinds, Gateway API's and Ingresses only.
func (s *Source) Standing(id ID) (Standing, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok := s.standings[id]
	return st, ok
}

// Standings returns a copy of all that Standing knows.
func (s *Source) Standings() map[ID]Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.standings)
}

// Unreadable returns those whose newest version cannot be read. It is asked with
// every change, of which few are about such objects.
func (s *Source) Unreadable() map[ID]Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[ID]Standing{}
	for id, st := range s.standings {
		if st.Unreadable != "" {
			out[id] = st
		}
	}
	return out
}

// Resource returns the resource that the objects of a kind are read by; false as
// long as the server does not have the kind.
func (s *Source) Resource(kindName string) (schema.GroupVersionResource, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gvr, ok := s.resources[kindName]
	return gvr, ok
}

// noteStanding keeps what v, as it came, says beside its configuration; why it
// cannot be read, if it cannot.
func (k *sink) noteStanding(v any, unreadable error) {
	u, ok := v.(*unstructured.Unstructured)
	if !ok || !statusIsOurs(k.k.Group) {
		return
	}
	status, _ := u.Object["status"].(map[string]any)
	st := Standing{UID: string(u.GetUID()), Version: u.GetResourceVersion(), Generation: u.GetGeneration(), Status: status}
	if unreadable != nil {
		st.Unreadable = unreadable.Error()
	}
	k.s.mu.Lock()
	k.s.standings[ID{k.k.Key(), u.GetNamespace(), u.GetName()}] = st
	k.s.mu.Unlock()
}

func (k *sink) forgetStanding(m metav1.Object) {
	k.s.mu.Lock()
	delete(k.s.standings, ID{k.k.Key(), m.GetNamespace(), m.GetName()})
	k.s.mu.Unlock()
}

// keepStandings forgets those of the kind's objects that are not in a complete list.
func (k *sink) keepStandings(list []any) {
	there := make(map[ID]bool, len(list))
	for _, v := range list {
		if m, err := meta.Accessor(v); err == nil {
			there[ID{k.k.Key(), m.GetNamespace(), m.GetName()}] = true
		}
	}
	k.s.mu.Lock()
	maps.DeleteFunc(k.s.standings, func(id ID, _ Standing) bool { return id.Kind == k.k.Key() && !there[id] })
	k.s.mu.Unlock()
}

// settled returns in place of o the version that is known, if the two differ at most in
// their status (but for the health of a WorkloadEntry, which is not ours), or in what is not kept of them. Then nothing has to be made anew.
func (k *sink) settled(o *config.Object) *config.Object {
	data := k.k.Kind == "Secret" || k.k.Kind == "ConfigMap"
	if !data && !statusIsOurs(k.k.Group) {
		return o
	}
	old, ok := k.s.store.Latest(k.k.Key(), o.Namespace, o.Name)
	if !ok || old.UID != o.UID || !old.Created.Equal(o.Created) ||
		!maps.Equal(old.Labels, o.Labels) || !maps.Equal(old.Annotations, o.Annotations) {
		return o
	}
	if data {
		if sameData(old, o) {
			return old
		}
		return o
	}
	if config.Healthy(old) != config.Healthy(o) {
		return o
	}
	if g := generation(o); g == 0 || g != generation(old) { // 0: a server that does not count changes of the spec
		return o
	}
	return old
}

func generation(o *config.Object) int64 {
	m, err := meta.Accessor(o.Value)
	if err != nil {
		return 0
	}
	return m.GetGeneration()
}
