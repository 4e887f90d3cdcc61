package build

import (
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
)

// mutations reads changes of header fields that are made one after the other. Only where whole is false can they take away
// what a message cannot do without.
func (r *reader) mutations(list []*mutationv3.HeaderMutation, whole bool, at *field.Path) []route.Mutation {
	var out []route.Mutation
	for i, m := range list {
		at := at.Index(i)
		var c route.Mutation
		switch m.GetAction().(type) {
		case *mutationv3.HeaderMutation_Remove:
			if c.Remove, c.Any = m.GetRemove(), !whole; whole {
				c.Remove = r.headerNames([]string{c.Remove}, at.Child("remove"))[0]
			}
		case *mutationv3.HeaderMutation_Append:
			c.Append = &r.headerValues([]*corev3.HeaderValueOption{m.GetAppend()}, at.Child("append"))[0]
		case *mutationv3.HeaderMutation_RemoveOnMatch_:
			match := r.stringMatch(m.GetRemoveOnMatch().GetKeyMatcher(), at.Child("remove_on_match").Child("key_matcher"))
			c.RemoveOnMatch = &match
		default:
			r.errs.Addf(at, "says not what to do, want remove, append or remove_on_match")
			continue
		}
		out = append(out, c)
	}
	return out
}

// changesHeaders is what route tables, virtual hosts, routes and weighted clusters have in common.
type changesHeaders interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

func (r *reader) headers(m changesHeaders, at *field.Path) route.HeadersConfig {
	return route.HeadersConfig{
		RequestAdd:     r.headerValues(m.GetRequestHeadersToAdd(), at.Child("request_headers_to_add")),
		ResponseAdd:    r.headerValues(m.GetResponseHeadersToAdd(), at.Child("response_headers_to_add")),
		RequestRemove:  r.headerNames(m.GetRequestHeadersToRemove(), at.Child("request_headers_to_remove")),
		ResponseRemove: r.headerNames(m.GetResponseHeadersToRemove(), at.Child("response_headers_to_remove")),
	}
}

// headerNames refuses what Envoy refuses: a request cannot do without its host and path.
func (r *reader) headerNames(names []string, at *field.Path) []string {
	out := slices.Clone(names)
	for i, n := range out {
		out[i] = strings.ToLower(n)
		if strings.HasPrefix(n, ":") || out[i] == "host" {
			r.errs.Addf(at.Index(i), "found %q, which cannot be removed", n)
		}
	}
	return out
}

func (r *reader) headerValues(list []*corev3.HeaderValueOption, at *field.Path) []route.HeaderValue {
	var out []route.HeaderValue
	for i, o := range list {
		v := route.HeaderValue{Name: strings.ToLower(o.GetHeader().GetKey()), Value: o.GetHeader().GetValue(), KeepEmpty: o.GetKeepEmptyValue()}
		if v.Name != "" && !header.ValidName([]byte(strings.TrimPrefix(v.Name, ":"))) {
			r.errs.Addf(at.Index(i).Child("header").Child("key"), "found %q, want a name of letters, digits and dashes", o.GetHeader().GetKey())
		}
		if v.Name == "content-length" {
			r.errs.Addf(at.Index(i).Child("header").Child("key"), "found %q, which only the body itself can say", o.GetHeader().GetKey())
		}
		switch o.GetAppendAction() {
		case corev3.HeaderValueOption_ADD_IF_ABSENT:
			v.Action = route.AddIfAbsent
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			v.Action = route.OverwriteIfExistsOrAdd
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
			v.Action = route.OverwriteIfExists
		}
		if a := o.GetAppend(); a != nil { //nolint:staticcheck // deprecated, still sent
			if o.GetAppendAction() != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD {
				r.errs.Addf(at.Index(i), "both append and append_action are set")
			} else if !a.GetValue() {
				v.Action = route.OverwriteIfExistsOrAdd
			}
		}
		if _, err := access.CompileHeader(v.Value); err != nil {
			r.errs.Addf(at.Index(i).Child("header").Child("value"), "%v", err)
		}
		out = append(out, v)
	}
	return out
}
