package envoyfilter

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/levels"
)

// A script that does not compile is refused by every proxy, together with the whole listener in which it stands, so it is
// refused here first. What happens when it runs only a proxy can tell.

// maxScript bounds the source of a script, as in the proxy.
const maxScript = 1 << 20

// maxLevels bounds what lies in each other, as in the proxy: the compiler takes the square of it, minutes for a script of one expression.
const maxLevels = 1000

// sources are the fields of messages that hold scripts.
var sources = map[protoreflect.FullName][]string{
	"envoy.extensions.filters.http.lua.v3.Lua":         {"inline_code", "source_codes", "default_source_code"},
	"envoy.extensions.filters.http.lua.v3.LuaPerRoute": {"source_code"},
}

// scripts checks those in a field of a message that has them.
func (r *Reading) scripts(d protoreflect.FieldDescriptor, v *structpb.Value, at *field.Path) {
	switch {
	case !slices.Contains(sources[d.ContainingMessage().FullName()], d.TextName()):
	case d.IsMap():
		entries := v.GetStructValue().GetFields()
		for _, k := range slices.Sorted(maps.Keys(entries)) {
			r.sourceOf(entries[k], at.Child(k))
		}
	case d.Message() != nil:
		r.sourceOf(v, at)
	default:
		r.script(v.GetStringValue(), at)
	}
}

// sourceOf checks what a DataSource holds itself.
func (r *Reading) sourceOf(v *structpb.Value, at *field.Path) {
	for name, s := range v.GetStructValue().GetFields() {
		switch name {
		case "inline_string", "inlineString":
			r.script(s.GetStringValue(), at.Child(name))
		case "inline_bytes", "inlineBytes":
			if text, err := base64.StdEncoding.DecodeString(s.GetStringValue()); err == nil {
				r.script(string(text), at.Child(name))
			}
		}
	}
}

func (r *Reading) script(source string, at *field.Path) {
	if err := compiles(source); err != nil {
		r.Errors.Addf(at, "script load error: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
}

func compiles(source string) (err error) {
	if len(source) > maxScript {
		return fmt.Errorf("has %d bytes, want at most %d", len(source), maxScript)
	}
	defer func() { // the compiler panics at what it cannot express
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	const name = "script"
	chunk, err := parse.Parse(strings.NewReader(source), name)
	switch {
	case err != nil:
	case levels.Exceed(chunk, maxLevels):
		err = errors.New("chunk has too many syntax levels")
	default:
		_, err = lua.Compile(chunk, name)
	}
	return err
}
