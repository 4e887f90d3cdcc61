package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Who may do what. There are no objects about rights here: Roles and their
// bindings have no effect. The user's kubeconfig may do everything; the control
// plane what is written below; every other service account, which any program of
// a pod can be, what a cluster allows one that nobody has bound to a role: to see
// which kinds there are, and to ask who it is and what it may do.

// controlPlane is the one service account with rights of its own.
const (
	controlPlane          = "system:serviceaccount:" + controlPlaneNamespace + ":istiod"
	controlPlaneNamespace = "istio-system"
)

var (
	reading = []string{"get", "list", "watch"}
	writing = []string{"create", "update", "patch"}
)

// A right allows verbs on resources.
type right struct {
	verbs     []string
	resources []string // "*": all but secrets; "*/status": that part of all
	namespace string   // "": everywhere
}

// everybody's rights are those of every service account; to look at the kinds
// that there are is no right of this table, because it names no resource.
var everybody = []right{
	{verbs: []string{"create"}, resources: []string{"selfsubjectreviews.authentication.k8s.io", "selfsubjectaccessreviews.authorization.k8s.io"}},
}

var controlPlaneRights = []right{
	{verbs: reading, resources: []string{"*"}},
	{verbs: reading, resources: []string{"secrets"}}, // certificates of gateways; its CA: cacerts, istio-ca-secret
	{verbs: writing, resources: []string{"secrets"}, namespace: controlPlaneNamespace},
	{verbs: writing, resources: []string{"configmaps"}},                                                   // istio-ca-root-cert
	{verbs: []string{"create"}, resources: []string{"tokenreviews.authentication.k8s.io"}},                // who asks for a certificate
	{verbs: []string{"get", "update", "patch"}, resources: []string{"*/status"}},                          // what it thinks of configuration
	{verbs: writing, resources: []string{"leases.coordination.k8s.io"}, namespace: controlPlaneNamespace}, // which replica leads
	{verbs: []string{"create", "patch", "delete"}, resources: []string{"events", "events.events.k8s.io"}}, // what it tells, and what holds no more
	// Gateways of Gateway API get a workload, as from Istio's control plane.
	{verbs: append([]string{"delete"}, writing...), resources: []string{"deployments.apps", "services", "serviceaccounts"}},
	// Workloads that are no pods are registered by their proxies.
	{verbs: append([]string{"delete"}, writing...), resources: []string{"workloadentries.networking.istio.io"}},
	{verbs: []string{"create"}, resources: []string{"gatewayclasses.gateway.networking.k8s.io"}},
}

// An act is what a request is about, in Kubernetes' words.
type act struct {
	verb, group, resource, subresource, namespace, name string
}

// act returns what the request wants. It is about no resource if that is empty.
func (q *request) act() act {
	a := act{namespace: q.namespace, name: q.name, subresource: q.subresource}
	switch {
	case q.res != nil:
		a.group, a.resource = q.res.Group, q.res.Plural
	case len(q.path) == 4 && reviews[q.path[1]+"/"+q.path[3]]:
		a.group, a.resource = q.path[1], q.path[3]
	}
	switch q.Method {
	case http.MethodGet, http.MethodHead:
		switch {
		case isTrue(q.query.Get("watch")):
			a.verb = "watch"
		case q.name == "" && q.res != nil:
			a.verb = "list"
		default:
			a.verb = "get"
		}
		if a.subresource == "exec" { // by WebSocket
			a.verb = "create"
		}
	case http.MethodPost:
		a.verb = "create"
	case http.MethodPut:
		a.verb = "update"
	case http.MethodPatch:
		a.verb = "patch"
	case http.MethodDelete:
		a.verb = "delete"
		if q.name == "" && q.res != nil {
			a.verb = "deletecollection"
		}
	default:
		a.verb = strings.ToLower(q.Method)
	}
	return a
}

// may reports whether u has the right to a.
func (u user) may(a act) bool {
	if u.admin {
		return true
	}
	rights := everybody
	if u.name == controlPlane {
		rights = slices.Concat(everybody, controlPlaneRights)
	}
	return slices.ContainsFunc(rights, func(r right) bool { return r.allows(a) })
}

func (r right) allows(a act) bool {
	if !slices.Contains(r.verbs, a.verb) || r.namespace != "" && r.namespace != a.namespace {
		return false
	}
	name := schema.GroupResource{Group: a.group, Resource: a.resource}.String()
	if a.subresource != "" {
		return a.subresource == "status" && slices.Contains(r.resources, "*/status")
	}
	return slices.Contains(r.resources, name) || slices.Contains(r.resources, "*") && name != "secrets"
}

// authorize refuses what the user has no right to.
func (q *request) authorize() error {
	a := q.act()
	if a.resource == "" { // what there is, and whether the server is well
		if q.user.admin || a.verb == "get" {
			return nil
		}
		return forbidden(schema.GroupResource{}, "", refusal(fmt.Sprintf("User %q cannot %s path %q", q.user.name, a.verb, q.URL.Path)))
	}
	if q.user.may(a) {
		return nil
	}
	resource, where := a.resource, " at the cluster scope"
	if a.subresource != "" {
		resource += "/" + a.subresource
	}
	if a.namespace != "" {
		where = fmt.Sprintf(" in the namespace %q", a.namespace)
	}
	return forbidden(schema.GroupResource{Group: a.group, Resource: a.resource}, a.name,
		refusal(fmt.Sprintf("User %q cannot %s resource %q in API group %q%s", q.user.name, a.verb, resource, a.group, where)))
}

// A refusal is worded as Kubernetes words it.
type refusal string

func (r refusal) Error() string { return string(r) }

// reviewAccess answers what the user may do.
func (u user) reviewAccess(spec authorizationv1.SelfSubjectAccessReviewSpec) authorizationv1.SubjectAccessReviewStatus {
	allowed := u.admin
	switch r := spec.ResourceAttributes; {
	case r != nil:
		allowed = u.may(act{r.Verb, r.Group, r.Resource, r.Subresource, r.Namespace, r.Name})
	case spec.NonResourceAttributes != nil:
		allowed = u.admin || spec.NonResourceAttributes.Verb == "get"
	}
	st := authorizationv1.SubjectAccessReviewStatus{Allowed: allowed}
	if !allowed {
		st.Reason = "a service account has fixed rights here; Roles and their bindings have no effect"
	}
	return st
}
