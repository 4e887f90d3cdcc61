package pods

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// refresh keeps the contents of volumes up to date. Files that a container has
// mounted by subPath stay as they were, as in Kubernetes.
func (w *worker) refresh(ctx context.Context, b box, last volumes, changed <-chan struct{}) {
	for {
		renew := time.NewTimer(w.tokens.untilRenewal())
		select {
		case <-changed:
		case <-renew.C:
		case <-ctx.Done():
			renew.Stop()
			return
		}
		renew.Stop()
		changed = w.changes.next()
		v, err := w.read(ctx)
		if err != nil {
			continue // what is mounted stays
		}
		if err := v.write(b.Dir(), last); err != nil {
			if ctx.Err() == nil {
				w.k.Log.Warn("volumes not refreshed", "pod", w.namespace+"/"+w.name, "reason", err)
			}
			continue
		}
		if !v.equal(last) {
			w.changes.notify() // a container may wait for a file; we look once more in vain
		}
		last = v
	}
}

func (v volumes) equal(o volumes) bool { return maps.EqualFunc(v, o, files.equal) }

func (f files) equal(o files) bool {
	return maps.EqualFunc(f, o, func(a, b file) bool { return bytes.Equal(a.data, b.data) && a.mode == b.mode })
}

// write puts the contents below dir, one directory for each volume, except for
// those that are there. A reader sees the old or the new version of a volume,
// never a mixture: as the kubelet does, files are links through "..data", which
// is switched in one step.
func (v volumes) write(dir string, there volumes) error {
	for name, f := range v {
		if was, ok := there[name]; ok && f.equal(was) {
			continue
		}
		if err := f.write(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (f files) write(dir string) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	version, err := os.MkdirTemp(dir, "..version-")
	if err != nil {
		return err
	}
	if err := f.fill(version); err != nil {
		_ = os.RemoveAll(version)
		return err
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
	if err := f.link(dir); err != nil {
		return err
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(dir, old))
	}
	return nil
}

// fill writes the files themselves.
func (f files) fill(version string) error {
	if err := os.Chmod(version, 0o755); err != nil {
		return err
	}
	for p, c := range f {
		full := filepath.Join(version, p)
		if err := makeDir(filepath.Dir(full)); err != nil {
			return err
		}
		if err := os.WriteFile(full, c.data, c.mode); err != nil {
			return err
		}
		if err := os.Chmod(full, c.mode); err != nil { // whatever our umask is
			return err
		}
	}
	return nil
}

// link makes the names that people see lead through ..data, and removes those
// whose file has gone.
func (f files) link(dir string) error {
	for p := range f {
		top, _, _ := strings.Cut(p, "/")
		to := filepath.Join(dir, top)
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join("..data", top), to); err != nil && !os.IsExist(err) {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, e.Name())); os.IsNotExist(err) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeDir makes a directory that everybody may read, whatever our umask is.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}
