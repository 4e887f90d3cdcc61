package shard

import (
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/route"
)

// What a host says behind a response that its client has not taken yet is no answer to the next request.
func TestNobodysAnswerBehindAHeldResponse(t *testing.T) {
	c := static("app")
	c.Breakers[cluster.Default].Connections = ptr(uint32(1))
	b := newBench(t, []route.RouteConfig{to("app")}, c)
	b.rt.Listeners[0].BufferLimit = 1000
	b.endpoints("app", app1)
	var hosts []*drive.Pipe
	b.Handle(app1, func(p *drive.Pipe) {
		hosts = append(hosts, p)
		p.OnData = func(p *drive.Pipe) { b.requests = append(b.requests, p.Take()) }
	})
	slow, next := b.dial(), b.dial()
	slow.Window = 500
	slow.WriteString(get("/slow"))
	b.Step()
	next.WriteString(get("/next"))
	b.Step()
	hosts[0].WriteString("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + strings.Repeat("3e8\r\n"+strings.Repeat("x", 1000)+"\r\n", 5) + "0\r\n\r\n")
	b.Step() // all of it has been read, and not all was taken
	hosts[0].WriteString("HTTP/1.1 200 OK\r\nx-poison: yes\r\ncontent-length: 0\r\n\r\n")
	for range 20 {
		b.Step()
		slow.Take()
	}
	if got := next.Take(); got != "" {
		t.Errorf("the next client got %q of a host that has not been asked", got)
	}
	if len(hosts) != 2 || !hosts[0].Closed {
		t.Errorf("%d connections to the host, the first is closed: %v; want another one", len(hosts), hosts[0].Closed)
	}
}
