package validate

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
)

// documents returns all objects of all stories.
func documents(t testing.TB) (docs []*load.Doc) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if f.Name != "want" {
				more, _ := load.Bytes(f.Name, f.Data)
				docs = append(docs, more...)
			}
		}
	}
	return docs
}

// Validation changes nothing, and tells the same each time.
func TestPure(t *testing.T) {
	for _, d := range documents(t) {
		before := d.Object.DeepCopy()
		first := Object(d.Object, nil)
		second := Object(d.Object, nil)
		if !reflect.DeepEqual(before, d.Object) {
			t.Errorf("%s: the object was changed", d.Source())
		}
		if !reflect.DeepEqual(first, second) {
			t.Errorf("%s: the second time it tells %v, the first time %v", d.Source(), second, first)
		}
	}
}

// What passes can be converted: nobody behind validation meets a surprise.
func TestGoodConverts(t *testing.T) {
	for _, d := range documents(t) {
		if len(Object(d.Object, nil).Errors) > 0 {
			continue
		}
		if _, err := config.FromUnstructured(d.Object); err != nil {
			t.Errorf("%s passes, but: %v", d.Source(), err)
		}
	}
}

// An empty object of every kind is judged without a crash.
func TestEmpty(t *testing.T) {
	for _, k := range kind.All {
		for _, v := range k.Versions {
			u := &unstructured.Unstructured{Object: map[string]any{"kind": k.Kind, "apiVersion": k.Group + "/" + v, "metadata": map[string]any{"name": "x"}}}
			if k.Group == "" {
				u.SetAPIVersion(v)
			}
			r := Object(u, nil)
			for _, e := range r.Errors {
				if e.In == "" || e.Msg == "" {
					t.Errorf("%s: an error without resource or message: %+v", k.Kind, e)
				}
			}
		}
	}
	if r := Object(&unstructured.Unstructured{Object: map[string]any{}}, nil); len(r.Errors) != 2 {
		t.Errorf("an object without anything: %v", r.Errors)
	}
}

// Admission asks for every object that is written.
func TestCost(t *testing.T) {
	if testing.Short() {
		t.Skip("measures time")
	}
	docs := documents(t)
	for _, d := range docs {
		Object(d.Object, nil) // makes the plans
	}
	best := time.Hour
	for range 5 { // the machine may be busy with others
		start := time.Now()
		for _, d := range docs {
			Object(d.Object, nil)
		}
		best = min(best, time.Since(start))
	}
	if per := best / time.Duration(len(docs)); per > time.Millisecond {
		t.Errorf("%v for each of %d objects, want less than 1 ms", per, len(docs))
	}
}

func BenchmarkDeployment(b *testing.B) {
	a, err := txtar.ParseFile("testdata/real-deployment.txtar")
	if err != nil {
		b.Fatal(err)
	}
	docs, _ := load.Bytes("deploy.yaml", a.Files[0].Data)
	for b.Loop() {
		Object(docs[0].Object, nil)
	}
}

// FuzzObject looks for objects that crash validation, and for those that pass
// but cannot be converted.
func FuzzObject(f *testing.F) {
	for _, d := range documents(f) {
		data, err := json.Marshal(d.Object.Object)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var object map[string]any
		if utiljson.Unmarshal(data, &object) != nil || object == nil {
			return
		}
		u := &unstructured.Unstructured{Object: object}
		r := Object(u, nil)
		if len(r.Errors) > 0 {
			_ = r.Errors.Error()
			return
		}
		if _, err := config.FromUnstructured(u); err != nil {
			t.Fatalf("passes, but: %v", err)
		}
	})
}

// Envoy refuses a table of routes for one header that is too long, and for too many of them: nobody's routes there would change any more.
func TestHeadersAreBounded(t *testing.T) {
	many := map[string]any{}
	for i := range maxHeaders {
		many["x-"+strconv.Itoa(i)] = "y"
	}
	long := strings.Repeat("x", maxHeader)
	for _, test := range []struct {
		add  map[string]any
		set  map[string]any
		want string
	}{
		{add: map[string]any{"x-a": long}},
		{add: map[string]any{"x-a": long + "x"}, want: "spec.http[0].headers.request.add.x-a: found 16385 bytes, want at most 16384"},
		{add: map[string]any{long + "x": ""}, want: ": found a name of 16385 bytes, want at most 16384"},
		{add: many},
		{add: many, set: map[string]any{"x-b": "c"}, want: "spec.http[0].headers.request: found 1001 headers to set and add, want at most 1000"},
	} {
		doc := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": map[string]any{"name": "a", "namespace": "b"},
			"spec": map[string]any{"hosts": []any{"c"}, "http": []any{map[string]any{
				"headers": map[string]any{"request": map[string]any{"add": test.add, "set": test.set}},
				"route":   []any{map[string]any{"destination": map[string]any{"host": "c"}}}}}}}}
		errs := Object(doc, nil).Errors
		if test.want == "" && len(errs) > 0 || test.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), test.want)) {
			t.Errorf("got %.300v, want %q", errs, test.want)
		}
	}
}

// What has a bound may be as long as that, and no longer.
func TestLengthsAreBounded(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	configMap := func(n int) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a", "namespace": "b"}, "data": map[string]any{"a": text(n)}}
	}
	annotated := func(n int) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a", "namespace": "b", "annotations": map[string]any{"a": text(n - 1)}}}
	}
	pattern := func(n int) map[string]any {
		return map[string]any{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": map[string]any{"name": "a", "namespace": "b"},
			"spec": map[string]any{"hosts": []any{"c"}, "http": []any{map[string]any{
				"match": []any{map[string]any{"uri": map[string]any{"regex": text(n)}}},
				"route": []any{map[string]any{"destination": map[string]any{"host": "c"}}}}}}}
	}
	for _, test := range []struct {
		most int
		make func(n int) map[string]any
		want string
	}{
		{maxData, configMap, "data: 1048577 bytes together, want at most 1048576"},
		{maxAnnotations, annotated, "metadata.annotations: 262145 bytes together, want at most 262144"},
		{maxRegex, pattern, "spec.http[0].match[0].uri.regex: a pattern of 4097 bytes, want at most 4096"},
	} {
		if errs := Object(&unstructured.Unstructured{Object: test.make(test.most)}, nil).Errors; len(errs) > 0 {
			t.Errorf("as long as may be: %.300v", errs)
		}
		errs := Object(&unstructured.Unstructured{Object: test.make(test.most + 1)}, nil).Errors
		if len(errs) != 1 || !strings.HasSuffix(errs[0].Error(), test.want) {
			t.Errorf("got %.300v, want %q", errs, test.want)
		}
	}
}

// What does not fit into the field's type is refused here, not by who reads the object.
func TestNumbersFitTheirFields(t *testing.T) {
	for text, want := range map[string]string{
		"runAsUser: 9223372036854775807": "",
		"runAsUser: 9223372036854775808": "want a whole number from",
	} {
		docs, errs := load.Bytes("x.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\nspec: {securityContext: {"+text+"}, containers: [{name: a, image: b}]}"))
		if len(errs) > 0 || len(docs) != 1 {
			t.Fatal(errs)
		}
		said := Object(docs[0].Object, nil).Errors.Error()
		if strings.Contains(said, "want a whole number") != (want != "") {
			t.Errorf("%s: got %q, want %q", text, said, want)
		}
	}
}
