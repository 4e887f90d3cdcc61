package build

import (
	"math"

	"github.com/mallamesh/malla/proxy/listen"
)

// Limits are how many connections clients may have.
type Limits struct {
	Listeners map[string]int // by name of listener
	Each      int            // of others; 0: none
	Global    *listen.Connections
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
