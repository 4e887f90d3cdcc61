//go:build linux

package envoy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// A backend is an HTTP/1.1 server on raw sockets, so that it can misbehave, and
// so that its answers are the same bytes for every proxy. The first element of
// the path says what it does.
type backend struct {
	port  int
	tries atomic.Int64
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &backend{port: l.Addr().(*net.TCPAddr).Port}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	return b
}

func (b *backend) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), r)))
		if err != nil {
			fmt.Fprintf(c, "HTTP/1.1 599 Unreadable\r\ncontent-length: 0\r\nx-why: %v\r\n\r\n", err)
			return
		}
		body := ""
		if req.ContentLength != 0 {
			text, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			body = string(text)
		}
		if !b.answer(c, req.URL.Path, head, body, req.Trailer) {
			return
		}
	}
}

// answer reports whether the connection goes on.
func (b *backend) answer(c net.Conn, path, head, body string, trailer http.Header) bool {
	what, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	send := func(format string, a ...any) { fmt.Fprintf(c, format, a...) }
	switch what {
	case "echo": // what the proxy sent
		text := head + body
		for k, v := range trailer {
			text += fmt.Sprintf("\ntrailer %s: %s", strings.ToLower(k), v[0])
		}
		send("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s", len(text), text)
	case "chunked":
		send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
	case "trailers":
		send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n3\r\nabc\r\n0\r\nx-end: yes\r\n\r\n")
	case "until-close":
		send("HTTP/1.1 200 OK\r\nserver: Jetty\r\n\r\nall of it")
		return false
	case "headers":
		send("HTTP/1.1 200 OK\r\nServer: Jetty\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nX-Twice: a\r\nX-Twice: b\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\nX-Fault: a\r\nContent-Length: 2\r\n\r\nok")
	case "204":
		send("HTTP/1.1 204 No Content\r\n\r\n")
	case "304":
		send("HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n")
	case "503":
		send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy")
	case "103":
		send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
	case "slow":
		mesh.Pause(2 * time.Second)
		send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate")
	case "half":
		send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
		return false
	case "close":
		return false
	case "reset":
		_ = c.(*net.TCPConn).SetLinger(0)
		return false
	case "garbage":
		send("NONSENSE\r\n\r\n")
		return false
	case "two-lengths":
		send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc")
		return false
	case "flaky": // every second request fails
		if b.tries.Add(1)%2 == 1 {
			return false
		}
		send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
	default:
		send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
	}
	return true
}
