package chance

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"bufio"
)

// HTTP1 makes the bytes that a client of HTTP/1.1 sends on one connection: some requests, one of which may be wrong, and which
// peculiarities they have.
func HTTP1(seed uint64) (text string, odd string) {
	p := &player{Rand: rand.New(rand.NewPCG(seed, 9112))}
	var b strings.Builder
	n := 1 + p.IntN(3)
	wrong := -1
	if p.IntN(3) > 0 {
		wrong = p.IntN(n)
	}
	for i := range n {
		r := p.plainRequest()
		if i == wrong {
			odd = p.spoil(&r)
		}
		b.WriteString(r.String())
	}
	return b.String(), odd
}

// A request1 is a request in its parts.
type request1 struct {
	line   string
	fields []string
	end    string // of lines
	body   string
}

func (r *request1) String() string {
	return r.line + r.end + strings.Join(r.fields, r.end) + r.end + r.end + r.body
}

// plainRequest is one as it should be.
func (p *player) plainRequest() request1 {
	r := request1{line: one(p, "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE") + " " + one(p, "/", "/a", "/a?b=c", "/a/../b", "/%41", "/a//b", "/a;b") + " HTTP/1.1", end: "\r\n"}
	r.fields = append(r.fields, one(p, "Host: test.example", "host: test.example:80", "HOST:test.example", "Host:  test.example  "))
	more := []string{"x-some: thing", "X-Empty:", "Cookie: a=b", "cookie: c=d", "TE: trailers", "User-Agent: chance", "Accept: */*", "x-high: \xc3\xa9", "Connection: keep-alive",
		"X-Forwarded-For: 10.0.0.1", "x_under: score", "x-tab:\ta\tb", "Connection: x-some", "X-Long: " + strings.Repeat("y", p.IntN(3000))}
	p.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	r.fields = append(r.fields, more[:p.IntN(4)]...)
	switch body := strings.Repeat("d", one(p, 0, 1, 10, 1000)); p.IntN(4) {
	case 0:
		r.fields, r.body = append(r.fields, fmt.Sprintf("Content-Length: %d", len(body))), body
	case 1:
		r.fields, r.body = append(r.fields, "Transfer-Encoding: chunked"), p.chunks(body)
	}
	p.Shuffle(len(r.fields), func(i, j int) { r.fields[i], r.fields[j] = r.fields[j], r.fields[i] })
	return r
}

