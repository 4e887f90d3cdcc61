package model

import "strconv"

// Interception is how the connections of a sidecar's application come to it.
type Interception uint8

const (
	Redirected  Interception = iota // by a rule that changes their destination
	Transparent                     // what comes in keeps its addresses (TPROXY); what leaves is redirected
	Uncaptured                      // not at all: the application must ask the sidecar's own ports
)

// Interceptions are the names that MeshConfig, annotations and proxies have for them.
var Interceptions = map[string]Interception{"REDIRECT": Redirected, "TPROXY": Transparent, "NONE": Uncaptured}

// Interception is that of the proxy's pod.
func (v *View) Interception() Interception {
	if v.Proxy.Type != Sidecar || v.Proxy.Metadata["GENERATOR"] == "grpc" {
		return Redirected
	}
	return Interceptions[v.Proxy.Metadata["INTERCEPTION_MODE"]]
}

// ProxyPorts are the proxies' own: administration, names, health, metrics, and Istio's for ambient mode and debugging.
var ProxyPorts = []uint16{15000, 15004, 15008, 15020, 15021, 15053, 15090}

// Names of what a proxy says of the ports to which its pod redirects.
const (
	OutboundPortMetadata = "PROXY_LISTEN_PORT"
	InboundPortMetadata  = "PROXY_INBOUND_LISTEN_PORT"
)

// OutboundPort is where what leaves the application comes to the sidecar. The pod's rules were made when it started,
// whatever the mesh says since.
func (v *View) OutboundPort() uint16 {
	return v.ownPort(OutboundPortMetadata, v.Mesh.Config.OutboundPort)
}

// InboundPort is where what comes to the application comes to the sidecar.
func (v *View) InboundPort() uint16 {
	return v.ownPort(InboundPortMetadata, v.Mesh.Config.InboundPort)
}

func (v *View) ownPort(metadata string, port uint16) uint16 {
	if n, err := strconv.ParseUint(v.Proxy.Metadata[metadata], 10, 16); err == nil && n != 0 {
		return uint16(n)
	}
	return port
}
