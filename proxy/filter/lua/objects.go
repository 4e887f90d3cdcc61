package lua

import (
	"bytes"
	"maps"
	"slices"

	"github.com/mallamesh/malla/proxy/filter/filterstate"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"

	lua "github.com/yuin/gopher-lua"
)

// A kind is a type of the objects that scripts see.
type kind uint8

const (
	handleKind kind = iota
	headersKind
	trailersKind
	requestKind // the request's fields, for a response
	bodyKind
	pieceKind
	metadataKind
	contextKind
	infoKind
	dynamicKind
	stateKind
	connectionKind
	connectionInfoKind
	connectionDynamicKind
	tlsKind
	nameKind
	keyKind
	routeKind
	hostKind
	statsKind
	counterKind
	gaugeKind
	histogramKind

	anyKind // of what every object can do
)

// A method of an object gets the handler that the object belongs to, and the object's value.
type method func(l *lua.LState, r *run, v any) int

// types are the methods of each kind.
var types = [anyKind]map[string]method{
	handleKind:  handleMethods,
	headersKind: headerMethods, trailersKind: headerMethods, requestKind: headerMethods,
	bodyKind: bodyMethods, pieceKind: pieceMethods,
	metadataKind: metadataMethods, contextKind: metadataMethods,
	infoKind: infoMethods, dynamicKind: dynamicMethods, stateKind: stateMethods,
	connectionKind: connectionMethods, connectionInfoKind: connectionInfoMethods, connectionDynamicKind: metadataMapMethods,
	tlsKind: tlsMethods, nameKind: nameMethods, keyKind: keyMethods,
	routeKind: entryMethods, hostKind: entryMethods,
	statsKind: statsMethods, counterKind: counterMethods, gaugeKind: gaugeMethods, histogramKind: histogramMethods,
}

// An object is what a userdata of ours holds.
type object struct {
	r      *run
	number uint64 // of the handler that it belongs to
	v      any
}

// objects makes the types of a state.
func (st *state) objects() {
	logs := map[string]*lua.LFunction{}
	for name, f := range logMethods {
		logs[name] = st.l.NewFunction(func(l *lua.LState) int { return invoke(l, anyKind, f) })
	}
	for i, methods := range types {
		k := kind(i)
		index, meta := st.l.NewTable(), st.l.NewTable()
		for name, f := range methods {
			fn := st.l.NewFunction(func(l *lua.LState) int { return invoke(l, k, f) })
			if name == "__pairs" {
				meta.RawSetString(name, fn)
			} else {
				index.RawSetString(name, fn)
			}
		}
		for name, fn := range logs {
			index.RawSetString(name, fn)
		}
		meta.RawSetString("__index", index)
		meta.RawSetString("__metatable", lua.LFalse)
		st.types[k] = meta
	}
	resolution := st.l.NewTable()
	resolution.RawSetString("MILLISECOND", lua.LNumber(millisecond))
	resolution.RawSetString("MICROSECOND", lua.LNumber(microsecond))
	st.l.SetGlobal("EnvoyTimestampResolution", resolution)
}

// invoke calls a method, if its object is one, and in use.
func invoke(l *lua.LState, k kind, f method) int {
	u, ok := l.Get(1).(*lua.LUserData)
	if !ok {
		l.ArgError(1, "object expected: methods are called with ':'")
	}
	o, ok := u.Value.(*object)
	if !ok || k != anyKind && u.Metatable != o.r.st.types[k] {
		l.ArgError(1, "object of another kind")
	}
	if !o.r.is(o.number) || l.G.CurrentThread == nil {
		l.RaiseError("object used outside of proper scope")
	}
	return f(l, o.r, o.v)
}

// A held is an object with what the interpreter knows it by, in one piece of memory.
type held struct {
	data   lua.LUserData
	object object
}

func (h *held) hold(r *run, k kind, v any) *lua.LUserData {
	h.object = object{r, r.number, v}
	h.data = lua.LUserData{Value: &h.object, Env: r.st.l.Env, Metatable: r.st.types[k]}
	return &h.data
}

// object returns the handler's only object of a kind.
func (r *run) object(k kind, v any) *lua.LUserData {
	if u := r.lookup(k); u != nil {
		return u
	}
	u := r.fresh(k, v)
	r.objects = append(r.objects, lone{k, u})
	return u
}

// lookup returns the handler's only object of a kind, nil if there is none yet.
func (r *run) lookup(k kind) *lua.LUserData {
	for _, o := range r.objects {
		if o.kind == k {
			return o.data
		}
	}
	return nil
}

// ownFields returns the fields of the handler's own message.
func (r *run) ownFields() *lua.LUserData {
	if r.fields.m == nil {
		r.fields.m = r.headers
		r.own.fields.hold(r, headersKind, &r.fields)
	}
	return &r.own.fields.data
}

// fresh returns another object of a kind.
func (r *run) fresh(k kind, v any) *lua.LUserData { return new(held).hold(r, k, v) }

