package curl

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// A conn is a connection to a server or proxy.
type conn struct {
	net.Conn
	in     *bufio.Reader
	key    string // what it is good for
	number int
}

// key names the connections that a URL can use.
func (t *transfer) key(u *url.URL) string { return u.Scheme + " " + hostPort(u) }

// drop closes the connection that the session keeps.
func (s *session) drop() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// connection returns the session's connection if it fits, else a new one.
func (t *transfer) connection(ctx context.Context, u *url.URL) (*conn, *failure) {
	if c := t.session.conn; c != nil && c.key == t.key(u) {
		t.info("Re-using existing connection with host %s", u.Hostname())
		_ = c.SetDeadline(time.Time{})
		return c, nil
	}
	t.session.drop()
	dialCtx := ctx
	if t.o.connectTimeout > 0 {
		var cancel context.CancelFunc
		dialCtx, cancel = context.WithTimeout(ctx, t.o.connectTimeout)
		defer cancel()
	}
	raw, err := t.dial(dialCtx, u)
	if err != nil {
		return nil, err
	}
	t.times.connect = time.Since(t.start)
	if u.Scheme == "https" {
		if raw, err = t.tls(dialCtx, raw, u.Hostname()); err != nil {
			return nil, err
		}
		t.times.tls = time.Since(t.start)
	}
	c := &conn{Conn: raw, in: bufio.NewReader(raw), key: t.key(u), number: t.session.opened}
	t.session.opened++
	t.opened++
	t.session.conn = c
	return c, nil
}

// dial connects to the server, or to the proxy and through it.
func (t *transfer) dial(ctx context.Context, u *url.URL) (net.Conn, *failure) {
	if t.o.unixSocket != "" {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", t.o.unixSocket)
		if err != nil {
			return nil, failf(exitConnect, "Failed to connect to %s: %s", t.o.unixSocket, reason(err))
		}
		return c, nil
	}
	if t.o.proxy == "" {
		host, port := t.o.rewritten(u.Hostname(), portOf(u))
		return t.tcp(ctx, host, port, exitResolve)
	}
	p, f := parseURL(t.o.proxy)
	if f != nil || p.Scheme != "http" {
		return nil, failf(exitProxy, "Unsupported proxy %q, want http://HOST:PORT", t.o.proxy)
	}
	port := p.Port()
	if port == "" {
		port = "1080"
	}
	c, f := t.tcp(ctx, p.Hostname(), port, exitProxy)
	if f != nil || u.Scheme == "http" {
		return c, f
	}
	return t.tunnel(ctx, c, hostPort(u))
}

// tunnel asks the proxy for a way through (RFC 9110, section 9.3.6).
func (t *transfer) tunnel(ctx context.Context, c net.Conn, target string) (net.Conn, *failure) {
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	auth := ""
	if t.o.proxyUser != "" {
		auth = "Proxy-Authorization: " + basic(t.o.proxyUser) + "\r\n"
	}
	head := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n" + auth + "User-Agent: curl/" + curlVersion + "\r\nProxy-Connection: Keep-Alive\r\n\r\n"
	t.trace("> ", head)
	if _, err := c.Write([]byte(head)); err != nil {
		c.Close()
		return nil, failf(exitRecv, "Proxy CONNECT aborted: %s", reason(err))
	}
	// One byte at a time: what follows the head belongs to TLS.
	var answer []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(answer), "\r\n\r\n") {
		if _, err := c.Read(one); err != nil || len(answer) > maxHead {
			c.Close()
			return nil, failf(exitRecv, "Proxy CONNECT aborted")
		}
		answer = append(answer, one[0])
	}
	t.trace("< ", string(answer))
	line, _, _ := strings.Cut(string(answer), "\r\n")
	_, rest, _ := strings.Cut(line, " ")
	if code, _, _ := strings.Cut(rest, " "); code != "200" {
		c.Close()
		return nil, failf(exitRecv, "CONNECT tunnel failed, response %s", code)
	}
	return c, nil
}

// rewritten applies --connect-to, HOST1:PORT1:HOST2:PORT2.
func (o *options) rewritten(host, port string) (string, string) {
	for _, rule := range o.connectTo {
		parts := splitColons(rule, 4)
		if len(parts) != 4 || parts[0] != "" && !strings.EqualFold(parts[0], host) || parts[1] != "" && parts[1] != port {
			continue
		}
		if parts[2] != "" {
			host = strings.Trim(parts[2], "[]")
		}
		if parts[3] != "" {
			port = parts[3]
		}
		break
	}
	return host, port
}

