package app

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/control/ca"
	"github.com/mallamesh/malla/pki"
)

// A connection lives for half an hour, give or take the tenth that gRPC adds, and
// its streams have some seconds more to end: so proxies spread over control planes
// that came later, and show their newer certificates. (Istiod's values.)
const (
	connectionAge   = 30 * time.Minute
	connectionGrace = 10 * time.Second

	// connectionStreams is how many calls one connection may have at a time. A proxy
	// has one for its configuration and sometimes one for a certificate.
	connectionStreams = 100
)

// serveGRPC serves xDS and the CA with TLS on 15012, and xDS in plain text to
// this host only on 15010.
func (c *controlPlane) serveGRPC(ctx context.Context, client kubernetes.Interface) error {
	certs := &ownCertificate{c: c}
	options := []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: connectionGrace}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(4 << 20), grpc.ConnectionTimeout(10 * time.Second), grpc.MaxConcurrentStreams(connectionStreams),
	}
	issuer := &ca.Server{Authority: c.authority, TrustDomain: c.trustDomain, Reviewer: ca.TokenReviewer{Client: client}, Now: time.Now, Log: c.o.Log}
	mutual := grpc.NewServer(append(options, grpc.Creds(c.authority.Credentials(certs.get)))...)
	c.server.Register(mutual)
	issuer.Register(mutual)
	plain := grpc.NewServer(options...)
	c.server.Register(plain)

	g, ctx := errgroup.WithContext(ctx)
	listen := func(s *grpc.Server, addr string) {
		g.Go(func() error {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				return err
			}
			return s.Serve(l)
		})
		g.Go(func() error {
			<-ctx.Done()
			s.Stop()
			return nil
		})
	}
	listen(mutual, net.JoinHostPort(c.o.Listen, "15012"))
	listen(plain, "127.0.0.1:15010")
	g.Go(func() error {
		return serveUntil(ctx, net.JoinHostPort(c.o.Listen, "15017"), &http.Server{Handler: c.webhooks(), TLSConfig: &tls.Config{GetCertificate: certs.get, MinVersion: tls.VersionTLS12}})
	})
	return g.Wait()
}

// ownCertificate renews the certificate of our own servers at half its life, and
// when the CA becomes another.
type ownCertificate struct {
	c    *controlPlane
	mu   sync.Mutex
	cert *tls.Certificate // guarded by mu
	half time.Time        // guarded by mu
	by   *pki.CA          // guarded by mu: who signed it
}

func (o *ownCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, authority := time.Now(), o.c.authority.CA()
	if o.cert != nil && now.Before(o.half) && o.by == authority {
		return o.cert, nil
	}
	ns := o.c.o.Namespace
	id := pki.ID{TrustDomain: o.c.trustDomain(), Namespace: ns, Account: "istiod"}
	names := []string{"istiod", "istiod." + ns, "istiod." + ns + ".svc", "istiod." + ns + ".svc.cluster.local", "localhost"}
	key, chain, err := authority.Serve(id, names, nil, pki.DefaultWorkloadTTL, now)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	o.cert, o.half, o.by = cert, now.Add(chain[0].NotAfter.Sub(now)/2), authority
	return cert, nil
}
