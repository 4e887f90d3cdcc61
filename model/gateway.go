package model

import (
	"slices"
	"strings"
	"time"
)

// A Gateway opens ports at the proxies that carry its selector's labels.
type Gateway struct {
	From     Ref
	Created  time.Time
	Selector map[string]string // of pods; empty: all
	// Of the pods, if it must be a certain one: what a gateway serves may be none of the business of those who run
	// pods elsewhere, and labels are everybody's to give. Empty: every namespace.
	Namespace string
	Servers   []*Server
	// What the gateway shows to servers that a policy is about which asks for it; nil: nothing.
	ClientCert *SecretSource
}

// Key returns namespace/name, the name by which rules bind to the gateway.
func (g *Gateway) Key() string { return g.From.Namespace + "/" + g.From.Name }

// A Server is one port of a gateway and what it accepts there.
type Server struct {
	At       int    // its place in the Gateway's list
	Name     string // of the server
	Port     uint16 // of the Service in front; the pod listens on its target port
	PortName string
	Protocol Protocol // HTTP, HTTP2, GRPC, GRPCWeb, HTTPS, TLS, TCP, Mongo
	Bind     string   // empty: all addresses
	Hosts    []GatewayHost
	TLS      *ServerTLS
	// No other server's rules are for the hosts of this one, which are answered here or not at all: a
	// server of *.x next to it does not have them.
	Alone bool
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

// Ends reports whether the gateway ends TLS, so that it shows a certificate.
func (m ServerTLSMode) Ends() bool { return m != ServerPassthrough && m != ServerAutoPassthrough }

// Asks reports whether clients are asked for a certificate of their own.
func (m ServerTLSMode) Asks() bool {
	return m == ServerMutual || m == ServerOptionalMutual || m == ServerIstioMutual
}

// ServerTLS is what a gateway does about TLS.
type ServerTLS struct {
	Redirect     bool // httpsRedirect: plain HTTP is answered by 301
	Mode         ServerTLSMode
	Certs        []SecretSource // what it shows: the one for the name that a client asks for, ECDSA before RSA, else the first
	CA           *SecretSource  // roots for the certificates of clients
	SANs         []string       // one of which a client's certificate must have
	Keys, Hashes []string       // of certificates of clients, one of which is wanted: SHA-256 of the key in base64, of all in hex
	AnyClient    bool           // a client's certificate is looked at, and need not be good
	MinVersion   string         // "", "1.0" ... "1.3"
	MaxVersion   string
	Ciphers      []string
}

// tlsCiphers are the suites of TLS 1.2 and below that Istio's documentation lists, but
// for DES-CBC3-SHA, which is broken.
var tlsCiphers = []string{
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA",
	"ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA",
}

// TLSCiphers returns the names of the cipher suites that a gateway can be told to keep to.
func TLSCiphers() []string { return slices.Clone(tlsCiphers) }

// SelectsGateway reports whether a Service's selector is for gateways: Istio's
// label with the name of one, such as istio: ingressgateway. The names of such a
// Service's ports say nothing: the Gateway declares what they speak.
func SelectsGateway(selector map[string]string) bool {
	return strings.HasSuffix(selector["istio"], "gateway")
}
