package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/mallamesh/malla/config"
)

// A server is as much of a Kubernetes API server as a source asks for: discovery,
// lists, and watches that tell what happens after the list.
type server struct {
	groups map[string][]string // group version -> resources
	lists  map[string]string   // path -> items, JSON

	mu      sync.Mutex
	watches map[string]chan string // path -> events
	lost    int                    // requests that are refused before the server works
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	s.mu.Lock()
	if s.lost > 0 {
		s.lost--
		s.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.mu.Unlock()
	path := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/api/"), "/apis/")
	if resources, ok := s.groups[path]; ok {
		type resource struct {
			Name       string `json:"name"`
			Namespaced bool   `json:"namespaced"`
			Kind       string `json:"kind"`
		}
		var list []resource
		for _, name := range resources {
			list = append(list, resource{name, true, "X"})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": path, "resources": list})
		return
	}
	items, ok := s.lists[path]
	switch {
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`)
	case r.URL.Query().Get("sendInitialEvents") != "": // an old server
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}`)
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, path)
	default:
		gv, kind := path[:strings.LastIndex(path, "/")], "X"
		gv, _, _ = strings.Cut(gv, "/namespaces/")
		if strings.HasSuffix(path, "pods") {
			kind = "Pod"
		} else if strings.HasSuffix(path, "configmaps") {
			kind = "ConfigMap"
		} else if strings.HasSuffix(path, "secrets") {
			kind = "Secret"
		} else {
			kind = "VirtualService"
		}
		fmt.Fprintf(w, `{"kind": "%sList", "apiVersion": %q, "metadata": {"resourceVersion": "10"}, "items": [%s]}`, kind, gv, items)
	}
}

func (s *server) watch(w http.ResponseWriter, r *http.Request, path string) {
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-s.events(path):
			fmt.Fprintln(w, e)
			w.(http.Flusher).Flush()
		}
	}
}

func (s *server) events(path string) chan string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[path] == nil {
		s.watches[path] = make(chan string)
	}
	return s.watches[path]
}

const (
	podJSON = `{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p%d", "namespace": "prod", "uid": "u%d", "resourceVersion": "%d", "managedFields": [{"manager": "x"}],
		"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "long"}},
		"spec": {"serviceAccountName": "sa", "volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "c", "image": "i", "env": [{"name": "SECRET", "value": "x"}], "ports": [{"containerPort": 80}]}]},
		"status": {"phase": "Running", "podIP": "10.244.0.%d"}}`
	routeJSON = `{"kind": "VirtualService", "apiVersion": "networking.istio.io/v1beta1", "metadata": {"name": %q, "namespace": "prod", "resourceVersion": %q}, "spec": {"hosts": [%q], "http": [{"timeout": %q, "route": [{"destination": {"host": "a"}}]}]}}`
)

// start runs a source against the server until the test ends.
func start(t *testing.T, s *server) *Source {
	t.Helper()
	s.watches = map[string]chan string{}
	h := httptest.NewServer(s)
	source, err := New(&rest.Config{Host: h.URL}, Options{Kinds: []string{"Pod", "ConfigMap", "Secret", "VirtualService", "Gateway"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- source.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		h.CloseClientConnections()
		h.Close()
	})
	return source
}

// until waits for a snapshot of which good is true.
func until(t *testing.T, s *Source, what string, good func(*config.Snapshot) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !good(s.Snapshot()) {
		select {
		case <-s.Changes():
		case <-deadline:
			t.Fatalf("%s: not seen in 20 s", what)
		}
	}
}

func TestSource(t *testing.T) {
	api := &server{
		groups: map[string][]string{
			"v1":                          {"pods", "configmaps"},
			"networking.istio.io/v1beta1": {"virtualservices"}, // an older Istio; it has no Gateways
		},
		lists: map[string]string{
			"v1/pods": fmt.Sprintf(podJSON, 1, 1, 1, 1),
			"v1/configmaps": `{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "istio", "namespace": "istio-system", "resourceVersion": "1"}, "data": {"mesh": ""}},
				{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "other", "namespace": "istio-system", "resourceVersion": "1"}}`,
			"networking.istio.io/v1beta1/virtualservices": fmt.Sprintf(routeJSON, "a", "1", "a", "5s") + "," + fmt.Sprintf(routeJSON, "bad", "1", "b", "soon"),
		},
		lost: 3,
	}
	s := start(t, api)
	select {
	case <-s.Synced():
	case <-time.After(20 * time.Second):
		t.Fatal("the first picture is not complete after 20 s, though one of the kinds does not exist and one object cannot be read")
	}
	if !s.HasSynced() {
		t.Error("HasSynced must agree with Synced")
	}
	snap := s.Snapshot()
	if list := snap.List("ConfigMap"); len(list) != 1 || list[0].Name != "istio" {
		t.Errorf("config maps %v, want the mesh's own", list)
	}
	p := snap.List("Pod")[0].Value.(*corev1.Pod)
	if p.Status.PodIP != "10.244.0.1" || p.Spec.ServiceAccountName != "sa" || len(p.Spec.Containers[0].Ports) != 1 {
		t.Errorf("the pod lacks what is needed of it: %+v", p)
	}
	if len(p.ManagedFields)+len(p.Annotations)+len(p.Spec.Volumes)+len(p.Spec.Containers[0].Env) > 0 {
		t.Errorf("the pod holds what nobody needs: %+v", p)
	}
	if list := snap.List("VirtualService"); len(list) != 1 || list[0].Name != "a" {
		t.Errorf("routes %v, want the one that can be read", list)
	}

	routes := api.events("networking.istio.io/v1beta1/virtualservices")
	routes <- fmt.Sprintf(`{"type": "ADDED", "object": %s}`, fmt.Sprintf(routeJSON, "b", "11", "b", "1s"))
	until(t, s, "a route more", func(n *config.Snapshot) bool { return len(n.List("VirtualService")) == 2 })
	// A version that cannot be read leaves the last good one; the next good one counts.
	routes <- fmt.Sprintf(`{"type": "MODIFIED", "object": %s}`, fmt.Sprintf(routeJSON, "b", "12", "b", "soon"))
	routes <- fmt.Sprintf(`{"type": "DELETED", "object": %s}`, fmt.Sprintf(routeJSON, "a", "13", "a", "5s"))
	until(t, s, "a route less", func(n *config.Snapshot) bool {
		list := n.List("VirtualService")
		return len(list) == 1 && list[0].Name == "b" && list[0].Version == "11"
	})
	pods := api.events("v1/pods")
	pods <- fmt.Sprintf(`{"type": "MODIFIED", "object": %s}`, fmt.Sprintf(podJSON, 1, 1, 20, 9))
	until(t, s, "a pod's new address", func(n *config.Snapshot) bool {
		o, ok := n.Get("Pod", "prod", "p1")
		return ok && o.Value.(*corev1.Pod).Status.PodIP == "10.244.0.9"
	})
	// A deleted object goes, even if it cannot be read.
	routes <- fmt.Sprintf(`{"type": "DELETED", "object": %s}`, fmt.Sprintf(routeJSON, "b", "21", "b", "soon"))
	until(t, s, "the last route less", func(n *config.Snapshot) bool { return len(n.List("VirtualService")) == 0 })
}

// A trouble that stays is told once, and its end is told.
func TestTrouble(t *testing.T) {
	var log bytes.Buffer
	s, err := New(&rest.Config{Host: "http://127.0.0.1:1"}, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	away := errors.New("connection refused")
	fail := true
	lw := s.reporting("Pod", &cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			if fail {
				return nil, away
			}
			return &corev1.PodList{}, nil
		},
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
			return nil, apierrors.NewResourceExpired("too old")
		},
	})
	for range 5 {
		_, _ = lw.ListWithContext(t.Context(), metav1.ListOptions{})
		_, _ = lw.WatchWithContext(t.Context(), metav1.ListOptions{})
	}
	fail = false
	for range 3 {
		_, _ = lw.ListWithContext(t.Context(), metav1.ListOptions{})
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "connection refused") || !strings.Contains(lines[1], "answers again") {
		t.Errorf("the log says:\n%s", log.String())
	}
}

