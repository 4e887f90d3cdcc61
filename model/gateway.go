package model

import (
	"strings"
	"time"
)

// A Gateway opens ports at the proxies that carry its selector's labels.
type Gateway struct {
	From     Ref
	Created  time.Time
	Selector map[string]string // of pods in every namespace; empty: all
	Servers  []*Server
}

// Key returns namespace/name, the name by which rules bind to the gateway.
func (g *Gateway) Key() string { return g.From.Namespace + "/" + g.From.Name }

// A Server is one port of a gateway and what it accepts there.
type Server struct {
	Name     string // of the server
	Port     uint16 // of the Service in front; the pod listens on its target port
	PortName string
	Protocol Protocol // HTTP, HTTP2, GRPC, GRPCWeb, HTTPS, TLS, TCP, Mongo
	Bind     string   // empty: all addresses
	Hosts    []GatewayHost
	TLS      *ServerTLS
}

// A GatewayHost is a name that a server accepts, from rules of some namespaces.
type GatewayHost struct {
	Namespace string // of the rules that may bind: "*" or a name
	Name      string // full name, "*.x" or "*"
}

// A ServerTLSMode is what a gateway does with TLS.
type ServerTLSMode uint8

const (
	ServerPassthrough ServerTLSMode = iota
	ServerSimple
	ServerMutual
	ServerIstioMutual
	ServerAutoPassthrough
	ServerOptionalMutual
)

// ServerTLS is what a gateway does about TLS.
type ServerTLS struct {
	Redirect      bool // httpsRedirect: plain HTTP is answered by 301
	Mode          ServerTLSMode
	Cert, Key, CA string // files in the proxy
	Credential    string // name of a Secret
	SANs          []string
	MinVersion    string // "", "1.0" ... "1.3"
	MaxVersion    string
	Ciphers       []string
}

// SelectsGateway reports whether a Service's selector is for gateways: Istio's
// label with the name of one, such as istio: ingressgateway. The names of such a
// Service's ports say nothing: the Gateway declares what they speak.
func SelectsGateway(selector map[string]string) bool {
	return strings.HasSuffix(selector["istio"], "gateway")
}
