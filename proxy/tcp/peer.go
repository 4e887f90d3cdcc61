package tcp

import (
	"encoding/binary"

	"github.com/mallamesh/malla/proxy/access"
)

// What peers of one mesh tell of themselves before the first byte: Istio's metadata exchange.

// exchangeProtocol is the ALPN under which both ends tell who they are.
const exchangeProtocol = "istio-peer-exchange"

const (
	exchangeMagic = 0x3D230467
	maxExchange   = 64 << 10
)

// A peerMessage is what a peer tells before its first byte.
type peerMessage struct{ expected bool }

// take takes the message off the front of b, once it is there whole. A peer that does
// not begin with one has nothing to tell.
func (m *peerMessage) take(b []byte, s *session, from *access.TLS) (rest []byte, more bool) {
	if len(b) >= 4 && binary.BigEndian.Uint32(b) != exchangeMagic {
		m.expected = false
		return b, false
	}
	if len(b) < 8 {
		return b, true
	}
	size := binary.BigEndian.Uint32(b[4:])
	if size > maxExchange {
		m.expected = false
		return b, false
	}
	if len(b) < 8+int(size) {
		return b, true
	}
	m.expected = false
	if p := s.config.Exchange.Parse(b[8:8+size], from.PeerID); p != nil {
		s.rec.Peer = p
	}
	return b[8+size:], false
}
