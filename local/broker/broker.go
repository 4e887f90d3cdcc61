// Package broker gives processes inside the mesh sockets of the host's network.
//
// The server ([Serve]) runs in the parent, in the host's namespaces, on a Unix
// socket. A client asks for one thing per connection and gets a descriptor
// over SCM_RIGHTS: a dialled TCP connection, or a listening socket on a host
// port, or the answer to a DNS question from the host's resolvers. After that
// the bytes do not pass the broker: nothing is copied twice, and a broker that
// dies cuts no connection.
//
// A listening socket is a lease, on 127.0.0.1 and, where the host has IPv6, at
// the same number on ::1, because a name like localhost may mean either. It
// lasts as long as the client keeps it open. The server keeps a duplicate, so the port stays open
// while one replica of a gateway hands over to the next, and for
// [Options.Linger] after the last has died. A port that is given back closes at
// once: nobody is going to answer there.
//
// Who wants an address that another has gets the next free one, for as long as that
// lasts. When the address becomes free the lease moves there: the broker ends it, and
// the client, which hears of that ([Lease.Lost]), asks again.
//
// Whoever can open the Unix socket may dial anything that the parent may, and
// say who it is, so it belongs to the supervisor only. A gateway's pod has a
// socket of its own, which the supervisor serves with [Lend].
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
	// Linger is how long a port stays open after its last user has gone without a
	// word, unless somebody else wants its address; default 10 s.
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
	Owner string         `json:"owner"`
	Port  uint16         `json:"port"` // as requested
	Host  netip.AddrPort `json:"host"` // what was opened
	// Host6 is ::1 at Host's port, if Host is 127.0.0.1 and there is IPv6.
	Host6  netip.AddrPort `json:"host6,omitzero"`
	Closed bool           `json:"closed,omitempty"`
	// Wanted differs from Host if the wanted port was in use.
	Wanted netip.AddrPort `json:"wanted"`
}

// Bounds of the protocol.
const (
	requestTimeout = 5 * time.Second // for a client to say what it wants
	maxPending     = 1024            // connections that have not said it
	maxDials       = 8192            // under way at a time
	maxQuestions   = 1024            // under way at a time
	maxLeases      = 4096            // open
	maxPortTries   = 200             // when ports are in use
)

// A request is a client's only message on its connection.
type request struct {
	Op      string `json:"op"` // dial, listen, resolve, families
	Network string `json:"network,omitempty"`
	Addr    string `json:"addr,omitempty"`
	Owner   string `json:"owner,omitempty"`
	Port    uint16 `json:"port,omitempty"`
	Query   []byte `json:"query,omitempty"` // a DNS message
}

// A reply carries a descriptor if the request was for a connection and Error is
// empty, and one or two if it was for a port.
type reply struct {
	Error     string        `json:"error,omitempty"`
	Errno     syscall.Errno `json:"errno,omitempty"`
	Published Published     `json:"published,omitzero"`
	Answer    []byte        `json:"answer,omitempty"`
	IPv6      bool          `json:"ipv6,omitempty"`
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

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// defaultAddress is where a mesh port is offered on the host. Ports below 1024
// are not an ordinary user's to open.
func defaultAddress(port uint16) netip.AddrPort {
	if port < 1024 {
		port += 8000
	}
	return netip.AddrPortFrom(loopback4, port)
}

func errNetwork(network string) error {
	return fmt.Errorf("network %q: the broker dials tcp only", network)
}
