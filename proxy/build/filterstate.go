package build

import (
	statevaluev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	networkdirectv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	networkstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/filter/filterstate"
)

var filterStateFields = []*Message{
	message((*statev3.Config)(nil), reads("on_request_headers", "clear_route_cache")),
	message((*networkstatev3.Config)(nil), reads("on_new_connection", "on_downstream_tls_handshake", "on_downstream_data")),
	message((*statevaluev3.FilterStateValue)(nil), reads("object_key", "factory_key", "format_string", "skip_if_empty", "shared_with_upstream"),
		ignores("Envoy gives it no effect either", "read_only")),
	message((*networkdirectv3.Config)(nil), reads("response")),
}

// filterState reads what the HTTP filter sets.
func (r *reader) filterState(m *statev3.Config, at *field.Path) *filterstate.Config {
	return &filterstate.Config{Reroute: m.GetClearRouteCache(), Values: r.stateValues(m.GetOnRequestHeaders(), filterstate.Objects, at.Child("on_request_headers"))}
}

// connectionState reads what the network filter sets.
func (r *listenerReader) connectionState(m *networkstatev3.Config, at *field.Path) *filterstate.Connection {
	return &filterstate.Connection{
		Values: r.stateValues(m.GetOnNewConnection(), filterstate.ConnectionObjects, at.Child("on_new_connection")),
		TLS:    r.stateValues(m.GetOnDownstreamTlsHandshake(), filterstate.ConnectionObjects, at.Child("on_downstream_tls_handshake")),
		Data:   r.stateValues(m.GetOnDownstreamData(), filterstate.ConnectionObjects, at.Child("on_downstream_data")),
	}
}

// stateValues reads values with names. objects are the names under which others look for them.
func (r *reader) stateValues(list []*statevaluev3.FilterStateValue, objects map[string]func(string) bool, at *field.Path) []filterstate.Value {
	var out []filterstate.Value
	for i, v := range list {
		at := at.Index(i)
		key, factory := v.GetObjectKey(), v.GetFactoryKey()
		if key == "" {
			r.errs.Addf(at.Child("object_key"), "is empty")
		}
		if factory == "" {
			factory = key
		}
		is, named := objects[key]
		switch {
		case named && factory != key:
			r.errs.Addf(at.Child("factory_key"), "found %q, want none: whoever looks for %s wants an object of its own kind", factory, key)
		case !named && factory != "envoy.string" && factory != "envoy.hashable_string":
			r.errs.Addf(at.Child("factory_key"), "found %q, want envoy.string or envoy.hashable_string: objects of other kinds are not supported under this key", factory)
		}
		f := r.substitution(v.GetFormatString(), at.Child("format_string"))
		if f == nil {
			continue
		}
		out = append(out, filterstate.Value{
			Key: key, Format: f, SkipIfEmpty: v.GetSkipIfEmpty(), Is: is,
			Share: access.Sharing(v.GetSharedWithUpstream()), Hashed: factory == "envoy.hashable_string", // numbered alike
		})
	}
	return out
}
