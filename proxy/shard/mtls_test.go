package shard

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/peer"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/tcp"
	mtls "github.com/mallamesh/malla/proxy/tls"
)

const (
	productpage = "spiffe://cluster.local/ns/default/sa/productpage"
	reviews     = "spiffe://cluster.local/ns/default/sa/reviews"
)

var podB = netip.MustParseAddrPort("10.0.0.2:15006")

// secrets are a workload's.
type secrets struct {
	identity *mtls.Identity
	trust    *mtls.Trust
}

func (s *secrets) rotate(t testing.TB, ca *pki.CA, id string, now time.Time, ttl time.Duration) {
	t.Helper()
	spiffe, err := pki.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	key, chain, err := ca.Serve(spiffe, nil, nil, ttl, now)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	if err := s.identity.Set(cert); err != nil {
		t.Fatal(err)
	}
	if err := s.trust.Set([]*x509.Certificate{ca.Root()}); err != nil {
		t.Fatal(err)
	}
}

func newSecrets(t testing.TB, ca *pki.CA, id string) *secrets {
	s := &secrets{mtls.NewIdentity("default"), mtls.NewTrust("ROOTCA")}
	s.rotate(t, ca, id, time.Now(), time.Hour)
	return s
}

// A pair is two sidecars: "out" takes plain requests and sends them by mutual TLS to
// "inbound", which passes them to an application.
type pair struct {
	*bench
	client, server *secrets
	ca             *pki.CA
	in             *stream.Config
	inLog          *logLine
}

