package shard

import (
	"bufio"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/tcp"
	mtls "github.com/mallamesh/malla/proxy/tls"
)

// endings are what docs/access-log.md shows the log lines of, by its words.
var endings = map[string]func(t *testing.T, tell func(*bench)){
	"A host closes a connection at the moment of its third request": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		tell(b)
		b.endpoints("app", app1)
		n := 0
		b.answer = func(_ *bench, p *drive.Pipe, request string) {
			if n++; n < 3 {
				p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
				return
			}
			p.CloseWrite()
		}
		p := b.dial()
		for range 3 {
			p.WriteString("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody")
			b.Step()
			b.Advance(2500 * time.Millisecond)
		}
	},
	"A host resets a connection in the middle of a body": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		tell(b)
		b.endpoints("app", app1)
		var up *drive.Pipe
		b.answer = func(_ *bench, p *drive.Pipe, _ string) {
			up = p
			p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789")
		}
		p := b.dial()
		p.WriteString(get("/"))
		b.Step()
		b.Advance(40 * time.Millisecond)
		up.Reset()
		b.Step()
	},
	"What a host answers is no HTTP": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		tell(b)
		b.endpoints("app", app1)
		b.answer = func(_ *bench, p *drive.Pipe, _ string) { p.WriteString("SSH-2.0-OpenSSH_9.9\r\n\r\n") }
		b.do(get("/"))
	},
	"A host with TLS closes its connection in the middle of a body, with close_notify": func(t *testing.T, tell func(*bench)) {
		overTLS(t, tell, func(host *tls.Conn, p *drive.Pipe) {
			host.CloseWrite()
			p.CloseWrite()
		})
	},
	"A host with TLS closes its connection in the middle of a body, with a FIN alone": func(t *testing.T, tell func(*bench)) {
		overTLS(t, tell, func(_ *tls.Conn, p *drive.Pipe) { p.CloseWrite() })
	},
	"A host of HTTP/2 resets a stream": func(t *testing.T, tell func(*bench)) {
		b := newTwo(t, cluster.Config{})
		tell(b.bench)
		b.reply = func(p *peer2, stream uint32, _ map[string]string) { p.reset(stream, http2.ErrCodeEnhanceYourCalm) }
		c := b.client()
		c.get(1, "/x")
		b.Step()
	},
	"A host of HTTP/2 takes its leave and leaves a request out": func(t *testing.T, tell func(*bench)) {
		b := newTwo(t, cluster.Config{})
		tell(b.bench)
		b.reply = func(p *peer2, stream uint32, _ map[string]string) { p.goAway(0, http2.ErrCodeNo) }
		c := b.client()
		c.get(1, "/x")
		b.Step()
	},
	"A host of HTTP/2 closes its connection": func(t *testing.T, tell func(*bench)) {
		b := newTwo(t, cluster.Config{})
		tell(b.bench)
		b.reply = func(p *peer2, stream uint32, _ map[string]string) {
			p.headers(stream, false, ":status", "200")
			p.p.CloseWrite()
		}
		c := b.client()
		c.get(1, "/x")
		b.Step()
	},
	"A host does not answer in time": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		tell(b)
		b.endpoints("app", app1)
		b.answer = func(*bench, *drive.Pipe, string) {}
		p := b.dial()
		p.WriteString(get("/"))
		b.Step()
		b.Advance(16 * time.Second)
	},
	"A client resets its connection while the answer comes": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		tell(b)
		b.endpoints("app", app1)
		b.answer = func(_ *bench, p *drive.Pipe, _ string) {
			p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789")
		}
		p := b.dial()
		b.Advance(time.Second)
		p.WriteString(get("/"))
		b.Step()
		b.Advance(40 * time.Millisecond)
		p.Reset()
		b.Step()
	},
	"A client closes its connection in the middle of its request": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		tell(b)
		b.endpoints("app", app1)
		p := b.dial()
		p.WriteString("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n0123")
		b.Step()
		p.CloseWrite()
		b.Step()
	},
	"A client of HTTP/2 cancels a request": func(t *testing.T, tell func(*bench)) {
		b := newTwo(t, cluster.Config{})
		tell(b.bench)
		b.reply = func(*peer2, uint32, map[string]string) {}
		c := b.client()
		c.get(1, "/x")
		b.Step()
		b.Advance(300 * time.Millisecond)
		c.reset(1, http2.ErrCodeCancel)
		b.Step()
	},
	"What a client of HTTP/2 sends is against the rules": func(t *testing.T, tell func(*bench)) {
		b := newTwo(t, cluster.Config{})
		tell(b.bench)
		b.reply = func(*peer2, uint32, map[string]string) {}
		c := b.client()
		c.get(1, "/x")
		b.Step()
		c.p.Write([]byte{0, 0, 1, 8, 0, 0, 0, 0, 0, 0}) // a WINDOW_UPDATE of one byte
		b.Step()
	},
	"A client resets its connection in the middle of its request": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		tell(b)
		b.endpoints("app", app1)
		b.answer = func(*bench, *drive.Pipe, string) {}
		p := b.dial()
		p.WriteString("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n0123456789")
		b.Step()
		b.Advance(40 * time.Millisecond)
		p.WriteString("0123456789")
		b.Step()
		p.Reset()
		b.Step()
	},
	"A host closes its connection between the head of its answer and the body": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		tell(b)
		b.endpoints("app", app1)
		b.answer = func(_ *bench, p *drive.Pipe, _ string) {
			p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
			p.CloseWrite()
		}
		b.do(get("/"))
	},
	"A host of HTTP/2 takes its leave in the middle of an answer and closes": func(t *testing.T, tell func(*bench)) {
		b := newTwo(t, cluster.Config{})
		tell(b.bench)
		b.reply = func(p *peer2, stream uint32, _ map[string]string) {
			p.headers(stream, false, ":status", "200")
			p.goAway(1, http2.ErrCodeNo)
			p.p.CloseWrite()
		}
		c := b.client()
		c.get(1, "/x")
		b.Step()
	},
	"A host of HTTP/2 takes its leave in anger in the middle of an answer": func(t *testing.T, tell func(*bench)) {
		b := newTwo(t, cluster.Config{})
		tell(b.bench)
		b.reply = func(p *peer2, stream uint32, _ map[string]string) {
			p.headers(stream, false, ":status", "200")
			p.goAway(1, http2.ErrCodeInternal)
			p.p.Reset()
		}
		c := b.client()
		c.get(1, "/x")
		b.Step()
	},
	"A client of HTTP/2 takes its leave in anger while the answer comes": func(t *testing.T, tell func(*bench)) {
		b := newTwo(t, cluster.Config{})
		tell(b.bench)
		b.reply = func(p *peer2, stream uint32, _ map[string]string) { p.headers(stream, false, ":status", "200") }
		c := b.client()
		c.get(1, "/x")
		b.Step()
		b.Advance(300 * time.Millisecond)
		c.goAway(0, http2.ErrCodeFlowControl)
		c.p.CloseWrite()
		b.Step()
	},
	"Nothing comes on a TCP connection": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, nil, static("app"))
		tell(b)
		b.endpoints("app", app1)
		b.rt.Listeners[0] = clone(b, &listen.Chain{Name: "tcp", Filter: &tcp.Config{StatPrefix: "t", Cluster: "app", IdleTimeout: 30 * time.Second, Logs: []listen.Log{b.log}}}, "2")
		if err := b.Apply(b.rt); err != nil {
			t.Fatal(err)
		}
		p := b.dial()
		p.WriteString("hello")
		b.Advance(32 * time.Second)
	},
	"A TCP host resets its connection": func(t *testing.T, tell func(*bench)) {
		b := newBench(t, nil, static("app"))
		tell(b)
		b.endpoints("app", app1)
		b.rt.Listeners[0] = clone(b, &listen.Chain{Name: "tcp", Filter: &tcp.Config{StatPrefix: "t", Cluster: "app", Logs: []listen.Log{b.log}}}, "2")
		if err := b.Apply(b.rt); err != nil {
			t.Fatal(err)
		}
		var up *drive.Pipe
		b.Handle(app1, func(p *drive.Pipe) { up = p })
		p := b.dial()
		p.WriteString("hello")
		b.Step()
		b.Advance(time.Second)
		up.WriteString("hi")
		b.Step()
		up.Reset()
		b.Step()
	},
}

