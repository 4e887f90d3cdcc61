package faults

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mallamesh/malla/test/hop"
)

// accept gives every connection to f, and closes it then.
func accept(t *testing.T, f func(c net.Conn)) string {
	t.Helper()
	l := hop.Serve(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

// raw answers every connection, once the head of a request has come, as f does.
func raw(t *testing.T, f func(c net.Conn, path string)) string {
	t.Helper()
	return accept(t, func(c net.Conn) {
		if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			f(c, req.URL.Path)
		}
	})
}

const answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\n01234567890123456789"

const head = len(answer) - 20

// chunked is the same in two chunks and a trailer.
const chunked = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n" +
	"a\r\n0123456789\r\na\r\n0123456789\r\n0\r\nx-sum: 90\r\n\r\n"

const headChunked = len(chunked) - 2*len("a\r\n0123456789\r\n") - len("0\r\nx-sum: 90\r\n\r\n")

// answer2 is the same by HTTP/2, from the settings on.
var answer2, head2 = func() (string, int) {
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	_ = f.WriteSettings()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: []byte{0x88}}) // :status: 200
	n := b.Len()
	_ = f.WriteData(1, true, []byte(answer[head:]))
	return b.String(), n
}()

// raw2 is raw for HTTP/2: one request on each connection.
func raw2(t *testing.T, f func(c net.Conn, path string)) string {
	t.Helper()
	return accept(t, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		frames := http2.NewFramer(io.Discard, c)
		frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for {
			x, err := frames.ReadFrame()
			if m, ok := x.(*http2.MetaHeadersFrame); ok {
				f(c, m.PseudoValue("path"))
				return
			}
			if err != nil {
				return
			}
		}
	})
}

// alone has every request come by a connection of its own: a server that stalls after its whole answer reads no other.
const alone = "max_requests_per_connection: 1"

// standsStill is when a client gives up: much later than anything that is waited for here comes.
const standsStill = 30 * time.Second

// each asks for every position of an answer at the same time, and wants what is due: an answer in the proxy's own name while
// the head is not whole (nothing has come of it, or a part), then the beginning of a body and no more, and at last everything.
// The clients would keep their connections, so that a body that was cut ends only if the proxy says so.
func each(t *testing.T, name string, x *hop.Proxy, answer string, head, nothing, part int) {
	t.Helper()
	var all sync.WaitGroup
	still := make([]bool, len(answer)+1)
	for at := range still {
		all.Go(func() {
			tr := new(http.Transport)
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: standsStill}
			resp, err := client.Get(fmt.Sprintf("http://%s/%d", x.At["main"], at))
			if os.IsTimeout(err) {
				still[at] = true
				return
			}
			if err != nil {
				t.Errorf("%s: after %d bytes of %d: %v", name, at, len(answer), err)
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			early := part
			if at == 0 {
				early = nothing
			}
			switch {
			case os.IsTimeout(err):
				still[at] = true
			case at < head && (resp.StatusCode != early || err != nil):
				t.Errorf("%s: after %d bytes of the head's %d: status %d, %v, want %d", name, at, head, resp.StatusCode, err, early)
			case at >= head && (resp.StatusCode != 200 || (err == nil) != (at == len(answer))):
				t.Errorf("%s: after %d bytes of %d: status %d, a body of %q, %v; want 200, and an error unless that is all", name, at, len(answer), resp.StatusCode, body, err)
			}
		})
	}
	all.Wait()
	var stood []int
	for at, s := range still {
		if s {
			stood = append(stood, at)
		}
	}
	if stood != nil {
		t.Fatalf("%s: the client has waited %v for an end, where the server sent so many bytes of %d: %v", name, standsStill, len(answer), stood)
	}
}

// A server that stalls, at whichever byte, costs the request its time and nothing else.
func TestServersThatStallAnywhere(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	defer close(over)
	stall := func(answer string) func(net.Conn, string) {
		return func(c net.Conn, path string) {
			var n int
			_, _ = fmt.Sscan(path[1:], &n)
			_, _ = io.WriteString(c, answer[:n])
			<-over
		}
	}
	const patience = "stream_idle_timeout: 8s" // longer than a busy machine takes to bring what comes
	each(t, "content-length", hop.Malla(t, hop.PKI(t), hop.Hop{Name: "main", To: raw(t, stall(answer)), Cluster: alone, HCM: patience}), answer, head, 504, 504)
	each(t, "HTTP/2", hop.Malla(t, hop.PKI(t), hop.Hop{Name: "main", To: raw2(t, stall(answer2)), ToH2: true, Cluster: alone, HCM: patience}), answer2, head2, 504, 504)
}

// A server that closes its connection early is seen to have done so.
func TestServersThatCloseAnywhere(t *testing.T) {
	t.Parallel()
	leave := func(answer string) func(net.Conn, string) {
		return func(c net.Conn, path string) {
			var n int
			_, _ = fmt.Sscan(path[1:], &n)
			_, _ = io.WriteString(c, answer[:n])
			_ = c.(*net.TCPConn).CloseWrite() // a reset would take away what was sent
			_, _ = io.Copy(io.Discard, c)
		}
	}
	each(t, "content-length", hop.Malla(t, hop.PKI(t), hop.Hop{Name: "main", To: raw(t, leave(answer))}), answer, head, 503, 502)
	each(t, "chunked", hop.Malla(t, hop.PKI(t), hop.Hop{Name: "main", To: raw(t, leave(chunked))}), chunked, headChunked, 503, 502)
	each(t, "HTTP/2", hop.Malla(t, hop.PKI(t), hop.Hop{Name: "main", To: raw2(t, leave(answer2)), ToH2: true, Cluster: alone}), answer2, head2, 503, 503)
}

// What is no HTTP is answered for, and headers without an end are not waited for or kept.
func TestServersThatTalkNonsense(t *testing.T) {
	t.Parallel()
	server := raw(t, func(c net.Conn, path string) {
		switch path {
		case "/garbage":
			_, _ = io.WriteString(c, "\x00\xff\x16\x03\x01 nonsense \x00\r\n\r\n")
		case "/endless":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(c, "x-%d: %s\r\n", i, strings.Repeat("y", 1000)); err != nil {
					return
				}
			}
		case "/long":
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nx: ")
			for {
				if _, err := io.WriteString(c, strings.Repeat("y", 1000)); err != nil {
					return
				}
			}
		}
	})
	x := hop.Malla(t, hop.PKI(t), hop.Hop{Name: "main", To: server})
	client := &http.Client{Transport: new(http.Transport), Timeout: standsStill}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/garbage", "/endless", "/long"} {
		for i := range 20 {
			resp, err := client.Get("http://" + x.At["main"] + path)
			if err != nil {
				t.Fatalf("%s, request %d: no answer within %v: %v; the proxy holds %+v", path, i, standsStill, err, holds(t, x))
			}
			resp.Body.Close()
			if resp.StatusCode != 502 && resp.StatusCode != 503 {
				t.Errorf("%s: %s, want 502 or 503", path, resp.Status)
			}
		}
	}
	wantBack(t, x, usage{descriptors: 1000, goroutines: 1000, memory: 100 << 20})
}
