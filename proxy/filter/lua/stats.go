package lua

import (
	"github.com/mallamesh/malla/proxy/stats"

	lua "github.com/yuin/gopher-lua"
)

// statsMethods are those of stats(): they name a statistic, which is there from its first use.
var statsMethods = map[string]method{
	"counter": func(l *lua.LState, r *run, _ any) int { return push(l, r.fresh(counterKind, l.CheckString(2))) },
	"gauge":   func(l *lua.LState, r *run, _ any) int { return push(l, r.fresh(gaugeKind, l.CheckString(2))) },
	"histogram": func(l *lua.LState, r *run, _ any) int {
		name := l.CheckString(2)
		switch unit := l.OptString(3, "unspecified"); unit {
		case "ms", "milliseconds", "microseconds", "nanoseconds", "bytes", "unspecified": // a value is kept as it is, whatever it counts
		default:
			l.RaiseError("invalid histogram unit '%s', expected 'ms', 'milliseconds', 'microseconds', 'nanoseconds', 'bytes', or 'unspecified'", unit)
		}
		return push(l, r.fresh(histogramKind, name))
	},
}

// statCost is what a use of a statistic costs in steps.
const statCost = 20

// counted looks a statistic up.
func counted[T any](l *lua.LState, r *run, find func(*stats.Made, string) (*T, error), name any) *T {
	raise(l, r.st.meter.steps(statCost))
	v, err := find(&r.f.stats.Own, name.(string))
	if err != nil { // a name may be what a client sends: that is not to end a script which has more to say to the request
		raise(l, r.st.meter.make(512))
		if r.f.stats.Own.First() {
			r.f.config.Log(Warn, "a statistic is not shown: "+err.Error())
		}
	}
	return v
}

// amount is a number that is not below 0. Its fraction is left out.
func amount(l *lua.LState, what string) uint64 {
	n := l.CheckNumber(2)
	if !(n > -1 && n < 1<<63) { // nor one that is none
		l.RaiseError("%s must be non-negative", what)
	}
	return uint64(int64(n))
}

func counterMethod(f func(l *lua.LState, c *stats.Counter) int) method {
	return func(l *lua.LState, r *run, v any) int { return f(l, counted(l, r, (*stats.Made).Counter, v)) }
}

var counterMethods = map[string]method{
	"inc": counterMethod(func(_ *lua.LState, c *stats.Counter) int { c.Inc(); return 0 }),
	"add": counterMethod(func(l *lua.LState, c *stats.Counter) int {
		c.Add(amount(l, "counter add amount"))
		return 0
	}),
	"value": counterMethod(func(l *lua.LState, c *stats.Counter) int { return push(l, lua.LNumber(c.Value())) }),
}

func gaugeMethod(f func(l *lua.LState, g *stats.Gauge) int) method {
	return func(l *lua.LState, r *run, v any) int { return f(l, counted(l, r, (*stats.Made).Gauge, v)) }
}

var gaugeMethods = map[string]method{
	"inc": gaugeMethod(func(_ *lua.LState, g *stats.Gauge) int { g.Inc(); return 0 }),
	"dec": gaugeMethod(func(_ *lua.LState, g *stats.Gauge) int { g.Dec(); return 0 }),
	"add": gaugeMethod(func(l *lua.LState, g *stats.Gauge) int {
		g.Add(int64(amount(l, "gauge add amount")))
		return 0
	}),
	"sub": gaugeMethod(func(l *lua.LState, g *stats.Gauge) int {
		g.Add(-int64(amount(l, "gauge sub amount")))
		return 0
	}),
	"set": gaugeMethod(func(l *lua.LState, g *stats.Gauge) int {
		g.Set(int64(amount(l, "gauge set value")))
		return 0
	}),
	"value": gaugeMethod(func(l *lua.LState, g *stats.Gauge) int { return push(l, lua.LNumber(uint64(g.Value()))) }),
}

var histogramMethods = map[string]method{
	"recordValue": func(l *lua.LState, r *run, v any) int {
		n := amount(l, "histogram value")
		counted(l, r, (*stats.Made).Histogram, v).Record(n)
		return 0
	},
}
