package api

import (
	"net/http"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// verbs that every kind has.
var verbs = metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

// A found is one resource or subresource, as discovery names it.
type found struct {
	name, singular, kind string
	group, version       string // of the answer's kind, where it is another
	namespaced           bool
	verbs                metav1.Verbs
	short, categories    []string
	parts                []found
}

// parts describes the subresources of a kind.
func (res *resource) parts() []found {
	var out []found
	add := func(f found) { f.namespaced = res.Namespaced; out = append(out, f) }
	for _, sub := range res.Subresources {
		switch sub {
		case "status":
			add(found{name: sub, kind: res.Kind.Kind, verbs: metav1.Verbs{"get", "patch", "update"}})
		case "scale":
			add(found{name: sub, group: "autoscaling", version: "v1", kind: "Scale", verbs: metav1.Verbs{"get", "patch", "update"}})
		case "token":
			add(found{name: sub, group: "authentication.k8s.io", version: "v1", kind: "TokenRequest", verbs: metav1.Verbs{"create"}})
		case "log":
			add(found{name: sub, kind: "Pod", verbs: metav1.Verbs{"get"}})
		case "exec":
			add(found{name: sub, kind: "PodExecOptions", verbs: metav1.Verbs{"create", "get"}})
		}
	}
	if res.key == "pods" {
		add(found{name: "binding", kind: "Binding", verbs: metav1.Verbs{"create"}})
		add(found{name: "eviction", group: "policy", version: "v1", kind: "Eviction", verbs: metav1.Verbs{"create"}})
	}
	return out
}

// resources lists what a group and version offer.
func (s *Server) resources(group, version string) []found {
	var out []found
	for _, res := range s.kinds.in(group, version) {
		out = append(out, found{name: res.Plural, singular: res.One(), kind: res.Kind.Kind, namespaced: res.Namespaced,
			verbs: verbs, short: res.Short, categories: res.Categories, parts: res.parts()})
	}
	// By name, as Kubernetes does: lists of several kinds (get all) come in this order.
	slices.SortFunc(out, func(a, b found) int { return strings.Compare(a.name, b.name) })
	create := metav1.Verbs{"create"}
	switch {
	case group == "authentication.k8s.io" && version == "v1":
		out = append(out, found{name: "selfsubjectreviews", singular: "selfsubjectreview", kind: "SelfSubjectReview", verbs: create},
			found{name: "tokenreviews", singular: "tokenreview", kind: "TokenReview", verbs: create})
	case group == "authorization.k8s.io" && version == "v1":
		out = append(out, found{name: "selfsubjectaccessreviews", singular: "selfsubjectaccessreview", kind: "SelfSubjectAccessReview", verbs: create})
	}
	return out
}

// groups lists the named API groups.
func (s *Server) groups() []string {
	out := slices.Clone(s.kinds.groups)
	out = append(out, "authentication.k8s.io", "authorization.k8s.io")
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(g string) bool { return g == "" })
}

func (s *Server) groupVersions(group string) []string {
	v := s.kinds.versions(group)
	if len(v) == 0 && strings.HasPrefix(group, "auth") {
		return []string{"v1"}
	}
	return v
}

// discover answers /api, /apis and what lies under them, in the old form and in
// the aggregated one that new clients ask for.
func (s *Server) discover(w http.ResponseWriter, q *request) error {
	p := q.path
	switch {
	case len(p) == 1 && (p[0] == "api" || p[0] == "apis"):
		w.Header().Set("Vary", "Accept")
		if v := aggregated(q.Header.Get("Accept")); v != "" {
			groups := []string{""}
			if p[0] == "apis" {
				groups = s.groups()
			}
			w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v="+v+";as=APIGroupDiscoveryList")
			return s.writeAggregated(w, groups, v)
		}
		if p[0] == "api" {
			writeJSON(w, http.StatusOK, &metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: s.groupVersions("")})
			return nil
		}
		list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		for _, g := range s.groups() {
			list.Groups = append(list.Groups, s.group(g))
		}
		writeJSON(w, http.StatusOK, list)
		return nil
	case len(p) == 2 && p[0] == "apis" && slices.Contains(s.groups(), p[1]):
		g := s.group(p[1])
		g.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		writeJSON(w, http.StatusOK, &g)
		return nil
	case len(p) == 2 && p[0] == "api":
		return s.discoverVersion(w, q, "", p[1])
	case len(p) == 3 && p[0] == "apis":
		return s.discoverVersion(w, q, p[1], p[2])
	}
	return noSuchPath(q.URL.Path)
}

func (s *Server) group(name string) metav1.APIGroup {
	g := metav1.APIGroup{Name: name}
	for _, v := range s.groupVersions(name) {
		g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: apiVersion(name, v), Version: v})
	}
	if len(g.Versions) > 0 {
		g.PreferredVersion = g.Versions[0]
	}
	return g
}

func (s *Server) discoverVersion(w http.ResponseWriter, q *request, group, version string) error {
	if !slices.Contains(s.groupVersions(group), version) {
		return noSuchPath(q.URL.Path)
	}
	list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: apiVersion(group, version)}
	for _, f := range s.resources(group, version) {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: f.name, SingularName: f.singular, Kind: f.kind,
			Namespaced: f.namespaced, Verbs: f.verbs, ShortNames: f.short, Categories: f.categories})
		for _, part := range f.parts {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: f.name + "/" + part.name, Kind: part.kind,
				Group: part.group, Version: part.version, Namespaced: part.namespaced, Verbs: part.verbs})
		}
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

// aggregated returns the version of aggregated discovery that a client wants, if any.
func aggregated(accept string) string {
	for part := range strings.SplitSeq(accept, ",") {
		if strings.Contains(part, "as=APIGroupDiscoveryList") && strings.Contains(part, "application/json") {
			if strings.Contains(part, "v=v2beta1") {
				return "v2beta1"
			}
			return "v2"
		}
	}
	return ""
}

func (s *Server) writeAggregated(w http.ResponseWriter, groups []string, v string) error {
	list := &apidiscoveryv2.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: "apidiscovery.k8s.io/" + v}}
	for _, g := range groups {
		group := apidiscoveryv2.APIGroupDiscovery{}
		group.Name = g
		for _, version := range s.groupVersions(g) {
			gv := apidiscoveryv2.APIVersionDiscovery{Version: version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
			for _, f := range s.resources(g, version) {
				gv.Resources = append(gv.Resources, f.aggregated(g, version))
			}
			group.Versions = append(group.Versions, gv)
		}
		list.Items = append(list.Items, group)
	}
	raw, err := marshal(list)
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	w.Write(raw)
	return nil
}

func (f found) aggregated(group, version string) apidiscoveryv2.APIResourceDiscovery {
	scope := apidiscoveryv2.ScopeCluster
	if f.namespaced {
		scope = apidiscoveryv2.ScopeNamespace
	}
	r := apidiscoveryv2.APIResourceDiscovery{
		Resource: f.name, SingularResource: f.singular, Scope: scope, Verbs: f.verbs, ShortNames: f.short, Categories: f.categories,
		ResponseKind: &metav1.GroupVersionKind{Group: group, Version: version, Kind: f.kind},
	}
	for _, p := range f.parts {
		kind := &metav1.GroupVersionKind{Group: group, Version: version, Kind: p.kind}
		if p.group != "" {
			kind.Group, kind.Version = p.group, p.version
		}
		r.Subresources = append(r.Subresources, apidiscoveryv2.APISubresourceDiscovery{Subresource: p.name, ResponseKind: kind, Verbs: p.verbs})
	}
	return r
}
