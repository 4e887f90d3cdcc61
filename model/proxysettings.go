package model

import (
	"cmp"
	"time"
)

// ProxySettings are what is set for proxies: for all of the mesh, or for one by its pod. What is nil is not said.
type ProxySettings struct {
	Topology    *Topology
	Headers     *ProxyHeaders
	Connections *Connections
}

// Settings returns what holds for the proxy: each setting of its pod replaces the mesh's.
func (v *View) Settings() ProxySettings {
	own, all := v.Proxy.Settings, v.Mesh.Config.Proxies
	if own == nil {
		return all
	}
	return ProxySettings{Topology: cmp.Or(own.Topology, all.Topology), Headers: cmp.Or(own.Headers, all.Headers), Connections: cmp.Or(own.Connections, all.Connections)}
}

// ProxyHeaders say which header fields proxies write. The zero value is what they do by themselves.
type ProxyHeaders struct {
	ClientCert    ClientCertDetails // of what sidecars receive
	CertFields    CertFields
	NoRequestID   bool
	NoServer      bool
	Server        string // in place of istio-envoy
	NoAttempts    bool
	NoDebug       bool // x-envoy-
	PreserveCase  bool // of HTTP/1.1
	ForwardedHost bool
	ForwardedPort bool
}

// CertFields are what x-forwarded-client-cert says of a certificate; nil is the default.
type CertFields struct{ Subject, Cert, Chain, DNS, URI *bool }

// Connections say how clients' connections are handled. Nil and zero are the defaults.
type Connections struct {
	ListenerBuffer, ClusterBuffer *uint32
	Idle, MaxAge, Drain           *time.Duration
	Request, Headers, StreamIdle  *time.Duration
	MaxStream                     *time.Duration
	Streams, Window, ConnWindow   *uint32
	Underscores                   Underscores
	MergeSlashes                  *bool
	EscapedSlashes                EscapedSlashes
}

// Underscores say what becomes of header fields with underscores in their names.
type Underscores uint8

const (
	UnderscoresAllowed Underscores = iota
	UnderscoresRefused
	UnderscoresDropped
)

// EscapedSlashes say what becomes of %2F and %5C in paths.
type EscapedSlashes uint8

const (
	SlashesUnsaid EscapedSlashes = iota
	SlashesKept
	SlashesRefused
	SlashesRedirected
	SlashesUnescaped
)
