package translate_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/config/crd"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
)

// numbers are those at which something ends: a type's range, a limit of Envoy's or of Kubernetes'. What JSON has no integer for comes as a
// float, as a decoder would give it.
var numbers = []any{
	int64(0), int64(-1), int64(1), int64(99), int64(100), int64(101), int64(65_535), int64(65_536), int64(1_000_000), int64(1_000_000_000), int64(math.MaxInt32), int64(math.MinInt32),
	int64(math.MaxInt32) + 1, int64(math.MaxUint32), int64(math.MaxUint32) + 1, int64(math.MaxInt64), int64(math.MinInt64), float64(1 << 63), float64(1 << 64), 0.5, 1e-300, 1e300,
}

// oddTexts are wrong in most places, or at the end of what may be said.
var oddTexts = []any{
	"", " ", "NaN", "Infinity", "NO_SUCH_VALUE", "0", "-1", "4294967296", "18446744073709551616", "true", "0s", "-1s", "1ns", "0.0000000001s", "1e9h", "2562047h47m16.854775807s", "2562048h",
	"315576000001s", "a\r\nb: c", "\x00", "%", "%{", "\\", "(", "**", "*", "*.", "~", "/", "//", "..", ".", "[::1]:80", "0.0.0.0/0", "::/129", "é", "xn--", strings.Repeat("x", 254), strings.Repeat("x", 64<<10),
	"web", "web.other.svc.cluster.local", "*.other.svc.cluster.local", "other/web", "other/*",
}

// otherTypes are no scalars.
var otherTypes = []any{nil, true, false, []any{}, []any{nil}, []any{""}, map[string]any{}, map[string]any{"": nil}, map[string]any{"no such field": int64(1)}}

// A scalar is a field that has one value; [] in its path is any element of a list, {} any key of a map.
type scalar struct {
	path []string
	enum []any
}

func (s scalar) String() string { return strings.Join(s.path, ".") }

// scalars are the fields of a kind that have one value: those of its definition, and those that its documents have.
func scalars(k *kind.Kind, docs []map[string]any) []scalar {
	all := map[string]scalar{}
	add := func(path []string, enum []any) {
		s := scalar{slices.Clone(path), enum}
		if old, ok := all[s.String()]; !ok || len(old.enum) == 0 {
			all[s.String()] = s
		}
	}
	if d := crd.Of(k); d != nil {
		ofSchema(d.Spec, []string{"spec"}, add)
	} else if spec := reflect.ValueOf(k.New()).Elem().FieldByName("Spec"); spec.IsValid() && spec.CanAddr() {
		if m, ok := spec.Addr().Interface().(proto.Message); ok {
			ofMessage(m.ProtoReflect().Descriptor(), []string{"spec"}, nil, add)
		}
	}
	for _, doc := range docs {
		for _, key := range slices.Sorted(maps.Keys(doc)) {
			if key != "apiVersion" && key != "kind" && key != "metadata" && key != "status" {
				ofValue(doc[key], []string{key}, add)
			}
		}
	}
	var out []scalar
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

func ofSchema(s *crd.Schema, path []string, add func([]string, []any)) {
	switch {
	case s.Items != nil:
		ofSchema(s.Items, append(path, "[]"), add)
	case s.Additional != nil:
		ofSchema(s.Additional, append(path, "{}"), add)
	case len(s.Properties) > 0:
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			ofSchema(s.Properties[name], append(path, name), add)
		}
	default:
		add(path, s.Enum)
	}
}

func ofMessage(m protoreflect.MessageDescriptor, path []string, in []protoreflect.FullName, add func([]string, []any)) {
	if strings.HasPrefix(string(m.FullName()), "google.protobuf.") { // which JSON writes as one value
		add(path, nil)
		return
	}
	if slices.Contains(in, m.FullName()) {
		return // it is in itself
	}
	in = append(in, m.FullName())
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		at := append(slices.Clone(path), f.JSONName())
		switch {
		case f.IsMap():
			at, f = append(at, "{}"), f.MapValue()
		case f.IsList():
			at = append(at, "[]")
		}
		switch {
		case f.Message() != nil:
			ofMessage(f.Message(), at, in, add)
		case f.Enum() != nil:
			var enum []any
			for i := range f.Enum().Values().Len() {
				v := f.Enum().Values().Get(i)
				enum = append(enum, string(v.Name()), int64(v.Number()))
			}
			add(at, enum)
		default:
			add(at, nil)
		}
	}
}

func ofValue(v any, path []string, add func([]string, []any)) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			ofValue(v[key], append(path, key), add)
		}
	case []any:
		for _, e := range v {
			ofValue(e, append(path, "[]"), add)
		}
	default:
		add(path, nil)
	}
}

// with returns v with the value at a path of it. What of the path is not there is made; how much of it was, is depth.
func with(v any, path []string, value any) (out any, depth int) {
	if len(path) == 0 {
		return value, 0
	}
	switch key := path[0]; key {
	case "[]":
		list, _ := v.([]any)
		if len(list) == 0 {
			e, _ := with(nil, path[1:], value)
			return []any{e}, 0
		}
		list = slices.Clone(list)
		list[0], depth = with(list[0], path[1:], value)
		return list, depth + 1
	default:
		old, _ := v.(map[string]any)
		m := maps.Clone(old)
		if m == nil {
			m = map[string]any{}
		}
		if key == "{}" {
			key = "x"
			for _, k := range slices.Sorted(maps.Keys(m)) {
				key = k
				break
			}
		}
		child, ok := m[key]
		m[key], depth = with(child, path[1:], value)
		if ok {
			depth++
		}
		return m, depth
	}
}

