package shard

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
)

// two is a bench whose cluster "app" speaks HTTP/2; its application answers with "ok" and says
// what it was asked.
type two struct {
	*bench
	upstreams []*peer2
	reply     func(p *peer2, stream uint32, head map[string]string)
}

func newTwo(t testing.TB, c cluster.Config, routes ...route.RouteConfig) *two {
	if routes == nil {
		routes = []route.RouteConfig{to("app")}
	}
	c.Name, c.HTTP2 = "app", true
	b := &two{bench: newBench(t, routes, c)}
	b.endpoints("app", app1)
	b.reply = func(p *peer2, stream uint32, head map[string]string) {
		p.headers(stream, false, ":status", "200", "x-path", head[":path"])
		p.data(stream, []byte("ok"), true)
	}
	b.serve2()
	return b
}

func (b *two) serve2(settings ...http2.Setting) {
	b.Handle(app1, func(p *drive.Pipe) {
		up := newPeer2(p, true, settings...)
		up.onEnd = func(stream uint32, head map[string]string) { b.reply(up, stream, head) }
		b.upstreams = append(b.upstreams, up)
	})
}

// client connects a client of HTTP/2.
func (b *two) client(settings ...http2.Setting) *peer2 {
	c := newPeer2(b.Dial("in", client, local), false, settings...)
	b.Step()
	return c
}

const okHead = ":status=200 x-path=/x x-envoy-upstream-service-time=0 date=Sat, 21 Nov 2026 07:00:00 GMT server=envoy"

func TestHTTP2ToHTTP2(t *testing.T) {
	b := newTwo(t, cluster.Config{})
	c := b.client()
	c.get(1, "/x")
	b.Step()
	if got, want := c.take(), "HEADERS 1 "+okHead+"\nDATA 1 end \"ok\""; got != want {
		t.Errorf("the client got\n%s\nwant\n%s", got, want)
	}
	if got := b.upstreams[0].take(); !strings.HasPrefix(got, "HEADERS 1 end :method=GET :scheme=http :path=/x :authority=a.b") || !strings.Contains(got, "x-request-id=") {
		t.Errorf("the application got\n%s", got)
	}
	if got, want := b.log.last(), `GET /x HTTP/2 200 - via_upstream "-" 0 2 host=10.0.0.1:80 cluster=app route=app attempts=1`; got != want {
		t.Errorf("log %s, want %s", got, want)
	}
}

// Bodies and trailers go both ways between any two versions.
func TestVersionsMix(t *testing.T) {
	t.Run("2 to 1", func(t *testing.T) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		b.endpoints("app", app1)
		b.answer = func(b *bench, p *drive.Pipe, request string) {
			p.WriteString("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nConnection: keep-alive\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n")
		}
		c := newPeer2(b.Dial("in", client, local), false)
		c.post(1, "/x", "te", "trailers", "cookie", "a=1", "cookie", "b=2")
		c.data(1, []byte("hello"), false)
		c.headers(1, true, "x-more", "2")
		b.Step()
		if got := c.take(); !strings.HasPrefix(got, "HEADERS 1 :status=200 ") || strings.Contains(got, "connection") || !strings.HasSuffix(got, "DATA 1 \"abc\"\nHEADERS 1 end x-sum=1") {
			t.Errorf("the client got\n%s", got)
		}
		request := b.requests[0]
		for _, want := range []string{"POST /x HTTP/1.1\r\nhost: a.b\r\n", "\r\ncookie: a=1; b=2\r\n", "\r\ntransfer-encoding: chunked\r\n", "\r\n\r\n5\r\nhello\r\n0\r\nx-more: 2\r\n\r\n"} {
			if !strings.Contains(request, want) {
				t.Errorf("the application got %q, want %q in it", request, want)
			}
		}
	})
	t.Run("1 to 2", func(t *testing.T) {
		b := newTwo(t, cluster.Config{})
		b.reply = func(p *peer2, stream uint32, head map[string]string) {
			p.headers(stream, false, ":status", "200", "grpc", "yes")
			p.data(stream, []byte("abc"), false)
			p.headers(stream, true, "x-sum", "1")
		}
		p := b.dial()
		p.WriteString("POST /x HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\nx-more: 2\r\n\r\n")
		b.Step()
		if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\ngrpc: yes\r\n") || !strings.HasSuffix(got, "\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n") {
			t.Errorf("the client got %q", got)
		}
		got := b.upstreams[0].take()
		if !strings.HasPrefix(got, "HEADERS 1 :method=POST ") || strings.Contains(got, "connection") || strings.Contains(got, "transfer-encoding") ||
			!strings.HasSuffix(got, "DATA 1 \"hello\"\nHEADERS 1 end x-more=2") {
			t.Errorf("the application got\n%s", got)
		}
	})
}

