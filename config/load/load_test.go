package load

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mallamesh/malla/base/field"
)

// write makes files below a new directory; a text is the content of its name.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
}

func names(r *Result) (list []string) {
	for _, d := range r.Docs {
		list = append(list, d.Object.GetName())
	}
	return list
}

func TestDirectory(t *testing.T) {
	dir := write(t, map[string]string{
		"b.yaml":        configMap("b1") + "---\n" + configMap("b2"),
		"a.yml":         configMap("a"),
		"c.json":        `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}`,
		"README.md":     "not configuration",
		"below/d.yaml":  configMap("d"),
		"bad.yaml":      "a: [",
		"below/e/e.yml": configMap("e"),
	})
	for _, test := range []struct {
		recursive bool
		want      []string
	}{
		{false, []string{"a", "b1", "b2", "c"}},          // the directory itself, in the order of names
		{true, []string{"a", "b1", "b2", "d", "e", "c"}}, // and what is below, as kubectl -R
	} {
		r, err := Path(dir, test.recursive)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(r); !slices.Equal(got, test.want) {
			t.Errorf("recursive %v: found %v, want %v", test.recursive, got, test.want)
		}
		if len(r.Errors) != 1 || !strings.Contains(r.Errors[0].Error(), "bad.yaml:1: ") {
			t.Errorf("recursive %v: errors %v, want one of bad.yaml: one bad file does not stop the others", test.recursive, r.Errors)
		}
		if slices.Contains(r.Files, filepath.Join(dir, "README.md")) || !slices.Contains(r.Files, filepath.Join(dir, "bad.yaml")) {
			t.Errorf("recursive %v: files read: %v", test.recursive, r.Files)
		}
	}
}

func TestOnePath(t *testing.T) {
	dir := write(t, map[string]string{"x.conf": configMap("x")})
	r, err := Path(filepath.Join(dir, "x.conf"), false)
	if err != nil || len(r.Docs) != 1 { // a file that is named is read whatever it is called
		t.Errorf("a file: found %v, %v", names(r), err)
	}
	if _, err := Path(filepath.Join(dir, "nowhere"), false); err == nil {
		t.Error("a path that is not there must be an error")
	}
}

func TestBounds(t *testing.T) {
	if _, errs := Bytes("big.yaml", make([]byte, MaxFile+1)); len(errs) != 1 {
		t.Errorf("a file above the bound: %v, want one error", errs)
	}
	if _, errs := Bytes("many.yaml", []byte(strings.Repeat("a: b\n---\n", MaxDocuments+1))); len(errs) != 1 {
		t.Errorf("too many documents: %d errors, want one", len(errs))
	}
	deep := strings.Repeat("a: {", 200) + strings.Repeat("}", 200)
	if _, errs := Bytes("deep.yaml", []byte(deep)); len(errs) != 1 {
		t.Errorf("fields nested 200 deep: %v, want one error", errs)
	}
	// An alias bomb is refused by the parser.
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		prev := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+prev+",", 9) + "*" + prev + "]\n"
	}
	if docs, errs := Bytes("bomb.yaml", []byte(bomb)); len(errs) == 0 {
		t.Errorf("an alias bomb gave %d documents, want an error", len(docs))
	}
	if _, errs := Bytes("zero.yaml", []byte("a: b\nb: \x00\n")); len(errs) != 1 || errs[0].Pos != "zero.yaml:2" {
		t.Errorf("a zero byte: %v, want one error in line 2", errs)
	}
}

func TestPositions(t *testing.T) {
	text := `# about the first
---
# a comment

apiVersion: v1
kind: Thing
metadata:
  name: &n first
  labels:
    app: x
    app.kubernetes.io/name: y
spec:
  list:
  - a: 1

  - a: 2
    b: {c: 3}
  base: &base
    q: 1
  more:
    <<: *base
    r: 2
  mesh: |
    one: 1
    two:
      three: 3
...
---
{apiVersion: v1, kind: Thing,
 metadata: {name: second}}
`
	docs, errs := Bytes("f.yaml", []byte(text))
	if len(docs) != 2 || len(errs) != 0 {
		t.Fatalf("found %d documents, errors %v", len(docs), errs)
	}
	for _, test := range []struct {
		doc  int
		at   *field.Path
		want string
	}{
		{0, nil, "f.yaml:5"},
		{0, field.At("kind"), "f.yaml:6"},
		{0, field.At("metadata", "labels", "app.kubernetes.io/name"), "f.yaml:11"},
		{0, field.At("spec", "list"), "f.yaml:13"},
		{0, field.At("spec", "list").Index(1), "f.yaml:16"},
		{0, field.At("spec", "list").Index(1).Child("b").Child("c"), "f.yaml:17"},
		{0, field.At("spec", "list").Index(7), "f.yaml:13"},        // not there: what is around it
		{0, field.At("spec", "nothing", "below"), "f.yaml:12"},     //
		{0, field.At("spec", "more", "r"), "f.yaml:22"},            //
		{0, field.At("spec", "mesh", "two", "three"), "f.yaml:26"}, // text that is YAML itself
		{1, nil, "f.yaml:29"},                                            // content on the line after the separator
		{1, field.At("metadata", "name"), "f.yaml:30"},                   //
		{1, field.At("metadata").Child("name").Child("x"), "f.yaml:30"},  //
		{0, field.At("spec").Index(3), "f.yaml:12"},                      // no list at all
		{0, field.At("spec", "mesh").Index(0).Child("one"), "f.yaml:23"}, //
	} {
		if got := docs[test.doc].Pos(test.at); got != test.want {
			t.Errorf("document %d, %s: found %s, want %s", test.doc, test.at, got, test.want)
		}
	}
	if docs[1].Source() != "f.yaml:29" {
		t.Errorf("source %s", docs[1].Source())
	}
}

