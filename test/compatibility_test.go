package test

import (
	"cmp"
	"fmt"
	"maps"
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

// maxUntold is how many fields of Istio's kinds, Gateway API's and Ingresses are used, but no story sets them. It only
// ever becomes less.
const maxUntold = 35

const compatibilityIntro = `<!-- Printed by go test ./test -run Compatibility -update; do not edit. -->
# Compatibility

Every field of every kind that malla serves, and what becomes of it. A field is **used** (it has the effect that its
documentation promises), **accepted without effect**, with a notice that says why, or **refused** with its path; of Gateway API some are **refused by status**. What is
said of a field goes for all below it. [Manifests](manifests.md) says which kinds there are, and what holds for all of them.

The last column names a story that sets the field: a small mesh, and what its proxies are told, or what the author is. Where there is
one, it is a story whose proxies are told something else when the field is taken away.
Both columns are made from the tables that the code asks and from the stories that are its tests.

`

// A telling is a story that sets fields of a kind.
type telling struct {
	name, path string
	sets       map[string]bool
}

// TestCompatibility: the page names every field of every kind, with the story that shows it.
func TestCompatibility(t *testing.T) {
	p := &page{stories: tellings(t), notices: newNotices(t)}
	p.WriteString(compatibilityIntro)
	for _, k := range kind.All {
		if k.Class != kind.Used {
			continue
		}
		plan := strict.Type(reflect.TypeOf(k.New()).Elem(), k.Fields)
		mesh := strings.HasSuffix(k.Group, "istio.io") || strings.HasSuffix(k.Group, "networking.k8s.io")
		p.section(k.Key(), plan, k.Key(), mesh)
	}
	p.section("MeshConfig (ConfigMap malla or istio, key mesh)", strict.Type(reflect.TypeFor[meshv1alpha1.MeshConfig](), kind.MeshFields), "MeshConfig", true)
	p.section("MeshNetworks (the same ConfigMap, key meshNetworks)", strict.Type(reflect.TypeFor[meshv1alpha1.MeshNetworks](), kind.NetworksFields), "MeshNetworks", true)
	if p.untold > maxUntold {
		t.Errorf("%d fields of the mesh's kinds are used, but no story sets them; there may be %d", p.untold, maxUntold)
	}
	judgeUnnoticed(t, p.unnoticed)
	if *update {
		if err := os.WriteFile(compatibilityPage, []byte(p.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != p.String() {
		t.Errorf("%s is not what tables and stories say; run: go test ./test -run Compatibility -update", compatibilityPage)
	}
}

// A page is what is written so far.
type page struct {
	strings.Builder
	stories   map[string][]telling
	notices   *notices
	untold    int      // fields of the mesh's kinds that are used without a story
	unnoticed []string // and those that a story sets, but not one that notices when they are gone
}

// section prints the fields of a kind.
func (p *page) section(title string, plan *strict.Plan, of string, mesh bool) {
	templates := false
	fmt.Fprintf(p, "## %s\n\n| field | | shown by |\n| --- | --- | --- |\n", title)
	for _, leaf := range plan.Leaves() {
		top, _, _ := strings.Cut(leaf.Path, ".")
		if top == "metadata" || top == "status" || top == "kind" || top == "apiVersion" || leaf.Path == "" {
			continue
		}
		if strings.HasPrefix(leaf.Path, "spec.template.") && !mesh {
			if !templates {
				templates = true
				p.WriteString("| `spec.template` | as Pod | |\n")
			}
			continue
		}
		what, used := become(leaf)
		shown := ""
		s := p.shown(leaf.Path, of, used, mesh)
		if s != nil {
			shown = fmt.Sprintf("[%s](%s)", s.name, s.path)
		} else if used && mesh {
			p.untold++
		}
		fmt.Fprintf(p, "| `%s` | %s | %s |\n", leaf.Path, what, shown)
	}
	p.WriteString("\n")
}

// shown picks the story for a field.
func (p *page) shown(path, of string, used, mesh bool) *telling {
	fields := []showing{{of, path}}
	if mesh {
		fields = append(fields, elsewhere(p.stories, path)...)
	}
	if !used || !mesh {
		return best(p.stories, fields)
	}
	s, noticed := p.notices.shown(p.stories, fields)
	if !noticed {
		p.unnoticed = append(p.unnoticed, of+" "+path)
	}
	return s
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

// best returns the story that says most of a field: the one that says least else.
func best(all map[string][]telling, fields []showing) (out *telling) {
	for _, f := range fields {
		for i := range all[f.of] {
			if s := &all[f.of][i]; s.sets[f.path] && (out == nil || len(s.sets) < len(out.sets)) {
				out = s
			}
		}
		if out != nil {
			return out
		}
	}
	return nil
}

// sharedBlocks are the settings that stand in several places and are read by one piece of code: one
// story shows them in all.
var sharedBlocks = []string{"connectionPool.", "outlierDetection.", "loadBalancer.", "localityLbSetting.", "zoneAwareLbSetting.", "trafficPolicy.tls.", "retryBudget.", "tunnel.", "proxyProtocol.", "tcpKeepalive."}

// elsewhere returns where else the field stands, if it is in a block that stands in several places.
func elsewhere(all map[string][]telling, path string) (out []showing) {
	if rest, ok := strings.CutPrefix(path, "defaultConfig.readinessProbe."); ok { // as of a WorkloadGroup
		out = append(out, showing{"WorkloadGroup", "spec.probe." + rest})
	}
	if rest, ok := strings.CutPrefix(path, "spec.ingress[].tls."); ok { // of a Sidecar, as of a Gateway's server
		out = append(out, showing{"Gateway", "spec.servers[].tls." + rest})
	}
	for _, block := range sharedBlocks {
		at := strings.Index(path, block)
		if at < 0 {
			continue
		}
		for _, of := range []string{"DestinationRule", "Sidecar", "MeshConfig"} {
			paths := map[string]bool{}
			for _, s := range all[of] {
				for set := range s.sets {
					if strings.HasSuffix(set, path[at:]) {
						paths[set] = true
					}
				}
			}
			for _, set := range slices.Sorted(maps.Keys(paths)) {
				out = append(out, showing{of, set})
			}
		}
	}
	return out
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
	texts := map[string]*strict.Plan{ // that are no objects
		"MeshConfig": strict.Type(reflect.TypeFor[meshv1alpha1.MeshConfig](), nil), "MeshNetworks": strict.Type(reflect.TypeFor[meshv1alpha1.MeshNetworks](), nil),
	}
	addText := func(of, file string, data []byte) {
		if v := fromYAML(t, file, data); v != nil {
			add(of, texts[of], file, v)
		}
	}
	var files []string
	for _, pattern := range []string{"../translate/testdata/*.txtar", "../registry/testdata/*.txtar", "../test/testdata/start/*.txtar", "../config/validate/testdata/*.txtar"} {
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
			if of := textFiles[f.Name]; of != "" {
				addText(of, file, f.Data)
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
				if data, _ := d.Object.Object["data"].(map[string]any); k.Kind == "ConfigMap" {
					for key, of := range map[string]string{"mesh": "MeshConfig", "meshNetworks": "MeshNetworks"} {
						if data[key] != nil {
							addText(of, file, []byte(fmt.Sprint(data[key])))
						}
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

// textFiles are sections of stories that hold a text of that form.
var textFiles = map[string]string{"meshconfig.yaml": "MeshConfig", "meshnetworks.yaml": "MeshNetworks"}

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
