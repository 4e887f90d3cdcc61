package tls

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sessions are resumed by tickets. What a session was begun with is verified anew when it is resumed:
// crypto/tls does not call VerifyPeerCertificate then, so VerifyConnection does the same with the certificates that
// the session remembers. A server gives tickets a mark of its roots; one with another mark, or one that is too old, leads to a
// full handshake and not to an error, so that nothing fails while roots change.

// hook makes a configuration verify the peer.
func (v *verifier) hook(c *tls.Config, expected *expectation, aside Aside, found *Found) {
	check := func(raw [][]byte) error {
		if len(raw) == 0 {
			return nil // crypto/tls has let that pass: none is required
		}
		peer, err := v.verify(raw, expected, aside)
		if err == nil {
			found.Peer = peer
		}
		return err
	}
	c.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error { return check(raw) }
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if !state.DidResume {
			return nil
		}
		raw := make([][]byte, len(state.PeerCertificates))
		for i, p := range state.PeerCertificates {
			raw[i] = p.Raw
		}
		return check(raw)
	}
}

// TicketKeys are secrets by which sessions are put into tickets, that can be replaced at any time: the first for new tickets, the
// others for old ones.
type TicketKeys struct {
	name string
	keys atomic.Pointer[[][32]byte]
	wait waiters
}

// NewTicketKeys returns a set without keys.
func NewTicketKeys(name string) *TicketKeys { return &TicketKeys{name: name} }

// Name is the name of the secret.
func (t *TicketKeys) Name() string { return t.name }

// Set replaces the keys, which may be of any length: crypto/tls makes of 32 bytes what it needs.
func (t *TicketKeys) Set(keys [][]byte) {
	list := make([][32]byte, len(keys))
	for i, k := range keys {
		list[i] = sha256.Sum256(k)
	}
	t.keys.Store(&list)
	t.wait.wake()
}

// Ready reports whether there are keys.
func (t *TicketKeys) Ready() bool { return t.keys.Load() != nil }

// ticketsFor is how long a key of our own making is used for new tickets; then it is kept as long for old ones.
const ticketsFor = 24 * time.Hour

// ticketKeys keeps the keys of a server's configuration up to date.
type ticketKeys struct {
	from *TicketKeys // nil: of our own making

	mu   sync.Mutex
	set  *[][32]byte
	own  [][32]byte
	made time.Time
}

func (t *ticketKeys) renew(c *tls.Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.from != nil {
		if now := t.from.keys.Load(); now != nil && now != t.set && len(*now) > 0 {
			t.set = now
			c.SetSessionTicketKeys(*now)
		}
		return
	}
	if now := time.Now(); now.Sub(t.made) > ticketsFor {
		var key [32]byte
		_, _ = rand.Read(key[:]) // never fails
		t.own = append([][32]byte{key}, t.own[:min(1, len(t.own))]...)
		t.made = now
		c.SetSessionTicketKeys(t.own)
	}
}

// sessions marks a server's tickets, and takes only those back that are marked so.
func (s *Server) sessions(c *tls.Config) {
	mark := s.mark()
	c.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, binary.BigEndian.AppendUint64(slices.Clone(mark), uint64(time.Now().Unix())))
		return c.EncryptTicket(state, session)
	}
	c.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := c.DecryptTicket(ticket, state)
		if err != nil || session == nil || len(session.Extra) == 0 {
			return nil, err
		}
		extra := session.Extra[len(session.Extra)-1]
		if len(extra) != len(mark)+8 || !bytes.Equal(extra[:len(mark)], mark) {
			return nil, nil
		}
		made := time.Unix(int64(binary.BigEndian.Uint64(extra[len(mark):])), 0)
		if s.config.SessionTimeout > 0 && time.Since(made) >= s.config.SessionTimeout {
			return nil, nil
		}
		return session, nil
	}
}

// mark tells what clients are verified against.
func (s *Server) mark() []byte {
	bundle, _ := s.verify.effective()
	if bundle == nil {
		return []byte{0}
	}
	return bundle.Sum[:]
}

// sessions remembers the tickets that servers have given a client: the newest of each name, and not more than max.
type sessions struct {
	of  *Client
	max int

	mu     sync.Mutex
	byName map[string]session // guarded by mu
}

// A session is bound to what it was begun with: after a change of our certificate or of the roots it is not resumed.
type session struct {
	state      *tls.ClientSessionState
	leaf       *x509.Certificate
	generation uint64
}

func (s *sessions) now(state *tls.ClientSessionState) session {
	out := session{state: state, leaf: s.of.config.local()}
	if bundle, _ := s.of.verify.effective(); bundle != nil {
		out.generation = bundle.Generation
	}
	return out
}

// Get and Put are those of [tls.ClientSessionCache].
func (s *sessions) Get(name string) (*tls.ClientSessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had, ok := s.byName[name]
	if !ok || had != s.now(had.state) {
		delete(s.byName, name)
		return nil, false
	}
	return had.state, true
}

// Put remembers a ticket; nil forgets the one that there is.
func (s *sessions) Put(name string, state *tls.ClientSessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == nil {
		delete(s.byName, name)
		return
	}
	if _, known := s.byName[name]; !known && len(s.byName) >= s.max {
		for other := range maps.Keys(s.byName) { // any: which one is needed next nobody knows
			delete(s.byName, other)
			break
		}
	}
	s.byName[name] = s.now(state)
}
