package scenario

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Proofs reads what shows that fields of Envoy's messages work, from a directory with a file for each of Envoy's
// packages: lines "Message.field: PROOF", by the field's full name.
func Proofs(dir fs.FS) (map[string]string, error) {
	files, err := fs.Glob(dir, "*.txt")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, f := range files {
		text, err := fs.ReadFile(dir, f)
		if err != nil {
			return nil, err
		}
		for l := range strings.Lines(string(text)) {
			name, proof, ok := strings.Cut(strings.TrimSpace(l), ": ")
			if !ok {
				return nil, fmt.Errorf("%s: found %q, want Message.field: what shows it", f, l)
			}
			full := strings.TrimSuffix(path.Base(f), ".txt") + "." + name
			if out[full] != "" {
				return nil, fmt.Errorf("%s: %s stands there twice", f, name)
			}
			out[full] = proof
		}
	}
	return out, nil
}

// EachField calls f with every field that is set in a message, and in the messages inside it, also packed ones. If f
// clears the field, what was in it is not looked at. It reports whether f has cleared any.
func EachField(m protoreflect.Message, f func(protoreflect.Message, protoreflect.FieldDescriptor)) (cleared bool) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err == nil && EachField(inner.ProtoReflect(), f) {
			return packed.MarshalFrom(inner) == nil
		}
		return false
	}
	within := func(v protoreflect.Value) { cleared = EachField(v.Message(), f) || cleared }
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		f(m, fd)
		switch {
		case !m.Has(fd):
			cleared = true
		case fd.IsMap() && fd.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				within(v)
				return true
			})
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				within(v.List().Get(i))
			}
		default:
			within(v)
		}
		return true
	})
	return cleared
}

// without takes a field out of a tree that is one of some messages, wherever it is set.
func without(tree object, field string, kinds ...proto.Message) (object, error) {
	if field == "" {
		return tree, nil
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	for _, m := range kinds {
		if err = protojson.Unmarshal(text, m); err != nil {
			continue
		}
		EachField(m.ProtoReflect(), func(in protoreflect.Message, fd protoreflect.FieldDescriptor) {
			if string(fd.FullName()) == field {
				in.Clear(fd)
			}
		})
		if text, err = (protojson.MarshalOptions{UseProtoNames: true}).Marshal(m); err != nil {
			return nil, err
		}
		var out object
		return out, json.Unmarshal(text, &out)
	}
	return nil, fmt.Errorf("take %s out: %w", field, err)
}

// resources are what a file of the configuration may hold.
func resources() []proto.Message {
	return []proto.Message{&discoveryv3.DiscoveryResponse{}, &discoveryv3.DeltaDiscoveryResponse{}}
}

// Fields lists the fields that the scenario's configuration sets, in its bootstrap and in its files. What this version
// of Envoy's API does not know is left out.
func (s *Scenario) Fields() (map[string]bool, error) {
	const anywhere = "127.0.0.1:1" // addresses are fields like others
	v := &View{Scenario: s, IP: "127.0.0.1", Upstream: map[string]string{"backend": anywhere}, Workspace: "/w", PKI: "/p"}
	for _, u := range s.Upstreams {
		v.Upstream[u.Name] = anywhere
	}
	out := map[string]bool{}
	note := func(text []byte, kinds ...proto.Message) {
		for _, m := range kinds {
			if protojson.Unmarshal(text, m) == nil {
				EachField(m.ProtoReflect(), func(_ protoreflect.Message, fd protoreflect.FieldDescriptor) { out[string(fd.FullName())] = true })
				return
			}
		}
	}
	tree, err := v.Config()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	note(text, &bootstrapv3.Bootstrap{})
	files, err := v.Files()
	for _, text := range files {
		note([]byte(text), resources()...)
	}
	return out, err
}
