package build

import (
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/listen"
)

var limitFields = []*Message{
	message((*bootstrapv3.LayeredRuntime)(nil), reads("layers")),
	message((*bootstrapv3.RuntimeLayer)(nil),
		ignores("of its keys, only those that limit connections have an effect: envoy.resource_limits.listener.NAME.connection_limit and overload.global_downstream_max_connections", "static_layer"),
		ignores("a name for people only", "name"),
		ignores(noRuntime, "disk_layer", "admin_layer", "rtds_layer")),
	message((*overloadv3.OverloadManager)(nil), reads("resource_monitors"),
		ignores("connections are counted when they come and go", "refresh_interval")),
	message((*overloadv3.ResourceMonitor)(nil), reads("name", "typed_config")),
	message((*connectionsv3.DownstreamConnectionsConfig)(nil), reads("max_active_downstream_connections")),
}

// Limits are how many connections clients may have.
type Limits struct {
	Listeners map[string]int // by name of listener
	Global    *listen.Connections
}

// limits reads the limits of a bootstrap: those of runtime keys, and of the overload manager.
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
	for i, monitor := range m.GetOverloadManager().GetResourceMonitors() {
		at := field.At("overload_manager", "resource_monitors").Index(i).Child("typed_config")
		c, ok := r.unpack(monitor.GetTypedConfig(), at).(*connectionsv3.DownstreamConnectionsConfig)
		if !ok {
			continue
		}
		if c.GetMaxActiveDownstreamConnections() <= 0 {
			r.errs.Addf(at.Child("max_active_downstream_connections"), "found %d, want at least 1", c.GetMaxActiveDownstreamConnections())
		}
		l.Global = &listen.Connections{Max: c.GetMaxActiveDownstreamConnections()}
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