// overTLS has a host with TLS begin an answer and end.
func overTLS(t *testing.T, tell func(*bench), end func(*tls.Conn, *drive.Pipe)) {
	b := newPair(t, nil)
	tell(b.bench)
	b.endpoints("reviews", app1)
	var up *drive.Pipe
	b.Handle(app1, func(p *drive.Pipe) { up = p })
	p := b.dial()
	p.WriteString(get("/"))
	b.Step()
	host := tls.Server(&wire{m: b.Memory, p: up}, &tls.Config{Certificates: []tls.Certificate{*b.server.identity.Certificate()}, SessionTicketsDisabled: true})
	if _, err := http.ReadRequest(bufio.NewReader(host)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(host, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789")
	b.Step()
	b.Advance(40 * time.Millisecond)
	end(host, up)
	b.Step()
}

// By which alert of TLS a client of HTTP/2 has ended its connection stands in the log.
func TestAlertOfAClient(t *testing.T) {
	p := newPair(t, nil)
	server, err := mtls.NewServer(mtls.ServerConfig{Common: mtls.Common{Identities: []*mtls.Identity{p.server.identity}, ALPN: []string{"h2"}}})
	if err != nil {
		t.Fatal(err)
	}
	if p.inLog.format, err = access.Compile("%RESPONSE_CODE_DETAILS(CLOSE)%"); err != nil {
		t.Fatal(err)
	}
	p.rt.Listeners = append(p.rt.Listeners, &listen.Config{
		Name: "edge", Version: "1", Addrs: []netip.AddrPort{local}, TLSInspector: &listen.Inspector{}, Chains: []*listen.Chain{{Name: "edge", TLS: server, Filter: p.in}},
	})
	if err := p.Apply(p.rt); err != nil {
		t.Fatal(err)
	}
	p.answer = func(*bench, *drive.Pipe, string) {}
	w := &wire{m: p.Memory, p: p.Dial("edge", client, local)}
	c := tls.Client(w, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, nil)
	f.WriteSettings()
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: []byte{0x82, 0x86, 0x84, 0x41, 1, 'a'}}) // GET http / of a
	p.Step()
	w.p.Take()
	w.in.Reset("\x17\x03\x03\x00\x20" + strings.Repeat("?", 32)) // a record that nobody has sealed
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("the client took a record that nobody has sealed")
	}
	p.Step()
	if got := p.inLog.last(); !strings.Contains(got, "downstream_remote_alert{") || !strings.Contains(got, "code=bad_record_MAC") {
		t.Errorf("the log says %q, want the client's alert by name", got)
	}
}

