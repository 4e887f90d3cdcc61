package healthcheck

import (
	"net"
	"net/netip"

	"github.com/mallamesh/malla/proxy/proxyproto"
)

// A tcpConn is a connection over which a TCP check talks.
type tcpConn struct {
	c    net.Conn
	used bool // the PROXY protocol's header has been sent
}

func (c *tcpConn) net() net.Conn { return c.c }

// check sends what is configured and waits until all that is expected has come.
func (c *tcpConn) check(s *session) (r result, again, stale bool) {
	p := s.k.config.Probe.(*TCP)
	send := p.Send
	if !c.used {
		send = append(c.header(p.Proxy), p.Send...)
		c.used = true
	}
	if _, err := c.c.Write(send); err != nil {
		return broken(err), false, true
	}
	var got []byte
	for len(p.Receive) > 0 {
		var b [4096]byte
		n, err := c.c.Read(b[:])
		got = append(got, b[:n]...)
		if inOrder(p.Receive, got) {
			break
		}
		switch {
		case err != nil:
			return broken(err), false, len(got) == 0 && !broken(err).timedOut()
		case len(got) > maxAnswer:
			return broken(errTooMuch), false, false
		}
	}
	return result{}, true, false
}

func (r result) timedOut() bool { return r.failure == NetworkTimeout }

// header is that of the PROXY protocol, about the connection itself.
func (c *tcpConn) header(v proxyproto.Version) []byte {
	if v == 0 {
		return nil
	}
	addr := func(a net.Addr) netip.AddrPort {
		t, _ := a.(*net.TCPAddr)
		return t.AddrPort()
	}
	return proxyproto.Append(nil, &proxyproto.Header{Version: v, Local: v == proxyproto.V2, Source: addr(c.c.LocalAddr()), Destination: addr(c.c.RemoteAddr())})
}
