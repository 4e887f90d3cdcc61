package test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
	"github.com/mallamesh/malla/config/strict"
	"github.com/mallamesh/malla/translate/story"
)

const compatibilityPage = "../docs/compatibility.md"

// maxUntold is how many fields of Istio's kinds are used, but no story sets them. It only
// ever becomes less.
const maxUntold = 5

const compatibilityIntro = `<!-- Printed by go test ./test -run Compatibility -update; do not edit. -->
# Compatibility

Every field of every kind that malla serves, and what becomes of it. A field is **used** (it has the effect that its
documentation promises), **accepted without effect**, with a notice that says why, or **refused** with its path; of Gateway API some are **refused by status**. What is
said of a field goes for all below it. [Manifests](manifests.md) says which kinds there are, and what holds for all of them.

The last column names a story that sets the field: a small mesh, and what its proxies are told, or what the author is.
Both columns are made from the tables that the code asks and from the stories that are its tests.

`

// A telling is a story that sets fields of a kind.
type telling struct {
	name, path string
	sets       map[string]bool
}

// TestCompatibility: the page names every field of every kind, with the story that shows it.
func TestCompatibility(t *testing.T) {
	stories := tellings(t)
	var b strings.Builder
	b.WriteString(compatibilityIntro)
	untold := 0
	for _, k := range kind.All {
		if k.Class != kind.Used {
			continue
		}
		plan := strict.Type(reflect.TypeOf(k.New()).Elem(), k.Fields)
		mesh := strings.HasSuffix(k.Group, "istio.io")
		untold += section(&b, k.Key(), plan, stories, k.Key(), mesh)
	}
	untold += section(&b, "MeshConfig (ConfigMap malla or istio, key mesh)", strict.Type(reflect.TypeFor[meshv1alpha1.MeshConfig](), kind.MeshFields), stories, "MeshConfig", true)
	if untold > maxUntold {
		t.Errorf("%d fields of the mesh's kinds are used, but no story sets them; there may be %d", untold, maxUntold)
	}
	if *update {
		if err := os.WriteFile(compatibilityPage, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("%s is not what tables and stories say; run: go test ./test -run Compatibility -update", compatibilityPage)
	}
}

// section prints the fields of a kind, and returns how many are used without a story.
func section(b *strings.Builder, title string, plan *strict.Plan, all map[string][]telling, of string, mesh bool) (untold int) {
	stories := all[of]
	templates := false
	fmt.Fprintf(b, "## %s\n\n| field | | shown by |\n| --- | --- | --- |\n", title)
	for _, leaf := range plan.Leaves() {
		top, _, _ := strings.Cut(leaf.Path, ".")
		if top == "metadata" || top == "status" || top == "kind" || top == "apiVersion" || leaf.Path == "" {
			continue
		}
		if strings.HasPrefix(leaf.Path, "spec.template.") && !mesh {
			if !templates {
				templates = true
				b.WriteString("| `spec.template` | as Pod | |\n")
			}
			continue
		}
		what, used := become(leaf)
		shown := ""
		s := best(stories, leaf.Path)
		if s == nil && mesh {
			s = elsewhere(all, leaf.Path)
		}
		if s != nil {
			shown = fmt.Sprintf("[%s](%s)", s.name, s.path)
		} else if used && mesh {
			untold++
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", leaf.Path, what, shown)
	}
	b.WriteString("\n")
	return untold
}

// become says what becomes of a field.
func become(leaf strict.Leaf) (what string, used bool) {
	used = true
	var parts []string
	for _, r := range leaf.Rows {
		values := ""
		switch {
		case len(r.Values) > 0 && strings.HasPrefix(r.Values[0], "!"):
			values = " other than " + strings.Join(r.Values, ", ")[1:]
		case len(r.Values) > 0:
			values = " " + strings.Join(r.Values, ", ")
		default:
			used = false
		}
		parts = append(parts, fmt.Sprintf("%s%s: %s", r.Class, values, r.Why))
	}
	if used {
		parts = append([]string{"used"}, parts...)
	}
	return strings.Join(parts, "; "), used
}

// best returns the story that says most of the field: the one that says least else.
func best(stories []telling, path string) *telling {
	var out *telling
	for i := range stories {
		if s := &stories[i]; s.sets[path] && (out == nil || len(s.sets) < len(out.sets)) {
			out = s
		}
	}
	return out
}

// sharedBlocks are the settings that stand in several places and are read by one piece of code: one
// story shows them in all.
var sharedBlocks = []string{"connectionPool.", "outlierDetection.", "loadBalancer.", "localityLbSetting.", "zoneAwareLbSetting.", "trafficPolicy.tls.", "retryBudget.", "tunnel.", "proxyProtocol.", "tcpKeepalive."}

// elsewhere returns a story that sets the field in another place, where it is in a block.
func elsewhere(all map[string][]telling, path string) *telling {
	if rest, ok := strings.CutPrefix(path, "defaultConfig.readinessProbe."); ok { // as of a WorkloadGroup
		for i, s := range all["WorkloadGroup"] {
			if s.sets["spec.probe."+rest] {
				return &all["WorkloadGroup"][i]
			}
		}
	}
	if rest, ok := strings.CutPrefix(path, "spec.ingress[].tls."); ok { // of a Sidecar, as of a Gateway's server
		for i, s := range all["Gateway"] {
			if s.sets["spec.servers[].tls."+rest] {
				return &all["Gateway"][i]
			}
		}
	}
	for _, block := range sharedBlocks {
		at := strings.Index(path, block)
		if at < 0 {
			continue
		}
		for _, name := range []string{"DestinationRule", "Sidecar", "MeshConfig"} {
			for i, s := range all[name] {
				for set := range s.sets {
					if strings.HasSuffix(set, path[at:]) {
						return &all[name][i]
					}
				}
			}
		}
	}
	return nil
}

// tellings reads the stories, by the kinds of which they set something.
func tellings(t *testing.T) map[string][]telling {
	out := map[string][]telling{}
	plans := map[string]*strict.Plan{}
	add := func(kindName string, plan *strict.Plan, file string, v any) {
		s := telling{strings.TrimSuffix(filepath.Base(file), ".txtar"), file, map[string]bool{}}
		for _, p := range plan.Set(v) {
			s.sets[p] = true
		}
		out[kindName] = append(out[kindName], s)
	}
	mesh := strict.Type(reflect.TypeFor[meshv1alpha1.MeshConfig](), nil)
	var files []string
	for _, pattern := range []string{"../translate/testdata/*.txtar", "../registry/testdata/*.txtar", "../config/validate/testdata/*.txtar"} {
		list, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, list...)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if f.Name == "meshconfig.yaml" {
				if v := fromYAML(t, file, f.Data); v != nil {
					add("MeshConfig", mesh, file, v)
				}
				continue
			}
			if !strings.HasSuffix(f.Name, ".yaml") {
				continue
			}
			docs, _ := load.Bytes(f.Name, []byte(story.WithVersions(string(f.Data))))
			for _, d := range docs {
				k, ok := kind.ByGVK(d.Object.GroupVersionKind())
				if !ok || k.Class != kind.Used {
					continue
				}
				if plans[k.Key()] == nil {
					plans[k.Key()] = strict.Type(reflect.TypeOf(k.New()).Elem(), nil)
				}
				add(k.Key(), plans[k.Key()], file, d.Object.Object)
				if data, _ := d.Object.Object["data"].(map[string]any); k.Kind == "ConfigMap" && data["mesh"] != nil {
					if v := fromYAML(t, file, []byte(fmt.Sprint(data["mesh"]))); v != nil {
						add("MeshConfig", mesh, file, v)
					}
				}
			}
		}
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(a, b telling) int { return cmp.Compare(a.path, b.path) })
	}
	return out
}

// fromYAML is nil for a text that is wrong on purpose.
func fromYAML(t *testing.T, file string, data []byte) any {
	text, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil
	}
	var v any
	if err := utiljson.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}