// A wire is a pipe for crypto/tls. It moves the loop when it waits for something.
type wire struct {
	net.Conn // nil: what is not overridden is not called
	m        *Memory
	p        *drive.Pipe
	in       strings.Reader
}

func (w *wire) Read(b []byte) (int, error) {
	for i := 0; w.in.Len() == 0; i++ {
		if i == 100 {
			return 0, io.ErrUnexpectedEOF
		}
		w.in.Reset(w.p.Take())
		if w.in.Len() == 0 {
			w.m.Step()
		}
	}
	return w.in.Read(b)
}

func (w *wire) Write(b []byte) (int, error)      { return w.p.Write(b) }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// rough leaves of the bytes of a handshake what is the same each time: signatures are of several lengths.
func rough(line string) string { return handshakeBytes.ReplaceAllString(line, "${1}000") }

var handshakeBytes = regexp.MustCompile(`((?:received|sent)=\d)\d{3}\b`)

// Who closed, at which byte and how old the connection was stands in the log as its page shows it.
func TestClosingsAreLogged(t *testing.T) {
	page, err := os.ReadFile("../../docs/access-log.md")
	if err != nil {
		t.Fatal(err)
	}
	const mark = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS(CLOSE)%"
	_, table, ok := strings.Cut(string(page), "    "+mark+"\n")
	if !ok {
		t.Fatalf("the page has no example of %s", mark)
	}
	table, _, _ = strings.Cut(table, "\n| word |")
	want := map[string]string{}
	for l := range strings.Lines(table) {
		if cells := strings.Split(l, " | "); len(cells) == 2 && strings.HasPrefix(l, "| ") {
			want[strings.TrimPrefix(cells[0], "| ")] = strings.ReplaceAll(strings.Trim(cells[1], "`| \n"), `\|`, "|")
		}
	}
	format, err := access.Compile(mark)
	if err != nil {
		t.Fatal(err)
	}
	plays := maps.Clone(endings)
	maps.Copy(plays, beginnings)
	for what, play := range plays {
		var b *bench
		play(t, func(x *bench) { b = x; x.log.format = format })
		if got := b.log.last(); rough(got) != rough(want[what]) {
			t.Errorf("%s: the log says\n%s\nand the page\n%s", what, got, want[what])
		}
		delete(want, what)
	}
	delete(want, "what has happened")
	delete(want, "---")
	for what := range want {
		t.Errorf("the page shows %q, which nothing here plays", what)
	}
}
