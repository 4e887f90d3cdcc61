// Package protocol says what a port speaks, from how it is declared.
//
// The order is Istio's: appProtocol, then the first part of the port's name, then
// a few well-known numbers of protocols in which the server speaks first; a port
// that says nothing is sniffed by the proxy.
package protocol

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/model"
)

var byName = map[string]model.Protocol{
	"http": model.HTTP, "http2": model.HTTP2, "grpc": model.GRPC, "grpc-web": model.GRPCWeb, "https": model.HTTPS,
	"tls": model.TLS, "tcp": model.TCP, "mongo": model.Mongo, "mysql": model.MySQL, "redis": model.Redis, "udp": model.UDP,
	"h2c": model.HTTP2,
}

// appProtocols are the names that Kubernetes defines for the field appProtocol.
var appProtocols = map[string]model.Protocol{
	"kubernetes.io/h2c": model.HTTP2, "kubernetes.io/ws": model.HTTP, "kubernetes.io/wss": model.HTTPS,
}

// serverFirst are ports on which a client waits for the server's first word:
// sniffing would wait for the client's.
var serverFirst = map[int32]bool{25: true, 53: true, 3306: true, 27017: true}

// Parse returns the protocol that is called name, in any case.
func Parse(name string) (model.Protocol, bool) {
	p, ok := byName[strings.ToLower(name)]
	return p, ok
}

// Of returns what a Service's port speaks.
func Of(p *corev1.ServicePort) model.Protocol {
	if p.Protocol == corev1.ProtocolUDP || p.Protocol == corev1.ProtocolSCTP {
		return model.UDP
	}
	if p.AppProtocol != nil {
		if found, ok := appProtocols[strings.ToLower(*p.AppProtocol)]; ok {
			return found
		}
		if found, ok := Parse(*p.AppProtocol); ok {
			return tcp(found)
		}
	}
	if found, ok := ofName(p.Name); ok {
		return tcp(found)
	}
	if serverFirst[p.Port] {
		return model.TCP
	}
	return model.Sniffed
}

// ofName reads a port's name: the protocol alone, or followed by a dash.
func ofName(name string) (model.Protocol, bool) {
	name = strings.ToLower(name)
	if strings.HasPrefix(name, "grpc-web") && (len(name) == 8 || name[8] == '-') {
		return model.GRPCWeb, true
	}
	first, _, _ := strings.Cut(name, "-")
	return Parse(first)
}

// tcp makes TCP of the name of a protocol that a TCP port cannot speak.
func tcp(p model.Protocol) model.Protocol {
	if p == model.UDP {
		return model.TCP
	}
	return p
}
