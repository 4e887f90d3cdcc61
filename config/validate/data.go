package validate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/model"
)

// maxData bounds what one ConfigMap or Secret holds, as Kubernetes does.
const maxData = 1 << 20

func (r *ruler) configMap(c *corev1.ConfigMap) {
	size := 0
	for _, key := range sortedKeys(c.Data) {
		r.dataKey(field.At("data").Child(key), key)
		size += len(c.Data[key])
	}
	for _, key := range sortedKeys(c.BinaryData) {
		r.dataKey(field.At("binaryData").Child(key), key)
		if _, twice := c.Data[key]; twice {
			r.errorf(field.At("binaryData").Child(key), "found %q in data as well", key)
		}
		size += len(c.BinaryData[key])
	}
	r.dataSize(size)
	// Which namespace is the mesh's root is not known here; a ConfigMap of that
	// name and with that key is meant for the mesh wherever it stands.
	if slices.Contains(mesh.Names, c.Name) {
		found := settings(c.Data)
		r.errs = append(r.errs, found.Errors...)
		r.notices = append(r.notices, found.Notices...)
	}
}

// Settings judges a ConfigMap that has the mesh's settings under a name which is not known here (see [mesh.SharedEnv]).
func Settings(c *corev1.ConfigMap) Result {
	found := settings(c.Data)
	found.Errors.In("ConfigMap " + c.Namespace + "/" + c.Name)
	return found
}

func settings(data map[string]string) (found Result) {
	if text, ok := data[mesh.Key]; ok {
		_, errs, notices := mesh.Parse(text, model.DefaultMeshConfig(), field.At("data", mesh.Key))
		found.Errors, found.Notices = errs, notices
	}
	if text := data[mesh.NetworksKey]; text != "" {
		_, errs, notices := mesh.ParseNetworks(text, field.At("data", mesh.NetworksKey))
		found.Errors, found.Notices = append(found.Errors, errs...), append(found.Notices, notices...)
	}
	return found
}

func (r *ruler) secret(s *corev1.Secret) {
	size := 0
	for _, key := range sortedKeys(s.Data) {
		r.dataKey(field.At("data").Child(key), key)
		size += len(s.Data[key])
	}
	for _, key := range sortedKeys(s.StringData) {
		r.dataKey(field.At("stringData").Child(key), key)
		size += len(s.StringData[key])
	}
	r.dataSize(size)
	var want []string
	switch s.Type {
	case corev1.SecretTypeTLS:
		want = []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey}
	case corev1.SecretTypeDockerConfigJson:
		want = []string{corev1.DockerConfigJsonKey}
	case corev1.SecretTypeSSHAuth:
		want = []string{corev1.SSHAuthPrivateKey}
	}
	for _, key := range want {
		_, inData := s.Data[key]
		if _, inText := s.StringData[key]; !inData && !inText {
			r.errorf(field.At("data").Child(key), "missing; a secret of the type %s has it", s.Type)
		}
	}
}

func (r *ruler) dataKey(at *field.Path, key string) {
	for _, p := range validation.IsConfigMapKey(key) {
		r.errorf(at, "found the key %q: %s", key, problem(p))
	}
}

func (r *ruler) dataSize(size int) {
	if size > maxData {
		r.errorf(field.At("data"), "%d bytes together, want at most %d", size, maxData)
	}
}
