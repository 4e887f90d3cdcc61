package test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
	"github.com/mallamesh/malla/config/source/memory"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/registry"
	"github.com/mallamesh/malla/translate/story"
)

// unnoticedFile lists fields that are used, and of which no story can notice that they are gone, each with the reason.
const unnoticedFile = "testdata/unnoticed"

// notices knows which stories notice that a field is gone: their proxies are then told something else.
type notices struct {
	t     *testing.T
	files map[string]*txtar.Archive
	told  map[string]string // of whole stories, by file
	asked map[string]bool
}

func newNotices(t *testing.T) *notices {
	return &notices{t: t, files: map[string]*txtar.Archive{}, told: map[string]string{}, asked: map[string]bool{}}
}

// notices reports whether the story in a file means something else without a field of a kind.
func (n *notices) notices(file, of, path string) bool {
	key := file + " " + of + " " + path
	if got, ok := n.asked[key]; ok {
		return got
	}
	a := n.files[file]
	if a == nil {
		var err error
		if a, err = txtar.ParseFile(file); err != nil {
			n.t.Fatal(err)
		}
		n.files[file] = a
		n.told[file] = n.tell(file, without(n.t, a, "", ""))
	}
	got := n.tell(file, without(n.t, a, of, path)) != n.told[file]
	n.asked[key] = got
	return got
}

// tell is what a story means.
func (n *notices) tell(file string, a *txtar.Archive) string {
	switch filepath.Dir(file) {
	case "../translate/testdata":
		s, err := story.Read(a)
		if err != nil {
			return err.Error() // it is not passed over, at least
		}
		told, err := s.Told()
		if err != nil {
			n.t.Fatalf("%s: %v", file, err)
		}
		var out bytes.Buffer
		out.Write(told)
		for _, f := range a.Files { // what only who asks for it is told
			question, ok := strings.CutPrefix(f.Name, "want/")
			if !ok || question == "problems" {
				continue
			}
			answer, err := s.Answer(question)
			if err != nil {
				n.t.Fatalf("%s: %v", file, err)
			}
			out.WriteString(answer)
		}
		return out.String()
	case "../test/testdata/start":
		told, err := start(a)
		if err != nil {
			return err.Error()
		}
		return told
	case "../registry/testdata":
		var all []*config.Object
		for _, f := range a.Files {
			if f.Name == "want" {
				continue
			}
			objects, err := memory.Parse(string(f.Data))
			if err != nil {
				return err.Error()
			}
			all = append(all, objects...)
		}
		mesh := model.DefaultMeshConfig()
		state := registry.Build(config.Objects(all...), &mesh)
		var out strings.Builder
		print := func(v any) {
			text, err := json.Marshal(v)
			if err != nil {
				n.t.Fatalf("%s: %v", file, err)
			}
			out.Write(append(text, '\n'))
		}
		for _, s := range state.Services {
			print(s)
			print(state.Endpoints[s.Key()])
		}
		print(state.Workloads)
		return out.String()
	}
	return "" // what is judged only has no meaning that could differ
}

// without is a story whose objects of a kind lack a field.
func without(t *testing.T, a *txtar.Archive, of, path string) *txtar.Archive {
	out := &txtar.Archive{Files: slices.Clone(a.Files)}
	steps := stepsOf(path)
	for i, f := range out.Files {
		var docs []any
		switch {
		case textFiles[f.Name] != "":
			docs = []any{fromYAML(t, f.Name, f.Data)}
			if of == textFiles[f.Name] {
				drop(docs[0], steps)
			}
		case strings.HasSuffix(f.Name, ".yaml"):
			read, _ := load.Bytes(f.Name, []byte(story.WithVersions(string(f.Data))))
			for _, d := range read {
				if k, ok := kind.ByGVK(d.Object.GroupVersionKind()); ok && k.Key() == of {
					drop(d.Object.Object, steps)
				}
				docs = append(docs, d.Object.Object)
			}
		default:
			continue
		}
		var parts [][]byte
		for _, d := range docs {
			text, err := yaml.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, text)
		}
		out.Files[i].Data = bytes.Join(parts, []byte("---\n"))
	}
	return out
}

// stepsOf splits spec.http[].headers{}.exact; [] and {} are steps of their own. Without the last of these a field is gone as a whole.
func stepsOf(path string) []string {
	if path == "" {
		return nil
	}
	path = strings.NewReplacer("[]", ".[]", "{}", ".{}").Replace(path)
	steps := strings.Split(path, ".")
	for len(steps) > 1 && (steps[len(steps)-1] == "[]" || steps[len(steps)-1] == "{}") {
		steps = steps[:len(steps)-1]
	}
	return steps
}

// drop takes a field out of a value, wherever the path leads.
func drop(v any, steps []string) {
	if len(steps) == 0 {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		switch {
		case steps[0] == "{}":
			for _, sub := range v {
				drop(sub, steps[1:])
			}
		case len(steps) == 1:
			delete(v, steps[0])
		default:
			drop(v[steps[0]], steps[1:])
		}
	case []any:
		for _, sub := range v {
			drop(sub, steps[1:])
		}
	}
}

// A showing is a story for a field: of its kind, or of another where one piece of code reads the same block.
type showing struct{ of, path string }

// shown picks the story to name for a field, and reports whether it notices that the field is gone: among those that do, the one that
// says least else.
func (n *notices) shown(all map[string][]telling, fields []showing) (*telling, bool) {
	var first *telling
	for _, f := range fields {
		var setting []*telling
		for i := range all[f.of] {
			if all[f.of][i].sets[f.path] {
				setting = append(setting, &all[f.of][i])
			}
		}
		slices.SortStableFunc(setting, func(a, b *telling) int { return cmp.Compare(len(a.sets), len(b.sets)) })
		for _, s := range setting {
			if n.notices(s.path, f.of, f.path) {
				return s, true
			}
		}
		if first == nil && len(setting) > 0 {
			first = setting[0]
		}
	}
	return first, false
}

// judgeUnnoticed compares the fields whose loss no story notices with those of which it is known why.
func judgeUnnoticed(t *testing.T, found []string) {
	slices.Sort(found)
	data, err := os.ReadFile(unnoticedFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			of, why, _ := strings.Cut(line, ": ")
			reasons[of] = why
		}
	}
	text := "# Fields that are used, and why no story can notice that they are gone: FIELD: REASON. Lines that are no longer true go by\n# go test ./test -run Compatibility -update; a new one is written by hand, if no story can be.\n"
	for _, f := range found {
		if reasons[f] == "" {
			t.Errorf("%s: no story notices that it is gone; write one in translate/testdata or testdata/start, or the reason in %s", f, unnoticedFile)
		}
		text += f + ": " + reasons[f] + "\n"
		delete(reasons, f)
	}
	if *update {
		if err := os.WriteFile(unnoticedFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for f := range reasons {
		t.Errorf("%s: %s is noticed; run go test ./test -run Compatibility -update", unnoticedFile, f)
	}
}
