package compile

import (
	"maps"
	"slices"
	"strings"

	"github.com/mallamesh/malla/model"
)

// Rules may leave a part of their requests to rules without hosts, which often
// are another team's. One entry becomes as many as the delegate has: each must
// match less than the entry does, and what it leaves open is as the entry says.
// Istio drops the entries that match more; so do we, and tell.

// A dropped entry of rules, and why.
type dropped struct {
	rules   *model.RouteRules // who delegates
	entry   int
	missing bool // there is no such delegate, or it is not exported to the rules' namespace
	name    model.Name
	rule    int // of the delegate that matches more
}

// delegate returns the rules that have hosts, with what they delegate put in.
// Rules are shared and stay as they are.
func delegate(rules []*model.RouteRules, def model.ExportTo) (out []*model.RouteRules, lost []dropped) {
	delegates := make(map[model.Name]*model.RouteRules)
	for _, r := range rules {
		if len(r.Hosts) == 0 {
			delegates[model.Name{Namespace: r.From.Namespace, Name: r.From.Name}] = r
		}
	}
	for _, r := range rules {
		switch {
		case len(r.Hosts) == 0:
		case !slices.ContainsFunc(r.HTTP, func(h *model.HTTPRule) bool { return h.Delegate != nil }):
			out = append(out, r)
		default:
			merged, drops := withDelegates(r, delegates, def)
			out, lost = append(out, merged), append(lost, drops...)
		}
	}
	return out, lost
}

func withDelegates(r *model.RouteRules, delegates map[model.Name]*model.RouteRules, def model.ExportTo) (*model.RouteRules, []dropped) {
	var lost []dropped
	out := *r
	out.HTTP = nil
	for i, h := range r.HTTP {
		if h.Delegate == nil {
			out.HTTP = append(out.HTTP, h)
			continue
		}
		d := delegates[*h.Delegate]
		if d == nil || !d.ExportTo.Sees(d.From.Namespace, r.From.Namespace, def) {
			lost = append(lost, dropped{rules: r, entry: i, missing: true, name: *h.Delegate})
			continue
		}
		for j, sub := range d.HTTP {
			if m := mergeRule(h, sub); m != nil {
				out.HTTP = append(out.HTTP, m)
			} else {
				lost = append(lost, dropped{rules: r, entry: i, name: *h.Delegate, rule: j})
			}
		}
	}
	return &out, lost
}

// mergeRule returns the delegate's rule within root's entry, nil if it matches more.
func mergeRule(root, sub *model.HTTPRule) *model.HTTPRule {
	if sub.Delegate != nil {
		return nil // one level, no more
	}
	matches, ok := mergeMatches(root.Matches, sub.Matches)
	if !ok {
		return nil
	}
	out := *sub
	out.Matches = matches
	out.Name = joined(root.Name, sub.Name, "-")
	if out.Rewrite == nil {
		out.Rewrite = root.Rewrite
	}
	if out.Timeout == 0 {
		out.Timeout = root.Timeout
	}
	if out.Retry == nil {
		out.Retry = root.Retry
	}
	if out.Fault == nil {
		out.Fault = root.Fault
	}
	if len(out.Mirrors) == 0 {
		out.Mirrors = root.Mirrors
	}
	if out.CORS == nil {
		out.CORS = root.CORS
	}
	if out.Headers.Request.IsZero() && out.Headers.Response.IsZero() {
		out.Headers = root.Headers
	}
	return &out
}

// joined puts two names together; one that is empty leaves the other alone.
func joined(a, b, by string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + by + b
}

// mergeMatches returns each of the delegate's matches within each of the root's
// that it is a part of. It is an error of one that it is a part of none.
func mergeMatches(root, sub []*model.HTTPMatch) (out []*model.HTTPMatch, ok bool) {
	switch {
	case len(root) == 0:
		return sub, true
	case len(sub) == 0:
		return root, true
	}
	for _, s := range sub {
		found := false
		for _, r := range root {
			if within(r, s) {
				out, found = append(out, mergeMatch(r, s)), true
			}
		}
		if !found {
			return nil, false
		}
	}
	return out, true
}

func mergeMatch(root, sub *model.HTTPMatch) *model.HTTPMatch {
	out := *sub
	out.Name = joined(root.Name, sub.Name, "-")
	for _, part := range []struct{ to, from **model.StringMatch }{
		{&out.URI, &root.URI}, {&out.Scheme, &root.Scheme}, {&out.Method, &root.Method}, {&out.Authority, &root.Authority},
	} {
		if *part.to == nil {
			*part.to = *part.from
		}
	}
	out.Headers = mergeNamed(root.Headers, sub.Headers)
	out.WithoutHeaders = mergeNamed(root.WithoutHeaders, sub.WithoutHeaders)
	out.QueryParams = mergeNamed(root.QueryParams, sub.QueryParams)
	if out.Port == 0 {
		out.Port = root.Port
	}
	if len(root.SourceLabels) > 0 {
		out.SourceLabels = maps.Clone(root.SourceLabels)
		maps.Copy(out.SourceLabels, sub.SourceLabels)
	}
	if out.SourceNamespace == "" {
		out.SourceNamespace = root.SourceNamespace
	}
	if len(out.Gateways) == 0 {
		out.Gateways = root.Gateways
	}
	if out.StatPrefix == "" {
		out.StatPrefix = root.StatPrefix
	}
	return &out
}

func mergeNamed(root, sub []model.NamedMatch) []model.NamedMatch {
	out := slices.Clone(sub)
	for _, m := range root {
		if !slices.ContainsFunc(sub, func(s model.NamedMatch) bool { return s.Name == m.Name }) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b model.NamedMatch) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// within reports whether what sub says fits into what root says.
func within(root, sub *model.HTTPMatch) bool {
	for _, part := range [][2]*model.StringMatch{
		{root.URI, sub.URI}, {root.Scheme, sub.Scheme}, {root.Method, sub.Method}, {root.Authority, sub.Authority},
	} {
		if !narrower(part[0], part[1]) {
			return false
		}
	}
	for _, part := range [][2][]model.NamedMatch{
		{root.Headers, sub.Headers}, {root.WithoutHeaders, sub.WithoutHeaders}, {root.QueryParams, sub.QueryParams},
	} {
		for _, s := range part[1] {
			for _, r := range part[0] {
				if r.Name == s.Name && !narrower(&r.StringMatch, &s.StringMatch) {
					return false
				}
			}
		}
	}
	for k, v := range sub.SourceLabels {
		if r, ok := root.SourceLabels[k]; ok && r != v {
			return false
		}
	}
	return root.IgnoreCase == sub.IgnoreCase && agree(root.Port, sub.Port) && agree(root.SourceNamespace, sub.SourceNamespace)
}

// agree reports whether two values are one, or one of them is not said.
func agree[T comparable](a, b T) bool {
	var none T
	return a == b || a == none || b == none
}

// narrower reports whether every text that sub takes is one that root takes. Of
// a regular expression nobody can say, so it does not stand beside another match.
func narrower(root, sub *model.StringMatch) bool {
	switch {
	case root == nil || sub == nil || root.Kind == model.Present:
		return true
	case root.Kind == model.Regex || sub.Kind == model.Regex || sub.Kind == model.Present:
		return false
	case root.Kind == model.Exact:
		return sub.Kind == model.Exact && sub.Value == root.Value
	}
	return strings.HasPrefix(sub.Value, root.Value)
}