// chunks writes a body in pieces.
func (p *player) chunks(body string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := 1 + p.IntN(len(body))
		fmt.Fprintf(&b, one(p, "%x", "%X", "00%x", "%x;ext", "%x;ext=\"v\"")+"\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	b.WriteString(one(p, "0\r\n\r\n", "0\r\nx-end: yes\r\n\r\n", "000\r\n\r\n"))
	return b.String()
}

// spoil makes a request wrong and says how.
func (p *player) spoil(r *request1) string {
	say := func(text string) string { return fmt.Sprintf("%.60q", text) }
	switch p.IntN(6) {
	case 0:
		r.line = one(p, "GET  / HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/1.2", "GET / HTTP/2.0", "GET / http/1.1", "GET /", "GET", "/ HTTP/1.1", " GET / HTTP/1.1", "GET / HTTP/1.1 ", "G\x00T / HTTP/1.1", "GET /\x00 HTTP/1.1",
			"GET /a b HTTP/1.1", "GET http://test.example/x HTTP/1.1", "GET * HTTP/1.1", "OPTIONS * HTTP/1.1", "GET a HTTP/1.1", "get / HTTP/1.1", "GET\t/\tHTTP/1.1", "GET /# HTTP/1.1", "GET /\xc3\xa9 HTTP/1.1", "CONNECT a:1 HTTP/1.1",
			"GET // HTTP/1.1", "GET /%00 HTTP/1.1", "GET /%zz HTTP/1.1", "GET /a\\b HTTP/1.1", "GET ftp://test.example/ HTTP/1.1", "PATCH / HTTP/1.1", "TRACE / HTTP/1.1", "M-SEARCH / HTTP/1.1", "FOO / HTTP/1.1")
		return "line " + say(r.line)
	case 1:
		f := one(p, "Host: twice", "Host:", "Host: a b", "Host: u@h", "Host: a/b", "Host: [::1]", "Host: a:99999")
		r.fields = slices.DeleteFunc(r.fields, func(f string) bool { return p.IntN(3) > 0 && strings.EqualFold(f[:4], "host") })
		r.fields = append(r.fields, f)
		return "host " + say(f)
	case 2:
		f := one(p, "Content-Length: 5", "Content-Length: 5, 5", "Content-Length: +5", "Content-Length: -1", "Content-Length: 0x5", "Content-Length: 5 5", "Content-Length: ", "Content-Length: 99999999999999999999", "Content-Length: 05",
			"Transfer-Encoding: chunked", "Transfer-Encoding: Chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, gzip", "Transfer-Encoding: identity", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: x",
			"Transfer-Encoding: \x0bchunked", "Transfer-Encoding : chunked", "Transfer-Encoding: chunked\x00", "Transfer-Encoding:", "Content-Length : 5", "Content_Length: 5")
		r.fields = append(r.fields, f)
		if !strings.Contains(r.body, "d") {
			r.body = one(p, "abcde", "5\r\nabcde\r\n0\r\n\r\n")
		}
		return "framing " + say(f)
	case 3:
		f := one(p, "bad", "bad name: x", ": x", "x : y", " folded: x", "x-cr: a\rb", "x-nul: a\x00b", "x-ctl: a\x01b", "x-del: \x7f", "x(y): z", "x-utf\xc3\xa9: a", "x-lf: a\nx-more: b", "Connection: close", "Upgrade: websocket", "Expect: 100-continue",
			"Expect: other", "Connection: upgrade", "x-a: b\r\n folded", "Proxy-Connection: close", "Keep-Alive: 1", "X-Long: "+strings.Repeat("z", 70000), "TE: gzip", "Connection: host", "Connection: te, x-some")
		r.fields = slices.Insert(r.fields, p.IntN(len(r.fields)+1), f)
		return "field " + say(f)
	case 4:
		r.fields = slices.DeleteFunc(r.fields, func(f string) bool {
			return strings.HasPrefix(f, "Content-Length") || strings.HasPrefix(f, "Transfer-Encoding")
		})
		r.fields = append(r.fields, "Transfer-Encoding: chunked")
		r.body = one(p, "5\r\nabcde0\r\n\r\n", "5 \r\nabcde\r\n0\r\n\r\n", "\r\n", "g\r\n\r\n", "-5\r\nabcde\r\n0\r\n\r\n", "0x5\r\nabcde\r\n0\r\n\r\n", "5\nabcde\n0\n\n", "fffffffffffffffff\r\n", "5;\x00\r\nabcde\r\n0\r\n\r\n",
			"5\r\nabcdef\r\n0\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n", "0\r\nbad name: x\r\n\r\n", "0\r\nx: a\x00b\r\n\r\n", "0\r\n\n", "00000000000000000000005\r\nabcde\r\n0\r\n\r\n", "0;\r\n\r\n", "5\r\nabcde\r0\r\n\r\n", " 5\r\nabcde\r\n0\r\n\r\n", "5\r\nabcde\r\n0\r\nTransfer-Encoding: x\r\n\r\n")
		return "chunk " + say(r.body)
	default:
		r.end = one(p, "\n", "\r", "\n\r", "\r\r\n")
		return "ends " + say(r.end)
	}
}

// An Answer is one of those that came over HTTP/1.1.
type Answer struct {
	Status int
	Got    string // what the upstream says it has got
}

// Ask1 sends bytes in pieces at the places of a seed, and returns the answers and whether the connection stayed open.
func Ask1(c net.Conn, seed uint64, text string, calm time.Duration) (answers []Answer, open bool) {
	r := rand.New(rand.NewPCG(seed, 1))
	go func() {
		for rest := text; rest != ""; {
			n := len(rest)
			if r.IntN(2) == 0 {
				n = 1 + r.IntN(len(rest))
			}
			if _, err := io.WriteString(c, rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	in := bufio.NewReader(c)
	heads := methods(text)
	for {
		_ = c.SetReadDeadline(time.Now().Add(calm))
		if _, err := in.Peek(1); err != nil {
			return answers, isLate(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * calm))
		method := http.MethodGet
		if len(answers) < len(heads) {
			method = heads[len(answers)]
		}
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return append(answers, Answer{Got: "unreadable"}), false
		}
		if _, err = io.Copy(io.Discard, resp.Body); err != nil {
			return append(answers, Answer{Status: resp.StatusCode, Got: "cut"}), false
		}
		if resp.StatusCode/100 == 1 {
			continue
		}
		answers = append(answers, Answer{resp.StatusCode, resp.Header.Get("x-got") + resp.Header.Get("x-got-fields")})
	}
}

func isLate(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

// methods are those of requests in a text, as far as a simple look finds them.
func methods(text string) (out []string) {
	for l := range strings.SplitSeq(text, "\n") {
		if method, rest, ok := strings.Cut(strings.TrimSpace(l), " "); ok && strings.Contains(rest, "HTTP/") {
			out = append(out, method)
		}
	}
	return out
}
