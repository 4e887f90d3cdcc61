package tls

import (
	"crypto/tls"
	"io"
	"net/netip"
	"slices"
)

// A KeyLog takes down the secrets of connections, in the form that Wireshark reads (NSS key log), for who has to see what is in
// them. Whoever has the log can read all that these connections carry.
type KeyLog struct {
	To            io.Writer      // gets whole lines, from any goroutine
	Local, Remote []netip.Prefix // the connections that it is about, by both their addresses; nil: all
}

// LogKeys has the handshake of c write to the context's key log, if it has one and that is about connections between these addresses.
func (c *Common) LogKeys(config *tls.Config, local, remote netip.Addr) {
	if k := c.KeyLog; k != nil && within(k.Local, local) && within(k.Remote, remote) {
		config.KeyLogWriter = k.To
	}
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}
