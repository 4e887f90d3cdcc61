package foreign

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/mallamesh/malla/proxy/proxyproto"
)

// announced listens for connections that may begin with a PROXY header, and remembers what that has said.
type announced struct{ net.Listener }

func (l announced) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &introduced{Conn: c, r: bufio.NewReader(c)}, nil
}

// An introduced connection reads its PROXY header, if it has one, before anything else.
type introduced struct {
	net.Conn
	r    *bufio.Reader
	once sync.Once
	said string
}

func (c *introduced) Read(p []byte) (int, error) {
	c.once.Do(c.introduction)
	return c.r.Read(p)
}

func (c *introduced) introduction() {
	for n := 1; ; n++ {
		head, err := c.r.Peek(n)
		if err != nil {
			return
		}
		if !proxyproto.Begins(head, proxyproto.V1) && !proxyproto.Begins(head, proxyproto.V2) {
			return // these are the application's own bytes
		}
		h, size, err := proxyproto.Parse(head)
		if err != nil || size == 0 {
			continue
		}
		_, _ = c.r.Discard(size)
		c.said = fmt.Sprintf("PROXY version %d for %s\n", h.Version, h.Source.Addr())
		return
	}
}

// introduction is what the connection of a request has said before it.
func introduction(ctx context.Context) string {
	if c, ok := ctx.Value(connection{}).(*introduced); ok {
		return c.said
	}
	return ""
}

// tunneled makes a server one that also carries bytes, to itself, for who asks by CONNECT or by POST, and says so.
func tunneled(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect && (r.Method != http.MethodPost || !strings.HasSuffix(r.Host, ":443")) { // who asks for no tunnel names no port
			inner.ServeHTTP(w, r)
			return
		}
		how := fmt.Sprintf("through %s %s\n", r.Method, r.Host)
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		if err := control.Flush(); err != nil {
			return
		}
		var from *bufio.Reader
		to := io.Writer(w)
		if r.Method == http.MethodConnect {
			c, rw, err := control.Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			from, to = rw.Reader, c
		} else {
			from = bufio.NewReader(r.Body)
		}
		carried, err := http.ReadRequest(from)
		if err != nil {
			return
		}
		body := fmt.Sprintf("%sgot %s %s\nhost: %s\n", how, carried.Method, carried.RequestURI, carried.Host)
		fmt.Fprintf(to, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(body), body)
		if r.Method == http.MethodPost {
			_ = control.Flush()
		}
		_, _ = io.Copy(io.Discard, from) // the client ends the tunnel: Envoy 1.40 does not survive that a POST is ended before its body
	})
}
