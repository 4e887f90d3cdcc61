package crd

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/config/kind"
)

var update = flag.Bool("update", false, "write the schemas anew")

// TestSchemas: the embedded schemas say what the module's definitions say.
func TestSchemas(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatalf("where the module of Gateway API is: %v", err)
	}
	for _, k := range kind.All {
		if k.Group != kind.GatewayAPI {
			continue
		}
		// The experimental channel has all fields of the standard one.
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config/crd/experimental", k.Group+"_"+k.Plural+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		want := printed(t, k, text)
		file := "schemas/" + k.Kind + ".json"
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what the definition says (%v); run: go test ./config/crd -update", file, err)
		}
	}
}

// TestRows: the table of kinds has the names, versions and columns of the definitions.
func TestRows(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kind.All {
		if k.Group != kind.GatewayAPI {
			continue
		}
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config/crd/experimental", k.Group+"_"+k.Plural+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Spec struct {
				Scope    string
				Names    struct{ ShortNames, Categories []string }
				Versions []struct {
					Name                     string
					Served                   bool
					AdditionalPrinterColumns []struct {
						Name, Type, JSONPath string
						Priority             int32
					}
				}
			}
		}
		if err := yaml.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		if (d.Spec.Scope == "Namespaced") != k.Namespaced || !slices.Equal(d.Spec.Names.ShortNames, k.Short) || !slices.Equal(d.Spec.Names.Categories, k.Categories) {
			t.Errorf("%s: found %+v, want scope %s and names %+v", k.Kind, k, d.Spec.Scope, d.Spec.Names)
		}
		var columns []kind.Column
		for i, v := range d.Spec.Versions {
			if v.Served != k.Serves(v.Name) {
				t.Errorf("%s: version %s is served: %v", k.Kind, v.Name, k.Serves(v.Name))
			}
			for _, c := range v.AdditionalPrinterColumns {
				if i == 0 && c.Name != "Age" {
					columns = append(columns, kind.Column(c))
				}
			}
		}
		if !slices.Equal(columns, k.Columns) {
			t.Errorf("%s: columns %+v, want %+v", k.Kind, k.Columns, columns)
		}
	}
}

// printed is the schema of a definition's first version, as it is embedded.
func printed(t *testing.T, k *kind.Kind, text []byte) []byte {
	var d struct {
		Spec struct {
			Versions []struct {
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := yaml.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	properties := d.Spec.Versions[0].Schema.OpenAPIV3Schema["properties"].(map[string]any)
	spec, err := json.Marshal(plain(t, k.Kind, properties["spec"].(map[string]any)))
	if err != nil {
		t.Fatal(err)
	}
	var out Definition
	out.Spec = new(Schema)
	decoder := json.NewDecoder(bytes.NewReader(spec))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out.Spec); err != nil {
		t.Fatalf("%s: the definition says more than this package knows: %v", k.Kind, err)
	}
	if s, ok := properties["status"].(map[string]any); ok {
		out.Status = s["default"]
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(out); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// plain is a schema without what nobody reads here; rules are named by their messages.
func plain(t *testing.T, of string, s map[string]any) map[string]any {
	out := map[string]any{}
	for name, v := range s {
		switch name {
		case "description", "format", "x-kubernetes-map-type": // the format of numbers is that of their Go type
		case "properties":
			all := map[string]any{}
			for n, p := range v.(map[string]any) {
				all[n] = plain(t, of, p.(map[string]any))
			}
			out[name] = all
		case "items", "additionalProperties":
			out[name] = plain(t, of, v.(map[string]any))
		case "x-kubernetes-validations":
			var messages []any
			for _, r := range v.([]any) {
				messages = append(messages, r.(map[string]any)["message"])
			}
			out["rules"] = append(messages, list(out["rules"])...)
		case "oneOf": // there is one: what an address of a type is
			if of != "Gateway" || !strings.Contains(mustJSON(t, v), `"format":"ipv6"`) {
				t.Fatalf("%s: a new oneOf: %s", of, mustJSON(t, v))
			}
			out["rules"] = append(list(out["rules"]), "An address of type IPAddress must be an IPv4 or an IPv6 address")
		default:
			out[name] = v
		}
	}
	return out
}

func mustJSON(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRulesAreThere: each rule of a definition is one of the table, and each of the table is used.
func TestRulesAreThere(t *testing.T) {
	used := map[string]bool{}
	var walk func(s *Schema)
	walk = func(s *Schema) {
		if s == nil {
			return
		}
		for _, m := range s.Rules {
			used[m] = true
			if rules[m] == nil {
				t.Errorf("no rule says: %s", m)
			}
		}
		for _, p := range s.Properties {
			walk(p)
		}
		walk(s.Items)
		walk(s.Additional)
	}
	for _, k := range kind.All {
		if d := Of(k); d != nil {
			walk(d.Spec)
		}
	}
	for m := range rules {
		if !used[m] {
			t.Errorf("no definition says: %s", m)
		}
	}
}
