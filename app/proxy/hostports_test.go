package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mallamesh/malla/local/broker"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/shard"
)

// A gateway whose port had to make way for another moves to the right one when that is free, and its
// listener goes on with the new socket.
func TestAGatewayMovesToThePortThatItWants(t *testing.T) {
	dir, err := os.MkdirTemp("", "ports") // short, for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "b.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	go broker.Serve(t.Context(), l, broker.Options{Linger: time.Hour})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).AddrPort().Port()
	free.Close()
	other, err := broker.NewClient(path).Lease(t.Context(), broker.ListenRequest{Owner: "shop/other", Port: port})
	if err != nil {
		t.Fatal(err)
	}

	h := &hostPorts{broker: broker.NewClient(path), owner: "shop/edge", log: slog.New(slog.DiscardHandler)}
	s, err := shard.New(shard.Options{Concurrency: 1, Listener: h.listener, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h.rebind = s.Rebind
	s.Start()
	defer s.Close()
	c := &listen.Config{Name: "edge", Bind: true, Addrs: []netip.AddrPort{netip.AddrPortFrom(outside4, port)}}
	if err := s.Apply(&shard.Runtime{Listeners: []*listen.Config{c}}); err != nil {
		t.Fatal(err)
	}
	bound := func() uint16 { at, _ := s.Addr("edge"); return at.Port() }
	if got := bound(); got == port || got == 0 {
		t.Fatalf("the gateway is at port %d, which another has", got)
	}
	other.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for bound() != port {
		select {
		case <-ctx.Done():
			t.Fatalf("the gateway is at port %d, want %d, which is free", bound(), port)
		case <-time.After(time.Millisecond):
		}
	}
	h.leave()
	if len(h.leases) != 0 {
		t.Errorf("left, it has %v", h.leases)
	}
}
