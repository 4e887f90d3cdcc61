package kind

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the handbook's page")

const page = "../../docs/manifests.md"

// TestHandbook: the page on manifests is printed from the table.
func TestHandbook(t *testing.T) {
	want := handbook()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table says; run: go test ./config/kind -update", page)
	}
}

const intro = `# Manifests

malla reads the manifests that people already have. What stands in them is

- **used**: it has the effect that its documentation promises;
- **accepted without effect**: it belongs to real manifests, but there is nothing here that it could act on. malla
  says so once for each object, when it is applied and in ` + "`malla get`" + `;
- **refused by status**: the standards of some kinds want what cannot be done to be told
  in the object's status; traffic gets an error there, never something else than was asked for;
- **refused**: an error with file, line, field, what was found and what would be right. Unknown fields, kinds and
  values are refused, and so are features of the mesh that are not built yet. An object that is refused does not
  replace the version that is in force, and does not keep the others from being applied.

Nothing else happens in silence. This page is printed from the table in ` + "`config/kind`" + `, which is what the
code asks.

All versions of a kind that are named here are accepted and are one object. YAML is read as kubectl reads it
(` + "`yes`, `no`, `on` and `off`" + ` without quotes are true and false), in files of several documents, as JSON, as
lists, and by ` + "`kustomization.yaml`" + `. What stands in an object of a kind without effect is not looked at.

`

func handbook() string {
	var b strings.Builder
	b.WriteString("<!-- Printed by go test ./config/kind -update; do not edit. -->\n")
	b.WriteString(intro)
	b.WriteString("## Kinds\n\n| kind | versions | |\n| --- | --- | --- |\n")
	for _, k := range All {
		versions := make([]string, len(k.Versions))
		for i, v := range k.Versions {
			versions[i] = "`" + strings.TrimPrefix(k.Group+"/"+v, "/") + "`"
		}
		note := k.Class.String()
		if k.Why != "" {
			note += ": " + k.Why
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", k.Kind, strings.Join(versions, ", "), note)
	}
	for _, r := range Refusals {
		name := r.Kind
		if name == "" {
			name = "any"
		}
		group := r.Group
		if group == "" {
			group = "v1"
		}
		fmt.Fprintf(&b, "| %s | `%s` | refused: %s |\n", name, group, r.Why)
	}
	b.WriteString("\n## Fields\n\n[Compatibility](compatibility.md) names every field of every kind, what becomes of it, and a story that shows it.\n")
	b.WriteString("\nWhere nothing is said, the load balancer is LEAST_REQUEST, as in today's Istio, also for DestinationRules that say UNSPECIFIED; ROUND_ROBIN is strict\nturn-taking where it is named.\n")
	b.WriteString("\n## Annotations and labels\n\nThese are used; all other annotations of Istio are accepted without effect, with a notice.\n\n| annotation | on |\n| --- | --- |\n")
	for _, a := range Annotations {
		fmt.Fprintf(&b, "| `%s` | %s |\n", a.Name, a.On)
	}
	b.WriteString("\nLabels that ask for something that is not there are accepted without effect, with a notice:\n\n| label | |\n| --- | --- |\n")
	for _, a := range UnusedLabels {
		fmt.Fprintf(&b, "| `%s` | %s |\n", a.Name, a.Why)
	}
	return b.String()
}
