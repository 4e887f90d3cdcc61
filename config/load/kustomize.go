package load

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Kustomized reports whether a directory has a kustomization, so that [Path] builds it.
func Kustomized(dir string) bool { return kustomization(dir) != "" }

// kustomization returns the path of the directory's kustomization, "" without one.
func kustomization(dir string) string {
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

const originAnnotation = "config.kubernetes.io/origin"

// kustomize builds a directory with kustomize's own library. An object's position
// is that of the file it came from; what patches changed in it has none of its own.
func (r *Result) kustomize(dir string) {
	root, err := filepath.Abs(dir)
	if err != nil {
		r.errorf(dir, "%v", err)
		return
	}
	if real, err := filepath.EvalSymlinks(root); err == nil {
		root = real
	}
	files := &recorder{FileSystem: filesys.MakeFsOnDisk(), root: kustomization(root)}
	defer func() {
		for _, f := range files.read {
			r.Files = append(r.Files, shown(dir, root, f))
		}
	}()
	options := krusty.MakeDefaultOptions()
	options.PluginConfig = types.DisabledPluginConfig()
	objects, err := build(krusty.MakeKustomizer(options), files, root)
	if err != nil {
		msg := strings.ReplaceAll(err.Error(), root+string(filepath.Separator), "")
		r.errorf(shown(dir, root, files.root), "%s", msg)
		r.Partial = true
		return
	}
	sources := map[string][]*Doc{}
	for _, u := range objects {
		d := &Doc{Object: u, File: shown(dir, root, files.root), Line: 1}
		if origin := takeOrigin(u, files.added); origin != "" {
			path := filepath.Join(root, filepath.FromSlash(origin))
			docs, ok := sources[path]
			if data, known := files.data[path]; known && !ok {
				docs, _ = Bytes(shown(dir, root, path), data)
				sources[path] = docs
			}
			if len(docs) == 0 {
				d.File = shown(dir, root, path)
			}
			if from := origins(docs, u); from != nil {
				d.File, d.Line, d.text, d.base = from.File, from.Line, from.text, from.base
			}
		}
		r.Docs = append(r.Docs, d)
	}
}

// build runs kustomize, whose code panics on some malformed input.
func build(k *krusty.Kustomizer, files filesys.FileSystem, root string) (objects []*unstructured.Unstructured, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kustomize: %v", p)
		}
	}()
	resources, err := k.Run(files, root)
	if err != nil {
		return nil, err
	}
	for _, res := range resources.Resources() {
		data, err := res.MarshalJSON()
		if err != nil {
			return nil, err
		}
		var object map[string]any
		if err := utiljson.Unmarshal(data, &object); err != nil {
			return nil, err
		}
		objects = append(objects, &unstructured.Unstructured{Object: object})
	}
	return objects, nil
}

// takeOrigin returns the file that kustomize noted for an object; the note is
// removed if the author did not ask for it.
func takeOrigin(u *unstructured.Unstructured, remove bool) string {
	annotations := u.GetAnnotations()
	note, ok := annotations[originAnnotation]
	if !ok {
		return ""
	}
	if remove {
		delete(annotations, originAnnotation)
		if len(annotations) == 0 {
			unstructured.RemoveNestedField(u.Object, "metadata", "annotations")
		} else {
			u.SetAnnotations(annotations)
		}
	}
	var origin struct{ Path, Repo string }
	if err := yaml.Unmarshal([]byte(note), &origin); err != nil || origin.Repo != "" {
		return ""
	}
	return origin.Path
}

// origins finds the document that became u: of its kind, with its name, or with
// the longest name that a prefix or suffix can have made into its name.
func origins(docs []*Doc, u *unstructured.Unstructured) *Doc {
	var best *Doc
	for _, d := range docs {
		if d.Object.GetKind() != u.GetKind() || !strings.Contains(u.GetName(), d.Object.GetName()) {
			continue
		}
		if best == nil || len(d.Object.GetName()) > len(best.Object.GetName()) {
			best = d
		}
	}
	return best
}

// shown returns a path below root as its reader named it: below dir.
func shown(dir, root, path string) string {
	if rel, err := filepath.Rel(root, path); err == nil {
		return filepath.Join(dir, rel)
	}
	return path
}

// A recorder remembers what kustomize reads, and asks it to note where objects come from.
type recorder struct {
	filesys.FileSystem
	root  string // the kustomization that is built
	added bool   // the question is ours
	read  []string
	data  map[string][]byte
}

func (r *recorder) ReadFile(path string) ([]byte, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if r.data == nil {
		r.data = map[string][]byte{}
	}
	if _, again := r.data[path]; !again {
		r.read = append(r.read, path)
	}
	r.data[path] = data
	if path == r.root {
		var k struct{ BuildMetadata []string }
		if yaml.Unmarshal(data, &k) == nil && !slices.Contains(k.BuildMetadata, types.OriginAnnotations) && len(k.BuildMetadata) == 0 {
			r.added = true
			data = bytes.Join([][]byte{data, []byte("buildMetadata: [" + types.OriginAnnotations + "]\n")}, []byte("\n"))
		}
	}
	return data, nil
}
