package h1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/header"
)

// request parses one request as a connection would, and shows what came out.
func request(in string) string {
	var p Parser
	var m header.Map
	n, e := p.HeadEnd([]byte(in), 0)
	if e != nil {
		return fmt.Sprint(e.Status, " ", e.Details)
	}
	if n == 0 {
		return "more"
	}
	h, e := p.Request([]byte(in[:n]), &m)
	if e != nil {
		return fmt.Sprint(e.Status, " ", e.Details)
	}
	return show(&m, &h)
}

func show(m *header.Map, h *Head) string {
	s := ""
	for _, f := range m.Fields() {
		s += fmt.Sprintf("%s=%s ", f.Name, f.Value)
	}
	switch h.Body {
	case Sized:
		s += fmt.Sprintf("sized %d", h.Length)
	case Chunked:
		s += "chunked"
	case UntilClose:
		s += "until close"
	default:
		s += "no body"
	}
	if !h.KeepAlive {
		s += " closes"
	}
	if h.Upgrade {
		s += " upgrades"
	}
	return s
}

func TestRequests(t *testing.T) {
	const get, plain = "GET / HTTP/1.1\r\nHost: a\r\n", ":authority=a :path=/ :method=GET :scheme=http "
	for _, test := range []struct{ in, want, why string }{
		{get + "\r\n", plain + "no body", "the least"},
		{get + "X-Foo:  b \t\r\n\r\n", plain + "x-foo=b no body", "white space around a value is not part of it"},
		{get + "X-Foo:\r\n\r\n", plain + "x-foo= no body", "a value may be empty"},
		{get + "Content-Length: 0\r\n\r\n", plain + "content-length=0 no body", ""},
		{get + "Content-Length: 12\r\n\r\n", plain + "content-length=12 sized 12", ""},
		{get + "Transfer-Encoding: Chunked\r\n\r\n", plain + "chunked", "codings ignore case, and end here"},
		{get + "Connection: close\r\n\r\n", plain + "no body closes", ""},
		{"GET / HTTP/1.0\r\nHost: a\r\n\r\n", plain + "no body closes", "1.0 closes"},
		{"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", plain + "no body", "unless told otherwise"},
		{get + "Connection: keep-alive, X-Foo\r\nX-Foo: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\r\n", plain + "no body", "fields for one hop end here"},
		{get + "Connection: x-forwarded-for\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", "400 http1.connection_header_rejected", "what trusted hops say cannot be taken off"},
		{get + "Connection: b@d, x-foo\r\nX-Foo: 1\r\n\r\n", plain + "no body", "what is no name does not hide the names behind it"},
		{get + strings.Repeat("Connection: x\r\n", 9) + "Connection: x-foo\r\nX-Foo: 1\r\n\r\n", plain + "no body", "nor do many fields"},
		{get + strings.Repeat("Connection: x\r\n", 11) + "\r\n", "400 http1.connection_header_rejected", "very many are refused"},
		{get + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", plain + "connection=Upgrade upgrade=websocket no body upgrades", ""},
		{get + "Upgrade: websocket\r\n\r\n", plain + "no body", "an upgrade must be announced"},
		{get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n", plain + "no body", "h2c is ignored"},
		{get + "TE: gzip, trailers\r\n\r\n", plain + "te=trailers no body", ""},
		{get + "TE: gzip\r\n\r\n", plain + "no body", ""},
		{"GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n", ":authority=b:81 :path=/x?y :method=GET :scheme=http no body", "RFC 9112, 3.2.2: the target's host counts"},
		{"GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n", ":authority=b :path=/ :method=GET :scheme=https no body", ""},
		{"GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", ":authority=b :path=/?q :method=GET :scheme=http no body", ""},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ":authority=a :path=* :method=OPTIONS :scheme=http no body", ""},
		{"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", ":authority=a:443 :method=CONNECT no body", ""},
		{"GET / HTTP/1.1\r\nHost: a\r\n", "more", ""},
		{"", "more", ""},

		{"GET / HTTP/1.1\r\n\r\n", "400 missing_host_header", ""},
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", "400 missing_host_header", ""},
		{get + "Host: b\r\n\r\n", "400 http1.codec_error", "two hosts"},
		{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 http.invalid_authority", ""},
		{"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400 http.invalid_authority", "no user in a host"},
		{get + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 http1.content_length_and_chunked_not_allowed", ""},
		{get + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", "400 http1.codec_error", "even equal ones"},
		{get + "Content-Length: 1, 1\r\n\r\n", "400 http1.codec_error", ""},
		{get + "Content-Length: +1\r\n\r\n", "400 http1.codec_error", ""},
		{get + "Content-Length: 0x1\r\n\r\n", "400 http1.codec_error", ""},
		{get + "Content-Length: \r\n\r\n", "400 http1.codec_error", ""},
		{get + "Content-Length: 9999999999999999999\r\n\r\n", "400 http1.codec_error", "beyond 63 bits"},
		{get + "Transfer-Encoding: gzip\r\n\r\n", "501 http1.invalid_transfer_encoding", ""},
		{get + "Transfer-Encoding: gzip, chunked\r\n\r\n", "501 http1.invalid_transfer_encoding", ""},
		{get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "501 http1.invalid_transfer_encoding", ""},
		{get + "Transfer-Encoding: \x0bchunked\r\n\r\n", "400 http1.invalid_characters", ""},
		{"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "400 http1.codec_error", "1.0 has no codings"},
		{get + "X-Foo : b\r\n\r\n", "400 http1.codec_error", "space before the colon"},
		{get + " X-Foo: b\r\n\r\n", "400 http1.codec_error", "folded"},
		{get + "X: a\r\n b\r\n\r\n", "400 http1.codec_error", "folded"},
		{get + "X: a\rb\r\n\r\n", "400 http1.invalid_characters", "bare CR"},
		{get + "X: a\nY: b\r\n\r\n", "400 http1.codec_error", "bare LF"},
		{"GET / HTTP/1.1\nHost: a\n\n", "400 http1.codec_error", "bare LF: known before the end"},
		{get + "X: a\x00b\r\n\r\n", "400 http1.invalid_characters", "NUL"},
		{get + "X\r\n\r\n", "400 http1.codec_error", "no colon"},
		{get + ": x\r\n\r\n", "400 http1.codec_error", "no name"},
		{"GET / HTTP/1.2\r\nHost: a\r\n\r\n", ":authority=a :path=/ :method=GET :scheme=http no body closes", "taken for 1.0, as by Envoy"},
		{"GET / HTTP/2.0\r\nHost: a\r\n\r\n", ":authority=a :path=/ :method=GET :scheme=http no body closes", "taken for 1.0, as by Envoy"},
		{"GET / HTTP/1\r\nHost: a\r\n\r\n", "400 http1.codec_error", ""},
		{"GET https://b/ HTTP/1.1\r\nHost: a\r\n\r\n", ":authority=b :path=/ :method=GET :scheme=https no body", "a parser that is not for plain text"},
		{"GET http://b:/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.invalid_url", "no port after the colon"},
		{"GET http://b:65536/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.invalid_url", ""},
		{"GET http://[::1]:80/ HTTP/1.1\r\nHost: a\r\n\r\n", ":authority=[::1]:80 :path=/ :method=GET :scheme=http no body", ""},
		{"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.invalid_url", ""},
		{"BUY / HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.codec_error", "allow_custom_methods"},
		{"GET /\r\nHost: a\r\n\r\n", "400 http1.codec_error", "0.9"},
		{"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.codec_error", ""},
		{"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.codec_error", ""},
		{"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.codec_error", ""},
		{"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.invalid_url", "only OPTIONS asks about the server"},
		{"GET x HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.codec_error", ""},
		{"GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400 http1.invalid_scheme", ""},
		{get + strings.Repeat("a: b\r\n", 99) + "\r\n", plain + strings.Repeat("a=b ", 99) + "no body", "a hundred fields"},
		{get + strings.Repeat("a: b\r\n", 100) + "\r\n", "431 http1.too_many_headers", "and one more"},
		{get + "X: " + strings.Repeat("a", 60<<10) + "\r\n\r\n", "431 http1.headers_too_large", ""},
		{get + "X: " + strings.Repeat("a", 70<<10), "431 http1.headers_too_large", "known before the end"},
	} {
		if got := strings.TrimSpace(request(test.in)); got != test.want {
			t.Errorf("%.80q (%s)\ngot  %s\nwant %s", test.in, test.why, got, test.want)
		}
	}
}

func TestResponses(t *testing.T) {
	for _, test := range []struct{ method, in, want string }{
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ":status=200 content-length=5 sized 5"},
		{"GET", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", ":status=200 content-length=5 sized 5"},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ":status=200 content-length=5 no body"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", ":status=304 content-length=5 no body"},
		{"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ":status=204 no body"},
		{"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "400 http1.codec_error"},
		{"GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "400 http1.codec_error"},
		{"GET", "HTTP/1.1 200 OK\r\n\r\n", ":status=200 until close closes"},
		{"GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", ":status=200 content-length=5 sized 5 closes"},
		{"GET", "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", ":status=101 connection=upgrade upgrade=websocket no body upgrades"},
		{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "400 http1.content_length_and_chunked_not_allowed"},
		{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"GET", "HTTP/1.1 2000 OK\r\n\r\n", "400 http1.codec_error"},
		{"GET", "HTTP/1.1 099 OK\r\n\r\n", "400 http1.codec_error"},
		{"GET", "HTTP/2.0 200 OK\r\n\r\n", "400 http1.codec_error"},
		{"GET", "ICY 200 OK\r\n\r\n", "400 http1.codec_error"},
	} {
		var p Parser
		var m header.Map
		h, e := p.Response([]byte(test.in), &m, []byte(test.method))
		got := ""
		if e != nil {
			got = fmt.Sprint(e.Status, " ", e.Details)
		} else {
			got = show(&m, &h)
		}
		if got != test.want {
			t.Errorf("%s %q\ngot  %s\nwant %s", test.method, test.in, got, test.want)
		}
	}
}

// A lenient reader of responses takes bare LFs and folded fields, and nothing else that a strict one refuses.
func TestLenientResponses(t *testing.T) {
	const ok = ":status=200 content-length=2 x-a=b sized 2"
	for _, test := range []struct{ in, want string }{
		{"HTTP/1.1 200 OK\ncontent-length: 2\nx-a: b\n\n", ok},
		{"HTTP/1.1 200 OK\r\ncontent-length: 2\nx-a: b\r\n\n", ok},
		{"HTTP/1.1 200 OK\ncontent-length: 2\r\nx-a: b\n\r\n", ok},
		{"HTTP/1.1 200 OK\r\ncontent-length:\r\n 2\r\nx-a:\n\tb\r\n \r\n\r\n", ok},
		{"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b  \r\n   c\n\t d \r\n\r\n", ":status=200 content-length=2 x-a=b     c\t d sized 2"},
		{"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n 2\r\n\r\n", "400 http1.codec_error"}, // 2 2 is no length
		{"HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n gzip\r\n\r\n", "501 http1.invalid_transfer_encoding"},
		{"HTTP/1.1 200 OK\r\n x-a: b\r\n\r\n", "400 http1.codec_error"}, // there is nothing to go on with
		{"HTTP/1.1 200 OK\r\nx-a: b\rc\r\n\r\n", "400 http1.invalid_characters"},
		{"HTTP/1.1 200 OK\r\nx-a: b\r\r\n\r\n", "400 http1.invalid_characters"},
		{"\nHTTP/1.1 200 OK\r\n\r\n", "400 http1.codec_error"},
	} {
		p := Parser{Lenient: true}
		for step := range 4 {
			n, seen := 0, 0
			for more := 0; n == 0 && more < len(test.in); {
				more = min(len(test.in), more+1+step*5)
				var e *Error
				if n, e = p.HeadEnd([]byte(test.in[:more]), seen); e != nil {
					t.Fatalf("%q: %v", test.in, e)
				}
				seen = more
			}
			if n != len(test.in) {
				t.Errorf("%q in pieces of %d ends after %d bytes", test.in, 1+step*5, n)
			}
		}
		var m header.Map
		h, e := p.Response([]byte(test.in), &m, []byte("GET"))
		got := ""
		if e != nil {
			got = fmt.Sprint(e.Status, " ", e.Details)
		} else {
			got = show(&m, &h)
		}
		if got != test.want {
			t.Errorf("%q\ngot  %s\nwant %s", test.in, got, test.want)
		}
	}
}

// read takes a chunked body in pieces of the given size.
func read(in string, step int) (body string, trailers header.Map, rest string, e *Error, done bool) {
	return readAs(Parser{}, in, step)
}

func readAs(p Parser, in string, step int) (body string, trailers header.Map, rest string, e *Error, done bool) {
	d := Body{kind: Chunked}
	var buf []byte
	for {
		k := min(step, len(in))
		buf, in = append(buf, in[:k]...), in[k:]
		for !d.Done() {
			piece, n, err := d.Next(&p, buf, &trailers)
			if err != nil {
				return body, trailers, "", err, false
			}
			body += string(piece)
			buf = buf[n:]
			if n == 0 || len(buf) == 0 {
				break
			}
		}
		if d.Done() || len(in) == 0 {
			return body, trailers, string(buf) + in, nil, d.Done()
		}
	}
}

func TestChunks(t *testing.T) {
	for _, test := range []struct{ in, body, rest, err string }{
		{"3\r\nabc\r\n0\r\n\r\n", "abc", "", ""},
		{"3\r\nabc\r\n0\r\n\r\nGET /", "abc", "GET /", ""},
		{"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nfoo: bar\r\n\r\nX", "abc0123456789", "X", ""},
		{"0\r\n\r\n", "", "", ""},
		{"3\r\nabcd\r\n0\r\n\r\n", "", "", "malformed chunk"},
		{"3\nabc\r\n0\r\n\r\n", "", "", "malformed chunk"},
		{"3\r\nabc\n0\r\n\r\n", "", "", "malformed chunk"},
		{"-3\r\nabc\r\n0\r\n\r\n", "", "", "malformed chunk"},
		{"0x3\r\nabc\r\n0\r\n\r\n", "", "", "malformed chunk"},
		{" 3\r\nabc\r\n0\r\n\r\n", "", "", "malformed chunk"},
		{"3 \r\nabc\r\n0\r\n\r\n", "", "", "malformed chunk"},
		{"\r\n", "", "", "malformed chunk"},
		{"FFFFFFFFFFFFFFFF\r\n", "", "", "malformed chunk"},
		{"3;\x00\r\nabc\r\n0\r\n\r\n", "", "", "malformed chunk"},
		{"3;" + strings.Repeat("x", 5000) + "\r\nabc\r\n0\r\n\r\n", "", "", "malformed chunk"},
		{"0\r\ncontent-length: 3\r\n\r\n", "", "", "malformed trailer"},
		{"0\r\nx y\r\n\r\n", "", "", "malformed field name"},
	} {
		for _, step := range []int{1, 2, 7, 1000} {
			body, trailers, rest, e, done := read(test.in, step)
			switch {
			case e != nil && test.err == "", e == nil && test.err != "", e != nil && e.Why != test.err:
				t.Errorf("%.40q in pieces of %d: %v, want %q", test.in, step, e, test.err)
			case test.err == "" && (body != test.body || rest != test.rest || !done):
				t.Errorf("%q in pieces of %d: body %q, rest %q, done %v", test.in, step, body, rest, done)
			case strings.Contains(test.in, "foo") && string(trailers.LookupString("foo")) != "bar":
				t.Errorf("%q in pieces of %d: trailers %v", test.in, step, trailers.Fields())
			}
		}
	}
}

// Behind the data of a chunk and in trailers a lenient reader takes a bare LF, behind a chunk's size it does not.
func TestLenientChunks(t *testing.T) {
	for _, test := range []struct{ in, body, foo, err string }{
		{"3\r\nabc\n0\r\n\r\nX", "abc", "", ""},
		{"3\r\nabc\r\n0\r\n\nX", "abc", "", ""},
		{"3\r\nabc\r\n0\r\nfoo: bar\n\nX", "abc", "bar", ""},
		{"3\r\nabc\r\n0\r\ncontent-length: 9\r\nfoo: bar\r\n\r\nX", "abc", "bar", ""},
		{"3\r\nabc\r\n0\r\nfoo:\r\n bar\r\n\r\nX", "abc", "bar", ""},
		{"3\nabc\r\n0\r\n\r\n", "", "", "malformed chunk"},
		{"3\r\nabc\r\n0\n\n", "", "", "malformed chunk"},
		{"3\r\nabcd\n0\r\n\r\n", "", "", "malformed chunk"},
	} {
		for _, step := range []int{1, 2, 7, 1000} {
			body, trailers, rest, e, done := readAs(Parser{Lenient: true}, test.in, step)
			switch {
			case e != nil && e.Why != test.err, e == nil && test.err != "":
				t.Errorf("%q in pieces of %d: %v, want %q", test.in, step, e, test.err)
			case test.err == "" && (body != test.body || rest != "X" || !done || string(trailers.LookupString("foo")) != test.foo):
				t.Errorf("%q in pieces of %d: body %q, rest %q, done %v, trailers %v", test.in, step, body, rest, done, trailers.Fields())
			}
		}
	}
}

func TestEncodeIsWhatWeParse(t *testing.T) {
	var p Parser
	var m, back header.Map
	in := "POST /x?y HTTP/1.1\r\nhost: a:8\r\nfoo: bar\r\ncookie: a=b\r\ncookie: c=d\r\n\r\n"
	h, e := p.Request([]byte(in), &m)
	if e != nil {
		t.Fatal(e)
	}
	out := AppendRequest(nil, &m, Form{})
	if string(out) != in {
		t.Errorf("encoded %q, want %q", out, in)
	}
	again, e := p.Request(out, &back)
	if e != nil || show(&m, &h) != show(&back, &again) {
		t.Errorf("%v: %s, want %s", e, show(&back, &again), show(&m, &h))
	}
	m.Reset()
	m.Add(header.Status, []byte("418"))
	if got, want := string(AppendResponse(nil, &m, true, false)), "HTTP/1.1 418 Unknown\r\ntransfer-encoding: chunked\r\n\r\n"; got != want {
		t.Errorf("encoded %q, want %q", got, want)
	}
}

var wrk = []byte("GET /status/200 HTTP/1.1\r\nHost: 127.0.0.1:5701\r\nUser-Agent: wrk\r\nAccept: */*\r\nX-Request-Id: 0123\r\n\r\n")

func TestParseDoesNotAllocate(t *testing.T) {
	var p Parser
	var m header.Map
	head := bytes.Clone(wrk)
	if n := testing.AllocsPerRun(100, func() {
		p.HeadEnd(head, 0)
		p.Request(head, &m)
	}); n != 0 {
		t.Errorf("a request allocates %v times, want 0", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	var p Parser
	var m header.Map
	head := bytes.Clone(wrk)
	for b.Loop() {
		p.HeadEnd(head, 0)
		p.Request(head, &m)
	}
}

// FuzzFraming looks for request smuggling: a body length on which our parser
// and net/http disagree is a hole, whichever of the two is right.
func FuzzFraming(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\nGET"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var p Parser
		var m header.Map
		n, e := p.HeadEnd(in, 0)
		if e != nil || n == 0 {
			return // refusing is always safe
		}
		h, e := p.Request(bytes.Clone(in[:n]), &m)
		if e != nil || h.Upgrade || h.Connect {
			return
		}
		source := bytes.NewReader(in)
		reader := bufio.NewReader(source)
		peer, err := http.ReadRequest(reader)
		if err != nil {
			if h.Body == NoBody || strings.Contains(err.Error(), "method") || strings.Contains(err.Error(), "URI") || strings.Contains(err.Error(), "Host") || strings.Contains(err.Error(), "host") || strings.Contains(err.Error(), "parse") {
				return // net/http is stricter about targets, which do not frame
			}
			t.Fatalf("we take what net/http refuses: %v: %q", err, in)
		}
		want := peer.ContentLength
		switch {
		case h.Body == Chunked && len(peer.TransferEncoding) != 1, h.Body == Sized && want != h.Length, h.Body == NoBody && want != 0:
			t.Fatalf("we frame %+v; net/http %d %v: %q", h, want, peer.TransferEncoding, in)
		}
		if h.Body == NoBody {
			return
		}
		if ours, whole := bodyOf(&p, &h, in[n:], &m); whole {
			sameBody(t, ours, peer.Body, in)
		}
	})
}

// FuzzResponse does the same for what servers send.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), true, false)
	f.Add([]byte("HTTP/1.1 200 OK\nContent-Length:\r\n 5\r\nA: b\n\tc\n\nhello\r\n\r\n"), false, true)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), false, false)
	f.Fuzz(func(t *testing.T, in []byte, head, lenient bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		p := Parser{Lenient: lenient}
		var m header.Map
		n, e := p.HeadEnd(in, 0)
		if e != nil || n == 0 {
			return
		}
		h, e := p.Response(bytes.Clone(in[:n]), &m, []byte(method))
		if e != nil || h.Status < 200 {
			return
		}
		peer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), &http.Request{Method: method})
		if err != nil {
			if h.Body == NoBody || h.Body == UntilClose {
				return
			}
			t.Fatalf("we take what net/http refuses: %v: %q", err, in)
		}
		if h.Body == Sized && peer.ContentLength != h.Length || h.Body == Chunked && len(peer.TransferEncoding) != 1 || h.Body == UntilClose && peer.ContentLength != -1 {
			t.Fatalf("we frame %+v; net/http %d %v: %q", h, peer.ContentLength, peer.TransferEncoding, in)
		}
		if ours, whole := bodyOf(&p, &h, in[n:], &m); whole {
			sameBody(t, ours, peer.Body, in)
		}
	})
}

// bodyOf reads a body; whole says that its end has come.
func bodyOf(p *Parser, h *Head, rest []byte, trailers *header.Map) (body []byte, whole bool) {
	var d Body
	d.Start(h)
	for !d.Done() {
		piece, used, e := d.Next(p, rest, trailers)
		if e != nil {
			return nil, false
		}
		body = append(body, piece...)
		if rest = rest[used:]; used == 0 || len(rest) == 0 {
			break
		}
	}
	return body, d.Done()
}

// sameBody compares a body that has come whole with net/http's.
func sameBody(t *testing.T, ours []byte, peer io.Reader, in []byte) {
	t.Helper()
	theirs, err := io.ReadAll(peer)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(ours, theirs) {
		t.Fatalf("our body %q; net/http %q, %v: %q", ours, theirs, err, in)
	}
}

// RFC 9110, section 6.5.1: whoever merges trailers into the header must not take from them what
// no policy has seen.
func TestTrailersThatEndHere(t *testing.T) {
	const in = "0\r\nGrpc-Status: 0\r\nConnection: x\r\nTE: trailers\r\nX-Forwarded-For: 1.1.1.1\r\nX-Envoy-Internal: true\r\nAuthorization: z\r\nHost: h\r\nSet-Cookie: a=b\r\nUpgrade: y\r\nContent-Type: a/b\r\nRange: 1\r\nX-Sum: 5\r\n\r\n"
	_, trailers, _, e, done := read(in, len(in))
	if e != nil || !done {
		t.Fatal(e, done)
	}
	got := ""
	for _, f := range trailers.Fields() {
		got += fmt.Sprintf("%s=%s ", f.Name, f.Value)
	}
	if want := "grpc-status=0 x-sum=5 "; got != want {
		t.Errorf("trailers %q, want %q", got, want)
	}
}

// Names of fields are written with capitals; the first line, values and what follows
// the head stay as they are.
func TestProperCase(t *testing.T) {
	const in = "GET /a:b HTTP/1.1\r\nhost: a-b\r\nx-request-id: some-thing\r\nx2y_z-1a: v\r\n\r\n"
	const want = "GET /a:b HTTP/1.1\r\nHost: a-b\r\nX-Request-Id: some-thing\r\nX2y_Z-1a: v\r\n\r\n"
	b := []byte(in)
	if ProperCase(b); string(b) != want {
		t.Errorf("got %q, want %q", b, want)
	}
}