func push(l *lua.LState, v lua.LValue) int {
	l.Push(v)
	return 1
}

// given is text that a script is given, which is charged to its handler.
func given(l *lua.LState, s string) lua.LString {
	if m, ok := l.Context().(*meter); ok {
		raise(l, m.make(len(s)+16))
	}
	return lua.LString(s)
}

func pushText(l *lua.LState, s string) int { return push(l, given(l, s)) }

// iterate pushes what a generic for goes through. A script may keep it for longer than the handler may use it.
func iterate(l *lua.LState, r *run, next func(l *lua.LState) int) int {
	number := r.number
	return push(l, l.NewFunction(func(l *lua.LState) int {
		if !r.is(number) {
			raise(l, errGone)
		}
		return next(l)
	}))
}

// value makes a value of metadata one of the script's.
func value(l *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case bool:
		return lua.LBool(v)
	case float64:
		return lua.LNumber(v)
	case string:
		return given(l, v)
	case []any:
		t := l.CreateTable(len(v), 0)
		for _, item := range v {
			t.Append(value(l, item))
		}
		return t
	case metadata.Struct:
		t := l.CreateTable(0, len(v))
		for name, item := range v {
			t.RawSetString(string(given(l, name)), value(l, item))
		}
		return t
	case map[any]any:
		t := l.CreateTable(0, len(v))
		for key, item := range v {
			t.RawSet(value(l, key), value(l, item))
		}
		return t
	}
	return lua.LNil
}

// maxNested bounds how deep metadata of a script is nested.
const maxNested = 64

// metadataOf makes a script's value one of metadata. A table with numbers for names is a list.
func metadataOf(l *lua.LState, v lua.LValue, depth int) any {
	if depth > maxNested {
		l.RaiseError("metadata is nested more than %d deep", maxNested)
	}
	switch v := v.(type) {
	case lua.LBool:
		return bool(v)
	case lua.LNumber:
		return float64(v)
	case lua.LString:
		return string(v)
	case *lua.LTable:
		if n := v.Len(); n > 0 {
			list := make([]any, n)
			for i := range list {
				list[i] = metadataOf(l, v.RawGetInt(i+1), depth+1)
			}
			return list
		}
		out := metadata.Struct{}
		v.ForEach(func(key, item lua.LValue) {
			if name, ok := textOf(key); ok {
				out[name] = metadataOf(l, item, depth+1)
			} else {
				l.RaiseError("unexpected type '%s' in dynamic metadata", key.Type())
			}
		})
		return out
	case *lua.LNilType:
		return nil
	}
	l.RaiseError("unexpected type '%s' in dynamic metadata", v.Type())
	return nil
}

var metadataMethods = map[string]method{
	"get": func(l *lua.LState, _ *run, v any) int {
		found, ok := v.(metadata.Struct)[l.CheckString(2)]
		if !ok {
			return 0
		}
		return push(l, value(l, found))
	},
	"__pairs": func(l *lua.LState, r *run, v any) int {
		fields := v.(metadata.Struct)
		names, i := slices.Sorted(maps.Keys(fields)), 0
		return iterate(l, r, func(l *lua.LState) int {
			if i == len(names) {
				return 0
			}
			i++
			return pushText(l, names[i-1]) + push(l, value(l, fields[names[i-1]]))
		})
	},
}

var metadataMapMethods = map[string]method{
	"get": func(l *lua.LState, _ *run, v any) int {
		fields, ok := v.(*metadata.Dynamic).Space(l.CheckString(2))
		if !ok {
			return 0
		}
		return push(l, value(l, fields))
	},
	"__pairs": func(l *lua.LState, r *run, v any) int {
		d := v.(*metadata.Dynamic)
		names, i := d.Spaces(), 0
		return iterate(l, r, func(l *lua.LState) int {
			if i == len(names) {
				return 0
			}
			i++
			fields, _ := d.Space(names[i-1])
			return pushText(l, names[i-1]) + push(l, value(l, fields))
		})
	},
}

var dynamicMethods = func() map[string]method {
	all := maps.Clone(metadataMapMethods)
	all["set"] = func(l *lua.LState, r *run, v any) int {
		space, name := l.CheckString(2), l.CheckString(3)
		made := metadataOf(l, l.Get(4), 0)
		raise(l, r.st.meter.make(len(space)+len(name)+64))
		v.(*metadata.Dynamic).Set(space, name, made)
		return 0
	}
	return all
}()

var stateMethods = map[string]method{
	"get": func(l *lua.LState, r *run, _ any) int {
		name, state := l.CheckString(2), &r.s.Rec.State
		find := state.Text
		if l.GetTop() > 2 && l.Get(3) != lua.LNil {
			field := l.CheckString(3)
			find = func(name string) ([]byte, bool) { return state.Field(name, field) }
		}
		v, ok := find(name)
		if !ok {
			return 0
		}
		return pushText(l, string(v))
	},
	"set": func(l *lua.LState, r *run, _ any) int {
		key, factory, v := l.CheckString(2), l.CheckString(3), l.CheckString(4)
		switch is, ok := filterstate.Object(key, factory); {
		case !ok:
			l.RaiseError("'%s' does not have an object factory for '%s'", factory, key)
		case is != nil && !is(v):
			l.RaiseError("'%s' cannot be made of %q", factory, v)
		}
		raise(l, r.st.meter.make(len(key)+len(v)+64))
		if !r.s.Rec.State.Set(key, []byte(v), false) {
			l.RaiseError("'%s' cannot be set again", key)
		}
		return 0
	},
}

