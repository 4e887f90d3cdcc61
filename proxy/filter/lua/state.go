package lua

import (
	"errors"
	"runtime"

	lua "github.com/yuin/gopher-lua"
)

// A state is what one worker has of a script: its globals, and the handlers that the script has defined.
type state struct {
	l          *lua.LState
	meter      *meter
	types      [anyKind]*lua.LTable
	onRequest  *lua.LFunction // nil: none
	onResponse *lua.LFunction
	dropped    bool
	unheard    int           // requests for whose answers nobody waits
	threads    []*lua.LState // of handlers that have ended well, for the next ones
	runs       []*run        // the same

	name, value []byte // what methods are called with
}

// newState runs a script.
func newState(s *Script) (*state, error) {
	l := lua.NewState(lua.Options{SkipOpenLibs: true, CallStackSize: maxCalls, MinimizeStackMemory: true, RegistrySize: 128, RegistryGrowStep: 256, RegistryMaxSize: 64 << 10})
	st := &state{l: l, meter: newMeter()}
	st.meter.fill(maxBytes)
	for _, lib := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenString, lua.OpenMath, lua.OpenCoroutine, lua.OpenOs} {
		l.Push(l.NewFunction(lib))
		l.Call(0, 0)
	}
	st.libraries()
	st.objects()
	runtime.LockOSThread() // whoever reads a configuration may go on in another thread, which has another time of the processor
	defer runtime.UnlockOSThread()
	l.SetContext(st.meter)
	l.Push(l.NewFunctionFromProto(s.proto))
	l.Push(l.NewFunction(st.concat))
	err := l.PCall(1, 1, nil)
	if err == nil {
		err = l.PCall(0, 0, nil)
	}
	l.RemoveContext() // threads get theirs one by one
	if err != nil {
		return nil, errors.New("script load error: " + message(err))
	}
	st.onRequest, _ = l.GetGlobal("envoy_on_request").(*lua.LFunction)
	st.onResponse, _ = l.GetGlobal("envoy_on_response").(*lua.LFunction)
	return st, nil
}

// message is what an error of a script says, without the trace of its calls.
func message(err error) string {
	var e *lua.ApiError
	if errors.As(err, &e) {
		if e.Object != nil && e.Object != lua.LNil {
			return oneLine(lua.LVAsString(e.Object))
		}
		if e.Cause != nil {
			return oneLine(e.Cause.Error())
		}
	}
	return oneLine(err.Error())
}

// spent reports whether the globals hold so much that the state is to be given up. It is looked at
// when as much has been made since the last time. Handlers that still run keep the state that they began with.
func (st *state) spent() bool {
	if st.dropped || st.meter.made < maxKept {
		return st.dropped
	}
	st.meter.made = 0
	k := keeper{seen: map[any]bool{}}
	k.value(st.l.G.Global)
	st.dropped = k.size > maxKept
	return st.dropped
}

// A keeper measures what can be reached.
type keeper struct {
	seen map[any]bool
	size int
}

func (k *keeper) value(v lua.LValue) {
	for todo := []lua.LValue{v}; len(todo) > 0 && k.size <= maxKept; {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		switch v := v.(type) {
		case lua.LString:
			k.size += len(v) + 16
		case *lua.LTable:
			if k.seen[v] {
				continue
			}
			k.seen[v] = true
			k.size += 128 + 16*v.Len() // a list has room for what is missing in it
			v.ForEach(func(key, value lua.LValue) {
				k.size += 64
				todo = append(todo, key, value)
			})
			todo = append(todo, v.Metatable)
		case *lua.LFunction:
			if k.seen[v] {
				continue
			}
			k.seen[v] = true
			k.size += 128
			for _, u := range v.Upvalues {
				todo = append(todo, u.Value())
			}
			if v.Env != nil {
				todo = append(todo, v.Env)
			}
		case *lua.LUserData:
			k.size += 64
		case *lua.LState:
			if k.size += perThread; !v.Dead {
				k.size += maxKept // nobody can look into its stack
			}
		}
	}
}
