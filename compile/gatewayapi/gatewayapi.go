// Package gatewayapi compiles the Gateway API into the model.
//
// All objects are compiled together: which listener has a host, which of two routes is
// tried first and who may refer to whom is said by several of them. The result is what
// Istio's Gateways, VirtualServices and DestinationRules would have become, so that nothing
// after this knows the difference, and the status of every object of ours: the standard
// asks for one, whether there is something wrong or not.
//
// Ours are GatewayClasses of our controllers, also by Istio's name, and what refers to
// Gateways of them or to services of the mesh. The classes istio and malla need no
// GatewayClass. What another controller serves is left alone.
//
// What is right is said by the standard's conformance suite, where its texts leave it open
// (module sigs.k8s.io/gateway-api/conformance).
package gatewayapi

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// Objects are those of the standard's kinds. Their values are pointers to the Go types of
// version v1 of the module (gatewayv1.Gateway, gatewayv1.TLSRoute, ...).
type Objects struct {
	Classes, Gateways, ListenerSets                         []*config.Object
	HTTPRoutes, GRPCRoutes, TLSRoutes, TCPRoutes, UDPRoutes []*config.Object
	Grants, BackendTLSPolicies                              []*config.Object
}

// An Env is what a compilation depends on besides the objects.
type Env struct {
	ClusterDomain string
	RootNamespace string
	Services      func(host string) []*model.Service
	Secret        func(namespace, name string) *model.Credential // nil: there is none, or it holds nothing of TLS
	ConfigMap     func(namespace, name string) *model.Credential // with roots
	Namespace     func(name string) map[string]string            // its labels; nil: there is none
	Addresses     func(namespace, service string) []string       // where the Service of a deployed gateway is reached; none: not yet
}

// A Result is what all objects became.
type Result struct {
	Gateways []*model.Gateway
	Rules    []*model.RouteRules
	Policies []*model.DestinationRule

	// Status holds the whole status of every object of ours: a *gatewayv1.GatewayClassStatus, GatewayStatus,
	// ListenerSetStatus, PolicyStatus, or a *gatewayv1.RouteStatus for routes of all kinds. Of routes and policies
	// it has what we say (the entries with one of Controllers); others' entries stay. Conditions have no
	// lastTransitionTime: who writes them keeps the time of those whose status did not change.
	Status map[model.Ref]any

	Deployments []Deployment
	Notices     []Notice
}

// A Deployment is a workload and the Service in front that a Gateway needs, both of one name, in the
// Gateway's namespace. The pods carry the label gateway.networking.k8s.io/gateway-name with the Gateway's
// name, by which the proxies know what they serve, and run as a service account of the same name.
type Deployment struct {
	Gateway             model.Ref
	Class               string            // of the Gateway
	Name                string            // of Deployment, Service and ServiceAccount: <gateway>-<class>
	Labels, Annotations map[string]string // for all that is made: spec.infrastructure, or the Gateway's own
	ServiceType         string            // "LoadBalancer" unless an annotation asks for another
	Ports               []Port
}

// A Port is one of a deployed gateway's Service; the pods listen on the same number.
type Port struct {
	Name   string
	Number uint16
}

// NameLabel is carried by the pods of a deployed gateway.
const NameLabel = "gateway.networking.k8s.io/gateway-name"

// A Notice is something that the author of an object should know and the standard has no condition for.
type Notice struct {
	Object  *config.Object
	At      *field.Path
	Missing bool // what it names is not there, and may come
	Text    string
}

// Compile returns what the objects mean.
func Compile(o Objects, env Env) Result {
	c := &compiler{objects: o, env: env, out: Result{Status: map[model.Ref]any{}}}
	c.classes()
	c.gateways()
	return c.out
}

type compiler struct {
	objects Objects
	env     Env
	out     Result

	controllers map[string]string // of our classes
}

// oldest sorts objects as the standard breaks ties: by age, then by name.
func oldest(list []*config.Object) []*config.Object {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *config.Object) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}

func refOf(o *config.Object) model.Ref {
	return model.Ref{Kind: o.Kind.Kind, Namespace: o.Namespace, Name: o.Name, Pos: o.Pos, Version: o.Version}
}

func (c *compiler) notice(o *config.Object, at *field.Path, missing bool, format string, args ...any) {
	c.out.Notices = append(c.out.Notices, Notice{Object: o, At: at, Missing: missing, Text: fmt.Sprintf(format, args...)})
}

// Conditions collects those of one object, or of a part of it. That a condition is good is
// said first; the last bad word about it stays.
type conditions struct {
	generation int64
	list       []metav1.Condition
}

// conditionsOf starts those of an object.
func conditionsOf(o *config.Object) *conditions {
	return &conditions{generation: o.Value.(metav1.Object).GetGeneration()}
}

// set says whether a condition holds.
func (c *conditions) set(kind string, ok bool, reason, format string, args ...any) {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	next := metav1.Condition{Type: kind, Status: status, Reason: reason, Message: fmt.Sprintf(format, args...), ObservedGeneration: c.generation}
	for i := range c.list {
		if c.list[i].Type == kind {
			c.list[i] = next
			return
		}
	}
	c.list = append(c.list, next)
}

// bad reports whether something was said against the condition.
func (c *conditions) bad(kind string) bool {
	return slices.ContainsFunc(c.list, func(x metav1.Condition) bool { return x.Type == kind && x.Status == metav1.ConditionFalse })
}

// deref returns what p points to, or what stands for nothing.
func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