// headerMap is the fields of a message, or its trailers.
type headerMap struct {
	m         *header.Map
	iterating bool
}

func (h *headerMap) change(l *lua.LState, r *run) {
	if h.iterating {
		l.RaiseError("header map cannot be modified while iterating")
	}
	r.modify(l, h.m)
}

// maxFields bounds what a script may add.
const maxFields = 1000

// name is the name that a method is called with, until the next one is.
func (r *run) name(l *lua.LState) []byte {
	st := r.st
	st.name = lower(append(st.name[:0], l.CheckString(2)...))
	return st.name
}

// pair is the name and the value that a method is called with, until the next one is.
func (h *headerMap) pair(l *lua.LState, r *run) (name, value []byte) {
	name = r.name(l)
	r.st.value = append(r.st.value[:0], l.CheckString(3)...)
	checkField(l, name, r.st.value)
	if h.m.Len() >= maxFields {
		l.RaiseError("a message has %d header fields already", h.m.Len())
	}
	return name, r.st.value
}

// checkField raises an error where a field would break a message apart.
func checkField(l *lua.LState, name, value []byte) {
	plain := name
	if len(plain) > 0 && plain[0] == ':' {
		plain = plain[1:]
	}
	if !header.ValidName(plain) {
		l.RaiseError("%q is no name of a header field", name)
	}
	if !header.ValidValue(value) {
		l.RaiseError("the value of header field %q holds control characters", name)
	}
	if valid := pseudo[string(name)]; valid != nil && !valid(value) {
		l.RaiseError("%q is no %s", value, name)
	}
}

// pseudo are the fields that a request's first line is written from: a space in one would begin another part of it.
var pseudo = map[string]func([]byte) bool{
	":path":      func(b []byte) bool { return len(b) > 0 && header.ValidTarget(b) },
	":method":    header.ValidToken,
	":authority": header.ValidAuthority,
	":scheme":    header.ValidToken,
	"host":       header.ValidAuthority,
}

func lower(b []byte) []byte {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}

var headerMethods = map[string]method{
	"get": func(l *lua.LState, r *run, v any) int {
		var some [4][]byte
		values := v.(*headerMap).m.Values(some[:0], r.name(l))
		switch len(values) {
		case 0:
			return 0
		case 1:
			return pushText(l, string(values[0]))
		}
		return pushText(l, string(bytes.Join(values, []byte{','})))
	},
	"getAtIndex": func(l *lua.LState, r *run, v any) int {
		values, i := v.(*headerMap).m.Values(nil, r.name(l)), l.CheckInt(3)
		if i < 0 || i >= len(values) || len(values[i]) == 0 {
			return 0
		}
		return pushText(l, string(values[i]))
	},
	"getNumValues": func(l *lua.LState, r *run, v any) int {
		return push(l, lua.LNumber(len(v.(*headerMap).m.Values(nil, r.name(l)))))
	},
	"add": func(l *lua.LState, r *run, v any) int {
		h := v.(*headerMap)
		h.change(l, r)
		h.m.AddNameCopy(h.pair(l, r))
		return 0
	},
	"replace": func(l *lua.LState, r *run, v any) int {
		h := v.(*headerMap)
		h.change(l, r)
		h.m.SetNameCopy(h.pair(l, r))
		return 0
	},
	"remove": func(l *lua.LState, r *run, v any) int {
		h := v.(*headerMap)
		h.change(l, r)
		h.m.RemoveName(r.name(l))
		return 0
	},
	"setHttp1ReasonPhrase": func(l *lua.LState, r *run, v any) int {
		h := v.(*headerMap)
		h.change(l, r)
		phrase := []byte(l.CheckString(2))
		if r.request || h.m != r.headers {
			l.RaiseError("setHttp1ReasonPhrase is for responses")
		}
		if !header.ValidValue(phrase) {
			l.RaiseError("a reason phrase holds control characters")
		}
		h.m.KeepReason(phrase)
		return 0
	},
	"__pairs": func(l *lua.LState, r *run, v any) int {
		h := v.(*headerMap)
		if h.iterating {
			l.RaiseError("cannot create a second iterator before completing the first")
		}
		h.iterating = true
		i := 0
		return iterate(l, r, func(l *lua.LState) int {
			if i == h.m.Len() {
				h.iterating = false
				return 0
			}
			f := h.m.At(i)
			i++
			return pushText(l, string(f.Name)) + pushText(l, string(f.Value))
		})
	},
}
