// Package istio compiles Istio's kinds, and our own beside them, into the model, one object at a time.
//
// Each function here looks at one object and at nothing else, so its result can
// be kept for as long as the object's version stays: what depends on several
// objects (merging, precedence) is the caller's. Names come out in full form.
//
// What an object asks for and malla cannot do yet is an error that names the
// field, and the object is left out as a whole: half of somebody's rules mean
// something else than all of them. Only the servers of a Gateway and the patches
// of an EnvoyFilter stand for themselves. (Validation refuses such objects before they come here; the last
// good version stays in force.)
package istio

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	typev1beta1 "istio.io/api/type/v1beta1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// An Env is what a compilation depends on besides the object.
type Env struct {
	ClusterDomain string
	RootNamespace string
}

// A Result is what one object became.
type Result struct {
	Rules   *model.RouteRules
	Policy  *model.DestinationRule
	Gateway *model.Gateway
	Peer    *model.PeerAuthentication
	Scope   *model.Scope
	Patches *model.Patches
	Names   *model.NamePolicy
	Errors  field.List // why the object, or a server or a patch of it, is left out
	Notices field.List // what has less effect than one might expect
}

// Kinds lists the kinds that Compile knows.
var Kinds = []string{"VirtualService", "DestinationRule", "Gateway", "PeerAuthentication", "Sidecar", "EnvoyFilter", "DNSPolicy"}

// Compile returns what the object means.
func Compile(o *config.Object, env Env) Result {
	c := &compiler{obj: o, env: env, ref: RefOf(o)}
	switch o.Kind.Key() {
	case "VirtualService":
		c.virtualService()
	case "DestinationRule":
		c.destinationRule()
	case "Gateway":
		c.gateway()
	case "Sidecar":
		c.sidecar()
	case "PeerAuthentication":
		c.peerAuthentication()
	case "EnvoyFilter":
		c.envoyFilter()
	case "DNSPolicy":
		c.dnsPolicy()
	}
	if len(c.out.Errors) > 0 {
		c.out.Rules, c.out.Policy, c.out.Peer, c.out.Scope, c.out.Names = nil, nil, nil, nil, nil
	}
	for _, list := range []field.List{c.out.Errors, c.out.Notices} {
		for _, e := range list {
			e.In, e.Pos = o.String(), o.Pos
		}
	}
	return c.out
}

// RefOf names the object.
func RefOf(o *config.Object) model.Ref {
	return model.Ref{Kind: o.Kind.Key(), Namespace: o.Namespace, Name: o.Name, Pos: o.Pos, Version: o.Version}
}

type compiler struct {
	obj *config.Object
	env Env
	ref model.Ref
	out Result
}

func (c *compiler) host(name string) string { return Host(name, c.obj.Namespace, c.env) }

// Host returns the full name of a host that an object of the namespace names.
func Host(name, namespace string, env Env) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return model.ResolveHost(name, namespace, env.ClusterDomain)
}

// GatewayKey returns namespace/name of a gateway that rules of the namespace name;
// mesh stays mesh.
func GatewayKey(name, namespace string) string {
	switch {
	case name == "mesh":
		return name
	case !strings.Contains(name, "/"):
		return namespace + "/" + name
	case strings.HasPrefix(name, "./"):
		return namespace + name[1:]
	}
	return name
}

// unsupported records an error for a feature that is asked for and not built.
func (c *compiler) unsupported(asked bool, at *field.Path) bool {
	if asked {
		c.out.Errors.Addf(at, "is not supported yet; leave it out")
	}
	return asked
}

func duration(d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.AsDuration()
}

func positive(n int32) uint32 {
	if n < 0 {
		return 0
	}
	return uint32(n)
}

func selector(s *typev1beta1.WorkloadSelector) map[string]string {
	if s == nil || len(s.MatchLabels) == 0 {
		return nil
	}
	return s.MatchLabels
}
