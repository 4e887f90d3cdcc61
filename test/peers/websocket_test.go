//lint:file-ignore SA1019 the transport of net/http refuses ":protocol", which extended CONNECT needs

package peers

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"github.com/gorilla/websocket"
	"golang.org/x/net/http2"

	"github.com/mallamesh/malla/test/hop"
)

// WebSockets work end to end, gorilla's server behind and two libraries before the proxy,
// whatever versions of HTTP are between them.
func TestWebSocket(t *testing.T) {
	p := hop.PKI(t)
	server := backendOf(t, http.HandlerFunc(echoSocket))
	connect := "allow_connect: true"
	inner := hop.Malla(t, p, hop.Hop{Name: "inner", TLS: true, Mutual: true, To: server, H2: connect})
	x := hop.Malla(t, p,
		hop.Hop{Name: "h1", To: server, H2: connect},
		hop.Hop{Name: "tls", TLS: true, To: server, H2: connect},
		hop.Hop{Name: "two_h1", To: inner.At["inner"], ToTLS: true, H2: connect},
		hop.Hop{Name: "two_h2", To: inner.At["inner"], ToTLS: true, ToH2: true, H2: connect})
	for _, way := range []struct {
		name, hop string
		secure    bool
		over      http.RoundTripper // nil: HTTP/1.1
	}{
		{"h1", "h1", false, nil},
		{"h1 over TLS", "tls", true, nil},
		{"h2", "h1", false, overH2(false)},
		{"h2 over TLS", "tls", true, overH2(true)},
		{"h1, then h1", "two_h1", false, nil},
		{"h1, then h2", "two_h2", false, nil},
		{"h2, then h1", "two_h1", false, overH2(false)},
		{"h2, then h2", "two_h2", false, overH2(false)},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			client := &http.Client{Transport: way.over}
			if way.over == nil {
				client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}
			}
			scheme := "ws"
			if way.secure {
				scheme = "wss"
			}
			url := scheme + "://" + x.At[way.hop] + "/chat"
			for _, c := range socketCases {
				t.Run(c.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					defer cancel()
					ws, resp, err := coder.Dial(ctx, url, &coder.DialOptions{HTTPClient: client, Subprotocols: []string{"soup", "chat"}})
					if err != nil {
						t.Fatal(err)
					}
					defer ws.CloseNow()
					if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != "chat" {
						t.Errorf("the server chose %q, want chat", got)
					}
					ws.SetReadLimit(-1)
					c.play(ctx, t, ws)
				})
			}
		})
	}
	for _, hop := range []string{"h1", "two_h1", "two_h2"} {
		t.Run("gorilla through "+hop, func(t *testing.T) {
			t.Parallel()
			gorilla(t, "ws://"+x.At[hop]+"/chat")
		})
	}
}

