// Package envoyfilter reads Istio's kind EnvoyFilter: changes to what proxies are sent,
// written in Envoy's own configuration language.
//
// What a patch holds is read into the message of Envoy's that its target is, and every
// word in it must be known: a patch that would mean less than its author wrote is left
// out, with the reason and its path, and the others stay. Extensions are known by their
// types, which are those of malla's own proxy.
//
// How patches act is the business of package translate/patch.
package envoyfilter

import (
	"regexp"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/regex"
	"github.com/mallamesh/malla/config/strict"
	"github.com/mallamesh/malla/model"
)

// A target is what patches with one applyTo change.
type target struct {
	is    model.PatchTarget
	empty func() proto.Message
	match string // the field of match that selects one, "" if none does
}

var targets = map[networking.EnvoyFilter_ApplyTo]target{
	networking.EnvoyFilter_LISTENER:            {model.PatchListener, func() proto.Message { return new(listenerv3.Listener) }, "listener"},
	networking.EnvoyFilter_LISTENER_FILTER:     {model.PatchListenerFilter, func() proto.Message { return new(listenerv3.ListenerFilter) }, "listener"},
	networking.EnvoyFilter_FILTER_CHAIN:        {model.PatchFilterChain, func() proto.Message { return new(listenerv3.FilterChain) }, "listener"},
	networking.EnvoyFilter_NETWORK_FILTER:      {model.PatchNetworkFilter, func() proto.Message { return new(listenerv3.Filter) }, "listener"},
	networking.EnvoyFilter_HTTP_FILTER:         {model.PatchHTTPFilter, func() proto.Message { return new(hcmv3.HttpFilter) }, "listener"},
	networking.EnvoyFilter_ROUTE_CONFIGURATION: {model.PatchRouteTable, func() proto.Message { return new(routev3.RouteConfiguration) }, "routeConfiguration"},
	networking.EnvoyFilter_VIRTUAL_HOST:        {model.PatchVirtualHost, func() proto.Message { return new(routev3.VirtualHost) }, "routeConfiguration"},
	networking.EnvoyFilter_HTTP_ROUTE:          {model.PatchRoute, func() proto.Message { return new(routev3.Route) }, "routeConfiguration"},
	networking.EnvoyFilter_CLUSTER:             {model.PatchCluster, func() proto.Message { return new(clusterv3.Cluster) }, "cluster"},
	networking.EnvoyFilter_EXTENSION_CONFIG:    {model.PatchExtension, func() proto.Message { return new(corev3.TypedExtensionConfig) }, ""},
}

var operations = map[networking.EnvoyFilter_Patch_Operation]model.PatchOp{
	networking.EnvoyFilter_Patch_MERGE:                  model.PatchMerge,
	networking.EnvoyFilter_Patch_MERGE_AND_REPLACE_LIST: model.PatchMergeReplace,
	networking.EnvoyFilter_Patch_ADD:                    model.PatchAdd,
	networking.EnvoyFilter_Patch_REMOVE:                 model.PatchRemove,
	networking.EnvoyFilter_Patch_INSERT_FIRST:           model.PatchInsertFirst,
	networking.EnvoyFilter_Patch_INSERT_BEFORE:          model.PatchInsertBefore,
	networking.EnvoyFilter_Patch_INSERT_AFTER:           model.PatchInsertAfter,
	networking.EnvoyFilter_Patch_REPLACE:                model.PatchReplace,
}

var contexts = map[networking.EnvoyFilter_PatchContext]model.PatchContext{
	networking.EnvoyFilter_SIDECAR_INBOUND: model.PatchInbound, networking.EnvoyFilter_SIDECAR_OUTBOUND: model.PatchOutbound, networking.EnvoyFilter_GATEWAY: model.PatchGateway,
}

var classes = map[networking.EnvoyFilter_Patch_FilterClass]model.PatchClass{
	networking.EnvoyFilter_Patch_AUTHN: model.PatchAuthentication, networking.EnvoyFilter_Patch_AUTHZ: model.PatchAuthorization, networking.EnvoyFilter_Patch_STATS: model.PatchStatistics,
}

var actions = map[networking.EnvoyFilter_RouteConfigurationMatch_RouteMatch_Action]model.RouteAction{
	networking.EnvoyFilter_RouteConfigurationMatch_RouteMatch_ROUTE:           model.ForwardAction,
	networking.EnvoyFilter_RouteConfigurationMatch_RouteMatch_REDIRECT:        model.RedirectAction,
	networking.EnvoyFilter_RouteConfigurationMatch_RouteMatch_DIRECT_RESPONSE: model.AnswerAction,
}

