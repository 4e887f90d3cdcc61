package build

import (
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/mallamesh/malla/proxy/listen"
)

var limitFields = []*Message{
	message((*bootstrapv3.LayeredRuntime)(nil), reads("layers")),
	message((*bootstrapv3.RuntimeLayer)(nil),
		ignores("of its keys, only those that limit connections have an effect: envoy.resource_limits.listener.NAME.connection_limit and overload.global_downstream_max_connections", "static_layer"),
		ignores("a name for people only", "name"),
		ignores(noRuntime, "disk_layer", "admin_layer", "rtds_layer")),
}

// Limits are how many connections clients may have.
type Limits struct {
	Listeners map[string]int // by name of listener
	Global    *listen.Connections
}

// limits reads those of a bootstrap's runtime keys.
func (r *reader) limits(m *bootstrapv3.Bootstrap) Limits {
	l := Limits{Listeners: map[string]int{}}
	for _, layer := range m.GetLayeredRuntime().GetLayers() { // later ones win
		runtimeNumbers("", layer.GetStaticLayer().AsMap(), func(key string, n float64) {
			if name, ok := strings.CutPrefix(key, "envoy.resource_limits.listener."); ok {
				if name, ok = strings.CutSuffix(name, ".connection_limit"); ok {
					l.Listeners[name] = int(n)
				}
			}
			if key == "overload.global_downstream_max_connections" {
				l.Global = &listen.Connections{Max: int64(n)}
			}
		})
	}
	return l
}

// runtimeNumbers calls f for the numbers of a layer, whose keys may be nested or joined with dots.
func runtimeNumbers(prefix string, layer map[string]any, f func(key string, n float64)) {
	for k, v := range layer {
		switch v := v.(type) {
		case float64:
			f(prefix+k, v)
		case map[string]any:
			runtimeNumbers(prefix+k+".", v, f)
		}
	}
}
