package translate

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/model"
)

// A PatchAt is one patch of an object.
type PatchAt struct {
	From  model.Ref
	Index int // among those that its author wrote
}

// PatchesAt returns for each path in a resource (filter_chains[0].filters[1].typed_config.stat_prefix) the patches without which there would
// not be what stands there. What cannot be told apart (there is no path, as in what an Envoy says) is the doing of all patches that
// change the resource. For each patch the resource is made anew without it, which takes a large mesh seconds: before each of them goOn is
// asked, and PatchesAt returns nil if that says no.
func PatchesAt(v *model.View, typeURL, name string, paths []string, targets []model.PatchTarget, goOn func() bool) [][]PatchAt {
	out := make([][]PatchAt, len(paths))
	now, ok := Resource(v, typeURL, name)
	if !ok {
		return out
	}
	things := make([]thing, len(paths))
	for i, path := range paths {
		things[i] = find(now, path)
	}
	before := count(things, now)
	var touching []PatchAt
	for i, p := range v.Mesh.Patches {
		if !v.PatchedBy(p) {
			continue
		}
		for k, x := range p.List {
			if !slices.Contains(targets, x.Target) {
				continue
			}
			if !goOn() {
				return nil
			}
			without, there := Resource(withoutPatch(v, i, k), typeURL, name)
			if there && proto.Equal(now, without) {
				continue
			}
			at := PatchAt{p.From, x.Index}
			touching = append(touching, at)
			var left []int
			if there {
				left = count(things, without)
			}
			for i := range things {
				if !there || left[i] < before[i] {
					out[i] = append(out[i], at)
				}
			}
		}
	}
	for i := range out {
		if len(out[i]) == 0 {
			out[i] = touching
		}
	}
	return out
}

// withoutPatch is the view with one patch less.
func withoutPatch(v *model.View, object, patch int) *model.View {
	mesh, object2 := *v.Mesh, *v.Mesh.Patches[object]
	object2.List = slices.Delete(slices.Clone(object2.List), patch, patch+1)
	mesh.Patches = slices.Clone(mesh.Patches)
	mesh.Patches[object] = &object2
	return model.NewView(v.Proxy, &mesh)
}

// A thing is what stands somewhere in a resource: a field's value, or a message that lacks one. Where it stands is no part of
// it, because patches move what stands behind.
type thing struct {
	message protoreflect.Message
	field   protoreflect.FieldDescriptor // nil: the message as a whole
}

// find follows a path as far as it goes.
func find(m proto.Message, path string) thing {
	t := thing{message: m.ProtoReflect()}
	for _, step := range steps(path) {
		if a, ok := t.message.Interface().(*anypb.Any); ok {
			inner, err := a.UnmarshalNew()
			if err != nil {
				return t
			}
			t.message = inner.ProtoReflect()
		}
		if t.field != nil { // an element of a list, or an entry of a map
			inner, ok := element(t.message.Get(t.field), t.field, step)
			if !ok {
				return t
			}
			t = thing{message: inner}
			continue
		}
		f := t.message.Descriptor().Fields().ByTextName(step)
		if f == nil || !t.message.Has(f) {
			return t
		}
		if f.Message() == nil || f.IsList() || f.IsMap() {
			t.field = f
			continue
		}
		t = thing{message: t.message.Get(f).Message()}
	}
	return t
}

func element(v protoreflect.Value, f protoreflect.FieldDescriptor, step string) (protoreflect.Message, bool) {
	switch {
	case f.IsMap() && f.MapValue().Message() != nil && f.MapKey().Kind() == protoreflect.StringKind:
		if e := v.Map().Get(protoreflect.ValueOfString(step).MapKey()); e.IsValid() {
			return e.Message(), true
		}
	case f.IsList() && f.Message() != nil:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < v.List().Len() {
			return v.List().Get(i).Message(), true
		}
	}
	return nil, false
}

// steps are the names and numbers of a path.
func steps(path string) (out []string) {
	for path != "" {
		if quoted, ok := strings.CutPrefix(path, "["); ok {
			if key, err := strconv.QuotedPrefix(quoted); err == nil {
				name, _ := strconv.Unquote(key) // it is one
				out, path = append(out, name), strings.TrimPrefix(quoted[len(key):], "]")
				continue
			}
			index, rest, _ := strings.Cut(quoted, "]")
			out, path = append(out, index), rest
			continue
		}
		path = strings.TrimPrefix(path, ".")
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		if end == 0 {
			return out // no path
		}
		out, path = append(out, path[:end]), path[end:]
	}
	return out
}

// count counts how often each of the things is in a resource.
func count(things []thing, m proto.Message) []int {
	n := make([]int, len(things))
	each(m.ProtoReflect(), func(m protoreflect.Message) {
		for i := range things {
			if things[i].is(m) {
				n[i]++
			}
		}
	})
	return n
}

// is reports whether a message is the thing, or has it.
func (t *thing) is(m protoreflect.Message) bool {
	switch {
	case m.Descriptor() != t.message.Descriptor():
		return false
	case t.field == nil:
		return proto.Equal(m.Interface(), t.message.Interface())
	}
	return m.Has(t.field) && m.Get(t.field).Equal(t.message.Get(t.field))
}

// each calls f for a message and all in it.
func each(m protoreflect.Message, f func(protoreflect.Message)) {
	f(m)
	if a, ok := m.Interface().(*anypb.Any); ok {
		if inner, err := a.UnmarshalNew(); err == nil {
			each(inner.ProtoReflect(), f)
		}
		return
	}
	m.Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case d.IsMap():
			if d.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { each(e.Message(), f); return true })
			}
		case d.Message() == nil:
		case d.IsList():
			for i := range v.List().Len() {
				each(v.List().Get(i).Message(), f)
			}
		default:
			each(v.Message(), f)
		}
		return true
	})
}

// Objects are those that patches are of, each with its patches in order.
func Objects(patches []PatchAt) (refs []model.Ref, of map[model.Ref][]int) {
	of = map[model.Ref][]int{}
	for _, p := range patches {
		of[p.From] = append(of[p.From], p.Index)
	}
	refs = slices.SortedFunc(maps.Keys(of), func(a, b model.Ref) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return refs, of
}