func TestUnknownKind(t *testing.T) {
	if _, err := New(&rest.Config{Host: "http://127.0.0.1:1"}, Options{Kinds: []string{"Nothing"}}); err == nil {
		t.Error("a kind that is not in the table must be an error")
	}
}

// Who writes a status must not set off what made it: an object whose status alone
// differs is the same object, and makes no new snapshot.
func TestStatusIsNoConfiguration(t *testing.T) {
	const vs = `{"kind": "VirtualService", "apiVersion": "networking.istio.io/v1beta1", "metadata": {"name": "a", "namespace": "prod", "uid": "u", "generation": %d, "resourceVersion": %q, "labels": {"x": %q}},
		"spec": {"hosts": ["a"]}, "status": {"conditions": [{"type": "Reconciled", "status": "False", "message": %q}]}}`
	object := func(generation int, version, label, message string) string {
		return fmt.Sprintf(vs, generation, version, label, message)
	}
	api := &server{
		groups: map[string][]string{"networking.istio.io/v1beta1": {"virtualservices"}},
		lists:  map[string]string{"networking.istio.io/v1beta1/virtualservices": object(1, "1", "y", "one")},
	}
	s := start(t, api)
	<-s.Synced()
	id := ID{"VirtualService", "prod", "a"}
	if st, ok := s.Standing(id); !ok || st.Version != "1" || st.Generation != 1 || st.UID != "u" || st.Status["conditions"] == nil {
		t.Fatalf("standing %+v", st)
	}
	if gvr, ok := s.Resource("VirtualService"); !ok || gvr.Version != "v1beta1" {
		t.Errorf("resource %v", gvr)
	}
	first := s.Snapshot().List("VirtualService")[0]
	routes := api.events("networking.istio.io/v1beta1/virtualservices")
	routes <- `{"type": "MODIFIED", "object": ` + object(1, "11", "y", "two") + `}`
	routes <- `{"type": "ADDED", "object": ` + fmt.Sprintf(routeJSON, "b", "12", "b", "1s") + `}` // what came before it has been taken in
	until(t, s, "another one", func(n *config.Snapshot) bool { return len(n.List("VirtualService")) == 2 })
	if st, _ := s.Standing(id); st.Version != "11" {
		t.Errorf("the newest status is not known: %+v", st)
	}
	if s.Snapshot().List("VirtualService")[0] != first {
		t.Error("a status made a new object")
	}
	routes <- `{"type": "DELETED", "object": ` + fmt.Sprintf(routeJSON, "b", "12", "b", "1s") + `}`
	routes <- `{"type": "MODIFIED", "object": ` + object(1, "13", "z", "two") + `}`
	until(t, s, "a label", func(n *config.Snapshot) bool { return n.List("VirtualService")[0].Labels["x"] == "z" })
	routes <- `{"type": "MODIFIED", "object": ` + object(2, "14", "z", "two") + `}`
	until(t, s, "a new spec", func(n *config.Snapshot) bool { return n.List("VirtualService")[0].Version == "14" })
	routes <- `{"type": "DELETED", "object": ` + object(2, "15", "z", "two") + `}`
	until(t, s, "nothing", func(n *config.Snapshot) bool { return len(n.List("VirtualService")) == 0 })
	if st, ok := s.Standing(id); ok {
		t.Errorf("a deleted object has the standing %+v", st)
	}
}
