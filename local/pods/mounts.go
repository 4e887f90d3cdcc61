package pods

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/local/sandbox"
)

// mounts returns what a container sees where.
func (w *worker) mounts(b box, c *corev1.Container) ([]sandbox.Mount, error) {
	p, dir := w.object(), b.Dir()
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
		source, writable := filepath.Join(dir, v.Name), v.EmptyDir != nil
		if claim := v.PersistentVolumeClaim; claim != nil {
			if !filepath.IsLocal(claim.ClaimName) {
				return nil, fmt.Errorf("volumes: claim %q is no name", claim.ClaimName)
			}
			source, writable = filepath.Join(w.k.Claims, p.Namespace, claim.ClaimName), true
		}
		if err := os.MkdirAll(source, 0o777); err != nil {
			return nil, err
		}
		if writable {
			if err := os.Chmod(source, 0o777); err != nil { // whoever the application runs as
				return nil, err
			}
		}
		if m.SubPath != "" {
			if !filepath.IsLocal(m.SubPath) {
				return nil, fmt.Errorf("volumeMounts: subPath %q leaves the volume", m.SubPath)
			}
			sub, err := subPath(source, m.SubPath, writable)
			if err != nil {
				return nil, err
			}
			source = sub
		}
		out = append(out, sandbox.Mount{Path: m.MountPath, Source: source, ReadOnly: m.ReadOnly || !writable || v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly})
		token = token && !atAPIMount(m)
	}
	if token {
		out = append(out, sandbox.Mount{Path: apiMount, Source: filepath.Join(dir, apiVolume), ReadOnly: true})
	}
	return out, nil
}

// subPath returns a path below a volume; in one that the pod may write to it is made.
func subPath(source, sub string, writable bool) (string, error) {
	root, err := os.OpenRoot(source) // what a pod left in its volume may be a link to anywhere
	if err != nil {
		return "", err
	}
	defer root.Close()
	full := filepath.Join(source, sub)
	if _, err := root.Stat(sub); errors.Is(err, os.ErrNotExist) {
		if !writable {
			return "", fmt.Errorf("volumeMounts: subPath %q is not in the volume", sub)
		}
		if err := root.MkdirAll(sub, 0o777); err != nil {
			return "", err
		}
		if err := root.Chmod(sub, 0o777); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", fmt.Errorf("volumeMounts: subPath %q: %w", sub, err)
	}
	// Through the ..data link to the file itself: the kubelet too binds the file as it is now.
	return filepath.EvalSymlinks(full)
}