// resolved applies --resolve, [+]HOST:PORT:ADDR[,ADDR]...
func (o *options) resolved(host, port string) []string {
	for _, rule := range o.resolve {
		parts := splitColons(strings.TrimPrefix(rule, "+"), 3)
		if len(parts) != 3 || parts[0] != "*" && !strings.EqualFold(parts[0], host) || parts[1] != port {
			continue
		}
		var addrs []string
		for a := range strings.SplitSeq(parts[2], ",") {
			addrs = append(addrs, strings.Trim(a, "[]"))
		}
		return addrs
	}
	return nil
}

// splitColons splits into at most n parts, and not inside brackets.
func splitColons(s string, n int) []string {
	var parts []string
	depth, start := 0, 0
	for i := 0; i < len(s) && len(parts) < n-1; i++ {
		switch s[i] {
		case '[':
			depth++
		case ']':
			depth--
		case ':':
			if depth == 0 {
				parts = append(parts, s[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, s[start:])
}

// tcp resolves a name and tries its addresses.
func (t *transfer) tcp(ctx context.Context, host, port string, unresolved int) (net.Conn, *failure) {
	began := time.Now()
	addrs := t.o.resolved(host, port)
	if addrs == nil {
		var err error
		if addrs, err = lookup(ctx, host); err != nil || len(addrs) == 0 {
			if ctx.Err() != nil {
				return nil, failf(exitTimeout, "Resolving timed out after %d milliseconds", time.Since(t.start).Milliseconds())
			}
			what := "host"
			if unresolved == exitProxy {
				what = "proxy"
			}
			return nil, failf(unresolved, "Could not resolve %s: %s", what, host)
		}
	}
	t.times.lookup = time.Since(t.start)
	var last error
	for _, a := range addrs {
		ip, err := netip.ParseAddr(a)
		if err != nil || t.o.ipv4 && !ip.Unmap().Is4() || t.o.ipv6 && ip.Unmap().Is4() {
			continue
		}
		addr := net.JoinHostPort(a, port)
		t.info("  Trying %s...", addr)
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			t.info("Connected to %s (%s) port %s", host, a, port)
			return c, nil
		}
		t.info("connect to %s port %s failed: %s", a, port, reason(err))
		last = err
	}
	switch {
	case ctx.Err() != nil:
		return nil, failf(exitTimeout, "Connection timed out after %d milliseconds", time.Since(t.start).Milliseconds())
	case last == nil:
		return nil, failf(unresolved, "Could not resolve host: %s", host)
	}
	return nil, failf(exitConnect, "Failed to connect to %s port %s after %d ms: Couldn't connect to server", host, port, time.Since(began).Milliseconds())
}

func lookup(ctx context.Context, host string) ([]string, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{ip.String()}, nil
	}
	if strings.EqualFold(host, "localhost") { // RFC 6761: never a question to a server
		return []string{"127.0.0.1", "::1"}, nil
	}
	return net.DefaultResolver.LookupHost(ctx, host)
}

// tls makes the connection one of TLS.
func (t *transfer) tls(ctx context.Context, c net.Conn, host string) (net.Conn, *failure) {
	config := &tls.Config{ServerName: host, InsecureSkipVerify: t.o.insecure, NextProtos: []string{"http/1.1"}}
	if t.o.caFile != "" {
		pem, err := os.ReadFile(t.o.caFile)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(pem) {
			c.Close()
			return nil, failf(exitCAFile, "error adding trust anchors from file: %s", t.o.caFile)
		}
	}
	if t.o.cert != "" {
		key := t.o.key
		if key == "" {
			key = t.o.cert
		}
		pair, err := tls.LoadX509KeyPair(t.o.cert, key)
		if err != nil {
			c.Close()
			return nil, failf(58, "unable to use client certificate: %v", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		var invalid *tls.CertificateVerificationError
		switch {
		case errors.As(err, &invalid):
			return nil, failf(exitCertificate, "SSL certificate problem: %v", invalid.Err)
		case ctx.Err() != nil:
			return nil, failf(exitTimeout, "SSL connection timeout")
		}
		return nil, failf(exitTLS, "TLS connect error: %s", reason(err))
	}
	state := secure.ConnectionState()
	t.info("SSL connection using %s / %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	for i, cert := range state.PeerCertificates[:min(1, len(state.PeerCertificates))] {
		t.info("Server certificate %d: subject %s; issuer %s; expires %s", i, cert.Subject, cert.Issuer, cert.NotAfter.Format(time.RFC3339))
	}
	return secure, nil
}

// reason is the system's word for an error, as curl prints it.
func reason(err error) string {
	if n, ok := errors.AsType[syscall.Errno](err); ok {
		text := n.Error()
		return strings.ToUpper(text[:1]) + text[1:]
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return fmt.Sprint(err)
		}
		err = inner
	}
}
