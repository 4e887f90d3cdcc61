// Package translate says in Envoy's words what one proxy sees of the mesh.
//
// Everything is by name: [Cluster], [Endpoints], [Listener] and [Routes] make
// the one resource that they are asked for, and the lists of names say what a
// proxy in wildcard mode is sent. Names and contents are those that Istio's
// users know (outbound|9080|v1|reviews.prod.svc.cluster.local), so dashboards,
// patches and habits carry over.
//
// All of it is a function of the view: equal views give equal resources, and
// equal bytes if they are marshalled deterministically. Nothing is kept but in
// the view's own memo. What people change in Envoy's own words (package patch) is
// changed last, in the same way by name. What a real Envoy lacks (Istio's own filters) is left
// out for proxies with the Stock profile; the rest must be accepted by a real
// Envoy, and a test asks one.
//
// Applications that are their own proxy, by gRPC's xDS client, get resources of the form
// that gRPC understands.
//
// Identity never passes here: the certificates of workloads are named (default,
// ROOTCA) and the proxy gets them from its own agent. Those of gateways, which are
// in Secrets, are resources of their own; see [Secret] for who gets them.
package translate

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/api/machine"
	"github.com/mallamesh/malla/model"
)

// The types of resources that a proxy can ask for.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	// ExtensionType is the configuration of a filter that a listener asks for by name.
	ExtensionType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	SecretType    = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// Resource returns the resource of that type and name as the proxy of v may see
// it, and whether there is one. Of a type without a Go type of its own it is packed already.
func Resource(v *model.View, typeURL, name string) (proto.Message, bool) {
	if proxyless(v) {
		return grpcResource(v, typeURL, name)
	}
	switch typeURL {
	case ClusterType:
		return found(Cluster(v, name))
	case EndpointType:
		return found(Endpoints(v, name))
	case ListenerType:
		return found(Listener(v, name))
	case RouteType:
		return found(Routes(v, name))
	case ExtensionType:
		return found(Extension(v, name))
	case SecretType:
		return found(Secret(v, name))
	case NameTableType:
		return found(NameTable(v, name))
	case machine.Type:
		return found(probe(v, name))
	}
	return nil, false
}

// found keeps a nil pointer from becoming a message.
func found[M proto.Message](m M, ok bool) (proto.Message, bool) {
	if !ok {
		return nil, false
	}
	return m, true
}

// Names lists, sorted, the resources of a type that the proxy of v needs.
func Names(v *model.View, typeURL string) []string {
	if proxyless(v) {
		return nil // it asks by name
	}
	switch typeURL {
	case ClusterType:
		return ClusterNames(v)
	case EndpointType:
		return EndpointNames(v)
	case ListenerType:
		return ListenerNames(v)
	case RouteType:
		return RouteNames(v)
	case ExtensionType:
		return ExtensionNames(v)
	case SecretType:
		return SecretNames(v)
	case NameTableType:
		if v.CapturesDNS() {
			return []string{nameTable}
		}
	case machine.Type:
		if v.Proxy.Probe != "" {
			return []string{probeName}
		}
	}
	return nil
}

// pack puts m in an Any. The bytes are the same for equal messages.
func pack(m proto.Message) *anypb.Any {
	a := new(anypb.Any)
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("translate: %T that we made does not marshal: %v", m, err))
	}
	return a
}
