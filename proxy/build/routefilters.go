package build

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/route"
)

// perFilter reads what routes say to filters, by the filter's name.
func (r *reader) perFilter(configs map[string]*anypb.Any, at *field.Path) map[string]any {
	var out map[string]any
	for name, a := range configs {
		v := r.filterWord(name, a, at.Child(name))
		if v == nil {
			continue
		}
		if out == nil {
			out = map[string]any{}
		}
		out[name] = v
	}
	return out
}

// filterWord reads what one level says to one filter, which may be wrapped so that it can be switched off.
func (r *reader) filterWord(name string, a *anypb.Any, at *field.Path) any {
	if a.MessageName() != filterConfigName {
		return r.filterOverride(a, at)
	}
	m, ok := r.unpack(a, at).(*routev3.FilterConfig)
	switch {
	case !ok:
		return nil
	case m.GetDisabled():
		return route.Off{}
	case m.GetConfig() == nil:
		r.errs.Addf(at, "has neither disabled nor config for %s, want one of them", name)
		return nil
	case m.GetConfig().GetTypeUrl() == "":
		return route.On{}
	case m.GetIsOptional() && !known(m.GetConfig()):
		return nil
	}
	return r.filterOverride(m.GetConfig(), at.Child("config"))
}

var filterConfigName = anyName(&routev3.FilterConfig{})