var socketCases = []struct {
	name string
	play func(context.Context, *testing.T, *coder.Conn)
}{
	{"text and bytes", func(ctx context.Context, t *testing.T, ws *coder.Conn) {
		echoes(ctx, t, ws, coder.MessageText, []byte("héllo"))
		echoes(ctx, t, ws, coder.MessageBinary, []byte{0, 1, 2, 0xff})
		echoes(ctx, t, ws, coder.MessageText, nil)
	}},
	{"fragments", func(ctx context.Context, t *testing.T, ws *coder.Conn) {
		w, err := ws.Writer(ctx, coder.MessageText)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 { // a frame each
			if _, err := io.WriteString(w, "fragment "); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		is(ctx, t, ws, coder.MessageText, bytes.Repeat([]byte("fragment "), 200))
	}},
	{"ping", func(ctx context.Context, t *testing.T, ws *coder.Conn) {
		ctx = ws.CloseRead(ctx)
		for range 3 {
			if err := ws.Ping(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}},
	{"large", func(ctx context.Context, t *testing.T, ws *coder.Conn) {
		big := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
		go func() { _ = ws.Write(ctx, coder.MessageBinary, big) }()
		is(ctx, t, ws, coder.MessageBinary, big)
		echoes(ctx, t, ws, coder.MessageText, []byte("still there"))
	}},
	{"many", func(ctx context.Context, t *testing.T, ws *coder.Conn) {
		go func() {
			for i := range 2000 {
				_ = ws.Write(ctx, coder.MessageText, fmt.Appendf(nil, "message %d", i))
			}
		}()
		for i := range 2000 {
			is(ctx, t, ws, coder.MessageText, fmt.Appendf(nil, "message %d", i))
		}
	}},
	{"the client closes", func(ctx context.Context, t *testing.T, ws *coder.Conn) {
		if err := ws.Close(4321, "enough"); err != nil { // the server has answered the same
			t.Error(err)
		}
	}},
	{"the server closes", func(ctx context.Context, t *testing.T, ws *coder.Conn) {
		if err := ws.Write(ctx, coder.MessageText, []byte("close 4000 bye")); err != nil {
			t.Fatal(err)
		}
		_, _, err := ws.Read(ctx)
		var e coder.CloseError
		if !errors.As(err, &e) || e.Code != 4000 || e.Reason != "bye" {
			t.Errorf("the server's close came as %v", err)
		}
	}},
	{"the server breaks off", func(ctx context.Context, t *testing.T, ws *coder.Conn) {
		if err := ws.Write(ctx, coder.MessageText, []byte("break")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
			t.Errorf("a connection that broke came as %v", err)
		}
	}},
}

func echoes(ctx context.Context, t *testing.T, ws *coder.Conn, kind coder.MessageType, text []byte) {
	t.Helper()
	if err := ws.Write(ctx, kind, text); err != nil {
		t.Fatal(err)
	}
	is(ctx, t, ws, kind, text)
}

func is(ctx context.Context, t *testing.T, ws *coder.Conn, kind coder.MessageType, text []byte) {
	t.Helper()
	k, got, err := ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if k != kind || !bytes.Equal(got, text) {
		t.Fatalf("%v of %d bytes, want %v of %d", k, len(got), kind, len(text))
	}
}

// echoSocket sends back what comes, or ends as it is told.
func echoSocket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{Subprotocols: []string{"chat"}}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	for {
		kind, text, err := ws.ReadMessage()
		if err != nil {
			return
		}
		code, reason := 0, ""
		switch n, _ := fmt.Sscanf(string(text[:min(len(text), 100)]), "close %d %s", &code, &reason); {
		case n == 2:
			_ = ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason))
			continue
		case string(text) == "break":
			return
		}
		if ws.WriteMessage(kind, text) != nil {
			return
		}
	}
}

// gorilla's client and its compression.
func gorilla(t *testing.T, url string) {
	d := websocket.Dialer{EnableCompression: true, HandshakeTimeout: 10 * time.Second}
	ws, _, err := d.DialContext(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	pong := ""
	ws.SetPongHandler(func(text string) error { pong = text; return nil })
	if err := ws.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		want := bytes.Repeat([]byte("z"), n)
		if err := ws.WriteMessage(websocket.BinaryMessage, want); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.ReadMessage(); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came as %d, %v", n, len(got), err)
		}
	}
	if pong != "are you there" {
		t.Errorf("the pong says %q", pong)
	}
}

// overH2 makes of an upgrade the extended CONNECT that it is in HTTP/2 (RFC 8441), and of its
// answer a 101, so that a library that knows HTTP/1.1 only speaks over a stream.
func overH2(secure bool) http.RoundTripper {
	t := &http2.Transport{AllowHTTP: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	if !secure {
		t.DialTLSContext = hop.Plain
	}
	return upgrader{t}
}

type upgrader struct{ t *http2.Transport }

func (u upgrader) RoundTrip(r *http.Request) (*http.Response, error) {
	read, write := io.Pipe()
	q := r.Clone(r.Context())
	q.Method, q.Body, q.ContentLength = http.MethodConnect, read, -1
	q.URL.Scheme = strings.Replace(q.URL.Scheme, "ws", "http", 1)
	key := q.Header.Get("Sec-WebSocket-Key")
	for _, name := range []string{"Upgrade", "Connection"} {
		q.Header.Del(name)
	}
	q.Header.Set(":protocol", "websocket")
	resp, err := u.t.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp, nil
	}
	accept := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	resp.StatusCode = http.StatusSwitchingProtocols
	resp.Header.Set("Upgrade", "websocket")
	resp.Header.Set("Connection", "Upgrade")
	resp.Header.Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(accept[:]))
	resp.Body = stream{resp.Body, write}
	return resp, nil
}

// A stream is both directions of an extended CONNECT.
type stream struct {
	io.ReadCloser
	up *io.PipeWriter
}

func (s stream) Write(b []byte) (int, error) { return s.up.Write(b) }

func (s stream) Close() error {
	s.up.Close()
	return s.ReadCloser.Close()
}
