package listen

import (
	"net/netip"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/metadata"
)

// What original_dst does where no kernel knows: inside of the proxy it believes what the connection was told.

// The names under which filters leave where a connection inside of the proxy goes to and comes from.
const (
	OriginalLocal  = "envoy.filters.listener.original_dst.local_ip"
	OriginalRemote = "envoy.filters.listener.original_dst.remote_ip"
)

// originalLocal is where hosts' metadata say it.
var originalLocal = metadata.Key{Namespace: "envoy.filters.listener.original_dst", Path: []string{"local"}}

// believe gives the connection the addresses that it was told. What the host's metadata says goes before what filters do.
func (c *Conn) believe() {
	v, _ := originalLocal.Find(&c.Dynamic)
	text, _ := v.(string)
	local, ok := pipe.ParseAddrPort(text)
	if !ok {
		local, ok = c.said(OriginalLocal)
	}
	if ok {
		c.Local, c.Restored = local, true
	}
	if remote, ok := c.said(OriginalRemote); ok {
		c.Remote = remote
	}
}

func (c *Conn) said(key string) (netip.AddrPort, bool) {
	if c.State == nil {
		return netip.AddrPort{}, false
	}
	v, _ := c.State.Get(key)
	return pipe.ParseAddrPort(string(v))
}

// Internal reports whether the connection comes from the proxy itself.
func (c *Conn) Internal() bool {
	_, _, ok := pipe.Inside(c.DirectLocal)
	return ok
}
