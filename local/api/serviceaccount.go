package api

import (
	"fmt"

	utilrand "k8s.io/apimachinery/pkg/util/rand"

	"github.com/mallamesh/malla/local/api/store"
)

// accountPath is where containers look for their token and root certificate.
const accountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// admitServiceAccount gives a new pod its service account, and the volume from
// which its programs may speak to the API, as Kubernetes' admission of that name
// does. A pod whose account is missing is refused; its maker tries again.
func (s *Server) admitServiceAccount(r *Request) error {
	if r.Kind.Group != "" || r.Kind.Kind != "Pod" || r.Operation != Create {
		return nil
	}
	spec := asMap(r.Object.Object["spec"])
	if spec == nil {
		return nil
	}
	name := text(spec, "serviceAccountName")
	if name == "" {
		name = "default"
	}
	spec["serviceAccountName"], spec["serviceAccount"] = name, name
	sa := s.store.Get(store.Key{Resource: "serviceaccounts", Namespace: r.Namespace, Name: name})
	if sa == nil {
		return forbidden(s.kinds.mustKind("", "Pod").gr, r.Name,
			fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", r.Namespace, name, name))
	}
	mount, said := spec["automountServiceAccountToken"].(bool)
	if !said {
		mount, said = sa.Value.Object["automountServiceAccountToken"].(bool)
	}
	if mount || !said {
		mountAccount(spec)
	}
	return nil
}

func mountAccount(spec map[string]any) {
	var volume string
	for _, part := range []string{"initContainers", "containers"} {
		list, _ := spec[part].([]any)
		for _, c := range list {
			m := asMap(c)
			mounts, _ := m["volumeMounts"].([]any)
			if hasMount(mounts, accountPath) {
				continue
			}
			if volume == "" {
				volume = "kube-api-access-" + utilrand.String(5)
			}
			m["volumeMounts"] = append(mounts, map[string]any{"name": volume, "readOnly": true, "mountPath": accountPath})
		}
	}
	if volume == "" {
		return
	}
	volumes, _ := spec["volumes"].([]any)
	spec["volumes"] = append(volumes, map[string]any{"name": volume, "projected": map[string]any{
		"defaultMode": int64(0o644),
		"sources": []any{
			map[string]any{"serviceAccountToken": map[string]any{"expirationSeconds": int64(3607), "path": "token"}},
			map[string]any{"configMap": map[string]any{"name": rootCAName, "items": []any{map[string]any{"key": "ca.crt", "path": "ca.crt"}}}},
			map[string]any{"downwardAPI": map[string]any{"items": []any{map[string]any{
				"path": "namespace", "fieldRef": map[string]any{"apiVersion": "v1", "fieldPath": "metadata.namespace"}}}}},
		},
	}})
}

func hasMount(mounts []any, path string) bool {
	for _, m := range mounts {
		if text(m, "mountPath") == path {
			return true
		}
	}
	return false
}