// YAML means here what it means to kubectl.
func TestValues(t *testing.T) {
	docs, errs := Bytes("v.yaml", []byte("a: yes\nb: off\nc: 0644\nd: 1.5\ne: 2001-02-03\nf: null\ng: \"yes\"\nh: 1_000\n1: one\n"))
	if len(errs) > 0 || len(docs) != 1 {
		t.Fatal(errs)
	}
	for key, want := range map[string]any{
		"a": true, "b": false, "c": int64(420), "d": 1.5, "e": "2001-02-03", "f": nil, "g": "yes", "h": int64(1000), "1": "one",
	} {
		if got := docs[0].Object.Object[key]; got != want {
			t.Errorf("%s: found %v (%T), want %v (%T)", key, got, got, want, want)
		}
	}
}

func TestKustomization(t *testing.T) {
	dir := write(t, map[string]string{
		"kustomization.yaml": "namespace: prod\nnamePrefix: my-\nresources: [base, extra.yaml]\npatches:\n- patch: |-\n    - {op: add, path: /data, value: {patched: \"1\"}}\n  target: {kind: ConfigMap, name: b}\n" +
			"configMapGenerator:\n- {name: made, literals: [a=b]}\n",
		"base/kustomization.yaml": "resources: [maps.yaml]\n",
		"base/maps.yaml":          "# first line\n" + configMap("a") + "---\n" + configMap("b"),
		"extra.yaml":              configMap("extra") + "data:\n  k: v\n",
		"unrelated.yaml":          configMap("unrelated"),
	})
	r, err := Path(dir, false)
	if err != nil || len(r.Errors) > 0 {
		t.Fatal(err, r.Errors)
	}
	got := map[string]string{}
	for _, d := range r.Docs {
		name, _, _ := strings.Cut(d.Object.GetName(), "-made-")
		got[name] = strings.TrimPrefix(d.Source(), dir+"/")
		if d.Object.GetNamespace() != "prod" {
			t.Errorf("%s is in %q, want prod", d.Object.GetName(), d.Object.GetNamespace())
		}
		if a := d.Object.GetAnnotations(); len(a) > 0 {
			t.Errorf("%s has annotations that nobody wrote: %v", d.Object.GetName(), a)
		}
	}
	for name, want := range map[string]string{"my-a": "base/maps.yaml:2", "my-b": "base/maps.yaml:6", "my-extra": "extra.yaml:1"} {
		if got[name] != want {
			t.Errorf("%s comes from %q, want %s (all: %v)", name, got[name], want, got)
		}
	}
	if len(r.Docs) != 4 {
		t.Errorf("found %d objects, want 4: %v", len(r.Docs), got)
	}
	for _, want := range []string{"kustomization.yaml", "base/kustomization.yaml", "base/maps.yaml", "extra.yaml"} {
		if !slices.Contains(r.Files, filepath.Join(dir, want)) {
			t.Errorf("%s is not among the files to watch: %v", want, r.Files)
		}
	}
	for _, d := range r.Docs {
		if d.Object.GetName() == "my-extra" {
			if pos := d.Pos(field.At("data", "k")); !strings.HasSuffix(pos, "extra.yaml:5") {
				t.Errorf("data.k stands at %s", pos)
			}
		}
	}
}

func TestBadKustomization(t *testing.T) {
	for name, text := range map[string]string{
		"missing file":   "resources: [nowhere.yaml]\n",
		"unknown field":  "resorces: [a.yaml]\n",
		"not YAML":       "a: [\n",
		"leaves the dir": "resources: [../../etc]\n",
	} {
		dir := write(t, map[string]string{"kustomization.yaml": text, "a.yaml": configMap("a")})
		r, err := Path(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Errors) != 1 || !strings.Contains(r.Errors[0].Error(), "kustomization.yaml: ") {
			t.Errorf("%s: errors %v, want one that names the kustomization", name, r.Errors)
		}
		if len(r.Files) == 0 {
			t.Errorf("%s: no files to watch, so nobody would see it repaired", name)
		}
	}
}
