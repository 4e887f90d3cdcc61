package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

// clientCert does to x-forwarded-client-cert what the configuration says. An element's form
// is Envoy's: By=...;Hash=...;Subject="...";URI=...
func (s *Stream) clientCert() {
	m, mode := &s.Request, s.Config.Forward
	tls := s.Conn.TLS
	mutual := tls != nil && tls.Peer != nil
	switch {
	case mode == AlwaysForwardOnly:
		return
	case mode == Sanitize || !mutual:
		m.Remove(header.XForwardedClientCert)
		return
	case mode == ForwardOnly:
		return
	}
	element := s.m.element(s)
	old := m.Get(header.XForwardedClientCert)
	if mode == AppendForward && len(old) > 0 {
		both := make([]byte, 0, len(old)+1+len(element))
		m.Set(header.XForwardedClientCert, append(append(append(both, old...), ','), element...))
		return
	}
	m.Set(header.XForwardedClientCert, element)
}

// element is what we say of a connection's client; it is made once per connection.
func (m *manager) element(s *Stream) []byte {
	if s.link.certElement == nil {
		s.link.certElement = m.cfg.ForwardDetails.element(s.Conn.TLS)
	}
	return s.link.certElement
}

func (d ClientCertDetails) element(tls *access.TLS) []byte {
	var parts []string
	peer, local := tls.Peer, tls.Local
	if local != nil && len(local.URIs) > 0 {
		parts = append(parts, "By="+local.URIs[0].String())
	}
	digest := sha256.Sum256(peer.Raw)
	parts = append(parts, "Hash="+hex.EncodeToString(digest[:]))
	if d.Cert {
		parts = append(parts, `Cert="`+access.EncodePEM(peer)+`"`)
	}
	if d.Chain {
		parts = append(parts, `Chain="`+access.EncodePEM(tls.Chain...)+`"`)
	}
	if d.Subject {
		parts = append(parts, `Subject="`+access.DistinguishedName(peer.RawSubject)+`"`) // quotes in it are escaped
	}
	if d.URI {
		uri := ""
		if len(peer.URIs) > 0 {
			uri = quoted(peer.URIs[0].String())
		}
		parts = append(parts, "URI="+uri)
	}
	if d.DNS {
		for _, name := range peer.DNSNames {
			if header.ValidValue([]byte(name)) { // whoever has signed it
				parts = append(parts, "DNS="+quoted(name))
			}
		}
	}
	return []byte(strings.Join(parts, ";"))
}

// quoted is a value in quotes if without them it could end, so that a name of a certificate passes for another certificate's. That
// is what the field's documentation asks for; Envoy does it for subjects only.
func quoted(v string) string {
	if !strings.ContainsAny(v, `,;"`) {
		return v
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}
