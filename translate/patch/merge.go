package patch

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/model"
)

// merge lays a patch over a message of the same type, as protobuf merges: what the patch
// sets is set, messages are merged field by field, entries of maps replace those of the
// same key, lists become longer, or are replaced if the patch says so.
//
// Durations and wrapped values are values and not messages with fields: 0.5 s over 2 s
// is not 2.5 s, and an explicit false is one. (Istio merges wrappers, so that false over
// true stays true.)
func merge(dst proto.Message, p *model.Patch) { mergeOver(dst, p.Value, p) }

func mergeOver(dst, src proto.Message, p *model.Patch) {
	merger{replaceLists: p.Op == model.PatchMergeReplace}.message(dst.ProtoReflect(), src.ProtoReflect())
}

type merger struct{ replaceLists bool }

func (m merger) message(dst, src protoreflect.Message) {
	src.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList():
			if m.replaceLists {
				dst.Clear(f)
			}
			m.list(dst.Mutable(f).List(), v.List(), f)
		case f.IsMap():
			m.entries(dst.Mutable(f).Map(), v.Map(), f.MapValue())
		case f.Message() != nil:
			if isValue(f.Message()) {
				dst.Set(f, clone(v))
			} else {
				m.message(dst.Mutable(f).Message(), v.Message())
			}
		default:
			dst.Set(f, scalar(f, v))
		}
		return true
	})
}

func (m merger) list(dst, src protoreflect.List, f protoreflect.FieldDescriptor) {
	for i := range src.Len() {
		if f.Message() != nil {
			dst.Append(clone(src.Get(i)))
		} else {
			dst.Append(scalar(f, src.Get(i)))
		}
	}
}

func (m merger) entries(dst, src protoreflect.Map, f protoreflect.FieldDescriptor) {
	src.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		if f.Message() != nil {
			dst.Set(k, clone(v))
		} else {
			dst.Set(k, scalar(f, v))
		}
		return true
	})
}

func clone(v protoreflect.Value) protoreflect.Value {
	return protoreflect.ValueOfMessage(proto.Clone(v.Message().Interface()).ProtoReflect())
}

func scalar(f protoreflect.FieldDescriptor, v protoreflect.Value) protoreflect.Value {
	if f.Kind() == protoreflect.BytesKind {
		return protoreflect.ValueOfBytes(slices.Clone(v.Bytes()))
	}
	return v
}

// isValue reports whether a message stands for one value.
func isValue(d protoreflect.MessageDescriptor) bool {
	switch d.FullName() {
	case "google.protobuf.Duration", "google.protobuf.Timestamp", "google.protobuf.Any":
		return true
	}
	return d.ParentFile().Package() == "google.protobuf" && d.Fields().Len() == 1 && d.Fields().Get(0).Name() == "value"
}

// mergeAny lays one configuration over another of the same type. Others are left alone.
func mergeAny(dst, src *anypb.Any, p *model.Patch) *anypb.Any {
	if dst == nil || src == nil || dst.GetTypeUrl() != src.GetTypeUrl() {
		return dst
	}
	a, errA := dst.UnmarshalNew()
	b, errB := src.UnmarshalNew()
	if errA != nil || errB != nil {
		return dst // of a type that nobody here knows
	}
	mergeOver(a, b, p)
	return packed(a)
}
