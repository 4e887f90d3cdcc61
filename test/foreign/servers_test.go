package foreign

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/mallamesh/malla/translate/story"
)

// Two sections of a story say more of the servers behind the proxies. "certificates" says who has which, and makes it a story with TLS: both
// proxies then have the certificate of their service account, and the mesh's roots; the real one from an agent, as beside an
// application, ours at once.
//
//	10.244.0.7:80 spiffe://cluster.local/ns/default/sa/web   mutual TLS of the mesh
//	10.244.0.8:443 shop.example by=partners asks=clients     TLS, with a certificate that partners have signed, of who shows one that clients have
//
// "servers" says what they do:
//
//	10.244.0.7:80 refuses            nobody listens
//	10.244.0.7:80 resets             the connection, when it has read a request
//	10.244.0.7:80 silent             it never answers
//	10.244.0.7:80 holds              it answers when the story goes on (see asks_test.go)
//	10.244.0.7:80 says=503           with that status
//	10.244.0.7:80 says=503 first=2   to the first two requests
//	10.244.0.7:80 counts             which request of which of its connections it is
//	10.244.0.7:80 server=apache      its name, as a header of its answers
//	10.244.0.7:80 permissive         it also answers without TLS
//	10.244.0.7:80 greets             in bytes of its own, before the client does
//	10.244.0.7:80 echoes             a line in bytes of its own

// An identity is who a server is towards TLS clients.
type identity struct{ name, by, asks string }

type standInKey struct {
	side int
	name string
}

// A standIn stands for an endpoint of one proxy.
type standIn struct {
	play        *play
	name        string
	does        map[string]string
	port        uint32
	requests    atomic.Int64
	connections atomic.Int64
	holding     atomic.Int64
	got         atomic.Pointer[string]        // the last request
	gate        atomic.Pointer[chan struct{}] // closed: the held go on
}

// held is closed when requests that are held now are to be answered.
func (s *standIn) held() <-chan struct{} { return *s.gate.Load() }

// hold holds requests from now on.
func (s *standIn) hold() {
	gate := make(chan struct{})
	s.gate.Store(&gate)
}

// letGo answers those that are held, and all that come until the next hold.
func (s *standIn) letGo() {
	select {
	case <-s.held():
	default:
		close(*s.gate.Load())
	}
}

func (p *play) readServers() {
	p.how = map[string][]string{}
	for _, f := range p.archive.Files {
		if f.Name == "certificates" {
			p.who = map[string]identity{}
		}
		for line := range strings.Lines(string(f.Data)) {
			words := strings.Fields(strings.Replace(line, application+" ", "application ", 1))
			if len(words) < 2 {
				continue
			}
			if words[0] == "application" {
				words[0] = application
			}
			switch f.Name {
			case "certificates":
				id := identity{name: words[1], by: words[1]}
				for _, w := range words[2:] {
					switch key, value, _ := strings.Cut(w, "="); key {
					case "by":
						id.by = value
					case "asks":
						id.asks = value
					}
				}
				p.who[words[0]] = id
			case "servers":
				p.how[words[0]] = words[1:]
			}
		}
	}
}

// server is one that says who it is, and what it was asked.
func (p *play) server(at int, name string) *standIn {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := standInKey{at, name}
	if s := p.servers[key]; s != nil {
		return s
	}
	s := &standIn{play: p, name: name, does: map[string]string{}}
	s.hold()
	for _, w := range p.how[name] {
		what, value, _ := strings.Cut(w, "=")
		s.does[what] = value
	}
	p.servers[key] = s
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	s.port = uint32(l.Addr().(*net.TCPAddr).Port)
	switch {
	case s.is("refuses"):
		l.Close()
		s.port = closed(p)
	case s.is("greets"), s.is("echoes"):
		p.t.Cleanup(func() { l.Close() })
		go s.serveBytes(l)
	default:
		s.serve(l)
	}
	return s
}

func (s *standIn) is(what string) bool { _, ok := s.does[what]; return ok }

// serve answers in HTTP.
func (s *standIn) serve(l net.Listener) {
	p := s.play
	h := httptest.NewUnstartedServer(tunneled(http.HandlerFunc(s.answer)))
	h.Listener.Close()
	h.Listener = announced{l}
	name := s.name
	if strings.HasPrefix(name, wherever) {
		name = wherever
	}
	if id, ok := p.who[name]; ok {
		h.Listener = secure{h.Listener, p.serverTLS(id), s.is("permissive") || name == wherever}
	}
	h.Config.Protocols = new(http.Protocols)
	h.Config.Protocols.SetHTTP1(true)
	h.Config.Protocols.SetUnencryptedHTTP2(true)
	h.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(context.WithValue(ctx, connection{}, c), count{}, &tally{connection: s.connections.Add(1)})
	}
	h.Start()
	p.t.Cleanup(func() {
		s.letGo()
		h.CloseClientConnections()
		h.Close()
	})
}

// tally is which connection it is, and how many requests it has had.
type tally struct{ connection, requests int64 }

type count struct{}

