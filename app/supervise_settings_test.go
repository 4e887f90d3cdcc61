//go:build linux

package app

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/config/validate"
	"github.com/mallamesh/malla/local/api"
	"github.com/mallamesh/malla/local/seed"
)

// A ConfigMap that SHARED_MESH_CONFIG names is judged on its way in, as the mesh's own is; others of any content are nobody's business.
func TestSharedSettingsAreJudged(t *testing.T) {
	istiod := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: seed.Namespace, Name: "istiod"}}
	istiod.Spec.Template.Spec.Containers = []corev1.Container{{Env: []corev1.EnvVar{{Name: mesh.SharedEnv, Value: "team"}}}}
	s := &supervisor{client: fake.NewClientset(istiod)}
	k, _ := kind.Named("ConfigMap")
	const unknown = `data.mesh.accessLogFil: unknown field; did you mean accessLogFile?`
	for _, test := range []struct {
		namespace, name, text string
		errors, notices       []string
	}{
		{seed.Namespace, "team", "accessLogFil: /dev/stdout", []string{unknown}, nil},
		{seed.Namespace, "team", "enableTracing: true", nil, []string{"data.mesh.enableTracing"}},
		{seed.Namespace, "team", "accessLogFile: /dev/stdout", nil, nil},
		{seed.Namespace, "other", "accessLogFil: /dev/stdout", nil, nil},
		{"default", "team", "accessLogFil: /dev/stdout", nil, nil},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": test.name, "namespace": test.namespace}, "data": map[string]any{mesh.Key: test.text}}}
		var got validate.Result
		s.judgeShared(t.Context(), &api.Request{Kind: k, Namespace: test.namespace, Name: test.name, Object: o}, &got)
		var errors, notices []string
		for _, e := range got.Errors {
			errors = append(errors, e.At.String()+": "+e.Msg)
		}
		for _, n := range got.Notices {
			notices = append(notices, n.At.String())
		}
		if !slices.Equal(errors, test.errors) || !slices.Equal(notices, test.notices) {
			t.Errorf("%s/%s %q: errors %q, notices %q, want %q, %q", test.namespace, test.name, test.text, errors, notices, test.errors, test.notices)
		}
	}
}
