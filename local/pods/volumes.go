package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// files are the contents of one volume, by path below it.
type files map[string]file

type file struct {
	data []byte
	mode os.FileMode
}

// volumes are the contents of all volumes of a pod that have any.
type volumes map[string]files

const (
	apiVolume = "kube-api-access" // the token for the API server, in every pod
	apiMount  = "/var/run/secrets/kubernetes.io/serviceaccount"
	fileMode  = 0o644
)

// lookAgain is how often something is looked for whose coming nobody tells us.
const lookAgain = time.Second

// waitForVolumes reads the volumes' sources, waiting for those that are not
// there. changed is closed when they may have changed since.
func (w *worker) waitForVolumes(ctx context.Context) (v volumes, changed <-chan struct{}, err error) {
	for {
		changed = w.changes.next()
		v, err := w.read(ctx)
		if err == nil {
			return v, changed, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		w.trouble(ctx, "FailedMount", err)
		select {
		case <-changed:
		case <-time.After(lookAgain): // service accounts are not watched
		case <-w.ending:
			return nil, nil, errors.New("deleted while it waited for volumes")
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// read collects the contents of the pod's volumes.
func (w *worker) read(ctx context.Context) (volumes, error) {
	p := w.object()
	out := volumes{}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		f := files{}
		var err error
		switch {
		case v.ConfigMap != nil:
			err = w.addConfigMap(f, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional, mode(v.ConfigMap.DefaultMode))
		case v.Secret != nil:
			err = w.addSecret(f, v.Secret.SecretName, v.Secret.Items, v.Secret.Optional, mode(v.Secret.DefaultMode))
		case v.DownwardAPI != nil:
			err = w.addDownward(f, v.DownwardAPI.Items, mode(v.DownwardAPI.DefaultMode))
		case v.Projected != nil:
			err = w.addProjected(ctx, f, v.Projected)
		default:
			continue // an emptyDir or a claim; config/kind refuses the others
		}
		if err != nil {
			return nil, fmt.Errorf("MountVolume.SetUp failed for volume %q: %w", v.Name, err)
		}
		out[v.Name] = f
	}
	if mountsToken(p) {
		f := files{}
		if err := w.addToken(ctx, f, "", nil, "token"); err != nil {
			return nil, err
		}
		f["ca.crt"] = file{w.k.RootCA, fileMode}
		f["namespace"] = file{[]byte(p.Namespace), fileMode}
		out[apiVolume] = f
	}
	return out, nil
}

// mountsToken reports whether some container is to have the API server's token
// and the manifest does not mount one (the API server adds such a volume, as in a
// cluster, to pods that people write).
func mountsToken(p *corev1.Pod) bool {
	if p.Spec.AutomountServiceAccountToken != nil && !*p.Spec.AutomountServiceAccountToken {
		return false
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if !slices.ContainsFunc(list[i].VolumeMounts, atAPIMount) {
				return true
			}
		}
	}
	return false
}

func atAPIMount(m corev1.VolumeMount) bool { return path.Clean(m.MountPath) == apiMount }

func mode(m *int32) os.FileMode {
	if m == nil {
		return fileMode
	}
	return os.FileMode(*m) & 0o777
}

func (w *worker) addConfigMap(f files, name string, items []corev1.KeyToPath, optional *bool, m os.FileMode) error {
	cm, err := w.k.configs.ConfigMaps(w.namespace).Get(name)
	if err != nil {
		return missing(err, optional, "configmap %q not found", name)
	}
	data := map[string][]byte{}
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return pick(f, data, items, optional, m, "configmap "+name)
}

func (w *worker) addSecret(f files, name string, items []corev1.KeyToPath, optional *bool, m os.FileMode) error {
	s, err := w.k.secrets.Secrets(w.namespace).Get(name)
	if err != nil {
		return missing(err, optional, "secret %q not found", name)
	}
	return pick(f, s.Data, items, optional, m, "secret "+name)
}

// pick adds all of data, or the items' part of it under their paths.
func pick(f files, data map[string][]byte, items []corev1.KeyToPath, optional *bool, m os.FileMode, what string) error {
	if len(items) == 0 {
		for k, v := range data {
			f[k] = file{v, m}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("%s references non-existent key: %s", what, item.Key)
		}
		if !filepath.IsLocal(item.Path) {
			return fmt.Errorf("%s: path %q leaves the volume", what, item.Path)
		}
		this := m
		if item.Mode != nil {
			this = mode(item.Mode)
		}
		f[path.Clean(item.Path)] = file{v, this}
	}
	return nil
}

func (w *worker) addDownward(f files, items []corev1.DownwardAPIVolumeFile, m os.FileMode) error {
	for _, item := range items {
		if !filepath.IsLocal(item.Path) {
			return fmt.Errorf("path %q leaves the volume", item.Path)
		}
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = w.field(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = w.resourceOf(item.ResourceFieldRef)
		}
		if err != nil {
			return err
		}
		f[path.Clean(item.Path)] = file{[]byte(value), m}
	}
	return nil
}

func (w *worker) resourceOf(r *corev1.ResourceFieldSelector) (string, error) {
	p := w.object()
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == r.ContainerName {
				return w.resourceField(&list[i], r)
			}
		}
	}
	return "", fmt.Errorf("no container is called %q", r.ContainerName)
}

func (w *worker) addProjected(ctx context.Context, f files, p *corev1.ProjectedVolumeSource) error {
	for _, s := range p.Sources {
		var err error
		switch {
		case s.ConfigMap != nil:
			err = w.addConfigMap(f, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, mode(p.DefaultMode))
		case s.Secret != nil:
			err = w.addSecret(f, s.Secret.Name, s.Secret.Items, s.Secret.Optional, mode(p.DefaultMode))
		case s.DownwardAPI != nil:
			err = w.addDownward(f, s.DownwardAPI.Items, mode(p.DefaultMode))
		case s.ServiceAccountToken != nil && !filepath.IsLocal(s.ServiceAccountToken.Path):
			err = fmt.Errorf("path %q leaves the volume", s.ServiceAccountToken.Path)
		case s.ServiceAccountToken != nil:
			err = w.addToken(ctx, f, s.ServiceAccountToken.Audience, s.ServiceAccountToken.ExpirationSeconds, s.ServiceAccountToken.Path)
		default:
			err = errors.New("this projected source is not supported")
		}
		if err != nil {
			return err
		}
	}
	return nil
}