// A Reading is what was found in an EnvoyFilter.
type Reading struct {
	Patches []*model.Patch // those that are right
	Errors  field.List     // why the others are left out
	Notices []strict.Notice
}

// Patches reads the patches of an object. At is the path of its spec.
func Patches(spec *networking.EnvoyFilter, at *field.Path) Reading {
	var r Reading
	for i, p := range spec.GetConfigPatches() {
		if patch := r.patch(p, at.Child("configPatches").Index(i)); patch != nil {
			patch.Index = i
			r.Patches = append(r.Patches, patch)
		}
	}
	return r
}

// patch reads one patch; nil if it is wrong or has no effect.
func (r *Reading) patch(p *networking.EnvoyFilter_EnvoyConfigObjectPatch, at *field.Path) *model.Patch {
	before := len(r.Errors)
	t, ok := targets[p.GetApplyTo()]
	switch {
	case p.GetApplyTo() == networking.EnvoyFilter_BOOTSTRAP:
		return nil // no proxy asks for it, in Istio either unless BOOTSTRAP_XDS_AGENT is set: whoever writes it is told
	case !ok:
		r.Errors.Addf(at.Child("applyTo"), "missing; want what the patch changes, for example HTTP_FILTER")
		return nil
	}
	op, ok := operations[p.GetPatch().GetOperation()]
	if !ok {
		r.Errors.Addf(at.Child("patch").Child("operation"), "missing; want what becomes of the %s, for example MERGE", p.GetApplyTo())
		return nil
	}
	out := &model.Patch{Target: t.is, Op: op, Class: classes[p.GetPatch().GetFilterClass()]}
	r.match(out, p.GetMatch(), t, at.Child("match"))
	if op != model.PatchRemove {
		value := at.Child("patch").Child("value")
		if len(p.GetPatch().GetValue().GetFields()) == 0 {
			r.Errors.Addf(value, "missing; want what to %s", strings.ToLower(p.GetPatch().GetOperation().String()))
			return nil
		}
		out.Value = t.empty()
		r.value(out.Value, p.GetPatch().GetValue(), value)
		switch {
		case len(r.Errors) > before:
		case merges(op):
			r.part(out.Value, value)
		default:
			r.whole(out.Value, value)
			r.name(out, value)
		}
	}
	if why := idle(out); why != "" && len(r.Errors) == before {
		r.Notices = append(r.Notices, strict.Notice{At: at.Child("patch").Child("operation"), Why: why})
		return nil
	}
	out.Op = settled(out)
	if len(r.Errors) > before {
		return nil
	}
	return out
}

// name asks for the name of what proxies know by one.
func (r *Reading) name(p *model.Patch, at *field.Path) {
	switch p.Target {
	case model.PatchListener, model.PatchCluster, model.PatchExtension:
		if m, ok := p.Value.(interface{ GetName() string }); ok && m.GetName() == "" {
			r.Errors.Addf(at.Child("name"), "missing; want a name of its own")
		}
	}
}

func merges(op model.PatchOp) bool { return op == model.PatchMerge || op == model.PatchMergeReplace }

// idle says why the operation does nothing to its target, "" if it does.
func idle(p *model.Patch) string {
	filter := p.Target == model.PatchListenerFilter || p.Target == model.PatchNetworkFilter || p.Target == model.PatchHTTPFilter
	switch {
	case p.Target == model.PatchRouteTable && !merges(p.Op):
		return "route configurations can only be merged into"
	case p.Target == model.PatchExtension && p.Op != model.PatchAdd && p.Op != model.PatchInsertFirst && p.Op != model.PatchInsertBefore && p.Op != model.PatchInsertAfter:
		return "extension configurations can only be added"
	case p.Target == model.PatchListenerFilter && merges(p.Op):
		return "Istio does not merge into listener filters; use REPLACE"
	case p.Op == model.PatchReplace && !filter && p.Target != model.PatchVirtualHost:
		return "REPLACE is for filters and virtual hosts; use MERGE"
	case (p.Op == model.PatchReplace || p.Op == model.PatchRemove) && filter && !p.Selects():
		return "without the name of a filter in match nothing is chosen"
	case p.Class != model.PatchLast && p.Op != model.PatchAdd:
		return "filterClass is for ADD"
	case p.Class != model.PatchLast && p.Target != model.PatchHTTPFilter && p.Target != model.PatchNetworkFilter:
		return "filterClass is for HTTP_FILTER and NETWORK_FILTER"
	}
	return ""
}

