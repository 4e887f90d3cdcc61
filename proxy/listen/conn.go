package listen

import (
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tls"
)

// A Conn is an accepted connection, with everything that was found out about it
// before its filter got it.
type Conn struct {
	*drive.Conn
	Worker   *pool.Worker
	Listener *Config // the one that serves it, after a hand-over
	Chain    *Chain
	ID       uint64

	Local       netip.AddrPort // what the client dialed: the original destination if it was redirected
	Remote      netip.AddrPort
	DirectLocal netip.AddrPort // our socket's own address
	SNI         string
	ALPN        []string    // what the client offered, or what http_inspector found
	TLS         *access.TLS // nil: plain text
	Handshake   time.Duration
	TLVs        []byte           // extensions of the PROXY protocol that are kept
	Cluster     string           // that a network filter has chosen for the TCP proxy; empty: none
	State       *access.State    // what filters of listeners and networks say by name; nil: nothing
	Dynamic     metadata.Dynamic // what filters of the listener found out

	// Served is set by the filter: whom to tell when the listener drains.
	Served Served

	set        *Set
	ln         *listener
	next, prev *Conn
	timer      drive.Timer
	transport  string
	waits      *stats.Gauge    // that counts it while its filter chain is not known
	account    *stats.Listener // that counts it from then on
	enough     int32           // input below which it is of no use to look for a client hello again
	gate       int32           // gates that it has passed
	found      tls.Found
	global     *Connections
	limits     []*Limit       // that count the connection
	away       *access.Record // why a gate has sent it away; nil: none has
	Restored   bool           // Local is an original destination
	phase      phase
	counted    bool
	introduced bool          // it had a PROXY header
	serving    bool          // a filter has it
	told       bool          // so do the listener's logs
	spoken     uint8         // the protocol of HTTP that it carries, as far as is known, and malformed
	heard      bool          // nobody waits for the client's first bytes any more
	prints     *fingerprints // nil: nobody asks for them
	locals     map[any]any
}

// Keep returns what a filter keeps of the connection, made by make at first.
func (c *Conn) Keep(key any, make func() any) any {
	v, ok := c.locals[key]
	if !ok {
		if v = make(); c.locals == nil {
			c.locals = map[any]any{}
		}
		c.locals[key] = v
	}
	return v
}

// Served is a connection that a filter serves.
type Served interface {
	// Drain asks for an end as soon as it does not hurt.
	Drain()
	// Kill ends it now.
	Kill()
}

// Introduced reports whether the connection began with a header of the PROXY protocol.
func (c *Conn) Introduced() bool { return c.introduced }

// Secure reports whether the client speaks TLS to us.
func (c *Conn) Secure() bool { return c.TLS != nil }

// Heard is told that the client has sent its first bytes. It reports whether there is something new to be known of the connection.
func (c *Conn) Heard() bool {
	if c.heard {
		return false
	}
	c.heard = true
	said := false
	for _, g := range c.Chain.Gates {
		if l, ok := g.(Listening); ok {
			said = l.Heard(c) || said
		}
	}
	return said
}

// start begins with a connection that the listener ln has accepted.
func (c *Conn) start() {
	cfg := c.ln.config
	c.Local = c.Conn.LocalAddr()
	c.DirectLocal, c.Remote = c.Local, c.Conn.RemoteAddr()
	c.Listener = cfg
	c.SetHandler(c)
	if cfg.FiltersMissing {
		if st := cfg.Stats; st != nil {
			st.ExtensionConfigMissing.Inc()
		}
		c.close()
		return
	}
	if !cfg.RateLimit.admit(c.Worker.Loop.Time()) {
		c.log(access.NoFlag, "", "")
		c.close()
		return
	}
	if cfg.Inside && cfg.OriginalDst {
		c.believe()
	} else if cfg.OriginalDst || cfg.UseOriginalDst { // Envoy adds the listener filter where the flag is set
		addr, err := c.Conn.OriginalDst()
		if err == nil {
			c.Local = addr
		}
		// By TPROXY the socket's own address is the destination, whether or not the kernel tracks connections.
		c.Restored = c.Local != c.DirectLocal || cfg.Transparent
	}
	if cfg.BufferLimit > 0 {
		c.SetMark(cfg.BufferLimit)
	} else {
		c.SetMark(1 << 20)
	}
	if cfg.Proxy != nil {
		c.phase = readProxy
		c.wait()
		return
	}
	if c.prepare(); c.phase == inspected {
		c.choose(false)
		return
	}
	c.wait()
}

// prepare goes on once the addresses are known: it hands the connection over to the listener of its
// destination, if that is so configured, and sees what its first bytes are needed for.
func (c *Conn) prepare() {
	if c.ln.config.UseOriginalDst {
		if other := c.set.find(c.Local, c.ln); other != nil {
			c.ln.unlink(c)
			other.link(c)
		}
	}
	cfg := c.ln.config
	c.Listener = cfg
	port := c.Local.Port()
	c.phase, c.transport = inspectTLS, RawBuffer
	if cfg.TLSInspector.Disabled(port) {
		c.phase = inspectHTTP
		if cfg.HTTPInspector.Disabled(port) {
			c.phase = inspected
		}
	}
}

