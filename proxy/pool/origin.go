package pool

import (
	"net/netip"

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
}

// An originKey is the part of an origin by which connections differ.
type originKey struct {
	header string // of the PROXY protocol
	source netip.Addr
	mark   int
}

// key tells what of the origin matters to a host. Usually that is nothing.
func (o *Origin) key(h *cluster.Host) (k originKey) {
	if p := h.Transport.Proxy; p != nil {
		k.header = string(p.Header(o.Source, o.Destination, o.TLVs))
	}
	if o.Transparent {
		k.source, k.mark = o.Source.Addr(), o.Mark
	}
	return k
}

// Introduce says whose connection it is, before anything else is said. It reports whether that could be done.
func (o *Origin) Introduce(c *drive.Conn, h *cluster.Host) bool {
	return h.Transport.Proxy == nil || c.WriteClear(h.Transport.Proxy.Header(o.Source, o.Destination, o.TLVs))
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