// settled is the operation that acts: where there is no order, inserting is adding.
func settled(p *model.Patch) model.PatchOp {
	switch p.Op {
	case model.PatchInsertFirst, model.PatchInsertBefore, model.PatchInsertAfter:
		switch p.Target {
		case model.PatchListenerFilter, model.PatchNetworkFilter, model.PatchHTTPFilter, model.PatchRoute:
		default:
			return model.PatchAdd
		}
	}
	return p.Op
}

func (r *Reading) match(out *model.Patch, m *networking.EnvoyFilter_EnvoyConfigObjectMatch, t target, at *field.Path) {
	if m == nil {
		return
	}
	if m.GetContext() == networking.EnvoyFilter_WAYPOINT || m.GetWaypoint() != nil {
		r.Errors.Addf(at, "waypoints are not supported yet; use SIDECAR_INBOUND, SIDECAR_OUTBOUND or GATEWAY")
		return
	}
	out.Context = contexts[m.GetContext()]
	if p := m.GetProxy(); p != nil {
		out.Metadata = p.GetMetadata()
		out.Version = r.version(p.GetProxyVersion(), at.Child("proxy").Child("proxyVersion"))
	}
	switch {
	case m.GetListener() != nil:
		r.fits("listener", t, at)
		out.Listener = r.listener(m.GetListener(), at.Child("listener"))
	case m.GetRouteConfiguration() != nil:
		r.fits("routeConfiguration", t, at)
		out.Table = table(m.GetRouteConfiguration())
	case m.GetCluster() != nil:
		r.fits("cluster", t, at)
		c := m.GetCluster()
		out.Cluster = &model.ClusterMatch{Name: c.GetName(), Port: c.GetPortNumber(), Service: c.GetService(), Subset: c.GetSubset()}
	}
}

// fits refuses a match for things that the target is not in.
func (r *Reading) fits(name string, t target, at *field.Path) {
	switch {
	case t.match == name:
	case t.match == "":
		r.Errors.Addf(at.Child(name), "extension configurations are not in a %s; leave it out", name)
	default:
		r.Errors.Addf(at.Child(name), "found a match for a %s, want one for a %s", name, t.match)
	}
}

func (r *Reading) version(expr string, at *field.Path) *regexp.Regexp {
	if expr == "" {
		return nil
	}
	re, err := regex.Compile(expr)
	if err != nil {
		r.Errors.Addf(at, "found %q, want a regular expression in RE2's syntax: %v", expr, err)
	}
	return re
}

func (r *Reading) listener(m *networking.EnvoyFilter_ListenerMatch, at *field.Path) *model.ListenerMatch {
	if m.GetPortName() != "" {
		r.Errors.Addf(at.Child("portName"), "Istio never implemented it; use portNumber or name")
	}
	out := &model.ListenerMatch{Name: m.GetName(), Port: m.GetPortNumber(), Inspector: m.GetListenerFilter()}
	c := m.GetFilterChain()
	if c == nil {
		return out
	}
	out.Chain = &model.ChainMatch{Name: c.GetName(), SNI: c.GetSni(), Transport: c.GetTransportProtocol(), Port: c.GetDestinationPort()}
	if c.GetApplicationProtocols() != "" {
		out.Chain.ALPN = strings.Split(c.GetApplicationProtocols(), ",")
	}
	if f := c.GetFilter(); f != nil {
		name := f.GetName()
		out.Chain.Filter = &name
		if s := f.GetSubFilter(); s != nil {
			sub := s.GetName()
			out.Chain.Sub = &sub
		}
	}
	return out
}

func table(m *networking.EnvoyFilter_RouteConfigurationMatch) *model.TableMatch {
	out := &model.TableMatch{Name: m.GetName(), Port: m.GetPortNumber(), PortName: m.GetPortName(), Gateway: m.GetGateway()}
	h := m.GetVhost()
	if h == nil {
		return out
	}
	out.Host = &model.VirtualHostMatch{Name: h.GetName(), Domain: h.GetDomainName()}
	if x := h.GetRoute(); x != nil {
		out.Host.Route = &model.RouteMatch{Name: x.GetName(), Action: actions[x.GetAction()]}
	}
	return out
}
