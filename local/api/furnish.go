package api

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/mallamesh/malla/local/api/store"
)

// Namespaces that every mesh has. istio-system is the root namespace.
var standardNamespaces = []string{"default", "kube-system", "kube-public", "istio-system"}

// rootCAName is the ConfigMap from which pods learn whom to trust as API server.
const rootCAName = "kube-root-ca.crt"

// bootstrap makes what every cluster has, unless the state file brought it.
func (s *Server) bootstrap() error {
	for _, name := range standardNamespaces {
		if s.namespace(name) == nil {
			err := s.put(store.Key{Resource: "namespaces", Name: name}, map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"kubernetes.io/metadata.name": name}},
				"spec":     map[string]any{"finalizers": []any{"kubernetes"}},
				"status":   map[string]any{"phase": "Active"},
			})
			if err != nil {
				return err
			}
		}
	}
	namespaces, _ := s.store.List("namespaces", "")
	for _, ns := range namespaces {
		s.furnish(ns.Key.Name)
	}
	return s.bootstrapServices()
}

// bootstrapServices makes the two services whose addresses are fixed.
func (s *Server) bootstrapServices() error {
	port := func(name, protocol string, n int64) map[string]any {
		return map[string]any{"name": name, "protocol": protocol, "port": n, "targetPort": n}
	}
	for _, svc := range []struct {
		k     store.Key
		label map[string]any
		ip    string
		ports []any
	}{
		{store.Key{Resource: "services", Namespace: "default", Name: "kubernetes"},
			map[string]any{"component": "apiserver", "provider": "kubernetes"}, apiServerIP, []any{port("https", "TCP", 443)}},
		{store.Key{Resource: "services", Namespace: "kube-system", Name: "kube-dns"},
			map[string]any{"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}, dnsIP, []any{port("dns", "UDP", 53), port("dns-tcp", "TCP", 53)}},
	} {
		if s.store.Get(svc.k) != nil {
			continue
		}
		err := s.put(svc.k, map[string]any{
			"metadata": map[string]any{"labels": svc.label},
			"spec": map[string]any{
				"type": "ClusterIP", "clusterIP": svc.ip, "clusterIPs": []any{svc.ip}, "ipFamilies": []any{"IPv4"}, "ipFamilyPolicy": "SingleStack",
				"internalTrafficPolicy": "Cluster", "sessionAffinity": "None", "ports": svc.ports,
			},
			"status": map[string]any{"loadBalancer": map[string]any{}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// furnish gives a namespace what every namespace has.
func (s *Server) furnish(namespace string) {
	if ns := s.namespace(namespace); ns == nil || ns.GetDeletionTimestamp() != nil {
		return
	}
	err := s.put(store.Key{Resource: "serviceaccounts", Namespace: namespace, Name: "default"}, map[string]any{})
	k := store.Key{Resource: "configmaps", Namespace: namespace, Name: rootCAName}
	ca := map[string]any{"ca.crt": string(s.o.RootCA)}
	err = errors.Join(err, s.put(k, map[string]any{"data": ca}))
	// A new root after a restart must reach the pods.
	if o := s.store.Get(k); o != nil && text(o.Value.Object["data"], "ca.crt") != string(s.o.RootCA) {
		u := o.Value.DeepCopy()
		u.Object["data"] = ca
		if _, e := s.store.Put(k, o.Version, u, nil); e != nil && !errors.Is(e, store.ErrConflict) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		s.log.Error("furnish namespace", "namespace", namespace, "error", err)
	}
}

// put makes an object of the server's own, past admission, if it is not there.
func (s *Server) put(k store.Key, object map[string]any) error {
	res := s.kinds.byKey(k.Resource)
	if res == nil {
		return fmt.Errorf("the table of kinds lacks %s", k.Resource)
	}
	u := &unstructured.Unstructured{Object: object}
	u.SetAPIVersion(apiVersion(res.Group, res.Versions[0]))
	u.SetKind(res.Kind.Kind)
	u.SetName(k.Name)
	u.SetNamespace(k.Namespace)
	u.SetUID(uuid.NewUUID())
	u.SetCreationTimestamp(metav1.NewTime(s.now().Truncate(time.Second)))
	_, err := s.store.Put(k, 0, u, nil)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

func (s *Server) putSecret(k store.Key, data map[string][]byte) error {
	m := map[string]any{}
	for name, v := range data {
		m[name] = base64.StdEncoding.EncodeToString(v)
	}
	if o := s.store.Get(k); o != nil {
		u := o.Value.DeepCopy()
		u.Object["data"] = m
		_, err := s.store.Put(k, o.Version, u, nil)
		return err
	}
	return s.put(k, map[string]any{"type": "Opaque", "data": m})
}

func decode64(text string) ([]byte, error) { return base64.StdEncoding.DecodeString(text) }

// namespace returns a namespace, or nil.
func (s *Server) namespace(name string) *unstructured.Unstructured {
	if o := s.store.Get(store.Key{Resource: "namespaces", Name: name}); o != nil {
		return o.Value
	}
	return nil
}