func newPair(t testing.TB, want []mtls.SANMatcher) *pair {
	t.Helper()
	ca, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{ca: ca, client: newSecrets(t, ca, productpage), server: newSecrets(t, ca, reviews)}
	socket, err := mtls.NewClient(mtls.ClientConfig{SNI: "outbound_.80_._.reviews.default.svc.cluster.local", Common: mtls.Common{
		Identities: []*mtls.Identity{p.client.identity}, Trust: p.client.trust, Rules: mtls.Rules{SANs: want}, ALPN: []string{"istio-peer-exchange", "istio", "istio-http/1.1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	out := static("reviews")
	out.Transports = []cluster.Transport{{Name: "tls", Socket: socket}}
	p.bench = newBench(t, []route.RouteConfig{to("reviews")}, out, static("app"))
	b := p.bench
	b.endpoints("reviews", podB)
	b.endpoints("app", app1)

	server, err := mtls.NewServer(mtls.ServerConfig{RequireClientCertificate: true, Common: mtls.Common{
		Identities: []*mtls.Identity{p.server.identity}, Trust: p.server.trust, ALPN: []string{"istio-peer-exchange", "istio-http/1.1", "istio"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	inTable, err := route.NewTable(route.Config{VirtualHosts: []route.VirtualHostConfig{{Name: "inbound|http|80", Domains: []string{"*"}, Routes: []route.RouteConfig{to("app")}}}})
	if err != nil {
		t.Fatal(err)
	}
	metrics := stats.NewIstio(stats.IstioOptions{})
	p.inLog = &logLine{format: b.log.format}
	p.in = &stream.Config{
		Routes: inTable, Logs: []listen.Log{p.inLog}, Expect100Here: true, ServerName: "istio-envoy", Forward: stream.AppendForward,
		ForwardDetails: stream.ClientCertDetails{Subject: true, URI: true}, Upgrades: []string{"websocket"},
		Filters: []stream.Factory{peer.New(peer.Config{Inbound: true, ID: "server", Own: &stats.Peer{Workload: "reviews-v1"}, Intern: metrics.Peer}), router.New(router.Config{})},
	}
	b.config.Filters = []stream.Factory{peer.New(peer.Config{ID: "client", Own: &stats.Peer{Workload: "productpage-v1", Namespace: "default"}, Intern: metrics.Peer}), router.New(router.Config{})}
	b.rt.Listeners = append(b.rt.Listeners, &listen.Config{
		Name: "inbound", Version: "1", Addrs: []netip.AddrPort{podB}, TLSInspector: &listen.Inspector{}, Direction: listen.Inbound, Logs: []listen.Log{unserved{p.inLog}},
		Chains: []*listen.Chain{
			{Name: "http-tls", Match: listen.Match{Transport: listen.TLS, ALPN: []string{"istio-http/1.1"}}, TLS: server, Filter: p.in},
			{Name: "plain", Match: listen.Match{Transport: listen.RawBuffer}, Filter: p.in},
		},
	})
	if err := b.Apply(b.rt); err != nil {
		t.Fatal(err)
	}
	b.Serve(podB, "inbound")
	return p
}

func TestMutualTLSBetweenSidecars(t *testing.T) {
	p := newPair(t, []mtls.SANMatcher{{Type: mtls.URISAN, Exact: reviews}})
	b := p.bench
	for range 3 { // the first is a handshake, the others use its connection
		got := b.do(get("/x"))
		if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nok") || strings.Contains(got, "peer-metadata") {
			t.Fatalf("answer %q", got)
		}
	}
	if n := b.rt.Clusters["reviews"].Stats.TLS.Handshake.Value(); n != 1 {
		t.Errorf("%d handshakes for 3 requests, want 1", n)
	}
	request := b.requests[0]
	if !strings.Contains(request, "x-forwarded-client-cert: By="+reviews+";Hash=") || !strings.Contains(request, ";URI="+productpage+"\r\n") {
		t.Errorf("the application is not told who calls: %q", request)
	}
	if strings.Contains(request, "peer-metadata") {
		t.Errorf("the application sees the proxies' exchange: %q", request)
	}
}

func TestRecordsKnowThePeers(t *testing.T) {
	p := newPair(t, nil)
	seen := &recordLog{}
	p.in.Logs = append(p.in.Logs, seen)
	out := &recordLog{}
	p.config.Logs = append(p.config.Logs, out)
	p.do(get("/x"))
	if len(seen.peers) != 1 || seen.peers[0] == nil || *seen.peers[0] != (stats.Peer{Workload: "productpage-v1", Namespace: "default", CanonicalService: "productpage-v1", CanonicalRevision: "latest", Principal: productpage}) {
		t.Errorf("the server's proxy knows of its client %+v", seen.peers)
	}
	if len(out.peers) != 1 || out.peers[0] == nil || out.peers[0].Workload != "reviews-v1" || out.peers[0].Principal != reviews {
		t.Errorf("the client's proxy knows of its server %+v", out.peers)
	}
	if seen.sni != "outbound_.80_._.reviews.default.svc.cluster.local" || seen.chain != "http-tls" {
		t.Errorf("SNI %q, chain %q", seen.sni, seen.chain)
	}
}

// Somebody else's certificate, though from the same authority, is not who we want to talk to.
func TestWrongNameIsRefused(t *testing.T) {
	p := newPair(t, []mtls.SANMatcher{{Type: mtls.URISAN, Exact: "spiffe://cluster.local/ns/default/sa/other"}})
	got := p.do(get("/x"))
	if !strings.HasPrefix(got, "HTTP/1.1 503") || !strings.HasSuffix(got, "reset reason: remote connection failure") {
		t.Errorf("answer %q", got)
	}
	if !strings.Contains(p.log.last(), "503 UF upstream_reset_before_response_started{remote_connection_failure|TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher,_certificate_SANs_are_[spiffe://") {
		t.Errorf("log %s", p.log.last())
	}
}

func TestOtherAuthorityIsRefused(t *testing.T) {
	p := newPair(t, nil)
	other, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	trust := p.client.trust.Bundle()
	p.client.rotate(t, other, productpage, time.Now(), time.Hour)
	p.client.trust.Set(trust.Certificates) // it still trusts the server
	got := p.do(get("/x"))
	if !strings.HasPrefix(got, "HTTP/1.1 503") {
		t.Errorf("answer %q, want 503: the server must refuse the client's certificate", got)
	}
	if len(p.requests) != 0 {
		t.Error("the application got the request")
	}
}

func TestExpiredCertificateIsRefused(t *testing.T) {
	p := newPair(t, nil)
	p.client.rotate(t, p.ca, productpage, time.Now().Add(-2*time.Hour), time.Hour)
	if got := p.do(get("/x")); !strings.HasPrefix(got, "HTTP/1.1 503") {
		t.Errorf("answer %q, want 503", got)
	}
}

// Certificates rotate under a connection that lives on, and new connections use the new ones.
func TestRotation(t *testing.T) {
	p := newPair(t, nil)
	c := p.dial()
	for i := range 20 {
		p.client.rotate(t, p.ca, productpage, time.Now(), time.Hour)
		p.server.rotate(t, p.ca, reviews, time.Now(), time.Hour)
		c.WriteString(get("/long"))
		p.Step()
		if got := c.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Fatalf("rotation %d: answer on the old connection %q", i, got)
		}
		fresh := p.dial()
		fresh.WriteString(get("/close", "Connection: close"))
		p.Step()
		if got := fresh.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Fatalf("rotation %d: answer on a new connection %q", i, got)
		}
	}
}

func TestNoSecretYet(t *testing.T) {
	p := newPair(t, nil)
	empty, err := mtls.NewClient(mtls.ClientConfig{Common: mtls.Common{Identities: []*mtls.Identity{mtls.NewIdentity("default")}}})
	if err != nil {
		t.Fatal(err)
	}
	p.rt.Clusters["reviews"].Transports[0].Socket = empty
	p.endpoints("reviews", podB)
	if got := p.do(get("/x")); !strings.HasPrefix(got, "HTTP/1.1 503") {
		t.Errorf("answer %q, want 503", got)
	}
	if !strings.Contains(p.log.last(), "secret_is_not_supplied_by_SDS") {
		t.Errorf("log %s", p.log.last())
	}
}

func TestLargeBodiesOverTLS(t *testing.T) {
	p := newPair(t, nil)
	body := strings.Repeat("0123456789abcdef", 20000) // 320 KB
	p.answer = func(_ *bench, c *drive.Pipe, request string) {
		_, got, _ := strings.Cut(request, "\r\n\r\n")
		c.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 320000\r\n\r\n" + got)
	}
	c := p.dial()
	c.WriteString("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 320000\r\n\r\n")
	for i := 0; i < len(body); i += 50000 {
		c.WriteString(body[i:min(i+50000, len(body))])
		p.Step()
	}
	_, got, _ := strings.Cut(c.Take(), "\r\n\r\n")
	if got != body {
		t.Errorf("%d bytes came back, want the %d that were sent", len(got), len(body))
	}
}

// TCP by mutual TLS, with the exchange of metadata, half-closes, and a server that speaks first.
func TestTCPOverMutualTLS(t *testing.T) {
	p := newPair(t, nil)
	intern := func(any []byte, principal string) *stats.Peer {
		told, err := peer.DecodeAny(any)
		if err != nil {
			return nil
		}
		told.Principal = principal
		return told
	}
	inLog, outLog := &recordLog{}, &recordLog{}
	out := &tcp.Config{Cluster: "reviews", Metrics: []listen.Log{outLog}, Exchange: &tcp.Exchange{Message: peer.Message(&stats.Peer{Workload: "c"}, nil), Parse: intern}}
	in := &tcp.Config{Cluster: "app", Metrics: []listen.Log{inLog}, Exchange: &tcp.Exchange{Message: peer.Message(&stats.Peer{Workload: "s"}, nil), Parse: intern}}
	inbound := &listen.Config{Name: "inbound", Version: "2", Addrs: []netip.AddrPort{podB}, TLSInspector: &listen.Inspector{}, Chains: []*listen.Chain{
		{Name: "tcp-tls", Match: listen.Match{Transport: listen.TLS, ALPN: []string{"istio-peer-exchange"}}, TLS: p.rt.Listeners[1].Chains[0].TLS, Filter: in},
	}}
	outbound := &listen.Config{Name: "tcp", Version: "1", Addrs: []netip.AddrPort{local}, Chains: []*listen.Chain{{Filter: out}}}
	rt := *p.rt
	rt.Listeners = []*listen.Config{inbound, outbound}
	if err := p.Apply(&rt); err != nil {
		t.Fatal(err)
	}
	var app *drive.Pipe
	p.Handle(app1, func(c *drive.Pipe) { app = c; c.WriteString("220 hello\r\n") })
	c := p.Dial("tcp", client, local)
	p.Step()
	if got := c.Take(); got != "220 hello\r\n" {
		t.Fatalf("the client heard %q first, want the server's greeting", got)
	}
	c.WriteString("EHLO x\r\n")
	c.CloseWrite()
	p.Step()
	if got := app.Take(); got != "EHLO x\r\n" || !app.EOF {
		t.Fatalf("the application got %q, end %v", got, app.EOF)
	}
	app.WriteString("250 after your end\r\n")
	p.Step()
	if got := c.Take(); got != "250 after your end\r\n" || c.EOF {
		t.Fatalf("the client got %q, end %v: the other direction must go on", got, c.EOF)
	}
	app.CloseWrite()
	p.Step()
	if !c.Closed || !app.Closed {
		t.Errorf("client's connection closed %v, application's %v; want both", c.Closed, app.Closed)
	}
	if inLog.peers[len(inLog.peers)-1].Workload != "c" || outLog.peers[len(outLog.peers)-1].Workload != "s" {
		t.Errorf("peers %+v and %+v", inLog.peers, outLog.peers)
	}
	// Counted as opened by somebody known: not before the peers have told who they are.
	if len(inLog.opened) != 1 || inLog.opened[0] == nil || inLog.opened[0].Workload != "c" || len(outLog.opened) != 1 || outLog.opened[0] == nil || outLog.opened[0].Workload != "s" {
		t.Errorf("opened by %+v and %+v, want one each, c and s", inLog.opened, outLog.opened)
	}
	if outLog.received != 8 || outLog.sent != 31 {
		t.Errorf("%d bytes received, %d sent; want 8 and 31", outLog.received, outLog.sent)
	}
}
