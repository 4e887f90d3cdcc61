// Package ca is the mesh's certificate authority as a service: Istio's
// CreateCertificate, the Secret that holds the root, and the ConfigMap by which
// every namespace learns it.
//
// Who calls is proved by a Kubernetes token made for the audience istio-ca, for a
// renewal too: the names in a request do not count, and a certificate does not
// prolong itself. The key stays in the Secret and in this process. The cryptography
// is package pki's.
package ca

import (
	"context"
	"crypto/x509"
	"log/slog"
	"time"

	securityv1alpha1 "istio.io/api/security/v1alpha1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mallamesh/malla/pki"
)

// maxRequest bounds a certificate request; a P-256 one has some 500 bytes.
const maxRequest = 16 << 10

// A Server signs certificates for workloads of the mesh's trust domain.
type Server struct {
	securityv1alpha1.UnimplementedIstioCertificateServiceServer

	Authority   *Authority
	TrustDomain func() string // of this moment
	Reviewer    Reviewer
	TTL         time.Duration // of a certificate whose request names none; 0: 24 h
	Now         func() time.Time
	Log         *slog.Logger
}

// Register adds the service to a gRPC server.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	securityv1alpha1.RegisterIstioCertificateServiceServer(g, s)
}

// CreateCertificate signs the caller's key for the caller's identity. The answer
// is a chain in PEM, leaf first; the last element has all roots, as Istio's agents
// expect it.
func (s *Server) CreateCertificate(ctx context.Context, req *securityv1alpha1.IstioCertificateRequest) (*securityv1alpha1.IstioCertificateResponse, error) {
	id, err := caller(ctx, s.Reviewer, s.TrustDomain())
	if err != nil {
		s.Log.Warn("certificate refused", "reason", err)
		return nil, status.Errorf(codes.Unauthenticated, "ca: %v", err)
	}
	if len(req.GetCsr()) > maxRequest {
		return nil, status.Errorf(codes.InvalidArgument, "ca: request has %d bytes, at most %d are read", len(req.GetCsr()), maxRequest)
	}
	if req.GetMetadata().GetFields()["ImpersonatedIdentity"] != nil {
		return nil, status.Error(codes.Unimplemented, "ca: metadata.ImpersonatedIdentity is not supported")
	}
	ttl := s.TTL
	if v := req.GetValidityDuration(); v > 0 {
		ttl = time.Duration(min(v, int64(pki.MaxWorkloadTTL/time.Second))) * time.Second
	}
	authority := s.Authority.CA()
	chain, err := authority.Sign([]byte(req.GetCsr()), id, ttl, s.Now())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "ca: %v", err)
	}
	s.Log.Info("certificate issued", "identity", id.String(), "serial", chain[0].SerialNumber.Text(16), "until", chain[0].NotAfter)
	return &securityv1alpha1.IstioCertificateResponse{CertChain: append(pems(chain[:len(chain)-len(authority.Roots())]), string(authority.RootPEM()))}, nil
}

func pems(chain []*x509.Certificate) []string {
	out := make([]string, len(chain))
	for i, c := range chain {
		out[i] = string(pki.EncodeCertificates(c))
	}
	return out
}
