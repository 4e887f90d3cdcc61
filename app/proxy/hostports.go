package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mallamesh/malla/local/broker"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/shard"
)

// hostPorts are the listening sockets that a gateway has on the machine outside of
// its mesh: every port that it binds is offered there too. The broker opens them, and
// keeps them open while one replica takes over from another.
type hostPorts struct {
	broker *broker.Client
	owner  string            // told to the broker; a pod's own socket knows better
	v6     bool              // the machine has ::1 too
	called map[uint16]uint16 // a port's number in the gateway's Service, if another
	log    *slog.Logger
	rebind func(...netip.AddrPort) error // opens addresses anew; set before the first lease

	mu     sync.Mutex
	leases map[uint16]*broker.Lease // by the gateway's port; guarded by mu: held as long as a socket is in use
}

// EnvPorts tells a gateway how its Services call its ports: "8080=80,8443=443".
const EnvPorts = "MALLA_GATEWAY_PORTS"

// servicePorts reads EnvPorts; what is not two numbers is passed over.
func servicePorts(s string) map[uint16]uint16 {
	called := map[uint16]uint16{}
	for _, pair := range strings.Split(s, ",") {
		var own, service uint16
		if n, err := fmt.Sscanf(pair, "%d=%d", &own, &service); err == nil && n == 2 {
			called[own] = service
		}
	}
	return called
}

// outside4 and outside6 stand, as the address of a listener, for the machine
// outside of the mesh: addresses that nobody has (class E; RFC 6666).
var outside4, outside6 = netip.AddrFrom4([4]byte{240, 0, 0, 1}), netip.MustParseAddr("100::1")

// askTimeout bounds what the broker is asked.
const askTimeout = 10 * time.Second

// ask finds out which addresses the machine has.
func (h *hostPorts) ask() {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	var err error
	if h.v6, err = h.broker.IPv6(ctx); err != nil {
		h.log.Warn("ports are published on 127.0.0.1 only", "reason", err)
	}
}

// extra gives a listener on all addresses those outside.
func (h *hostPorts) extra(c *listen.Config) []netip.AddrPort {
	if len(c.Addrs) == 0 || !c.Addrs[0].Addr().IsUnspecified() {
		return nil
	}
	port := c.Addrs[0].Port()
	out := []netip.AddrPort{netip.AddrPortFrom(outside4, port)}
	if h.v6 {
		out = append(out, netip.AddrPortFrom(outside6, port))
	}
	return out
}

// listener makes the socket of an address that is outside.
func (h *hostPorts) listener(_ *listen.Config, addr netip.AddrPort) (net.Listener, error) {
	if addr.Addr() != outside4 && addr.Addr() != outside6 {
		return nil, nil
	}
	l, err := h.lease(addr.Port())
	if err != nil {
		return nil, err
	}
	if addr.Addr() == outside4 {
		return borrowed{l.Sockets[0]}, nil
	}
	if len(l.Sockets) < 2 {
		return nil, fmt.Errorf("port %d of the machine is not open on ::1", addr.Port())
	}
	return borrowed{l.Sockets[1]}, nil
}

// lease returns the lease of a port of the gateway's, a new one if need be.
func (h *hostPorts) lease(own uint16) (*broker.Lease, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.leases[own]; l != nil {
		return l, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	port := own
	if service, ok := h.called[port]; ok {
		port = service
	}
	l, err := h.broker.Lease(ctx, broker.ListenRequest{Owner: h.owner, Port: port})
	if err != nil {
		return nil, err
	}
	h.log.Info("published", "port", port, "host", l.Published.Host)
	if h.leases == nil {
		h.leases = map[uint16]*broker.Lease{}
	}
	h.leases[own] = l
	go h.follow(own, l)
	return l, nil
}

// leave ends all leases: replicas, or who comes next, have the ports from now on.
func (h *hostPorts) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for port, l := range h.leases {
		l.Leave()
		delete(h.leases, port)
	}
}

// follow waits for the end of a lease. One that is not given back has moved: the address that
// the port is wanted at has become free.
func (h *hostPorts) follow(own uint16, l *broker.Lease) {
	<-l.Lost()
	h.mu.Lock()
	held := h.leases[own] == l
	if held {
		delete(h.leases, own)
		l.Close()
	}
	h.mu.Unlock()
	if !held {
		return
	}
	if err := h.rebind(netip.AddrPortFrom(outside4, own), netip.AddrPortFrom(outside6, own)); err != nil {
		h.log.Warn("a port that moved is not published", "port", own, "reason", err)
	}
}

// keep gives back the ports that a runtime does without.
func (h *hostPorts) keep(r *shard.Runtime) {
	wanted := map[uint16]bool{}
	for _, l := range r.Listeners {
		for _, a := range l.Addrs {
			if l.Bind && a.Addr() == outside4 {
				wanted[a.Port()] = true
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for port, l := range h.leases {
		if !wanted[port] {
			l.Close()
			delete(h.leases, port)
		}
	}
}

// borrowed is a listener whose descriptor is duplicated and whose Close leaves the
// lease as it is.
type borrowed struct{ net.Listener }

func (borrowed) Close() error { return nil }

// File returns a duplicate of the descriptor.
func (b borrowed) File() (*os.File, error) {
	if f, ok := b.Listener.(interface{ File() (*os.File, error) }); ok {
		return f.File()
	}
	s, ok := b.Listener.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("listener of type %T has no descriptor", b.Listener)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	var file *os.File
	var failed error
	err = raw.Control(func(fd uintptr) { file, failed = duplicate(fd) })
	return file, errors.Join(err, failed)
}