func (s *standIn) answer(w http.ResponseWriter, r *http.Request) {
	n := s.requests.Add(1)
	first, err := strconv.ParseInt(s.does["first"], 10, 64)
	late := err == nil && n > first
	switch {
	case late:
	case s.is("resets"):
		panic(http.ErrAbortHandler)
	case s.is("silent"):
		select {
		case <-r.Context().Done():
		case <-s.held(): // at the end
		}
		return
	case s.is("holds"):
		s.holding.Add(1)
		<-s.held()
		s.holding.Add(-1)
	}
	w.Header()["Date"] = nil
	if v, ok := s.does["server"]; ok {
		w.Header().Set("Server", v)
	}
	if status, err := strconv.Atoi(s.does["says"]); err == nil && !late {
		w.WriteHeader(status)
	}
	over := ""
	if r.ProtoMajor == 2 {
		over = " over HTTP/2"
	}
	about := ""
	if c := r.Context().Value(count{}).(*tally); s.is("counts") {
		about = fmt.Sprintf("request %d of connection %d\n", atomic.AddInt64(&c.requests, 1), c.connection)
	}
	said := fmt.Sprintf("%s got %s %s%s\nhost: %s\n%s%s", s.name, r.Method, r.RequestURI, over, r.Host, headers(r.Header), introduction(r.Context())+met(r.Context())+about)
	s.got.Store(&said)
	_, _ = w.Write([]byte(said))
}

// serveBytes answers in lines.
func (s *standIn) serveBytes(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if s.is("greets") {
				fmt.Fprintf(c, "%s greets\n", s.name)
			}
			for lines := bufio.NewScanner(c); lines.Scan(); {
				fmt.Fprintf(c, "%s got %s\n", s.name, lines.Text())
			}
		}()
	}
}

// closed returns a port that nobody listens on, and that nobody else gets while the story is played.
func closed(p *play) uint32 {
	// A socket that is bound and not listening keeps its port.
	port, err := reserve(p.t)
	if err != nil {
		p.t.Fatal(err)
	}
	return port
}

// serverTLS is how an endpoint takes TLS.
func (p *play) serverTLS(id identity) *tls.Config {
	if strings.HasPrefix(id.name, "spiffe://") {
		return &tls.Config{Certificates: []tls.Certificate{*p.certificate(id.name)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots(authority(p.t)),
			NextProtos: []string{"istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	}
	config := &tls.Config{Certificates: []tls.Certificate{p.keyPair(id.name, id.by)}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	if id.asks != "" {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AddCert(p.issue(id.asks, id.asks).Leaf)
	}
	return config
}

func (p *play) issue(name, by string) *story.Certificate {
	c, err := story.Issue(name, by)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *play) keyPair(name, by string) tls.Certificate {
	c := p.issue(name, by)
	return tls.Certificate{Certificate: [][]byte{c.Leaf.Raw}, PrivateKey: c.Key, Leaf: c.Leaf}
}

// met says whom a server has met, and for what.
func met(ctx context.Context) string {
	h, ok := ctx.Value(connection{}).(hidden)
	if !ok {
		return ""
	}
	s := h.Conn.(*tls.Conn).ConnectionState()
	what := fmt.Sprintf("TLS for %s by %s\n", s.ServerName, cmp.Or(s.NegotiatedProtocol, "no protocol"))
	if len(s.PeerCertificates) > 0 {
		what = fmt.Sprintf("mutual TLS with %s for %s by %s\n", named(s.PeerCertificates[0]), s.ServerName, cmp.Or(s.NegotiatedProtocol, "no protocol"))
	}
	return what
}

// named is whose a certificate is.
func named(c *x509.Certificate) string {
	if len(c.URIs) > 0 {
		return c.URIs[0].String()
	}
	return c.Subject.CommonName
}

// Headers that differ from request to request, or that only Istio's filters add.
var volatile = []string{"x-request-id", "x-envoy-upstream-service-time", "date", "x-envoy-peer-metadata", "x-envoy-peer-metadata-id", "x-envoy-decorator-operation"}

// headers are lines, sorted.
func headers(h http.Header) string {
	var lines []string
	for name, values := range h {
		if name = strings.ToLower(name); slices.Contains(volatile, name) {
			continue
		}
		for _, v := range values {
			switch name {
			case "x-forwarded-for":
				v = withoutMachine(v)
			case "x-forwarded-client-cert":
				v = hideHash(v)
			case "x-forwarded-port":
				v = "(the listener's)" // each proxy has its own
			}
			lines = append(lines, name+": "+v+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// withoutMachine names addresses of this machine in a list by what they are: in the place of a client's loopback address,
// proxies put the one that they have towards others.
func withoutMachine(list string) string {
	own, _ := net.InterfaceAddrs()
	parts := strings.Split(list, ",")
	for i, part := range parts {
		if slices.ContainsFunc(own, func(a net.Addr) bool { return strings.HasPrefix(a.String(), part+"/") }) {
			parts[i] = "this-machine"
		}
	}
	return strings.Join(parts, ",")
}
