package admin

import (
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// A mask says which fields of a message are to be shown, by name; what is nil is shown whole.
type mask map[protoreflect.Name]mask

// parseMask reads the text of a google.protobuf.FieldMask: paths with commas between them.
func parseMask(text string) mask {
	m := mask{}
	for path := range strings.SplitSeq(text, ",") {
		at := m
		names := strings.Split(path, ".")
		for i, name := range names {
			inner, known := at[protoreflect.Name(name)]
			if known && inner == nil { // another path shows all of it
				break
			}
			if i == len(names)-1 {
				at[protoreflect.Name(name)] = nil
				break
			}
			if inner == nil {
				inner = mask{}
				at[protoreflect.Name(name)] = inner
			}
			at = inner
		}
	}
	return m
}

var errMask = errors.New("names no field")

// trim leaves of a message what the mask shows. It fails where the mask names a field that there is not, or
// what is inside of a list. A resource that is wrapped in an Any is looked into, as Envoy does.
func (k mask) trim(m protoreflect.Message) error {
	for name, inner := range k {
		fd := m.Descriptor().Fields().ByName(name)
		if fd == nil || inner != nil && (fd.Message() == nil || fd.IsList() || fd.IsMap()) {
			return errMask
		}
		if inner == nil || !m.Has(fd) {
			continue
		}
		if a, ok := m.Get(fd).Message().Interface().(*anypb.Any); ok {
			if err := inner.trimAny(a); err != nil {
				return err
			}
			continue
		}
		if err := inner.trim(m.Mutable(fd).Message()); err != nil {
			return err
		}
	}
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if _, shown := k[fd.Name()]; !shown {
			m.Clear(fd)
		}
		return true
	})
	return nil
}

func (k mask) trimAny(a *anypb.Any) error {
	m, err := a.UnmarshalNew()
	if err != nil {
		return err
	}
	if err := k.trim(m.ProtoReflect()); err != nil {
		return err
	}
	return anypb.MarshalFrom(a, m, proto.MarshalOptions{})
}
