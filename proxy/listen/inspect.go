package listen

import (
	"errors"

	"github.com/mallamesh/malla/proxy/drive"
)

type phase uint8

const (
	readProxy phase = iota
	inspectTLS
	inspectHTTP
	inspected
)

// waited ends the time before the connection's filter chain is known.
func (c *Conn) waited() {
	if c.waits != nil {
		c.waits.Dec()
		c.waits = nil
	}
}

// wait bounds the wait for first bytes.
func (c *Conn) wait() {
	if st := c.Listener.Stats; st != nil && c.waits == nil {
		c.waits = &st.DownstreamPreCxActive
		c.waits.Inc()
	}
	if t := c.Listener.FiltersTimeout; t > 0 && !c.timer.Armed() {
		c.timer.Handler = c
		c.Worker.Loop.Schedule(&c.timer, t)
	}
}

// OnData looks at the first bytes and leaves them where they are, but for a PROXY header.
func (c *Conn) OnData(_ *drive.Conn, b []byte) int {
	n := 0
	if c.phase == readProxy {
		var done bool
		if n, done = c.readProxy(b); !done {
			return n
		}
		if c.prepare(); c.phase == inspected {
			c.choose(len(b) > n)
			return n
		}
		if b = b[n:]; len(b) == 0 {
			return n
		}
	}
	if c.inspect(b) {
		c.choose(true)
	}
	return n
}

// inspect looks for what the chains need to know; it reports whether that is clear.
func (c *Conn) inspect(b []byte) bool {
	if c.phase == inspectTLS {
		if len(b) < int(c.enough) {
			return false
		}
		hello, enough, err := parseHello(b)
		if errors.Is(err, errMore) {
			c.enough = int32(enough)
			return false
		}
		c.phase = inspectHTTP
		c.count(&hello, err, len(b))
		if err == nil {
			c.transport, c.SNI, c.ALPN = TLS, hello.SNI, hello.ALPN
			if c.Listener.TLSInspector.JA3 {
				c.fingerprints().ja3 = ja3(hello.body)
			}
			if c.Listener.TLSInspector.JA4 {
				c.fingerprints().ja4 = ja4(hello.body)
			}
			c.phase = inspected
		}
	}
	if c.phase == inspectHTTP && !c.Listener.HTTPInspector.Disabled(c.Local.Port()) {
		protocol, more := httpProtocol(b)
		if more {
			return false
		}
		c.countHTTP(protocol)
		if protocol != "" {
			c.ALPN = []string{protocol}
		}
	}
	c.phase = inspected
	return true
}

// count counts what tls_inspector has found.
func (c *Conn) count(hello *Hello, err error, length int) {
	switch st := c.Listener.TLSCounts; {
	case st == nil:
	case err == nil:
		st.Found(hello.SNI != "", len(hello.ALPN) > 0, length)
	case errors.Is(err, errTooLong):
		st.ClientHelloTooLarge.Inc()
	default:
		st.TLSNotFound.Inc()
	}
}

// countHTTP counts what http_inspector has found.
func (c *Conn) countHTTP(protocol string) {
	st := c.Listener.HTTPCounts
	if st == nil {
		return
	}
	found := &st.NotFound
	switch protocol {
	case http10:
		found = &st.HTTP10
	case http11:
		found = &st.HTTP11
	case h2c:
		found = &st.HTTP2
	}
	found.Inc()
}

// OnTimer gives up waiting for first bytes: the server may have to speak first.
func (c *Conn) OnTimer(*drive.Timer) {
	if st := c.Listener.Stats; st != nil {
		st.DownstreamPreCxTimeout.Inc()
	}
	if !c.Listener.ContinueOnTimeout {
		c.close()
		return
	}
	if c.phase == readProxy {
		c.prepare()
	}
	c.phase = inspected
	c.Resume() // what came while nobody wanted it; whom choose hands it to may have it wait on
	c.choose(c.HasInput())
}

// OnEnd: a client that has said nothing and will say nothing has gone; one that has said
// something is judged by that.
func (c *Conn) OnEnd(*drive.Conn) {
	if c.phase == inspected {
		return
	}
	if st := c.Listener.Stats; st != nil {
		st.DownstreamListenerFilterRemoteClose.Inc()
	}
	c.close()
}
