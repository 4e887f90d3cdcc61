package lua

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/mallamesh/malla/base/levels"
	"github.com/mallamesh/malla/proxy/pool"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// maxSource bounds the source of a script, and of what a script compiles itself.
const (
	maxSource = 1 << 20
	maxLoaded = 64 << 10
)

// A Script is a compiled script. It must not change; its states are made as workers come to use it.
type Script struct {
	name   string
	proto  *lua.FunctionProto
	states sync.Map // *pool.Worker -> *state
}

// NewScript compiles a script and runs it once: what would fail for every worker fails here.
func NewScript(name, source string) (*Script, error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("has %d bytes, want at most %d", len(source), maxSource)
	}
	proto, err := compile(source, name, maxLevels)
	if err != nil {
		return nil, err
	}
	s := &Script{name: name, proto: proto}
	if _, err := newState(s); err != nil {
		return nil, err
	}
	return s, nil
}

// What lies in each other in a script is bounded: the compiler takes the square of it, minutes for a script that is one expression. LuaJIT
// has such a bound, at 200, for what is nested in the text; the terms of a sum lie in each other as well, in its tree, and of these it takes
// any number. So many as here compile in a quarter of a second at most; what a script compiles itself, for its handler's time, in a tenth of that.
const (
	maxLevels       = 4000
	maxLoadedLevels = 1000
)

// compile makes code of which every concatenation is charged for.
func compile(source, name string, most int) (proto *lua.FunctionProto, err error) {
	defer func() { // the compiler panics at what it cannot express
		if p := recover(); p != nil {
			err = fmt.Errorf("script load error: %v", p)
		}
	}()
	chunk, err := parse.Parse(strings.NewReader(source), name)
	if err != nil {
		return nil, fmt.Errorf("script load error: %s", oneLine(err.Error()))
	}
	if levels.Exceed(chunk, most) {
		return nil, errors.New("script load error: chunk has too many syntax levels")
	}
	if proto, err = lua.Compile(metered(chunk), name); err != nil {
		return nil, fmt.Errorf("script load error: %s", oneLine(err.Error()))
	}
	return proto, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// state returns the worker's state of the script, nil if it cannot be begun.
func (s *Script) state(w *pool.Worker) *state {
	if v, ok := s.states.Load(w); ok {
		if st := v.(*state); !st.spent() {
			return st
		}
	}
	st, err := newState(s)
	if err != nil {
		return nil // it ran when configuration was read: only what it keeps of the time can differ
	}
	s.states.Store(w, st)
	return st
}