// choose picks the chain and hands the connection to its filter. unread says that the client
// has sent bytes which nobody took: if there is no chain, it sees a reset, as when a socket is
// closed with them in it.
func (c *Conn) choose(unread bool) {
	c.waited()
	c.Worker.Loop.Cancel(&c.timer)
	chain := c.ln.matcher.Match(&Subject{
		Destination: c.Local, SNI: c.SNI, Transport: c.transport, ALPN: c.ALPN,
		DirectSource: c.Conn.RemoteAddr().Addr(), Source: c.Remote,
	})
	if chain == nil {
		if st := c.Listener.Stats; st != nil {
			st.NoFilterChainMatch.Inc()
		}
		c.log(access.NoRouteFound, "filter_chain_not_found", "")
		if unread {
			c.refuse()
		} else {
			c.close()
		}
		return
	}
	c.Chain = chain
	c.enter()
	if chain.Filter == nil {
		c.log(access.NoFlag, "", "")
		c.close()
		return
	}
	if !chain.complete() {
		c.log(access.NoFlag, "", "")
		c.unconfigured(unread)
		return
	}
	c.admit()
}

// enter begins the account of a connection whose filter chain is known. Those of which none is are for Envoy not there, nor are those
// that a listener hands on.
func (c *Conn) enter() {
	if c.account = c.Listener.Stats; c.account != nil {
		c.account.DownstreamCxTotal.Inc()
		c.account.DownstreamCxActive.Inc()
	}
}

// leave ends that account, with the listener that it began with, whoever has taken the connection over meanwhile.
func (c *Conn) leave() {
	if st := c.account; st != nil {
		c.account = nil
		st.DownstreamCxActive.Dec()
		st.DownstreamCxDestroy.Inc()
		st.DownstreamCxLengthMS.Record(uint64(max(0, c.Worker.Loop.Now()-c.Opened) / int64(time.Millisecond)))
	}
}

// admit passes the gates that the connection has not passed yet, and goes on.
func (c *Conn) admit() {
	chain := c.Chain
	for int(c.gate) < len(chain.Gates) {
		c.gate++
		if !chain.Gates[c.gate-1].Admit(c.Worker, c) {
			return
		}
	}
	if chain.TLS == nil {
		c.serve()
		return
	}
	c.handshake()
}

// handshake speaks TLS with the client.
func (c *Conn) handshake() {
	chain := c.Chain
	timeout := chain.HandshakeTimeout
	if timeout == 0 {
		timeout = 15 * time.Second
	}
	timeout = c.Overload().Timeouts[overload.Handshake].Scale(timeout)
	config := chain.TLS.Config(c.Aside, &c.found)
	chain.TLS.Context().LogKeys(config, c.Local.Addr(), c.Remote.Addr())
	c.StartTLS(true, config, timeout, c.secured)
}

// secured goes on after the handshake.
func (c *Conn) secured(d *drive.Conn, err error) {
	st := c.Listener.Stats
	c.Handshake = time.Duration(c.Worker.Loop.Now() - c.Opened)
	if err != nil {
		if st != nil {
			tls.CountFailure(&st.TLS, err)
			if errors.Is(err, drive.ErrHandshakeTimeout) {
				st.DownstreamCxTransportSocketConnectTimeout.Inc()
			}
		}
		c.untrusted(err)
		c.close()
		return
	}
	state := d.TLS()
	if st != nil {
		tls.Count(&st.TLS, state, c.found.Peer)
	}
	c.TLS = tls.Describe(state, &c.found)
	if c.away != nil {
		c.keep()
		return
	}
	for _, g := range c.Chain.Gates {
		if l, ok := g.(Listening); ok {
			l.Secured(c)
		}
	}
	c.serve()
}

func (c *Conn) serve() {
	c.serving = true
	c.Chain.Filter.Serve(c.Worker, c)
}

func (c *Conn) close() {
	c.Release()
	c.Worker.Loop.Cancel(&c.timer)
	c.Conn.Close()
}

// Release ends the listener's account of the connection. The filter calls it once, when the connection is over.
func (c *Conn) Release() {
	if c.ln == nil || !c.counted {
		return
	}
	c.waited()
	switch {
	case c.away != nil:
		c.recordAway()
	case c.serving && !c.told:
		c.logServed()
	}
	if c.Worker.Debugs() {
		c.Worker.Log.Debug("connection ended", "connection", c.ID, "listener", c.Listener.Name)
	}
	c.ln.unlink(c)
	c.leave()
	c.global.release()
	for _, l := range c.limits {
		l.release()
	}
	c.limits = nil
}

// OnClose notices that the client has gone.
func (c *Conn) OnClose(_ *drive.Conn, err error) {
	c.Worker.Loop.Cancel(&c.timer)
	if st := c.Listener.Stats; st != nil && c.waits != nil {
		st.DownstreamListenerFilterError.Inc()
	}
	if c.Chain != nil && c.Chain.TLS != nil && c.TLS == nil {
		if st := c.Listener.Stats; st != nil {
			st.TLS.ConnectionError.Inc()
		}
		c.untrusted(err)
	}
	c.Release()
}

// untrusted has logs say why there was no TLS.
func (c *Conn) untrusted(err error) {
	if c.away != nil {
		if c.away.LocalFailure = tls.Reason(err); errors.Is(err, io.EOF) {
			c.away.ClientEnd.How = access.EndRemoteClosed
		}
		return
	}
	c.log(access.NoFlag, "", tls.Reason(err))
}

// OnDrained does nothing: nothing was written yet.
func (c *Conn) OnDrained(*drive.Conn) {}

// OnDeadline does nothing: none is set.
func (c *Conn) OnDeadline(*drive.Conn) {}