// nearest are the documents that have the most of a path, at most n.
func nearest(docs []map[string]any, path []string, n int) []map[string]any {
	depths := make(map[int][]map[string]any)
	for _, d := range docs {
		_, depth := with(d, path, nil)
		depths[depth] = append(depths[depth], d)
	}
	var out []map[string]any
	for _, depth := range slices.Backward(slices.Sorted(maps.Keys(depths))) {
		out = append(out, depths[depth]...)
		break
	}
	return out[:min(n, len(out))]
}

// TestBoundaries gives every field of every kind the values at which something ends, one at a time. It promises what TestMutants promises,
// without chance.
func TestBoundaries(t *testing.T) {
	seeds := seedDocuments(t)
	for _, k := range kind.All {
		if k.Class != kind.Used {
			continue
		}
		t.Run(k.Key(), func(t *testing.T) {
			t.Parallel()
			boundaries(t, newBystander(t), k, seeds[k.Key()])
		})
	}
}

// lookAt is of how many accepted documents with odd texts one is looked at in a mesh. Those with odd numbers all are.
func lookAt() int {
	if testing.Short() {
		return 40
	}
	return 8
}

func boundaries(t testing.TB, w *world, k *kind.Kind, docs []map[string]any) {
	fields := scalars(k, docs)
	fed, accepted := 0, 0
	for _, f := range fields {
		for _, seed := range nearest(docs, f.path, 1) {
			for i, value := range slices.Concat(numbers, f.enum, oddTexts, otherTypes) {
				doc, _ := with(seed, f.path, copied(value))
				fed++
				look := i < len(numbers)+len(f.enum) || accepted%lookAt() == 0 || len(fmt.Sprint(value)) > 200
				if feed(t, w, own(seed, doc.(map[string]any)), look) {
					accepted++
				}
				if t.Failed() {
					t.Logf("%s = %.60q", f, fmt.Sprint(value))
					return
				}
			}
		}
	}
	t.Logf("%d fields, %d documents, %d accepted", len(fields), fed, accepted)
	if accepted == 0 && len(fields) > 0 {
		t.Errorf("of %d documents none was accepted: they test nothing", fed)
	}
}

// words are what a text can have where a value stands, and JSON cannot: they are read as YAML.
var words = []string{".nan", "-.inf", ".inf", "1e999", "0x7fffffffffffffffff", "0o17", "1_000", "!!binary aGk=", "!!float 1", "!!set {a}", "2001-12-14t21:59:43.10-05:00", "yes", "&a [*a]", "*nobody", "{a: 1, a: 2}", "\"\\xff\"", "\"\\ud800\"", "- a", "|\n a", "<<: {}"}

// TestBoundariesOfTexts does so with what only a text can say. Each is refused with its place, or is what the reader takes it for.
func TestBoundariesOfTexts(t *testing.T) {
	seeds := seedDocuments(t)
	const here = "value.to.be.replaced"
	for _, k := range kind.All {
		if k.Class != kind.Used {
			continue
		}
		t.Run(k.Key(), func(t *testing.T) {
			t.Parallel()
			w := newBystander(t)
			fields := scalars(k, seeds[k.Key()])
			for i, f := range fields {
				for _, seed := range nearest(seeds[k.Key()], f.path, 1) {
					doc, _ := with(seed, f.path, here)
					data, err := yaml.Marshal(own(seed, doc.(map[string]any)))
					if err != nil {
						t.Fatal(err)
					}
					for j, word := range words {
						if testing.Short() && (i+j)%8 > 0 {
							continue
						}
						text := strings.Replace(string(data), here, word, 1)
						docs, errs := load.Bytes("mutant.yaml", []byte(text))
						if (word == "{a: 1, a: 2}" || word == "*nobody" || word == "&a [*a]") && len(errs) == 0 {
							t.Fatalf("%s: nothing is said of %s", f, word)
						}
						for _, d := range docs {
							feed(t, w, d.Object.Object, false)
						}
						if t.Failed() {
							t.Fatalf("%s: %s", f, word)
						}
					}
				}
			}
		})
	}
}

// own makes a changed document one of its own namespace, see mutant.
func own(seed, doc map[string]any) map[string]any {
	doc = (&unstructured.Unstructured{Object: doc}).DeepCopy().Object
	meta, ok := doc["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		doc["metadata"] = meta
	}
	doc["apiVersion"], doc["kind"] = seed["apiVersion"], seed["kind"]
	meta["name"] = "mutant"
	delete(doc, "status") // is never taken from a document
	if k, ok := kind.ByGVK((&unstructured.Unstructured{Object: doc}).GroupVersionKind()); ok && k.Namespaced {
		meta["namespace"] = "mutant"
	}
	return doc
}
