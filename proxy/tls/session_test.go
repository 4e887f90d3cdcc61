package tls

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"
)

// connect does a handshake of both sides and one byte each way, so that the client reads the ticket.
func connect(t *testing.T, server *Server, client *Client) (resumed bool, found Found) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a pipe holds nothing: both sides would write and wait for ever
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	done := make(chan error, 1)
	accepted := tls.Server(b, server.Config(nil, &found))
	go func() {
		_, err := accepted.Write([]byte("x"))
		done <- err
	}()
	c := tls.Client(a, client.Config("", "", nil, nil, &Found{}))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatalf("client: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatalf("server: %v", err)
	}
	return c.ConnectionState().DidResume, found
}

// A client with a certificate goes on with its session, is known by the certificate that it began with,
// and begins anew, without an error, when roots or certificates have changed.
func TestSessionsWithClientCertificates(t *testing.T) {
	ca := authority(t)
	cert, _ := issue(t, ca, time.Hour)
	id, trust, clientTrust := NewIdentity("default"), trusting(t, ca), trusting(t, ca)
	if err := id.Set(cert); err != nil {
		t.Fatal(err)
	}
	common := Common{Identities: []*Identity{id}, Trust: trust}
	server, err := NewServer(ServerConfig{Common: common, RequireClientCertificate: true})
	if err != nil {
		t.Fatal(err)
	}
	common.Trust = clientTrust
	client, err := NewClient(ClientConfig{Common: common, SNI: "reviews.default.svc", MaxSessions: 1})
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string, want bool) {
		t.Helper()
		got, found := connect(t, server, client)
		if got != want {
			t.Errorf("%s: resumed %v, want %v", what, got, want)
		}
		if found.Peer.Principal() != spiffe || !found.Peer.Verified {
			t.Errorf("%s: peer %+v", what, found.Peer)
		}
		if found.Local != id.Certificate().Leaf {
			t.Errorf("%s: we are %v, want who the certificate says", what, found.Local)
		}
	}
	step("first", false)
	step("second", true)
	step("third", true)
	other := authority(t)
	if err := trust.Set([]*x509.Certificate{ca.Root(), other.Root()}); err != nil {
		t.Fatal(err)
	}
	step("the server has other roots", false)
	step("and again", true)
	if err := clientTrust.Set([]*x509.Certificate{ca.Root(), other.Root()}); err != nil {
		t.Fatal(err)
	}
	step("the client has other roots", false)
	renewed, _ := issue(t, ca, time.Hour)
	if err := id.Set(renewed); err != nil {
		t.Fatal(err)
	}
	step("certificates are renewed", false)
	step("and again", true)
}

// Keys that are configured open tickets of another server that has them, until they are taken away.
func TestTicketKeys(t *testing.T) {
	ca := authority(t)
	cert, _ := issue(t, ca, time.Hour)
	id := NewIdentity("default")
	if err := id.Set(cert); err != nil {
		t.Fatal(err)
	}
	keys := NewTicketKeys("keys")
	servers := make([]*Server, 2)
	for i := range servers {
		var err error
		if servers[i], err = NewServer(ServerConfig{Common: Common{Identities: []*Identity{id}}, Tickets: keys}); err != nil {
			t.Fatal(err)
		}
	}
	if servers[0].Ready() {
		t.Error("ready without keys")
	}
	client, err := NewClient(ClientConfig{SNI: "a", MaxSessions: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		why  string
		keys [][]byte
		want bool
	}{
		{"the first connection", [][]byte{[]byte("one")}, false},
		{"another server with the same key", [][]byte{[]byte("one")}, true},
		{"the key has become an old one", [][]byte{[]byte("two"), []byte("one")}, true},
		{"the old key is gone, and the ticket is of the new one", [][]byte{[]byte("two")}, true},
		{"all keys are others", [][]byte{[]byte("three")}, false},
	} {
		keys.Set(test.keys)
		if got, _ := connect(t, servers[0], client); got != test.want {
			t.Errorf("%s: resumed %v, want %v", test.why, got, test.want)
		}
		servers[0], servers[1] = servers[1], servers[0]
	}
}

// A client that is not to remember sessions begins anew, and so does one whose session is too old.
func TestSessionsEnd(t *testing.T) {
	ca := authority(t)
	cert, _ := issue(t, ca, time.Hour)
	id := NewIdentity("default")
	if err := id.Set(cert); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		why    string
		server ServerConfig
		max    int
		want   bool
	}{
		{"sessions are remembered", ServerConfig{}, 1, true},
		{"none is to be remembered", ServerConfig{}, 0, false},
		{"the server gives no tickets", ServerConfig{DisableTickets: true}, 1, false},
		{"the session is too old", ServerConfig{SessionTimeout: 1}, 1, false},
		{"the session is young enough", ServerConfig{SessionTimeout: time.Hour}, 1, true},
	} {
		test.server.Common = Common{Identities: []*Identity{id}}
		server, err := NewServer(test.server)
		if err != nil {
			t.Fatal(err)
		}
		client, err := NewClient(ClientConfig{SNI: "a", MaxSessions: test.max})
		if err != nil {
			t.Fatal(err)
		}
		connect(t, server, client)
		if got, _ := connect(t, server, client); got != test.want {
			t.Errorf("%s: resumed %v, want %v", test.why, got, test.want)
		}
	}
}
