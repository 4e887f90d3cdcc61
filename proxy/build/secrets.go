package build

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"slices"
	"sync"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mallamesh/malla/base/field"
	malltls "github.com/mallamesh/malla/proxy/tls"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// Secrets are the identities and roots that contexts refer to by name. They come
// from SDS, from the bootstrap, or from the node's agent; those that come from the
// agent are never asked of the control plane.
type Secrets struct {
	mu         sync.Mutex
	identities map[string]*malltls.Identity   // guarded by mu
	trusts     map[string]*malltls.Trust      // guarded by mu
	tickets    map[string]*malltls.TicketKeys // guarded by mu
	local      map[string]bool                // guarded by mu: supplied here, not by SDS
}

// NewSecrets returns an empty set.
func NewSecrets() *Secrets {
	return &Secrets{identities: map[string]*malltls.Identity{}, trusts: map[string]*malltls.Trust{}, tickets: map[string]*malltls.TicketKeys{}, local: map[string]bool{}}
}

// Identity returns the identity called name; the first call makes it, empty.
func (s *Secrets) Identity(name string) *malltls.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identities[name] == nil {
		s.identities[name] = malltls.NewIdentity(name)
	}
	return s.identities[name]
}

// Trust returns the roots called name; the first call makes them, empty.
func (s *Secrets) Trust(name string) *malltls.Trust {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trusts[name] == nil {
		s.trusts[name] = malltls.NewTrust(name)
	}
	return s.trusts[name]
}

// Tickets returns the session ticket keys called name; the first call makes them, empty.
func (s *Secrets) Tickets(name string) *malltls.TicketKeys {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tickets[name] == nil {
		s.tickets[name] = malltls.NewTicketKeys(name)
	}
	return s.tickets[name]
}

// Local says that these names are supplied by this process: the agent's "default"
// and "ROOTCA", or static secrets.
func (s *Secrets) Local(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.local[n] = true
	}
}

func (s *Secrets) isLocal(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.local[name]
}

// Names lists all identities and all roots.
func (s *Secrets) Names() (identities, trusts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.identities)), slices.Sorted(maps.Keys(s.trusts))
}

// ready reports whether a secret has arrived, as whichever of the two it is.
func (s *Secrets) ready(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.identities[name]; i != nil && i.Certificate() == nil {
		return false
	}
	if t := s.trusts[name]; t != nil && t.Bundle() == nil {
		return false
	}
	if t := s.tickets[name]; t != nil && !t.Ready() {
		return false
	}
	return true
}

// A Secret is a secret that has been read: a certificate, or a validation context.
type Secret struct {
	Name        string
	Certificate *tls.Certificate
	Roots       []*x509.Certificate
	Rules       malltls.Rules
	Tickets     [][]byte
	Place       string            // the file that the certificate or the roots stand in, if they do in one
	Files       []xdsclient.Place // that it refers to
}

func (r *reader) secretResource(m *tlsv3.Secret) *Secret {
	out := &Secret{Name: m.GetName()}
	switch m.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		out.Place = fileOf(m.GetTlsCertificate())
		out.Certificate = r.certificate(m.GetTlsCertificate(), field.At("tls_certificate"))
	case *tlsv3.Secret_ValidationContext:
		out.Place = m.GetValidationContext().GetTrustedCa().GetFilename()
		out.Roots, out.Rules = r.validation(m.GetValidationContext(), field.At("validation_context"))
	case *tlsv3.Secret_SessionTicketKeys:
		out.Tickets = r.ticketKeys(m.GetSessionTicketKeys(), field.At("session_ticket_keys"))
	default:
		r.errs.Addf(nil, "want session_ticket_keys, tls_certificate or validation_context")
	}
	watched := m.GetTlsCertificate().GetWatchedDirectory().GetPath() + m.GetValidationContext().GetWatchedDirectory().GetPath() // of one of the two
	if watched != "" {
		r.exists(watched, field.At("watched_directory", "path"))
	}
	for _, f := range r.files {
		out.Files = append(out.Files, xdsclient.Place{Path: f, Directory: watched})
	}
	return out
}

// set puts a secret to use.
func (s *Secrets) set(secret *Secret) error {
	if secret.Certificate != nil {
		id := s.Identity(secret.Name)
		id.SetPlace(secret.Place)
		return id.Set(secret.Certificate)
	}
	if len(secret.Tickets) > 0 {
		s.Tickets(secret.Name).Set(secret.Tickets)
		return nil
	}
	trust := s.Trust(secret.Name)
	trust.SetPlace(secret.Place)
	trust.SetContext(secret.Roots, secret.Rules)
	return nil
}
