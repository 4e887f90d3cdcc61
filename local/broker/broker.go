// Package broker gives processes inside the mesh sockets of the host's network.
//
// The server ([Serve]) runs in the parent, in the host's namespaces, on a Unix
// socket. A client asks for one thing per connection and gets a descriptor
// over SCM_RIGHTS: a dialled TCP connection, or a listening socket on a host
// port, or the answer to a DNS question from the host's resolvers. After that
// the bytes do not pass the broker: nothing is copied twice, and a broker that
// dies cuts no connection.
//
// A listening socket is a lease: it lasts as long as the client keeps the
// returned listener open. The server keeps a duplicate, so the port stays open
// while one replica of a gateway hands over to the next, and for
// [Options.Linger] after the last.
//
// Whoever can open the Unix socket may dial anything that the parent may, so
// it belongs only to the supervisor and to gateways.
package broker

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

// EnvSocket names the broker's socket in a gateway's environment.
const EnvSocket = "MALLA_BROKER"

// Loopback is the host name a client dials for the host's own loopback,
// 127.0.0.1 or else ::1.
const Loopback = "host.malla.internal"

// Options are the server's.
type Options struct {
	// Publish says where on the host a port of the mesh is opened; ports that are
	// not in it go to 127.0.0.1 at their number, or 8000 above if below 1024. An
	// address with port 0 means that any is good.
	Publish map[uint16]netip.AddrPort
	// OnPublish hears of every change, in order, from one goroutine at a time.
	OnPublish func(Published)
	// Linger is how long a port stays open after its last user; default 10 s.
	Linger time.Duration
	// DialTimeout bounds one dial; default 10 s.
	DialTimeout time.Duration
	// Resolvers are asked in order; default: those of /etc/resolv.conf.
	Resolvers []netip.AddrPort
}

// A ListenRequest asks for a port of the host.
type ListenRequest struct {
	Owner string // who listens; replicas of one gateway say the same: "istio-system/istio-ingressgateway"
	Port  uint16 // the port in the mesh's terms: a Gateway's 80
}

// Published says which host address serves a mesh port.
type Published struct {
	Owner  string         `json:"owner"`
	Port   uint16         `json:"port"` // as requested
	Host   netip.AddrPort `json:"host"` // what was opened
	Closed bool           `json:"closed,omitempty"`
	// Wanted differs from Host if the wanted port was in use.
	Wanted netip.AddrPort `json:"wanted"`
}

// Bounds of the protocol.
const (
	requestTimeout = 5 * time.Second // for a client to say what it wants
	maxRequests    = 8192            // at a time, leases included
	maxPortTries   = 200             // when ports are in use
)

// A request is a client's only message on its connection.
type request struct {
	Op      string `json:"op"` // dial, listen, resolve
	Network string `json:"network,omitempty"`
	Addr    string `json:"addr,omitempty"`
	Owner   string `json:"owner,omitempty"`
	Port    uint16 `json:"port,omitempty"`
	Query   []byte `json:"query,omitempty"` // a DNS message
}

// A reply carries a descriptor if the request was for a socket and Error is empty.
type reply struct {
	Error     string        `json:"error,omitempty"`
	Errno     syscall.Errno `json:"errno,omitempty"`
	Published Published     `json:"published,omitzero"`
	Answer    []byte        `json:"answer,omitempty"`
}

func failed(err error) reply {
	r := reply{Error: err.Error()}
	errors.As(err, &r.Errno)
	return r
}

// err is what the broker answered, with the system's error inside.
func (r reply) err() error {
	switch {
	case r.Error == "":
		return nil
	case r.Errno != 0:
		return brokerError{r.Error, r.Errno}
	}
	return errors.New(r.Error)
}

type brokerError struct {
	text  string
	errno syscall.Errno
}

func (e brokerError) Error() string { return e.text }
func (e brokerError) Unwrap() error { return e.errno }

// defaultAddress is where a mesh port is offered on the host. Ports below 1024
// are not an ordinary user's to open.
func defaultAddress(port uint16) netip.AddrPort {
	if port < 1024 {
		port += 8000
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

func errNetwork(network string) error {
	return fmt.Errorf("network %q: the broker dials tcp only", network)
}
