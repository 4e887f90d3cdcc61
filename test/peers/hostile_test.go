package peers

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mallamesh/malla/test/busy"
	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// An enemy is a client of HTTP/2 that sends what it likes.
type enemy struct {
	net.Conn
	buf     bytes.Buffer
	f       *http2.Framer // writes into buf
	enc     *hpack.Encoder
	block   bytes.Buffer
	mu      sync.Mutex
	resets  map[http2.ErrCode]int // guarded by mu
	status  map[string]int        // guarded by mu
	goaway  string                // guarded by mu
	closed  chan struct{}
	refused bool // a write has failed
}

func attack(t *testing.T, address string) *enemy {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	e := &enemy{Conn: c, resets: map[http2.ErrCode]int{}, status: map[string]int{}, closed: make(chan struct{})}
	e.f = http2.NewFramer(&e.buf, nil)
	e.f.AllowIllegalWrites = true
	e.enc = hpack.NewEncoder(&e.block)
	return e
}

// hello is the beginning of a connection.
func (e *enemy) hello(settings ...http2.Setting) {
	e.buf.WriteString(http2.ClientPreface)
	_ = e.f.WriteSettings(settings...)
}

// request is the header block of one.
func (e *enemy) request(method, path string, more ...hpack.HeaderField) []byte {
	e.block.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a.example"}, {Name: ":path", Value: path}}, more...) {
		_ = e.enc.WriteField(f)
	}
	return bytes.Clone(e.block.Bytes())
}

func (e *enemy) open(id uint32, method, path string, end bool, more ...hpack.HeaderField) {
	_ = e.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: e.request(method, path, more...), EndStream: end, EndHeaders: true})
}

// send writes what was prepared; an error means that the proxy has had enough.
func (e *enemy) send() {
	if e.refused {
		e.buf.Reset()
		return
	}
	_ = e.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := e.Write(e.buf.Bytes()); err != nil {
		e.refused = true
	}
	e.buf.Reset()
}

// listen notes what the proxy says, until it closes.
func (e *enemy) listen() {
	go func() {
		defer close(e.closed)
		f := http2.NewFramer(io.Discard, e.Conn)
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			e.mu.Lock()
			switch frame := frame.(type) {
			case *http2.RSTStreamFrame:
				e.resets[frame.ErrCode]++
			case *http2.MetaHeadersFrame:
				e.status[frame.PseudoValue("status")]++
			case *http2.GoAwayFrame:
				e.goaway = frame.ErrCode.String()
			}
			e.mu.Unlock()
		}
	}()
}

// said is what the proxy has said so far.
func (e *enemy) said() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var say []string
	for code, n := range e.resets {
		say = append(say, fmt.Sprintf("%d x %v", n, code))
	}
	for code, n := range e.status {
		say = append(say, fmt.Sprintf("%d x %s", n, code))
	}
	slices.Sort(say)
	if e.goaway != "" {
		say = append(say, "GOAWAY "+e.goaway)
	}
	select {
	case <-e.closed:
		say = append(say, "closed")
	default:
	}
	return strings.Join(say, ", ")
}

// hears waits until the proxy has said all of that.
func (e *enemy) hears(t *testing.T, want ...string) {
	t.Helper()
	mesh.Until(t, 20*time.Second, "the end of the attack", func() error {
		for _, w := range want {
			if !strings.Contains(e.said(), w) {
				return fmt.Errorf("the proxy has said %q, want %q", e.said(), w)
			}
		}
		return nil
	})
}

// An assault is what a client can do to a server of HTTP/2.
type assault struct {
	name  string
	do    func(e *enemy)
	fate  []string // what we say in the end
	stats []string // that count it, here and in Envoy
	alone bool     // Envoy counts it if its reads fall so
}

var calm = []string{"GOAWAY ENHANCE_YOUR_CALM", "closed"}

