package ca

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/mallamesh/malla/pki"
)

// Credentials returns those of a gRPC server that shows the certificate of get, and
// asks its clients for one of the authority's roots of that moment. Clients need
// none (they may come for their first), but a connection ends with the certificate
// that it began with: nobody stays who he was for longer than was vouched for.
func (a *Authority) Credentials(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) credentials.TransportCredentials {
	var mu sync.Mutex
	var by *pki.CA         // guarded by mu
	var config *tls.Config // guarded by mu: for by
	return &ending{credentials.NewTLS(&tls.Config{
		GetCertificate: get, MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			if now := a.CA(); now != by {
				pool := x509.NewCertPool()
				for _, c := range now.Roots() {
					pool.AddCert(c)
				}
				by, config = now, &tls.Config{GetCertificate: get, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
					MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
			}
			return config, nil
		},
	})}
}

// ending closes connections when their client's certificate ends.
type ending struct {
	credentials.TransportCredentials
}

func (e *ending) Clone() credentials.TransportCredentials {
	return &ending{e.TransportCredentials.Clone()}
}

func (e *ending) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := e.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	if leaf := clientCertificate(info); leaf != nil {
		conn = &endingConn{conn, time.AfterFunc(time.Until(leaf.NotAfter), func() { _ = raw.Close() })}
	}
	return conn, info, nil
}

type endingConn struct {
	net.Conn
	end *time.Timer
}

func (c *endingConn) Close() error {
	c.end.Stop()
	return c.Conn.Close()
}
