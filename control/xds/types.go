package xds

import (
	"github.com/mallamesh/malla/api/machine"
	"github.com/mallamesh/malla/api/nds"
)

// The types that the server speaks, in the order in which they are pushed: a
// cluster must be known before its endpoints, both before the listener whose
// routes name them (make before break).
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	// ExtensionType is the configuration of a filter that a listener asks for by name.
	ExtensionType = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	SecretType    = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	NamesType     = nds.Type
	ProbeType     = machine.Type
	// HealthType is no resource: with it a proxy says how its application fares, by a request that is not answered.
	HealthType = "type.googleapis.com/istio.v1.HealthInformation"
)

var pushOrder = []string{ClusterType, EndpointType, ListenerType, RouteType, SecretType, ExtensionType, NamesType, ProbeType}

// Short returns the name that people know a type by: CDS, EDS, LDS, RDS, SDS, ECDS, NDS.
func Short(typeURL string) string {
	switch typeURL {
	case ClusterType:
		return "CDS"
	case EndpointType:
		return "EDS"
	case ListenerType:
		return "LDS"
	case RouteType:
		return "RDS"
	case SecretType:
		return "SDS"
	case ExtensionType:
		return "ECDS"
	case NamesType:
		return "NDS"
	case ProbeType:
		return "probes"
	}
	return typeURL
}

func known(typeURL string) bool {
	for _, t := range pushOrder {
		if t == typeURL {
			return true
		}
	}
	return false
}

// wildcardByDefault reports whether a first request without names means all.
func wildcardByDefault(typeURL string) bool {
	return typeURL == ClusterType || typeURL == ListenerType || typeURL == NamesType || typeURL == ProbeType
}
