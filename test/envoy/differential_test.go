//go:build linux

package envoy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// A scenario is bytes for a proxy that has testdata/static.yaml.
type scenario struct {
	what string
	send string // what the client writes
	head bool   // the answer has no body (HEAD)

	// differs says why malla-proxy does not do what Envoy does, and want what it does
	// instead: the status code.
	differs string
	want    int
	// unlike names parts whose difference is meant: header names, "log", "body",
	// with the reason in differs.
	unlike []string
}

func get(path string, header ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: test.example\r\n" + strings.Join(append(header, ""), "\r\n") + "\r\n"
}

func post(path, body string, header ...string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: test.example\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n" + strings.Join(append(header, ""), "\r\n") + "\r\n" + body
}

var scenarios = []scenario{
	// What comes through.
	{what: "a request and its answer", send: get("/up/ok")},
	{what: "what the upstream sees", send: get("/up/echo", "User-Agent: x/1", "X-Two: a", "X-Two: b", "Connection: keep-alive, x-hop", "X-Hop: gone", "Keep-Alive: 5", "TE: trailers", "Proxy-Connection: keep-alive")},
	{what: "a client's own x-forwarded and x-envoy headers", send: get("/up/echo", "X-Forwarded-For: 10.1.1.1", "X-Forwarded-Proto: https", "X-Envoy-Internal: true", "X-Envoy-Upstream-Rq-Timeout-Ms: 9", "X-Request-Id: mine")},
	{what: "a body", send: post("/up/echo", "hello")},
	{what: "a body in chunks with a trailer", send: "POST /up/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;e=1\r\nlo\r\n0\r\nX-T: end\r\n\r\n"},
	{what: "an answer in chunks", send: get("/up/chunked")},
	{what: "an answer with trailers", send: get("/up/trailers")},
	{what: "an answer until the end of the connection", send: get("/up/until-close")},
	{what: "headers of an answer", send: get("/up/headers")},
	{what: "204", send: get("/up/204")},
	{what: "304", send: get("/up/304")},
	{what: "103 before the answer", send: get("/up/103"), differs: "both leave out 1xx other than 100 and 101"},
	{what: "an upstream's own 503 is not retried", send: get("/up/503")},
	{what: "HEAD", send: "HEAD /up/ok HTTP/1.1\r\nHost: a\r\n\r\n", head: true},
	{what: "OPTIONS *", send: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"},
	{what: "an absolute URI names the authority", send: "GET http://other.example/up/echo HTTP/1.1\r\nHost: a\r\n\r\n"},
	{what: "Expect: 100-continue", send: post("/up/echo", "hello", "Expect: 100-continue")},
	{what: "a query", send: get("/up/echo?a=b&c=%20d")},
	{what: "a path that is not normal", send: get("/up/./a/../echo//x?y=/../z")},

	// Rules.
	{what: "redirect", send: get("/redirect/x?q=1")},
	{what: "redirect of an https host", send: get("/redirect-https")},
	{what: "direct response", send: get("/direct")},
	{what: "prefix rewrite", send: get("/rewrite/echo?x")},
	{what: "host rewrite", send: get("/rewrite-host/echo")},
	{what: "regex rewrite", send: get("/regex/42/echo")},
	{what: "headers added and removed", send: get("/edit/headers", "X-Gone: 1")},
	{what: "the request's headers added and removed", send: get("/edit/echo", "X-Gone: 1")},
	{what: "a header rule", send: get("/match", "X-Pick: yes")},
	{what: "a query rule", send: get("/match?pick=yes")},
	{what: "no rule", send: get("/match")},
	{what: "another host's rules", send: "GET /up/ok HTTP/1.1\r\nHost: other.example:8080\r\n\r\n"},

	// The proxy's own answers.
	{what: "NR: no route", send: get("/nowhere")},
	{what: "NC: no cluster", send: get("/no-cluster")},
	{what: "UH: no endpoint", send: get("/no-endpoint")},
	{what: "UF: nobody listens", send: get("/refused")},
	{what: "URX,UF: nobody listens, with retries", send: get("/refused-retry")},
	{what: "UC: the upstream closes", send: get("/up/close")},
	{what: "UC: the upstream resets", send: get("/up/reset")},
	{what: "UPE: the upstream answers nonsense", send: get("/up/garbage")},
	{what: "the upstream ends in the middle", send: get("/up/half")},
	{what: "a retry", send: get("/retry/flaky")},
	{what: "UT: a timeout", send: get("/slow/slow")},
	{what: "UO: an overflow", send: get("/overflow")},
	{what: "FI: an abort", send: get("/abort")},
	{what: "DI: a delay", send: get("/delay/ok")},

	// Requests that are no requests.
	{what: "HTTP/1.0", send: "GET /up/ok HTTP/1.0\r\nHost: a\r\n\r\n"},
	{what: "no Host", send: "GET /up/ok HTTP/1.1\r\n\r\n"},
	{what: "two Hosts", send: "GET /up/ok HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", differs: "RFC 9112, section 3.2: a server must answer 400; Envoy joins the two", want: 400},
	{what: "nonsense", send: "NONSENSE\r\n\r\n"},
	{what: "both lengths", send: "POST /up/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{what: "two lengths that differ", send: "POST /up/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"},
	{what: "a negative length", send: "POST /up/echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"},
	{what: "an unknown transfer coding", send: "POST /up/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
	{what: "a bad chunk size", send: "POST /up/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"},
	{what: "a space before the colon", send: "GET /up/ok HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n"},
	{what: "a NUL in a header", send: "GET /up/ok HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n"},
	{what: "too many headers", send: get("/up/ok", slices.Repeat([]string{"x: y"}, 200)...)},
	{what: "too large a header", send: get("/up/ok", "X-A: "+strings.Repeat("a", 70<<10))},
	{what: "a bare LF at the end of a line", send: "GET /up/ok HTTP/1.1\r\nHost: a\r\nX-A: b\nX-B: c\r\n\r\n", differs: "stricter on purpose: what ends a line for one reader and not for another is how requests are smuggled", want: 400},
	{what: "a bare CR in a header", send: "GET /up/ok HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n", differs: "stricter on purpose, as above", want: 400},
	{what: "a folded header", send: "GET /up/ok HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", differs: "stricter on purpose: RFC 9112, section 5.2, lets a server refuse obs-fold", want: 400},
}

// answer is what one proxy made of a scenario.
type answer struct {
	status int
	proto  string
	header http.Header
	body   string
	err    string
	closed bool // the connection was closed afterwards
	port   int  // of the client
	log    string
}

func TestSameBytesSameAnswers(t *testing.T) {
	envoy, malla := findEnvoy(t), findProxy(t)
	theirs, ours := newSide(t, envoy, true), newSide(t, malla, false)
	wants, gots := theirs.all(t), ours.all(t)
	for i, s := range scenarios {
		t.Run(s.what, func(t *testing.T) {
			want, got := wants[i], gots[i]
			if s.want != 0 {
				if got.status != s.want {
					t.Errorf("status %d (%s), want %d: %s; Envoy %d", got.status, got.err, s.want, s.differs, want.status)
				}
				return
			}
			compare(t, s, want, got)
		})
	}
}

// compare tells every difference.
func compare(t *testing.T, s scenario, want, got answer) {
	t.Helper()
	differ := func(part, a, b string) {
		if a != b && !slices.Contains(s.unlike, part) {
			t.Errorf("%s:\n malla %s\n Envoy %s", part, b, a)
		}
	}
	differ("error", want.err, got.err)
	differ("status", strconv.Itoa(want.status), strconv.Itoa(got.status))
	differ("protocol", want.proto, got.proto)
	differ("body", want.body, got.body)
	differ("connection closed", strconv.FormatBool(want.closed), strconv.FormatBool(got.closed))
	names := maps.Clone(want.header)
	maps.Copy(names, got.header)
	for name := range names {
		differ(strings.ToLower(name), fmt.Sprintf("%q", want.header[name]), fmt.Sprintf("%q", got.header[name]))
	}
	differ("log", want.log, got.log)
}

// side is one of the two proxies, with a backend of its own.
type side struct {
	port int
	log  string
}

func newSide(t *testing.T, program string, envoy bool) *side {
	t.Helper()
	b := newBackend(t)
	dir := t.TempDir()
	s := &side{port: mesh.FreePort(t), log: filepath.Join(dir, "access.log")}
	text, err := os.ReadFile(filepath.Join("testdata", "static.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "static.yaml")
	filled := fill(string(text), map[string]string{"port": strconv.Itoa(s.port), "backend": strconv.Itoa(b.port), "closed": strconv.Itoa(mesh.FreePort(t)), "log": s.log})
	if err := os.WriteFile(config, []byte(filled), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", config, "--concurrency", "1"}
	if envoy {
		args = append(args, "--use-dynamic-base-id", "--file-flush-interval-msec", "20", "--log-level", "warning")
	}
	start(t, program, args...).listening(t, s.port)
	return s
}

// all plays every scenario.
func (s *side) all(t *testing.T) []answer {
	t.Helper()
	var answers []answer
	for _, sc := range scenarios {
		answers = append(answers, s.play(t, sc))
	}
	s.logs(t, answers)
	return answers
}

// play sends the bytes and reads the answer.
func (s *side) play(t *testing.T, sc scenario) answer {
	t.Helper()
	var a answer
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.port), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(4 * time.Second))
	go func() { _, _ = io.WriteString(c, sc.send) }()
	method := "GET"
	if sc.head {
		method = "HEAD"
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	for err == nil && resp.StatusCode >= 100 && resp.StatusCode < 200 && resp.StatusCode != 101 {
		resp, err = http.ReadResponse(r, &http.Request{Method: method})
	}
	if err != nil {
		a.err = "no answer: " + normalize(err.Error())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			a.err = "no answer in time"
		}
	} else {
		body, err := io.ReadAll(resp.Body)
		a.status, a.proto, a.header = resp.StatusCode, resp.Proto, resp.Header
		a.body = s.normalize(string(body))
		if err != nil {
			a.err = "body: " + normalize(err.Error())
		}
		for k, v := range resp.Trailer {
			a.header["Trailer "+k] = v
		}
		a.header["Length"] = []string{fmt.Sprint(resp.ContentLength)}
		a.closed = resp.Close
		for _, name := range []string{"Date", "X-Envoy-Upstream-Service-Time", "X-Request-Id"} {
			if a.header.Get(name) != "" {
				a.header.Set(name, "(some)")
			}
		}
		for k, v := range a.header {
			for i := range v {
				a.header[k][i] = s.normalize(v[i])
			}
		}
	}
	a.port = c.LocalAddr().(*net.TCPAddr).Port
	return a
}

// logs waits for the lines of all answers; each begins with the client's port.
func (s *side) logs(t *testing.T, answers []answer) {
	t.Helper()
	lines := map[string]string{}
	_, err := mesh.Wait(3*time.Second, func() error {
		text, err := os.ReadFile(s.log)
		if err != nil {
			return err
		}
		clear(lines)
		for l := range strings.Lines(string(text)) {
			port, rest, _ := strings.Cut(l, " ")
			lines[port] += s.normalize(rest)
		}
		if len(lines) < len(answers) {
			return fmt.Errorf("%d lines of %d answers", len(lines), len(answers))
		}
		return nil
	})
	if err != nil {
		t.Logf("access log: %v", err)
	}
	for i := range answers {
		answers[i].log = lines[strconv.Itoa(answers[i].port)]
	}
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
var loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)

func normalize(text string) string {
	return loopback.ReplaceAllString(uuid.ReplaceAllString(text, "(uuid)"), "127.0.0.1:(port)")
}

// normalize takes out of a text what differs between two runs of one proxy. The
// order of headers that an upstream sees is free (RFC 9110, section 5.3).
func (s *side) normalize(text string) string {
	text = normalize(text)
	head, rest, ok := strings.Cut(text, "\r\n\r\n")
	if !ok {
		return text
	}
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + rest
}