var floods = []assault{
	{"rapid reset", func(e *enemy) {
		e.hello()
		e.listen()
		for i := range uint32(5000) {
			e.open(2*i+1, "GET", "/slow", true)
			_ = e.f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
			if i%100 == 99 {
				e.send()
			}
		}
	}, calm, []string{"http2.rx_reset", "http.main.downstream_rq_rx_reset", "http.main.downstream_rq_too_many_premature_resets", "http.main.downstream_cx_protocol_error"}, false},
	{"CONTINUATION without end", func(e *enemy) {
		e.hello()
		e.listen()
		_ = e.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: e.request("GET", "/")})
		junk := make([]byte, 0, 1100)
		for len(junk) < 1000 {
			junk = append(junk, 0, 1, 'a', 1, 'b')
		}
		for range 20_000 {
			_ = e.f.WriteContinuation(1, false, junk)
			e.send()
		}
	}, calm, []string{"http2.header_overflow", "http.main.downstream_cx_protocol_error"}, false},
	{"empty CONTINUATION", func(e *enemy) {
		e.hello()
		e.listen()
		_ = e.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: e.request("GET", "/")})
		for range 20_000 {
			_ = e.f.WriteContinuation(1, false, nil)
		}
		e.send()
	}, calm, []string{"http2.inbound_empty_frames_flood"}, false},
	{"HPACK bomb", func(e *enemy) {
		e.hello()
		e.listen()
		value := strings.Repeat("v", 3900)
		for i := range uint32(20) {
			block := e.request("GET", "/", hpack.HeaderField{Name: "bomb", Value: value})
			block = append(block, bytes.Repeat([]byte{0x80 | 62}, 16_000)...) // the newest entry, again and again
			_ = e.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block[:min(len(block), 16384)], EndStream: true, EndHeaders: true})
			e.send()
		}
	}, []string{"20 x INTERNAL_ERROR"}, []string{"http2.header_list_size_too_large", "http2.tx_reset"}, false},
	{"headers above the limit", func(e *enemy) {
		e.hello()
		e.listen()
		block := e.request("GET", "/")
		for i := range 90 {
			name := fmt.Sprintf("x-%d", i)
			block = append(block, 0x10, byte(len(name)))
			block = append(append(block, name...), 0x7f, 0xe9, 6) // 1000 bytes, without Huffman
			block = append(block, strings.Repeat("y", 1000)...)
		}
		_ = e.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:16384], EndStream: true})
		for rest := block[16384:]; len(rest) > 0; {
			n := min(len(rest), 16384)
			_ = e.f.WriteContinuation(1, n == len(rest), rest[:n])
			rest = rest[n:]
		}
		e.send()
	}, []string{"1 x INTERNAL_ERROR"}, []string{"http2.header_list_size_too_large", "http2.tx_reset"}, false},
	{"SETTINGS, nothing read", func(e *enemy) {
		_ = e.Conn.(*net.TCPConn).SetReadBuffer(4096)
		e.hello()
		for range 1000 {
			for range 1000 {
				_ = e.f.WriteSettings()
			}
			e.send()
		}
		e.listen()
	}, []string{"closed"}, nil, false},
	{"PING, nothing read", func(e *enemy) {
		_ = e.Conn.(*net.TCPConn).SetReadBuffer(4096)
		e.hello()
		for range 1000 {
			for range 1000 {
				_ = e.f.WritePing(false, [8]byte{1})
			}
			e.send()
		}
		e.listen()
	}, []string{"closed"}, []string{"http2.outbound_control_flood"}, true},
	{"requests, nothing read", func(e *enemy) {
		_ = e.Conn.(*net.TCPConn).SetReadBuffer(4096)
		e.hello()
		for i := range uint32(60_000) {
			e.open(2*i+1, "GET", "/", true)
			if i%2000 == 1999 { // at once, more than are allowed at a time: no answer and no timeout comes between them
				e.send()
			}
		}
		e.listen()
	}, []string{"closed"}, []string{"http2.stream_refused_errors"}, false},
	{"PRIORITY", func(e *enemy) {
		e.hello()
		e.listen()
		e.open(1, "GET", "/", true)
		for range 10_000 {
			_ = e.f.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		}
		e.send()
	}, calm, []string{"http2.inbound_priority_frames_flood"}, false},
	{"WINDOW_UPDATE", func(e *enemy) {
		e.hello()
		e.listen()
		e.open(1, "POST", "/", false)
		for range 10_000 {
			_ = e.f.WriteWindowUpdate(1, 1)
		}
		e.send()
	}, calm, []string{"http2.inbound_window_update_frames_flood"}, false},
	{"empty DATA", func(e *enemy) {
		e.hello()
		e.listen()
		e.open(1, "POST", "/", false)
		for range 10_000 {
			_ = e.f.WriteData(1, false, nil)
		}
		e.send()
	}, calm, []string{"http2.inbound_empty_frames_flood"}, false},
}

// What follows is a client that says something and then nothing any more.
var silences = []assault{
	{"no window for a thousand answers", func(e *enemy) {
		e.hello(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		e.listen()
		for i := range uint32(1000) {
			e.open(2*i+1, "GET", "/big", true)
		}
		e.send()
	}, []string{"x INTERNAL_ERROR", "closed"}, []string{"http2.tx_reset"}, false},
	{"a thousand requests without end", func(e *enemy) {
		e.hello()
		e.listen()
		for i := range uint32(1000) {
			e.open(2*i+1, "POST", "/", false)
		}
		e.send()
	}, []string{"1000 x 408"}, []string{"http.main.downstream_rq_idle_timeout", "http2.tx_reset"}, false},
	{"more streams than allowed", func(e *enemy) {
		e.hello()
		e.listen()
		for i := range uint32(1100) {
			e.open(2*i+1, "POST", "/", false)
		}
		e.send()
	}, []string{"1024 x 408", "76 x REFUSED_STREAM"}, []string{"http.main.downstream_rq_idle_timeout", "http2.stream_refused_errors"}, false},
	{"half a header block", func(e *enemy) {
		e.hello()
		e.listen()
		_ = e.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: e.request("GET", "/")})
		e.send()
	}, []string{"closed"}, nil, false},
	{"half a preface", func(e *enemy) {
		e.listen()
		e.buf.WriteString(http2.ClientPreface[:10])
		e.send()
	}, []string{"closed"}, nil, false},
	{"a preface and silence", func(e *enemy) {
		e.listen()
		e.hello()
		e.send()
	}, []string{"GOAWAY NO_ERROR", "closed"}, []string{"http.main.downstream_cx_idle_timeout"}, false},
}

