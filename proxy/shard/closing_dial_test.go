package shard

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/tcp"
	mtls "github.com/mallamesh/malla/proxy/tls"
)

// beginnings are the endings of connections that were not made yet.
var beginnings = map[string]func(t *testing.T, tell func(*bench)){
	"A host takes no connections": func(t *testing.T, tell func(*bench)) { dialing(t, tell, syscall.ECONNREFUSED).do(get("/")) },
	"There is no way to a host":   func(t *testing.T, tell func(*bench)) { dialing(t, tell, syscall.EHOSTUNREACH).do(get("/")) },
	"A host does not take a connection in time": func(t *testing.T, tell func(*bench)) {
		b := dialing(t, tell, io.EOF) // hangs
		p := b.dial()
		p.WriteString(get("/"))
		b.Advance(6 * time.Second)
	},
	"The time of a response is up before its connection is made": func(t *testing.T, tell func(*bench)) {
		r := to("app")
		r.Forward.Timeout = ptr(3 * time.Second)
		b := newBench(t, []route.RouteConfig{r}, static("app"))
		tell(b)
		b.endpoints("app", app1)
		b.Refuse(func(drive.Dial) error { return io.EOF }) // hangs
		b.dial().WriteString(get("/"))
		b.Advance(4 * time.Second)
	},
	"A client goes while the handshake with a host goes on": func(t *testing.T, tell func(*bench)) {
		b := shaking(t, tell, nil)
		b.Handle(app1, func(*drive.Pipe) {})
		p := b.dial()
		p.WriteString(get("/"))
		b.Step()
		b.Advance(time.Second)
		p.Reset()
		b.Step()
	},
	"A host closes its connection in the middle of the handshake": func(t *testing.T, tell func(*bench)) {
		shaking(t, tell, func(p *drive.Pipe) { p.CloseWrite() })
	},
	"A host resets its connection in the middle of the handshake": func(t *testing.T, tell func(*bench)) {
		shaking(t, tell, func(p *drive.Pipe) { p.Reset() })
	},
	"A host refuses the handshake by an alert": func(t *testing.T, tell func(*bench)) {
		shaking(t, tell, func(p *drive.Pipe) { p.Write([]byte{21, 3, 3, 0, 2, 2, 40}) }) // fatal: handshake_failure
	},
	"A host says nothing in the handshake": func(t *testing.T, tell func(*bench)) {
		b := shaking(t, tell, func(*drive.Pipe) {})
		b.Advance(6 * time.Second)
	},
	"What a host says in the handshake is no TLS": func(t *testing.T, tell func(*bench)) {
		shaking(t, tell, func(p *drive.Pipe) { p.WriteString("HTTP/1.1 400 Bad Request\r\n\r\n") })
	},
	"A host has a certificate of another": func(t *testing.T, tell func(*bench)) {
		b := newPair(t, []mtls.SANMatcher{{Type: mtls.URISAN, Exact: productpage}})
		tell(b.bench)
		b.do(get("/"))
	},
	"A host of TLS 1.3 does not trust the certificate of the proxy": func(t *testing.T, tell func(*bench)) {
		b := shaking(t, tell, nil)
		var up *drive.Pipe
		b.Handle(app1, func(p *drive.Pipe) { up = p })
		p := b.dial()
		p.WriteString(get("/"))
		b.Step()
		host := tls.Server(&wire{m: b.Memory, p: up}, &tls.Config{Certificates: []tls.Certificate{*b.server.identity.Certificate()}, SessionTicketsDisabled: true,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()})
		if err := host.Handshake(); err == nil {
			t.Fatal("the host has taken the proxy's certificate")
		}
		b.Step()
	},
	"A host of HTTP/2 never says a word": func(t *testing.T, tell func(*bench)) {
		b := newTwo(t, cluster.Config{})
		tell(b.bench)
		b.Handle(app1, func(*drive.Pipe) {})
		c := b.client()
		c.get(1, "/x")
		b.Step()
		b.Advance(16 * time.Second)
	},
	"A TCP host takes no connections": func(t *testing.T, tell func(*bench)) {
		b := dialing(t, tell, syscall.ECONNREFUSED)
		b.rt.Listeners[0] = clone(b, &listen.Chain{Name: "tcp", Filter: &tcp.Config{StatPrefix: "t", Cluster: "app", Logs: []listen.Log{b.log}}}, "2")
		if err := b.Apply(b.rt); err != nil {
			t.Fatal(err)
		}
		b.dial()
		b.Step()
	},
}

// dialing is a bench whose host does not get to be connected to.
func dialing(t *testing.T, tell func(*bench), err error) *bench {
	b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
	tell(b)
	b.endpoints("app", app1)
	b.Refuse(func(drive.Dial) error { return err })
	return b
}

// shaking is a pair of which the client's host is not the other, but does what it is told to when it has got the first message of a handshake.
func shaking(t *testing.T, tell func(*bench), do func(*drive.Pipe)) *pair {
	b := newPair(t, nil)
	tell(b.bench)
	b.endpoints("reviews", app1)
	if do == nil {
		return b
	}
	b.Handle(app1, func(p *drive.Pipe) {
		p.OnData = func(p *drive.Pipe) {
			p.In = p.In[:0]
			do(p)
		}
	})
	p := b.dial()
	p.WriteString(get("/"))
	b.Step()
	return b
}
