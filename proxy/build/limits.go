package build

import (
	"math"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mallamesh/malla/proxy/listen"
)

// Limits are how many connections clients may have.
type Limits struct {
	Listeners map[string]int // by name of listener
	Each      int            // of others; 0: none
	Global    *listen.Connections
	// Guarded says that Global is a matter of the overload manager, and not of the runtime.
	Guarded bool
}

// global is what bounds the connections of all listeners for this one. One that bypasses the overload manager is not
// counted by it, so that checks of health are answered when all others are full.
func (l *Limits) global(m *listenerv3.Listener, inside bool) *listen.Connections {
	if inside || m.GetIgnoreGlobalConnLimit() || l.Guarded && m.GetBypassOverloadManager() {
		return nil
	}
	return l.Global
}

// limits are those that stand in the runtime, where Envoy has them.
func (v *Values) limits() Limits {
	l := Limits{Listeners: map[string]int{}}
	v.matching("envoy.resource_limits.listener.", ".connection_limit", func(name string, n uint64) { l.Listeners[name] = int(min(n, math.MaxInt)) })
	if n := v.get("overload.global_downstream_max_connections").integer; n != nil {
		l.Global = &listen.Connections{Max: int64(min(*n, math.MaxInt64))}
	}
	return l
}
