package build

import (
	"context"
	"log/slog"
	"runtime"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/filter/lua"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

const noLoading = "scripts load nothing: what they need stands in them"

var luaFields = []*Message{
	message((*luav3.Lua)(nil), reads("inline_code", "source_codes", "default_source_code", "stat_prefix", "clear_route_cache", "filter_context"),
		refuses(noLoading, "package_paths", "package_cpaths"), refuses("a state is shared by the streams of one filter only", "shared_vm_id")),
	message((*luav3.LuaPerRoute)(nil), reads("disabled", "name", "source_code", "filter_context"),
		refuses(noLoading, "package_paths", "package_cpaths"), refuses("a state is shared by the streams of one filter only", "shared_vm_id")),
}

// luaLevels are the levels of a log by those of scripts.
var luaLevels = [...]slog.Level{lua.Trace: slog.LevelDebug - 4, lua.Debug: slog.LevelDebug, lua.Info: slog.LevelInfo, lua.Warn: slog.LevelWarn, lua.Error: slog.LevelError, lua.Critical: slog.LevelError + 4}

func (r *listenerReader) lua(name string, m *luav3.Lua, c *stream.Config, at *field.Path) stream.Factory {
	log := r.env.Log
	out := &lua.Config{
		KeepRoute: !truth(m.GetClearRouteCache(), true), Context: m.GetFilterContext().AsMap(),
		Log: func(level lua.Level, text string) bool {
			if log == nil || !log.Enabled(context.Background(), luaLevels[level]) {
				return false
			}
			log.Log(context.Background(), luaLevels[level], "script log: "+text)
			return true
		},
	}
	switch code := m.GetInlineCode(); { //nolint:staticcheck // deprecated, still in use
	case code != "" && m.GetDefaultSourceCode() != nil:
		r.errs.Addf(at.Child("inline_code"), "is set with default_source_code, want one of them")
	case code != "":
		out.Default = r.luaScript(code, at.Child("inline_code"))
	case m.GetDefaultSourceCode() != nil:
		out.Default = r.luaSource(m.GetDefaultSourceCode(), at.Child("default_source_code"))
	}
	for _, name := range sortedNames(m.GetSourceCodes()) {
		if out.Named == nil {
			out.Named = map[string]*lua.Script{}
		}
		out.Named[name] = r.luaSource(m.GetSourceCodes()[name], at.Child("source_codes").Child(name))
	}
	set, scope := r.env.Stats.Lua(c.StatPrefix, m.GetStatPrefix())
	r.scopes = append(r.scopes, scope)
	return lua.New(name, out, set)
}

func (r *reader) luaSource(d *corev3.DataSource, at *field.Path) *lua.Script {
	return r.luaScript(string(r.data(d, at)), at)
}

func (r *reader) luaScript(code string, at *field.Path) *lua.Script {
	s, err := lua.NewScript("script", code)
	if err != nil {
		r.errs.Addf(at, "%v", err)
		return nil
	}
	// Envoy makes states of a script for all of its workers and for its main thread; ours are counted as there, though a worker makes
	// its own with the first stream.
	vms, _ := stats.Shared[stats.LuaVMs](r.env.Stats, "lua.") // never closed: the last script leaves a 0
	n := int64(r.env.Shards) + 1
	vms.Count.Add(n)
	runtime.AddCleanup(s, func(g *stats.Gauge) { g.Add(-n) }, &vms.Count)
	return s
}

func (r *reader) luaWord(m *luav3.LuaPerRoute, at *field.Path) *lua.Word {
	w := &lua.Word{HasContext: m.GetFilterContext() != nil, Context: m.GetFilterContext().AsMap()}
	switch m.GetOverride().(type) {
	case *luav3.LuaPerRoute_Disabled:
		if w.Off = m.GetDisabled(); !w.Off {
			r.errs.Addf(at.Child("disabled"), "found false, want true")
		}
	case *luav3.LuaPerRoute_Name:
		if w.Name = m.GetName(); w.Name == "" {
			r.errs.Addf(at.Child("name"), "is empty")
		}
	case *luav3.LuaPerRoute_SourceCode:
		w.Script = r.luaSource(m.GetSourceCode(), at.Child("source_code"))
	}
	return w
}
