package foreign

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/node/sds"
	"github.com/mallamesh/malla/pki"
)

// certificatesSection makes a story one with mutual TLS. Its lines say which endpoints speak it, and who they are:
//
//	10.244.0.7:80 spiffe://cluster.local/ns/default/sa/web
//
// Both proxies of the story have a certificate of their service account, and the roots: the real one from an agent, as beside an
// application, ours at once.
const certificatesSection = "certificates"

// inbound is the name of the listener for what a workload receives. A request to one of its ports is one to
// "virtualInbound PORT", behind which is the application.
const inbound = "virtualInbound"

// application is what stands for the workload's own program.
const application = "the application"

// certificates reads who endpoints are; nil: this is a story without mutual TLS.
func (p *play) certificates() map[string]string {
	for _, f := range p.archive.Files {
		if f.Name != certificatesSection {
			continue
		}
		who := map[string]string{}
		for line := range strings.Lines(string(f.Data)) {
			if at, id, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				who[at] = id
			}
		}
		return who
	}
	return nil
}

// certificate is one of somebody's.
func (p *play) certificate(who string) *tls.Certificate {
	p.t.Helper()
	id, err := pki.ParseID(who)
	if err != nil {
		p.t.Fatal(err)
	}
	key, chain, err := authority(p.t).Serve(id, nil, nil, time.Hour, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	return &tls.Certificate{PrivateKey: key, Leaf: chain[0], Certificate: [][]byte{chain[0].Raw}}
}

// secrets gives a proxy its certificate and roots.
func (p *play) secrets(static map[string]any, stock bool, me *tls.Certificate) {
	if stock {
		static["clusters"] = append(static["clusters"].([]any), grpcCluster("sds-grpc", p.agent(me)))
		return
	}
	key, err := pki.EncodeKey(me.PrivateKey.(crypto.Signer))
	if err != nil {
		p.t.Fatal(err)
	}
	text := func(b []byte) any { return map[string]any{"inline_string": string(b)} }
	static["secrets"] = []any{
		map[string]any{"name": "default", "tls_certificate": map[string]any{"certificate_chain": text(pki.EncodeCertificates(me.Leaf)), "private_key": text(key)}},
		map[string]any{"name": "ROOTCA", "validation_context": map[string]any{"trusted_ca": text(authority(p.t).RootPEM())}},
	}
}

// agent gives a proxy its certificate, as the one beside it would, and returns its address.
func (p *play) agent(me *tls.Certificate) string {
	p.t.Helper()
	s := sds.New(slog.New(slog.DiscardHandler))
	if err := s.SetIdentity("default", me); err != nil {
		p.t.Fatal(err)
	}
	if err := s.SetRoots("ROOTCA", authority(p.t).Roots()); err != nil {
		p.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	g := grpc.NewServer()
	s.Register(g)
	go func() { _ = g.Serve(l) }()
	p.t.Cleanup(g.Stop)
	return l.Addr().String()
}

func roots(ca *pki.CA) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range ca.Roots() {
		pool.AddCert(c)
	}
	return pool
}

// serverTLS is how an endpoint takes mutual TLS.
func (p *play) serverTLS(who string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{*p.certificate(who)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots(authority(p.t)),
		NextProtos: []string{"istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
}

// met says whom a server has met, and for what.
func met(ctx context.Context) string {
	h, ok := ctx.Value(connection{}).(hidden)
	if !ok {
		return ""
	}
	s := h.Conn.(*tls.Conn).ConnectionState()
	return fmt.Sprintf("mutual TLS with %s for %s by %s\n", s.PeerCertificates[0].URIs[0], s.ServerName, s.NegotiatedProtocol)
}

// connect opens a connection for a request. A first line "as ID" makes it one of mutual TLS.
func (p *play) connect(port int, as string) (net.Conn, string, error) {
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	c, err := net.DialTimeout("tcp", at, 10*time.Second)
	if err != nil || as == "" {
		return c, "", err
	}
	// The mesh's names are in URIs, which nobody but a mesh looks at: the chain alone is looked at here.
	verify := func(s tls.ConnectionState) error {
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots(authority(p.t))})
		return err
	}
	t := tls.Client(c, &tls.Config{Certificates: []tls.Certificate{*p.certificate(as)}, InsecureSkipVerify: true, VerifyConnection: verify,
		NextProtos: []string{"istio-http/1.1", "istio", "http/1.1"}, ServerName: "story.test", MinVersion: tls.VersionTLS12})
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if err := t.Handshake(); err != nil {
		c.Close()
		return nil, "", err
	}
	return t, fmt.Sprintf("mutual TLS with %s\n", t.ConnectionState().PeerCertificates[0].URIs[0]), nil
}

// arriving makes the listener for what comes in one of a port of this machine, which stands for one of the workload's.
func arriving(l *listenerv3.Listener, was, is uint32) {
	l.UseOriginalDst = nil
	var filters []*listenerv3.ListenerFilter
	for _, f := range l.ListenerFilters {
		if f.GetName() != "envoy.filters.listener.original_dst" {
			filters = append(filters, f)
		}
	}
	l.ListenerFilters = filters
	for _, c := range l.FilterChains {
		if c.GetFilterChainMatch().GetDestinationPort().GetValue() == was {
			c.FilterChainMatch.DestinationPort = wrapperspb.UInt32(is)
		}
	}
}

// toApplication makes a cluster of what comes in one of the application.
func (p *play) toApplication(c *clusterv3.Cluster) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.UpstreamBindConfig, c.LbPolicy, c.LbConfig = nil, clusterv3.Cluster_ROUND_ROBIN, nil
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: c.Name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: here(p.backend(application))}}}}}}}
}

// secure listens for connections with TLS. The server above does not see that they have it: it would close those that
// speak one of Istio's protocols.
type secure struct {
	net.Listener
	config *tls.Config
}

func (l secure) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return hidden{tls.Server(c, l.config)}, nil
}

type hidden struct{ net.Conn }

// connection is the key of a request's connection in its context.
type connection struct{}

// hideHash leaves out of x-forwarded-client-cert what every certificate has its own of.
func hideHash(value string) string {
	parts := strings.Split(value, ";")
	for i, part := range parts {
		if strings.HasPrefix(part, "Hash=") {
			parts[i] = "Hash=..."
		}
	}
	return strings.Join(parts, ";")
}

// exchange sends one request over a connection and reads the answer.
func exchange(c net.Conn, request string) (*http.Response, error) {
	if _, err := c.Write(bytes.ReplaceAll([]byte(request+"\n\n"), []byte("\n"), []byte("\r\n"))); err != nil {
		return nil, err
	}
	method, _, _ := strings.Cut(request, " ")
	return http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
}
