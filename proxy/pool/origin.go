package pool

import (
	"net/netip"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
)

// An Origin is the client's connection for which a connection to a host is made. Some hosts are told of
// it (PROXY protocol), or see it (original source); their connections are shared by no other client.
type Origin struct {
	Source, Destination netip.AddrPort
	TLVs                []byte
	Transparent         bool // connect from Source's address
	Mark                int  // SO_MARK of such a connection; 0: the worker's

	// State is what filters have said of the request or connection; of a connection that is being made: what of it
	// is shared with it. Nil: nothing.
	State *access.State
}

// kept is the origin of connections that are made for it.
func (o Origin) kept() Origin {
	if o.State != nil {
		o.State = o.State.Shared()
	}
	return o
}

// An originKey is the part of an origin by which connections differ.
type originKey struct {
	header string // of the PROXY protocol
	source netip.Addr
	mark   int
	shared string // what the connections know of what filters said
}

// key tells what of the origin matters to a host. Usually that is nothing.
func (o *Origin) key(h *cluster.Host) (k originKey) {
	if p := h.Transport.Proxy; p != nil {
		k.header = string(o.header(h, nil))
	}
	if o.State != nil {
		k.shared = o.State.SharedKey()
	}
	if o.Transparent {
		k.source, k.mark = o.Source.Addr(), o.Mark
	}
	return k
}

// header is what a host is told of the PROXY protocol. about is the connection to it, for extensions that tell of that; nil: these
// are left out.
func (o *Origin) header(h *cluster.Host, about *access.Record) []byte {
	return h.Transport.Proxy.Header(o.Source, o.Destination, o.TLVs, h.Metadata.TLVs, about)
}

// Introduce says whose connection it is, before anything else is said. It reports whether that could be done.
func (o *Origin) Introduce(c *drive.Conn, h *cluster.Host, id uint64) bool {
	p := h.Transport.Proxy
	if p == nil {
		return true
	}
	var about *access.Record
	if p.Tells() { // of the connection to the host, as in Envoy, whose client's end is ours
		about = &access.Record{DownstreamLocal: c.LocalAddr(), DownstreamRemote: c.RemoteAddr(), ConnectionID: id}
		if o.State != nil {
			about.State = *o.State
		}
	}
	return c.WriteClear(o.header(h, about))
}

// DialOptions say how an address of a cluster's host is reached.
func (w *Worker) DialOptions(c *cluster.Cluster, addr netip.AddrPort, o *Origin) drive.Dial {
	d := drive.Dial{Addr: addr, Mark: w.Mark, Source: c.Bind, Options: c.SocketOptions}
	if addr.Addr().Is6() && c.BindV6.IsValid() {
		d.Source = c.BindV6
	}
	if o.Transparent && o.Source.Addr().Unmap().Is4() == addr.Addr().Unmap().Is4() {
		d.Source, d.Transparent = o.Source.Addr().Unmap(), true
		if o.Mark != 0 {
			d.Mark = o.Mark
		}
	}
	return d
}
