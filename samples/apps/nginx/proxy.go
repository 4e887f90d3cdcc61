package nginx

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	proxyTimeout = 60 * time.Second // proxy_connect_timeout, proxy_read_timeout and proxy_send_timeout
	maxBody      = 1 << 20          // client_max_body_size
	resolveFor   = 5 * time.Second  // how long a name may be unknown at start
)

// resolve looks up the names of all upstreams, once. A pod and the Service that
// it calls are often created in the same moment, so an unknown name is asked
// for again for a while.
func (c *config) resolve(ctx context.Context, lookup func(context.Context, string) ([]string, error)) error {
	limit, cancel := context.WithTimeout(ctx, resolveFor)
	defer cancel()
	for _, s := range c.servers {
		for _, l := range s.locations {
			if l.pass == nil {
				continue
			}
			if err := l.pass.resolve(limit, lookup); err != nil {
				return l.pass.at.errorf("host not found in upstream %q: %w", l.pass.host, err)
			}
		}
	}
	return nil
}

func (u *upstream) resolve(ctx context.Context, lookup func(context.Context, string) ([]string, error)) error {
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		found, err := lookup(ctx, u.host)
		if err == nil && len(found) > 0 {
			for _, ip := range found {
				u.addrs = append(u.addrs, net.JoinHostPort(ip, u.port))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-again.C:
		}
	}
}

// dial tries the upstream's addresses in order.
func (u *upstream) dial(ctx context.Context) (net.Conn, error) {
	var errs []error
	for _, addr := range u.addrs {
		c, err := (&net.Dialer{Timeout: proxyTimeout}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// proxy passes the request on and its answer back, over a connection of its own
// as nginx without an upstream block does.
func (h *handler) proxy(w http.ResponseWriter, x *exchange) {
	body, err := io.ReadAll(http.MaxBytesReader(w, x.r.Body, maxBody)) // nginx buffers requests
	switch {
	case isTooLarge(err):
		page(w, x, x.loc.scope, http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		page(w, x, x.loc.scope, http.StatusBadRequest)
		return
	}
	conn, err := x.loc.pass.dial(x.r.Context())
	if err != nil {
		h.upstreamError(w, x, "connect", err)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(x.r.Context(), func() { _ = conn.Close() })() // the client has gone
	_ = conn.SetDeadline(time.Now().Add(proxyTimeout))                    // fails only on a closed connection, as the write then does
	if _, err := conn.Write(append(x.requestHead(len(body)), body...)); err != nil {
		h.upstreamError(w, x, "send", err)
		return
	}
	in := bufio.NewReader(conn)
	res, err := readResponse(in, x.r.Method)
	if err != nil {
		h.upstreamError(w, x, "read", err)
		return
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.tunnel(w, res, conn, in)
		return
	}
	x.respond(w, res, conn)
}

// readResponse skips the interim answers.
func readResponse(in *bufio.Reader, method string) (*http.Response, error) {
	for range 8 {
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, err
		}
	}
	return nil, errors.New("more interim answers than anybody sends")
}

func (h *handler) upstreamError(w http.ResponseWriter, x *exchange, doing string, err error) {
	if x.r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody is there to be answered
	}
	fmt.Fprintf(h.log, "nginx: [error] %s %s while asking %s: %v\n", x.r.Method, x.path, x.loc.pass.name, fmt.Errorf("%s: %w", doing, err))
	status := http.StatusBadGateway
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
		status = http.StatusGatewayTimeout
	}
	page(w, x, x.loc.scope, status)
}

// notPassed are fields of the client's request that nginx does not pass on by
// itself.
var notPassed = []string{"Host", "Connection", "Keep-Alive", "Transfer-Encoding", "Te", "Upgrade", "Expect", "Content-Length", "Proxy-Connection"}

// requestHead is what the upstream is sent before the body.
func (x *exchange) requestHead(length int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/%s\r\n", x.r.Method, x.upstreamURI(), x.loc.proxyVersion)
	set := map[string]bool{}
	line := func(name, value string) {
		if value != "" { // an empty value means: do not send the field
			b.WriteString(name + ": " + strings.NewReplacer("\r", " ", "\n", " ").Replace(value) + "\r\n")
		}
	}
	for _, f := range x.loc.setHeaders {
		set[http.CanonicalHeaderKey(f.name)] = true
		line(f.name, f.value.expand(x))
	}
	if !set["Host"] {
		line("Host", x.loc.pass.name)
	}
	if !set["Connection"] {
		line("Connection", "close")
	}
	hasBody := x.r.ContentLength != 0 || length > 0
	if hasBody && !set["Content-Length"] {
		line("Content-Length", strconv.Itoa(length))
	}
	names := make([]string, 0, len(x.r.Header))
	for name := range x.r.Header {
		if !set[name] && !slices.Contains(notPassed, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range x.r.Header[name] {
			line(name, v)
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// upstreamURI is the path as it came, or with the location's prefix replaced if
// proxy_pass has a path.
func (x *exchange) upstreamURI() string {
	p := x.loc.pass
	if !p.hasURI {
		return requestURI(x.r)
	}
	uri := p.uri + (&url.URL{Path: strings.TrimPrefix(x.path, x.loc.uri)}).EscapedPath()
	if q := x.r.URL.RawQuery; q != "" {
		uri += "?" + q
	}
	return uri
}

// notReturned are fields of the upstream's answer that are about its own
// connection, or that nginx says itself.
var notReturned = []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Server", "Date", "X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Buffering", "X-Accel-Charset", "X-Accel-Limit-Rate", "X-Pad"}

func (x *exchange) respond(w http.ResponseWriter, res *http.Response, conn net.Conn) {
	header := w.Header()
	for name, values := range res.Header {
		if !slices.Contains(notReturned, name) {
			header[name] = values
		}
	}
	if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = nil // net/http would guess one
	}
	x.loc.add(w, x, res.StatusCode)
	w.WriteHeader(res.StatusCode)
	out := http.NewResponseController(w)
	buf := make([]byte, 32<<10)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(proxyTimeout)) // between two reads, as nginx counts
		n, err := res.Body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return
			}
			if err == nil && out.Flush() != nil {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the client must see that the answer is not whole
		}
	}
}

// tunnel carries bytes both ways after an upgrade.
func (x *exchange) tunnel(w http.ResponseWriter, res *http.Response, conn net.Conn, in *bufio.Reader) {
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		page(w, x, x.loc.scope, http.StatusBadGateway)
		return
	}
	defer client.Close()
	_ = conn.SetDeadline(time.Time{})
	_ = client.SetDeadline(time.Time{})
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 101 Switching Protocols\r\n")
	_ = res.Header.Write(&head) // a Buffer does not fail
	head.WriteString("\r\n")
	if _, err := client.Write(head.Bytes()); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { copyHalf(conn, buffered) })
	copyHalf(client, in)
	both.Wait()
}

// copyHalf copies one direction and then closes its writing side.
func copyHalf(dst net.Conn, src io.Reader) {
	_, _ = io.Copy(dst, src) // either side may leave at any time
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	} else {
		_ = dst.Close()
	}
}
