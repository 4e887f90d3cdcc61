// Package sds gives a proxy beside us its certificates: Envoy's secret discovery service, in the
// form in which an Envoy asks its agent (StreamSecrets over a Unix socket).
//
// A [Server] has one identity and one set of roots, which may be set again at any time; who asked
// for them gets the new ones at once. A name that is not there yet is answered when it is, so that
// a proxy waits instead of starting without. Keys pass the socket in plain text: it belongs into a
// directory that nobody else can enter.
//
// Getting certificates is package agent's business.
package sds

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/pki"
)

// TypeURL is the only type that is served.
const TypeURL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// A Server answers for secrets by name. Its methods may be called from any goroutine.
type Server struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	log *slog.Logger

	mu      sync.Mutex
	secrets map[string]secret // guarded by mu
	version uint64            // guarded by mu: of the newest secret
	changed chan struct{}     // guarded by mu: closed when a secret is set, and replaced
}

type secret struct {
	body    *anypb.Any
	version uint64
}

// New returns a server without secrets.
func New(log *slog.Logger) *Server {
	return &Server{log: log, secrets: map[string]secret{}, changed: make(chan struct{})}
}

// Register adds the server to a gRPC server.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	secretv3.RegisterSecretDiscoveryServiceServer(g, s)
}

// SetIdentity makes the secret called name a certificate with its key.
func (s *Server) SetIdentity(name string, c *tls.Certificate) error {
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return fmt.Errorf("secret %s: found a key of type %T, want one that signs", name, c.PrivateKey)
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		return fmt.Errorf("secret %s: %w", name, err)
	}
	var chain []*x509.Certificate
	for _, raw := range c.Certificate {
		parsed, err := x509.ParseCertificate(raw)
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		chain = append(chain, parsed)
	}
	return s.set(&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(pki.EncodeCertificates(chain...)), PrivateKey: inline(keyPEM),
	}}})
}

// SetRoots makes the secret called name the roots that peers are judged by.
func (s *Server) SetRoots(name string, roots []*x509.Certificate) error {
	return s.SetBundle(name, pki.EncodeCertificates(roots...))
}

// SetBundle is SetRoots for roots in PEM.
func (s *Server) SetBundle(name string, roots []byte) error {
	return s.set(&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
		TrustedCa: inline(roots),
	}}})
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

func (s *Server) set(m *tlsv3.Secret) error {
	body, err := anypb.New(m)
	if err != nil {
		return fmt.Errorf("secret %s: %w", m.GetName(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.secrets[m.GetName()] = secret{body, s.version}
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// maxNames bounds what one stream may ask for; an Envoy asks for one name on each.
const maxNames = 100

// StreamSecrets serves one stream until either side ends it.
func (s *Server) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	requests, failed := make(chan *discovery.DiscoveryRequest), make(chan error, 1)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case requests <- r:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	w := watch{sent: map[string]uint64{}}
	for {
		s.mu.Lock()
		changed := s.changed
		response := w.respond(s.secrets)
		s.mu.Unlock()
		if response != nil {
			if err := stream.Send(response); err != nil {
				return err
			}
		}
		select {
		case r := <-requests:
			if err := w.request(r, s.log); err != nil {
				return err
			}
		case <-changed:
		case err := <-failed:
			if status.Code(err) == codes.Canceled {
				return nil
			}
			return err
		case <-stream.Context().Done():
			return nil
		}
	}
}

// A watch is what one stream has asked for and was sent.
type watch struct {
	names []string
	sent  map[string]uint64 // versions
	nonce uint64
}

// request takes the names of a request, be it an answer or not.
func (w *watch) request(r *discovery.DiscoveryRequest, log *slog.Logger) error {
	if url := r.GetTypeUrl(); url != "" && url != TypeURL {
		return status.Errorf(codes.InvalidArgument, "sds: type %q is not served here, want %s", url, TypeURL)
	}
	if n := len(r.GetResourceNames()); n > maxNames {
		return status.Errorf(codes.ResourceExhausted, "sds: %d names, at most %d are served", n, maxNames)
	}
	if d := r.GetErrorDetail(); d != nil {
		log.Warn("the proxy refuses a secret", "names", r.GetResourceNames(), "reason", d.GetMessage())
	}
	w.names = r.GetResourceNames()
	for name := range w.sent {
		if !slices.Contains(w.names, name) {
			delete(w.sent, name) // asked for again, it is sent again
		}
	}
	return nil
}

// respond returns what the stream lacks, nil if that is nothing.
func (w *watch) respond(secrets map[string]secret) *discovery.DiscoveryResponse {
	out := &discovery.DiscoveryResponse{TypeUrl: TypeURL}
	newest := uint64(0)
	for _, name := range w.names {
		if s, ok := secrets[name]; ok && w.sent[name] != s.version {
			w.sent[name] = s.version
			newest = max(newest, s.version)
			out.Resources = append(out.Resources, s.body)
		}
	}
	if len(out.Resources) == 0 {
		return nil
	}
	w.nonce++
	out.Nonce, out.VersionInfo = strconv.FormatUint(w.nonce, 10), strconv.FormatUint(newest, 10)
	return out
}
