package pods

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/local/sandbox"
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

// waitForVolumes reads the volumes' sources, waiting for those that are not there.
func (w *worker) waitForVolumes(ctx context.Context) (volumes, error) {
	told := ""
	for {
		v, err := w.read(ctx)
		if err == nil {
			return v, nil
		}
		if told != err.Error() {
			told = err.Error()
			w.event(ctx, corev1.EventTypeWarning, "FailedMount", told)
			for _, c := range append(append([]*container{}, w.init...), w.containers...) {
				c.waiting("ContainerCreating", told)
			}
		}
		if !w.waitForChange(ctx) {
			return nil, errEnding
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
			continue // emptyDir, and what config/kind lets pass as one
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

func mountsToken(p *corev1.Pod) bool {
	return p.Spec.AutomountServiceAccountToken == nil || *p.Spec.AutomountServiceAccountToken
}

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
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; c.Name == r.ContainerName {
			return w.resourceField(c, r)
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

// addToken asks the API server for a token of the pod's account.
func (w *worker) addToken(ctx context.Context, f files, audience string, life *int64, to string) error {
	p := w.object()
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: life,
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID}}}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	got, err := w.k.Client.CoreV1().ServiceAccounts(p.Namespace).CreateToken(ctx, account(p), req, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("token for service account %q: %w", account(p), err)
	}
	f[path.Clean(to)] = file{[]byte(got.Status.Token), 0o600}
	return nil
}

// renewal is how often volumes are written anew: tokens live for an hour at
// least, and a change of a ConfigMap or Secret wakes us anyway.
const renewal = 20 * time.Minute

// refresh keeps the contents of volumes up to date.
func (w *worker) refresh(ctx context.Context, last volumes) {
	renew := time.NewTicker(renewal)
	defer renew.Stop()
	for {
		tokens := false
		select {
		case <-renew.C:
			tokens = true
		case <-w.poked:
		case <-w.ending:
			return
		case <-ctx.Done():
			return
		}
		box := w.sandbox()
		if box == nil {
			continue
		}
		v, err := w.read(ctx)
		if err != nil {
			continue // what is mounted stays
		}
		if !tokens {
			v.keepTokens(last)
		}
		if !v.equal(last) {
			if err := v.write(box.Dir()); err != nil {
				w.k.Log.Warn("volumes not refreshed", "pod", w.namespace+"/"+w.name, "reason", err)
				continue
			}
			last = v
		}
	}
}

// keepTokens takes over the tokens of the last reading: each reading asks for new
// ones, but only age is a reason to replace a token.
func (v volumes) keepTokens(last volumes) {
	for name, f := range v {
		for p, content := range f {
			if old, ok := last[name][p]; ok && content.mode == 0o600 && old.mode == 0o600 && strings.Count(string(content.data), ".") == 2 {
				f[p] = old
			}
		}
	}
}

func (v volumes) equal(o volumes) bool {
	if len(v) != len(o) {
		return false
	}
	for name, f := range v {
		if len(f) != len(o[name]) {
			return false
		}
		for p, c := range f {
			if old, ok := o[name][p]; !ok || string(old.data) != string(c.data) || old.mode != c.mode {
				return false
			}
		}
	}
	return true
}

// write puts the contents below dir, one directory for each volume. A reader
// sees the old or the new version of a volume, never a mixture: as the kubelet
// does, files are links through "..data", which is switched in one step.
func (v volumes) write(dir string) error {
	for name, f := range v {
		if err := f.write(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (f files) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	version, err := os.MkdirTemp(dir, "..version-")
	if err != nil {
		return err
	}
	if err := os.Chmod(version, 0o755); err != nil {
		return err
	}
	for p, c := range f {
		full := filepath.Join(version, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, c.data, c.mode); err != nil {
			return err
		}
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	link := filepath.Join(dir, "..data-new")
	_ = os.Remove(link)
	if err := os.Symlink(filepath.Base(version), link); err != nil {
		return err
	}
	if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
		return err
	}
	for p := range f {
		top, _, _ := strings.Cut(p, "/")
		to := filepath.Join(dir, top)
		if _, err := os.Lstat(to); err != nil {
			if err := os.Symlink(filepath.Join("..data", top), to); err != nil && !os.IsExist(err) {
				return err
			}
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries { // links whose file has gone
		if !strings.HasPrefix(e.Name(), "..") {
			if _, err := os.Stat(filepath.Join(dir, e.Name())); err != nil {
				_ = os.Remove(filepath.Join(dir, e.Name()))
			}
		}
	}
	if old != "" {
		_ = os.RemoveAll(filepath.Join(dir, old))
	}
	return nil
}

// mounts returns what a container sees where.
func (w *worker) mounts(c *corev1.Container) ([]sandbox.Mount, error) {
	p, dir := w.object(), w.sandbox().Dir()
	sources := map[string]*corev1.Volume{}
	for i := range p.Spec.Volumes {
		sources[p.Spec.Volumes[i].Name] = &p.Spec.Volumes[i]
	}
	var out []sandbox.Mount
	token := mountsToken(p)
	for _, m := range c.VolumeMounts {
		v := sources[m.Name]
		if v == nil {
			return nil, fmt.Errorf("volumeMounts: no volume is called %q", m.Name)
		}
		source := filepath.Join(dir, v.Name)
		if err := os.MkdirAll(source, 0o777); err != nil {
			return nil, err
		}
		if v.EmptyDir != nil {
			if err := os.Chmod(source, 0o777); err != nil { // whoever the application runs as
				return nil, err
			}
		}
		if m.SubPath != "" {
			if !filepath.IsLocal(m.SubPath) {
				return nil, fmt.Errorf("volumeMounts: subPath %q leaves the volume", m.SubPath)
			}
			sub, err := w.subPath(source, m.SubPath, v.EmptyDir != nil)
			if err != nil {
				return nil, err
			}
			source = sub
		}
		out = append(out, sandbox.Mount{Path: m.MountPath, Source: source, ReadOnly: m.ReadOnly || v.EmptyDir == nil})
		token = token && path.Clean(m.MountPath) != apiMount
	}
	if token {
		out = append(out, sandbox.Mount{Path: apiMount, Source: filepath.Join(dir, apiVolume), ReadOnly: true})
	}
	return out, nil
}

// subPath returns a path below a volume; in an emptyDir it is made.
func (w *worker) subPath(source, sub string, empty bool) (string, error) {
	full := filepath.Join(source, sub)
	if _, err := os.Stat(full); err != nil {
		if !empty {
			return "", fmt.Errorf("volumeMounts: subPath %q is not in the volume", sub)
		}
		if err := os.MkdirAll(full, 0o777); err != nil {
			return "", err
		}
	}
	// Through the ..data link to the file itself: the kubelet too binds the file as it is now.
	return filepath.EvalSymlinks(full)
}
