// Package xdsclient subscribes to configuration: Envoy's discovery protocol,
// version 3, aggregated; and to files ([Files]).
//
// A [Machine] is the protocol: it is told what is wanted, what came and what was
// thought of it, and says which requests to send. It reads no clock, takes no lock
// and sends nothing. A [Client] drives one over gRPC: it opens the stream again
// after it broke, with back-off and jitter, and then tells the server which
// versions it has, so that only what changed is sent.
//
// What resources mean is a [Consumer]'s business. It may refuse single resources
// of a response: the others count as accepted, the refusal goes back as a NACK with
// the consumer's reasons, and the version that was accepted last is the one that a
// new stream asks on from.
//
// The machine is incremental (delta). To a server that only has the state-of-the-world
// form, a [World] stands between and turns requests and answers around.
//
// Aliases of resources are those of virtual hosts. Heartbeats (ttl) are not spoken here.
package xdsclient

// The types that are subscribed to, in the order in which subscriptions are
// opened: a cluster is to be known before what names it.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	SecretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	// ExtensionType is that of the configuration of filters.
	ExtensionType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	// ScopedRouteType is that of the scopes of connection managers; who wants some wants all.
	ScopedRouteType = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
	// VirtualHostType is that of virtual hosts that come one by one, called TABLE/HOST.
	VirtualHostType = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
)

// Types lists them.
var Types = []string{ClusterType, EndpointType, ListenerType, ExtensionType, ScopedRouteType, RouteType, VirtualHostType, SecretType}