// The limits of a hostile client's time are short, so that the test is.
const hostileOptions = `stream_idle_timeout: 1s
request_headers_timeout: 1s
drain_timeout: 0.3s
common_http_protocol_options: {idle_timeout: 1s}`

// hostile is a proxy for hostile clients.
func hostile(t *testing.T) hop.Hop {
	slow := make(chan struct{})
	t.Cleanup(func() { close(slow) })
	body := strings.Repeat("x", 100_000)
	at := backendOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			_, _ = io.WriteString(w, body)
		case "/slow":
			select {
			case <-slow:
			case <-r.Context().Done():
			}
		default:
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}))
	return hop.Hop{Name: "main", To: at, HCM: hostileOptions, Cluster: "circuit_breakers: {thresholds: [{max_connections: 2000, max_requests: 100000, max_pending_requests: 100000}]}"}
}

// A hostile client is sent away with the right word, costs little memory, takes nothing from
// other clients, and is counted as by Envoy, which is attacked in the same way.
func TestFloods(t *testing.T) {
	p := hop.PKI(t)
	h := hostile(t)
	x := hop.Malla(t, p, h)
	envoy := hop.Run(t, process.Envoy(t), []string{"--use-dynamic-base-id", "--concurrency", "1"}, p, h)
	by := bystand(t, x.At["main"])
	before := rss(t, x)
	for _, a := range floods {
		t.Run(a.name, func(t *testing.T) {
			counted(t, "malla", x, a, a.fate)
			if !a.alone {
				counted(t, "Envoy", envoy, a, nil)
			}
			if n := (rss(t, x) - before) >> 20; n > 48 {
				t.Errorf("the proxy has grown by %d MB", n)
			}
		})
	}
	by(t)
}

// Clients that fall silent lose their streams and connections to timeouts, and have cost what windows allow.
func TestSilence(t *testing.T) {
	p := hop.PKI(t)
	x := hop.Malla(t, p, hostile(t))
	before := rss(t, x)
	by := bystand(t, x.At["main"])
	t.Run("all", func(t *testing.T) {
		for _, a := range silences {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				counted(t, "malla", x, a, a.fate)
			})
		}
	})
	by(t)
	if n := (rss(t, x) - before) >> 20; n > 200 {
		t.Errorf("the proxy has grown by %d MB", n)
	}
}

// counted attacks a proxy and waits for what it says and counts.
func counted(t *testing.T, who string, x *hop.Proxy, a assault, fate []string) {
	t.Helper()
	before := map[string]int64{}
	for _, name := range a.stats {
		before[name] = max(0, x.Stat(t, name))
	}
	e := attack(t, x.At["main"])
	defer e.Close()
	a.do(e)
	e.hears(t, fate...)
	for _, name := range a.stats {
		mesh.Until(t, 10*time.Second, who+" counting "+name, func() error {
			if n := x.Stat(t, name); n <= before[name] {
				return fmt.Errorf("it is %d, and was %d before", n, before[name])
			}
			return nil
		})
	}
}

// bystand is a client that has nothing to do with it. The function that it returns judges how it fared.
func bystand(t *testing.T, at string) func(t *testing.T) {
	stop, done := make(chan struct{}), make(chan struct{})
	var took []time.Duration // of what the machine had for everybody
	var failed error
	busy.Record()
	tr := &http.Transport{}
	client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	go func() {
		defer close(done)
		defer tr.CloseIdleConnections()
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			start := time.Now()
			resp, err := client.Get("http://" + at + "/")
			took = append(took, busy.Free(start, time.Now()))
			if err != nil {
				failed = err
			} else {
				_ = resp.Body.Close()
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func(t *testing.T) {
		t.Helper()
		close(stop)
		<-done
		if failed != nil {
			t.Errorf("another client has failed: %v", failed)
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		t.Logf("another client: %d requests, median %v, p99 %v", len(took), took[len(took)/2], p99)
		if p99 > time.Second {
			t.Errorf("the p99 of another client is %v", p99)
		}
	}
}