// A connection that may carry few requests keeps nobody waiting: there is another, be the first ones answered or not.
func TestRequestsPerConnectionOfHTTP2(t *testing.T) {
	b := newTwo(t, cluster.Config{MaxRequestsPerConnection: 2})
	asked := 0
	b.reply = func(*peer2, uint32, map[string]string) { asked++ }
	c := b.client()
	for i := range 5 {
		c.get(uint32(1+2*i), "/x")
	}
	b.Step()
	if asked != 5 || len(b.upstreams) != 3 {
		t.Errorf("%d of 5 requests have reached the host, on %d connections, want all on 3", asked, len(b.upstreams))
	}
}

// Requests of one client share a connection to the host up to what the host allows; then
// there is another.
func TestStreamsShareConnections(t *testing.T) {
	b := newTwo(t, cluster.Config{})
	b.serve2(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	var waiting []func()
	b.reply = func(p *peer2, stream uint32, _ map[string]string) {
		waiting = append(waiting, func() { p.headers(stream, true, ":status", "204") })
	}
	c := b.client()
	c.get(1, "/warm")
	b.Step()
	for i := range 3 {
		c.get(uint32(3+2*i), "/x")
	}
	b.Step()
	if len(b.upstreams) != 2 || len(waiting) != 4 {
		t.Fatalf("%d connections with %d requests, want 2 with 4", len(b.upstreams), len(waiting))
	}
	for _, f := range waiting {
		f()
	}
	b.Step()
	if n := strings.Count(c.take(), "end :status=204"); n != 4 {
		t.Errorf("%d answers, want 4", n)
	}
	if st := b.rt.Clusters["app"].Stats; st.UpstreamCxHTTP2Total.Value() != 2 || st.UpstreamRqActive.Value() != 0 || st.UpstreamRqPendingActive.Value() != 0 {
		t.Errorf("connections %d, active %d, pending %d", st.UpstreamCxHTTP2Total.Value(), st.UpstreamRqActive.Value(), st.UpstreamRqPendingActive.Value())
	}
}

// A host that goes away loses no request: what it has not taken is sent elsewhere, POST too.
func TestGoAwayLosesNothing(t *testing.T) {
	b := newTwo(t, cluster.Config{})
	first := true
	b.reply = func(p *peer2, stream uint32, head map[string]string) {
		if first && head[":path"] == "/new" {
			first = false
			p.goAway(stream-2, http2.ErrCodeNo) // this one and later ones were not taken
			p.headers(stream-2, true, ":status", "200")
			return
		}
		if head[":path"] != "/old" {
			p.headers(stream, true, ":status", "201")
		}
	}
	c := b.client()
	c.get(1, "/old")
	b.Step()
	c.post(3, "/new")
	c.data(3, []byte("x"), true)
	b.Step()
	got := c.take()
	if !strings.Contains(got, "HEADERS 1 end :status=200") || !strings.Contains(got, "HEADERS 3 end :status=201") {
		t.Errorf("the client got\n%s", got)
	}
	if len(b.upstreams) != 2 {
		t.Errorf("%d connections, want 2", len(b.upstreams))
	}
}

// A stream that is reset by one side is reset at the other.
func TestResetsPassThrough(t *testing.T) {
	b := newTwo(t, cluster.Config{})
	b.reply = func(p *peer2, stream uint32, head map[string]string) {
		switch head[":path"] {
		case "/refuse":
			p.reset(stream, http2.ErrCodeRefusedStream)
		case "/break":
			p.headers(stream, false, ":status", "200")
			p.data(stream, []byte("half"), false)
			p.reset(stream, http2.ErrCodeInternal)
		}
	}
	c := b.client()
	c.get(1, "/break")
	b.Step()
	if got := c.take(); !strings.HasSuffix(got, "DATA 1 \"half\"\nRST_STREAM 1 INTERNAL_ERROR") {
		t.Errorf("the client got\n%s", got)
	}
	c.get(3, "/hang")
	b.Step()
	b.upstreams[0].take()
	c.reset(3, http2.ErrCodeCancel)
	b.Step()
	if got := b.upstreams[0].take(); got != "RST_STREAM 3 INTERNAL_ERROR" {
		t.Errorf("the application got %q", got)
	}
	if got, want := b.log.last(), `GET /hang HTTP/2 0 DR http2.remote_reset "-" 0 0 host=10.0.0.1:80 cluster=app route=app attempts=1`; got != want {
		t.Errorf("log %s, want %s", got, want)
	}
}

// A client that takes nothing stops the host: the proxy keeps no more than the marks say.
func TestBackPressureEndToEnd(t *testing.T) {
	b := newTwo(t, cluster.Config{BufferLimit: 64 << 10})
	b.rt.Listeners[0].BufferLimit = 64 << 10
	const total = 8 << 20
	sent := 0
	b.reply = func(p *peer2, stream uint32, _ map[string]string) { p.headers(stream, false, ":status", "200") }
	c := b.client()
	c.get(1, "/x")
	b.Step()
	up := b.upstreams[0]
	// The application sends as its window lets it: our announcement of it is in its events.
	window := 16 << 20
	for sent < total && window > 0 {
		n := 16384
		up.fr.WriteData(1, false, make([]byte, n))
		up.flush()
		sent += n
		window -= n
	}
	b.Step()
	if got := c.body[1]; got != 65535 {
		t.Errorf("the client got %d bytes, want its window of 65535", got)
	}
	for c.body[1] < sent {
		before := c.body[1]
		c.credit(1, 1<<20)
		b.Step()
		if c.body[1] == before {
			t.Fatalf("the flow stands still at %d bytes of %d", before, sent)
		}
	}
}

// A connection that is to end says so, serves what comes until the client knows, and ends.
func TestDrainInTwoSteps(t *testing.T) {
	b := newTwo(t, cluster.Config{})
	b.config.DrainTimeout = 5 * time.Second
	c := b.client()
	c.get(1, "/x")
	b.Step()
	c.take()
	b.Drain(false, listen.Pace{Time: time.Minute})
	b.Step()
	if got := c.take(); got != "GOAWAY 2147483647 NO_ERROR " {
		t.Errorf("the client got %q", got)
	}
	c.get(3, "/x") // was on its way
	b.Step()
	if got := c.take(); !strings.HasPrefix(got, "HEADERS 3 ") {
		t.Errorf("the client got %q", got)
	}
	b.Advance(5*time.Second + 10*time.Millisecond)
	if got := c.take(); got != "GOAWAY 3 NO_ERROR " {
		t.Errorf("the client got %q", got)
	}
	b.Advance(2 * time.Second)
	if n := b.Open(); n != 0 {
		t.Errorf("%d connections are open, want 0", n)
	}
}

// Streams time out one by one; the connection and other streams go on.
func TestStreamsAreIdleOneByOne(t *testing.T) {
	b := newTwo(t, cluster.Config{})
	b.config.StreamIdle = 10 * time.Second
	b.reply = func(p *peer2, stream uint32, head map[string]string) {
		if head[":path"] != "/hang" {
			p.headers(stream, true, ":status", "200")
		}
	}
	c := b.client()
	c.get(1, "/hang")
	b.Step()
	b.Advance(8 * time.Second)
	c.get(3, "/hang")
	b.Step()
	b.Advance(4 * time.Second)
	if got := c.take(); !strings.HasPrefix(got, "HEADERS 1 :status=504") || strings.Contains(got, "HEADERS 3") {
		t.Errorf("the client got\n%s", got)
	}
	c.get(5, "/x")
	b.Step()
	if got := c.take(); !strings.HasPrefix(got, "HEADERS 5 end :status=200") {
		t.Errorf("the client got\n%s", got)
	}
}

// WebSockets pass between any two versions (RFC 8441).
func TestWebSocketOverHTTP2(t *testing.T) {
	echo := func(p *peer2, stream uint32) { p.headers(stream, false, ":status", "200") }
	t.Run("2 to 1", func(t *testing.T) {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		b.config.HTTP2.AllowConnect = true
		b.endpoints("app", app1)
		b.answer = func(b *bench, p *drive.Pipe, request string) {
			p.WriteString("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nHELLO")
		}
		c := newPeer2(b.Dial("in", client, local), false)
		c.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a.b", ":path", "/ws")
		b.Step()
		if got := c.take(); !strings.HasPrefix(got, "HEADERS 1 :status=200 ") || !strings.HasSuffix(got, "\nDATA 1 \"HELLO\"") {
			t.Errorf("the client got\n%s", got)
		}
		if got := b.requests[0]; !strings.HasPrefix(got, "GET /ws HTTP/1.1\r\n") || !strings.Contains(got, "upgrade: websocket") {
			t.Errorf("the application got %q", got)
		}
	})
	t.Run("2 to 2", func(t *testing.T) {
		b := newTwo(t, cluster.Config{})
		b.config.HTTP2.AllowConnect = true
		b.serve2(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		c := b.client()
		c.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a.b", ":path", "/ws")
		b.Step()
		up := b.upstreams[0]
		if got := up.take(); !strings.HasPrefix(got, "HEADERS 1 :method=CONNECT") || !strings.Contains(got, ":protocol=websocket") {
			t.Fatalf("the application got\n%s", got)
		}
		echo(up, 1)
		b.Step()
		c.data(1, []byte("ping"), false)
		b.Step()
		up.data(1, []byte("pong"), true)
		b.Step()
		if got := up.take(); got != "DATA 1 \"ping\"\nRST_STREAM 1 NO_ERROR" {
			t.Errorf("the application got %q", got)
		}
		if got := c.take(); !strings.HasSuffix(got, "DATA 1 end \"pong\"\nRST_STREAM 1 NO_ERROR") {
			t.Errorf("the client got\n%s", got)
		}
	})
}

// A cluster that follows its clients speaks their version to its hosts.
func TestClusterFollowsClients(t *testing.T) {
	b := newTwo(t, cluster.Config{SameProtocol: true})
	b.rt.Clusters["app"].HTTP2 = false
	c := b.client()
	c.get(1, "/x")
	b.Step()
	if got := c.take(); !strings.HasPrefix(got, "HEADERS 1 :status=200") {
		t.Errorf("the client got\n%s", got)
	}
	b.serve(app1)
	if got := b.do(get("/x")); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("the client got %q", got)
	}
}

// A request in steady state allocates nothing on HTTP/2 either.
func TestHTTP2RequestDoesNotAllocate(t *testing.T) {
	b, do := both2(t)
	for range 200 {
		do()
	}
	if n := testing.AllocsPerRun(1000, do); n != 0 {
		t.Errorf("a request allocates %v times, want 0", n)
	}
	if n := b.rt.Clusters["app"].Stats.UpstreamRqTotal.Value(); n < 1200 {
		t.Fatalf("%d requests reached the application", n)
	}
}

func BenchmarkRequestOfHTTP2(b *testing.B) {
	_, do := both2(b)
	for b.Loop() {
		do()
	}
}

// both2 speaks HTTP/2 with the client and with the application; do plays a request.
func both2(t testing.TB) (b *two, do func()) {
	b = newTwo(t, cluster.Config{})
	b.config.Logs = []listen.Log{&bufferLog{format: b.log.format}}
	// The application's frames are recorded once and played back with the stream's identifier changed.
	answer := record(func(p *peer2) {
		p.headers(1, false, ":status", "200", "content-type", "text/plain")
		p.data(1, []byte("ok"), true)
	})
	var settings bytes.Buffer
	fr := http2.NewFramer(&settings, nil)
	fr.WriteSettings()
	fr.WriteSettingsAck()
	b.Handle(app1, func(p *drive.Pipe) {
		p.Write(settings.Bytes())
		id, begun := uint32(1), false
		p.OnData = func(p *drive.Pipe) {
			if !begun && !bytes.Contains(p.In, []byte("a.b")) {
				return
			}
			begun = true
			p.In = p.In[:0]
			p.Write(renumber(answer, id))
			id += 2
		}
	})
	p := b.Dial("in", client, local)
	fr = http2.NewFramer(p, nil)
	p.WriteString(http2.ClientPreface)
	fr.WriteSettings()
	request := record(func(c *peer2) { c.get(1, "/x") })
	id := uint32(1)
	return b, func() {
		p.Write(renumber(request, id))
		id += 2
		b.Step()
		p.In = p.In[:0]
	}
}

// record returns the frames that f sends, in static encoding: a fresh HPACK table never refers to what came before.
func record(f func(*peer2)) []byte {
	m := drive.NewMemory(start)
	var got []byte
	p := m.Accept(client, local, func(c *drive.Conn) {})
	c := &peer2{p: p, body: map[uint32]int{}, heads: map[uint32]map[string]string{}}
	c.fr = http2.NewFramer(&c.out, &c.in)
	c.enc = newPlainEncoder(&c.block)
	c.hold = func(b []byte) { got = append(got, b...) }
	f(c)
	return got
}

// renumber gives every frame in b the stream id.
func renumber(b []byte, id uint32) []byte {
	for i := 0; i < len(b); {
		n := int(b[i])<<16 | int(b[i+1])<<8 | int(b[i+2])
		b[i+5], b[i+6], b[i+7], b[i+8] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
		i += 9 + n
	}
	return b
}

// What a host allows on a connection is learned from its settings: as many connections are made
// as the requests want that find no place.
func TestHostThatAllowsLittle(t *testing.T) {
	b := newTwo(t, cluster.Config{})
	b.serve2(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	held := 0
	b.reply = func(p *peer2, stream uint32, head map[string]string) {
		if head[":path"] == "/warm" {
			p.headers(stream, true, ":status", "200")
			return
		}
		held++
	}
	c := b.client()
	c.get(1, "/warm")
	b.Step()
	for i := range 7 {
		c.get(uint32(3+2*i), "/x")
	}
	b.Step()
	if len(b.upstreams) != 4 || held != 7 {
		t.Errorf("%d connections with %d requests, want 4 with 7", len(b.upstreams), held)
	}
}

// A client may begin a request behind its GOAWAY: it is served, and ends with the connection whatever holds it.
func TestRequestBehindGoAway(t *testing.T) {
	b := newTwo(t, cluster.Config{})
	c := b.client()
	var both []byte
	c.hold = func(x []byte) { both = append(both, x...) }
	c.goAway(0, http2.ErrCodeNo)
	c.post(1, "/x")
	c.p.Write(both)
	b.Step()
	if n := b.config.Stats.DownstreamRqActive.Value(); n != 1 || c.p.Closed {
		t.Fatalf("%d requests are under way, and the connection is closed: %v; want one, and an open connection", n, c.p.Closed)
	}
	c.p.Reset()
	b.Step()
	if n := b.config.Stats.DownstreamRqActive.Value(); n != 0 {
		t.Errorf("%d requests of a client that has gone are under way", n)
	}
}
