package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	securityv1alpha1 "istio.io/api/security/v1alpha1"

	"github.com/mallamesh/malla/pki"
)

// A CA is Istio's certificate service behind TLS. Each request dials anew: there
// is one in many hours, and what was true of a connection then is not now.
type CA struct {
	Address   string // host:port
	Name      string // that the server must prove; empty: the host of Address
	TokenPath string // of the projected service-account token, read for each request
	ClusterID string
	Roots     *Roots
	Dial      func(ctx context.Context, address string) (net.Conn, error) // nil: the network
}

// Sign asks the CA.
func (c *CA) Sign(ctx context.Context, request []byte, ttl time.Duration) ([]*x509.Certificate, error) {
	ctx, err := c.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.Roots.Load(); err != nil && len(c.Roots.All()) == 0 {
		return nil, err
	}
	name := c.Name
	if name == "" {
		name = Host(c.Address)
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(c.Roots.ClientTLS(name, nil)))}
	if c.Dial != nil {
		options = append(options, grpc.WithContextDialer(c.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Address, options...)
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", c.Address, err)
	}
	defer conn.Close()
	answer, err := securityv1alpha1.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx,
		&securityv1alpha1.IstioCertificateRequest{Csr: string(request), ValidityDuration: int64(ttl / time.Second)})
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", c.Address, err)
	}
	chain, err := pki.DecodeCertificates([]byte(strings.Join(answer.GetCertChain(), "\n")))
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", c.Address, err)
	}
	return chain, nil
}

// authenticate adds the token, by which alone a certificate is had: who once got
// hold of a certificate's key must not be able to renew it for ever.
func (c *CA) authenticate(ctx context.Context) (context.Context, error) {
	if c.ClusterID != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "clusterid", c.ClusterID)
	}
	token, err := os.ReadFile(c.TokenPath)
	if text := strings.TrimSpace(string(token)); err == nil && text != "" {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+text), nil
	}
	if err == nil {
		err = errors.New("it is empty")
	}
	return nil, fmt.Errorf("token %s: %w", c.TokenPath, err)
}

// Host returns the host of host:port, or the text as it is.
func Host(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
