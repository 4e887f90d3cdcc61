// Package tls makes the transport sockets of the proxy: what a listener shows
// and asks of its clients, and what a cluster shows and asks of its hosts.
//
// Secrets stand behind atomic pointers ([Identity], [Trust]) and are replaced in
// a running proxy without touching a connection.
//
// The decision whether a peer is trusted is made here and not by crypto/tls
// (see [verifier]): chains are verified against the current bundle, verified
// chains are remembered by bundle generation, and a remembered chain still has its
// dates checked on every handshake. SPIFFE identities are matched on URI SANs.
//
// Moving bytes is not done here: proxy/drive runs the handshake and the records.
package tls

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/mallamesh/malla/proxy/tls/openssl"
)

// Common is what both sides of a connection say of themselves and want of the other.
type Common struct {
	Identities []*Identity // own certificates; a server picks by SNI, the first is the default
	Trust      *Trust      // roots for the peer; nil: the peer is not verified
	Rules      Rules       // what else is asked of the peer
	ALPN       []string
	MinVersion uint16   // crypto/tls numbers; 0: TLS 1.2
	MaxVersion uint16   // 0: TLS 1.3 (a client as Envoy's: TLS 1.2 unless told otherwise is left to the builder)
	Ciphers    []string // names as in Envoy's configuration (ECDHE-ECDSA-AES256-GCM-SHA384); empty: Istio's list
	KeyLog     *KeyLog  // nil: none
	Curves     []string // X25519MLKEM768, X25519, P-256, P-384, P-521 in order of preference; empty: as listed, then P-384
}

// ServerConfig describes a downstream transport socket.
type ServerConfig struct {
	Common
	RequireClientCertificate bool
	DisableTickets           bool          // sessions are not resumed
	Tickets                  *TicketKeys   // nil: keys of our own making, which change every day
	SessionTimeout           time.Duration // how old a session may be that is resumed; 0: 7 days, crypto/tls's own limit
	FullScan                 bool          // if no certificate is for the client's server name, all are looked at; else the first is shown
	Staple                   Stapling
}

// Stapling says what becomes of certificates without a valid OCSP response.
type Stapling uint8

const (
	LenientStapling Stapling = iota // they are shown without
	StrictStapling                  // those whose response is out of date are not shown
	MustStaple                      // none is shown
)

// ClientConfig describes an upstream transport socket.
type ClientConfig struct {
	Common
	SNI         string
	AutoSNI     bool // the host name of the request's :authority, in place of SNI
	HostSNI     bool // the name of the host that the connection goes to, if it has one, in place of SNI
	AutoSANs    bool // verify the certificate for the name that was sent as SNI
	SANsAreRule bool // because the context says so, and not the cluster; it shows in what is said of another name
	MaxSessions int  // to be remembered, so that a connection can go on with one; 0: every connection begins anew
}

// istioSuites is what Istio puts into every context that it makes (pilot/pkg/security/model, TLS 1.2 only).
var istioSuites = []string{
	"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
	"AES256-GCM-SHA384", "AES128-GCM-SHA256",
}

var curves = map[string]tls.CurveID{
	"X25519MLKEM768": tls.X25519MLKEM768,
	"X25519":         tls.X25519,
	"P-256":          tls.CurveP256,
	"P-384":          tls.CurveP384,
	"P-521":          tls.CurveP521,
}

func (c *Common) suites() ([]uint16, error) {
	list := c.Ciphers
	if len(list) == 0 {
		list = istioSuites
	}
	var ids []uint16
	for _, group := range list {
		// BoringSSL's [A|B] means equal preference; the order inside is as good as any.
		for _, name := range strings.Split(strings.Trim(group, "[]"), "|") {
			id, ok := openssl.Suites[name]
			if !ok {
				return nil, fmt.Errorf("cipher suite %q is not supported", name)
			}
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (c *Common) curves() ([]tls.CurveID, error) {
	if len(c.Curves) == 0 {
		// As Envoy: the hybrid that a quantum computer does not break comes first. P-256
		// costs 30 % less per handshake; who wants that says so.
		return []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}, nil
	}
	var ids []tls.CurveID
	for _, name := range c.Curves {
		id, ok := curves[name]
		if !ok {
			return nil, fmt.Errorf("curve %q is not supported", name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
