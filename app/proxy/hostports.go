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
	owner  string
	called map[uint16]uint16 // a port's number in the gateway's Service, if another
	log    *slog.Logger

	mu     sync.Mutex
	leases map[netip.AddrPort]net.Listener // guarded by mu: held as long as the socket is in use
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

// outside stands, as the address of a listener, for the machine outside of the mesh:
// one of class E, which nobody has.
var outside = netip.AddrFrom4([4]byte{240, 0, 0, 1})

// extra gives a listener on all addresses one more, outside.
func (h *hostPorts) extra(c *listen.Config) []netip.AddrPort {
	if len(c.Addrs) == 0 || !c.Addrs[0].Addr().IsUnspecified() {
		return nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(outside, c.Addrs[0].Port())}
}

// listener makes the socket of an address that is outside.
func (h *hostPorts) listener(_ *listen.Config, addr netip.AddrPort) (net.Listener, error) {
	if addr.Addr() != outside {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	port := addr.Port()
	if service, ok := h.called[port]; ok {
		port = service
	}
	l, published, err := h.broker.Listen(ctx, broker.ListenRequest{Owner: h.owner, Port: port})
	if err != nil {
		return nil, err
	}
	h.log.Info("published", "port", port, "host", published.Host)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leases == nil {
		h.leases = map[netip.AddrPort]net.Listener{}
	}
	if old := h.leases[addr]; old != nil {
		old.Close()
	}
	h.leases[addr] = l
	return borrowed{l}, nil
}

// keep gives back the ports that a runtime does without.
func (h *hostPorts) keep(r *shard.Runtime) {
	wanted := map[netip.AddrPort]bool{}
	for _, l := range r.Listeners {
		for _, a := range l.Addrs {
			wanted[a] = l.Bind
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for a, l := range h.leases {
		if !wanted[a] {
			l.Close()
			delete(h.leases, a)
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
