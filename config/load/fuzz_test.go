package load

import (
	"encoding/json"
	"reflect"
	"testing"

	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/base/field"
)

// FuzzBytes looks for texts that crash the loader, that it reads otherwise than
// kubectl's parser does, and for positions outside the text.
func FuzzBytes(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: |\n    x: 1\n"))
	f.Add([]byte("a: &x {b: 1}\nc:\n  <<: *x\n  d: [1, 2]\n---\n# nothing\n---\n- 1\n"))
	f.Add([]byte("{\"kind\": \"List\", \"items\": [{\"a\": 1}, 5]}\n{\"b\":\t2}"))
	f.Add([]byte("%YAML 1.1\n--- !!map {a: yes}\n...\n\ta: b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		docs, errs := Bytes("f.yaml", data)
		for _, e := range errs {
			if e.Pos == "" || e.Error() == "" {
				t.Fatalf("an error without position: %+v", e)
			}
		}
		lines := 1
		for _, c := range data {
			if c == '\n' || c == '\r' {
				lines++
			}
		}
		for _, d := range docs {
			walk(t, d, d.Object.Object, nil, lines)
			if len(d.base) > 0 {
				continue
			}
			peer, err := yaml.YAMLToJSON(d.text.text)
			var want any
			if err != nil || utiljson.Unmarshal(peer, &want) != nil {
				t.Fatalf("we read what kubectl does not (%v): %q", err, d.text.text)
			}
			if !reflect.DeepEqual(want, any(d.Object.Object)) {
				t.Fatalf("we read %v, kubectl %v", d.Object.Object, want)
			}
			if _, err := json.Marshal(d.Object.Object); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// walk asks for the position of every field.
func walk(t *testing.T, d *Doc, v any, at *field.Path, lines int) {
	if n := d.line(at); n < 1 || n > lines {
		t.Fatalf("%s stands in line %d of %d", at, n, lines)
	}
	switch v := v.(type) {
	case map[string]any:
		for k, c := range v {
			if k != "" {
				walk(t, d, c, at.Child(k), lines)
			}
		}
	case []any:
		for i, c := range v {
			walk(t, d, c, at.Index(i), lines)
		}
	}
}
