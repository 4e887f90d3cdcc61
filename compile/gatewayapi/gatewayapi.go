// Package gatewayapi compiles the Gateway API into the model.
//
// All objects are compiled together: which listener has a host, which of two routes is
// tried first and who may refer to whom is said by several of them. The result is what
// Istio's Gateways, VirtualServices and DestinationRules would have become, so that nothing
// after this knows the difference, and the status of every object of ours: the standard
// asks for one, whether there is something wrong or not.
//
// Ours are GatewayClasses of our controllers, and what refers to Gateways of them or to
// services of the mesh. Where there is no istiod, Istio's controller is one of ours, and the
// classes istio and malla need no GatewayClass. What another controller serves is left alone.
//
// Where the texts of the standard leave it open what is right, its conformance suite says it
// (module sigs.k8s.io/gateway-api/conformance).
package gatewayapi

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

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
	// AsIstio is set where no istiod is: classes of its controller are ours, and the builtin ones before they are there.
	AsIstio bool
	// ServicesExportTo is for whom services are that do not say it themselves; nobody: for all.
	ServicesExportTo model.ExportTo
	Services         func(host string) []*model.Service
	Entries          func(namespace, name string) []*model.Service  // of a ServiceEntry; nil: there are none
	Secret           func(namespace, name string) *model.Credential // nil: there is none, or it holds nothing of TLS
	ConfigMap        func(namespace, name string) *model.Credential // with roots
	Parameters       func(namespace, name string) map[string]string // a ConfigMap's entries for gateways; nil: there are none
	Namespace        func(name string) map[string]string            // its labels
	Front            func(namespace, service string) Front          // the Service before the pods of a gateway
}

// A Front is what is known of the Service in front of a gateway.
type Front struct {
	Taken     bool     // there is one that nobody made for a Gateway: it is its author's
	Made      string   // the Gateway, of its namespace, that it was made for
	Addresses []string // where it is reached; none: not yet
}

// A Result is what all objects became.
type Result struct {
	Gateways []*model.Gateway
	Rules    []*model.RouteRules
	// Policies say how services are called that BackendTLSPolicies are about. A DestinationRule of the same
	// namespace and host comes before them; see [Beneath].
	Policies []*model.DestinationRule

	// Status holds the whole status of every object of ours: a *gatewayv1.GatewayClassStatus, GatewayStatus,
	// ListenerSetStatus, PolicyStatus, or a *gatewayv1.RouteStatus for routes of all kinds. Of routes and policies
	// it has what we say (the entries with one of Controllers); others' entries stay. Conditions have no
	// lastTransitionTime: who writes them keeps the time of those whose status did not change.
	Status map[model.Ref]any

	Deployments []Deployment
	Manual      []model.Ref // Gateways that are served by pods which somebody else runs: nothing is made for them
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
	ServiceType         string            // LoadBalancer, unless an annotation asks for another
	Address             string            // that a load balancer is asked for; "": any
	ClassPatches        map[string]string // strategic merge patches in YAML, by [model.GatewayEntries], of the class's parameters
	Patches             map[string]string // and of its own, which come after
	Ports               []Port
}

// A Port is one of a deployed gateway's Service; the pods listen on the same number.
type Port struct {
	Name   string
	Number uint16
}

// Labels of what is made for a Gateway. The pods of a deployed gateway carry the first.
const (
	NameLabel    = "gateway.networking.k8s.io/gateway-name"
	ManagedLabel = "gateway.istio.io/managed"
	Managed      = "istio.io-gateway-controller"
)

// A Notice is something that the author of an object should know and the standard has no condition for.
type Notice struct {
	Object  *config.Object
	At      *field.Path
	Missing bool // what it names is not there, and may come
	Text    string
}

// Compile returns what the objects mean.
func Compile(o Objects, env Env) Result {
	c := &compiler{
		objects: o, env: env, out: Result{Status: map[model.Ref]any{}},
		byName: map[model.Name]*gateway{}, defaults: map[gatewayv1.GatewayDefaultScope][]*gateway{}, sets: map[model.Name]*parent{}, mesh: map[meshKey]*meshRoutes{}, used: map[model.ServiceKey][]*config.Object{},
	}
	c.classes()
	c.gateways()
	c.listenerSets()
	for _, g := range c.ours {
		c.checkListeners(g)
		for _, s := range g.sets {
			s.setVerdict()
		}
	}
	c.httpRoutes()
	c.grpcRoutes()
	c.bytesRoutes()
	c.meshRules()
	c.backendTLS()
	for _, g := range c.ours {
		c.serve(g)
		c.gatewayStatus(g)
	}
	c.setStatuses()
	return c.out
}

type compiler struct {
	objects Objects
	env     Env
	out     Result

	controllers  map[string]string            // of our classes
	classPatches map[string]map[string]string // of what is made for the Gateways of a class
	ours         []*gateway                   // the oldest first
	byName       map[model.Name]*gateway
	defaults     map[gatewayv1.GatewayDefaultScope][]*gateway
	sets         map[model.Name]*parent // ListenerSets of our Gateways
	mesh         map[meshKey]*meshRoutes
	used         map[model.ServiceKey][]*config.Object // by whom, in the order in which they were compiled
	grants       grants                                // nil until somebody asks
}

// oldest sorts objects as the standard breaks ties: by age, then by name.
func oldest(list []*config.Object) []*config.Object {
	list = slices.Clone(list)
	slices.SortStableFunc(list, olderObject)
	return list
}

func olderObject(a, b *config.Object) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func refOf(o *config.Object) model.Ref {
	return model.Ref{Kind: o.Kind.Key(), Namespace: o.Namespace, Name: o.Name, Pos: o.Pos, Version: o.Version}
}

func nameOf(o *config.Object) model.Name { return model.Name{Namespace: o.Namespace, Name: o.Name} }

func (c *compiler) notice(o *config.Object, at *field.Path, missing bool, format string, args ...any) {
	c.out.Notices = append(c.out.Notices, Notice{Object: o, At: at, Missing: missing, Text: fmt.Sprintf(format, args...)})
}

// deref returns what p points to, or what stands for nothing.
func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// isGroup reports whether a group that may be left out is the standard's own.
func isGroup(g *gatewayv1.Group) bool { return deref(g, gatewayv1.GroupName) == gatewayv1.GroupName }
