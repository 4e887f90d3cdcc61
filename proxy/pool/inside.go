package pool

import (
	"net/netip"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/metadata"
)

// Inside are the listeners inside of the proxy on this shard: hosts that are the proxy itself. A connection to one stays on
// its shard, as in Envoy.
type Inside interface {
	// Inside reports whether there is a listener of a name.
	Inside(listener string) bool
	// AcceptInside has it take a connection.
	AcceptInside(listener string, c *drive.Conn, p Passed)
}

// Passed is what a listener inside of the proxy gets to know of the way by which a connection comes to it.
type Passed struct {
	Metadata map[string]metadata.Struct
	State    *access.State // what is shared with connections to hosts; nil: nothing
}

// inside connects to a listener inside of the proxy, if that is what the address is; nil if it is not.
func (d *Dialing) inside(addr netip.AddrPort, h drive.Connector) *drive.Conn {
	name, _, ok := pipe.Inside(addr)
	if !ok {
		return nil
	}
	at := d.Worker.Inside
	if at == nil || !at.Inside(name) {
		return d.Worker.Loop.Inside(pipe.Client, addr, h, nil)
	}
	var p Passed
	if d.Host.Transport.Passed != nil {
		p.Metadata, p.State = d.Cluster.Passes(d.Host), d.Origin.State
	}
	return d.Worker.Loop.Inside(pipe.Client, addr, h, func(c *drive.Conn) { at.AcceptInside(name, c, p) })
}
