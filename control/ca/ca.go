// Package ca is the mesh's certificate authority as a service: Istio's
// CreateCertificate, the Secret that holds the root, and the ConfigMap by which
// every namespace learns it.
//
// Who calls is proved by a Kubernetes token made for the audience istio-ca or by
// the certificate of an earlier call; the names in a request do not count. The
// key stays in the Secret and in this process. The cryptography is package pki's.
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

// A Server signs certificates for workloads of one trust domain.
type Server struct {
	securityv1alpha1.UnimplementedIstioCertificateServiceServer

	CA          *pki.CA
	TrustDomain string
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
// is a chain in PEM, leaf first, root last.
func (s *Server) CreateCertificate(ctx context.Context, req *securityv1alpha1.IstioCertificateRequest) (*securityv1alpha1.IstioCertificateResponse, error) {
	id, err := caller(ctx, s.Reviewer, s.TrustDomain)
	if err != nil {
		s.Log.Warn("certificate refused", "reason", err)
		return nil, status.Errorf(codes.Unauthenticated, "ca: %v", err)
	}
	if id.TrustDomain != s.TrustDomain {
		return nil, status.Errorf(codes.PermissionDenied, "ca: %s is of another trust domain, want %s", id, s.TrustDomain)
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
	chain, err := s.CA.Sign([]byte(req.GetCsr()), id, ttl, s.Now())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "ca: %v", err)
	}
	s.Log.Info("certificate issued", "identity", id.String(), "serial", chain[0].SerialNumber.Text(16), "until", chain[0].NotAfter)
	return &securityv1alpha1.IstioCertificateResponse{CertChain: pems(chain)}, nil
}

func pems(chain []*x509.Certificate) []string {
	out := make([]string, len(chain))
	for i, c := range chain {
		out[i] = string(pki.EncodeCertificates(c))
	}
	return out
}
