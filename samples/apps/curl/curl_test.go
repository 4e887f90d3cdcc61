package curl

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A ran is what one command has done.
type ran struct {
	code     int
	out, err string
}

func do(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	var out, stderr bytes.Buffer
	r := ran{}
	var code exit
	if err := run(t.Context(), args, strings.NewReader(stdin), &out, &stderr); errors.As(err, &code) {
		r.code = int(code)
	} else if err != nil {
		t.Fatal(err)
	}
	r.out, r.err = out.String(), stderr.String()
	return r
}

// mirror answers with the request as it read it.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s\n", r.Method, r.RequestURI, r.Proto)
	r.Header.Set("Host", r.Host)
	r.Header.Write(w)
	fmt.Fprintf(w, "\n%s", body)
}

func TestRequests(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(mirror))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte("a\nb\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"GET / HTTP/1.1\n", "User-Agent: curl/8.", "Accept: */*", "Host: 127.0.0.1:"}},
		{[]string{"-XDELETE", "-sSH", "A: b", "-H", "a: c"}, []string{"DELETE /", "A: b\r\nA: c\r\n"}},
		{[]string{"-H", "Host: shop", "-H", "Accept:", "-H", "X-Empty;"}, []string{"Host: shop\r\n", "X-Empty: \r\n"}},
		{[]string{"-d", "a=b", "-d", "c"}, []string{"POST /", "application/x-www-form-urlencoded", "\n\na=b&c"}},
		{[]string{"--data", "@" + file}, []string{"\n\nab"}}, // -d drops line ends, --data-binary does not
		{[]string{"--data-binary", "@" + file}, []string{"\n\na\nb\r\n"}},
		{[]string{"--data-raw", "@x"}, []string{"\n\n@x"}},
		{[]string{"--data-urlencode", "q=a b&c"}, []string{"\n\nq=a%20b%26c"}},
		{[]string{"-d", "@-"}, []string{"\n\nfrom stdin"}},
		{[]string{"--json", `{"a":1}`}, []string{"Content-Type: application/json", "Accept: application/json", `{"a":1}`}},
		{[]string{"-G", "-d", "a=b"}, []string{"GET /?a=b HTTP"}},
		{[]string{"-F", "f=v"}, []string{"multipart/form-data; boundary=", `name="f"`}},
		{[]string{"-T", file}, []string{"PUT /", "Content-Length: 5"}},
		{[]string{"-u", "u:p"}, []string{"Authorization: Basic dTpw"}},
		{[]string{"-A", "me", "-e", "http://r", "-b", "k=v"}, []string{"User-Agent: me", "Referer: http://r", "Cookie: k=v"}},
		{[]string{"--http1.0"}, []string{"HTTP/1.0"}},
		{[]string{"-r", "0-9"}, []string{"Range: bytes=0-9"}},
		{[]string{"--request-target", "/x"}, []string{"GET /x HTTP"}},
	} {
		got := do(t, "from stdin", append(test.args, s.URL)...)
		for _, want := range test.want {
			if got.code != 0 || !strings.Contains(got.out, want) {
				t.Errorf("%q: exit %d, %s%s, want %q", test.args, got.code, got.out, got.err, want)
			}
		}
	}
	if got := do(t, "", "-H", "Accept:", s.URL); strings.Contains(got.out, "Accept:") {
		t.Errorf("-H Accept: does not remove the field: %s", got.out)
	}
}

func TestOutput(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["server"] = []string{"istio-envoy"} // as it comes, not as Go would write it
		w.Header().Set("Content-Type", "text/plain")
		switch r.URL.Path {
		case "/to":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/404":
			w.WriteHeader(404)
			io.WriteString(w, "gone")
		case "/stream":
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			io.WriteString(w, "b")
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, "plain")
			z.Close()
		default:
			io.WriteString(w, r.Method)
		}
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "a", "out")
	for _, test := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"-s", "/x"}, 0, "GET"},
		{[]string{"-s", "/stream"}, 0, "ab"},
		{[]string{"-s", "/gzip", "--compressed"}, 0, "plain"},
		{[]string{"-sL", "/to"}, 0, "GET"},
		{[]string{"-sL", "-d", "x", "/to"}, 0, "GET"}, // a POST becomes a GET
		{[]string{"-s", "/404"}, 0, "gone"},
		{[]string{"-sf", "/404"}, 22, ""},
		{[]string{"-s", "--fail-with-body", "/404"}, 22, "gone"},
		{[]string{"-sL", "--max-redirs", "3", "/loop"}, 47, ""},
		{[]string{"-so", "/dev/null", "-w", `%{http_code} %{size_download} %{content_type} %{num_connects} %header{server} 100%%\n`, "/x"}, 0, "200 3 text/plain 1 istio-envoy 100%\n"},
		{[]string{"-so", os.DevNull, "-w", "%{redirect_url}", "/to"}, 0, s.URL + "/end"},
		{[]string{"-sL", "-o", os.DevNull, "-w", "%{num_redirects} %{url_effective}", "/to"}, 0, "1 " + s.URL + "/end"},
		{[]string{"-s", "--create-dirs", "-o", file, "/x"}, 0, ""},
		{[]string{"-s", "/[1-3]", "-w", "%{num_connects}"}, 0, "GET1GET0GET0"}, // one connection for all
		{[]string{"-s", "/{a,b}"}, 0, "GETGET"},
	} {
		for i, a := range test.args {
			if strings.HasPrefix(a, "/") && a != os.DevNull && a != file {
				test.args[i] = s.URL + a
			}
		}
		got := do(t, "", test.args...)
		if got.code != test.code || !strings.HasSuffix(got.out, test.out) || test.out == "" && got.out != "" {
			t.Errorf("%q: exit %d %q %q, want %d %q", test.args, got.code, got.out, got.err, test.code, test.out)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "GET" {
		t.Errorf("-o wrote %q, %v", b, err)
	}
	if got := do(t, "", "-si", s.URL); !strings.HasPrefix(got.out, "HTTP/1.1 200 OK\r\n") || !strings.Contains(got.out, "\r\nserver: istio-envoy\r\n") || !strings.HasSuffix(got.out, "\r\n\r\nGET") {
		t.Errorf("-i prints %q, want the head as it came", got.out)
	}
	if got := do(t, "", "-sI", s.URL); !strings.HasPrefix(got.out, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got.out, "\r\n\r\n") {
		t.Errorf("-I prints %q", got.out)
	}
	got := do(t, "", "-v", s.URL)
	for _, want := range []string{"> GET / HTTP/1.1\n", "> \n", "< HTTP/1.1 200 OK\n", "< server: istio-envoy\n", "* Connected to 127.0.0.1"} {
		if !strings.Contains(got.err, want) {
			t.Errorf("-v lacks %q: %s", want, got.err)
		}
	}
}

// accept answers each connection with bytes and closes it.
func accept(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			c.Read(buf)
			io.WriteString(c, answer)
			c.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestExitCodes(t *testing.T) {
	stuck := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer stuck.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(mirror))
	defer secure.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	for _, test := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"ftp://h/"}, 1, `Protocol "ftp" not supported`},
		{nil, 2, "no URL specified"},
		{[]string{"--nothing", "h"}, 2, "option --nothing: is unknown"},
		{[]string{"-m"}, 2, "requires parameter"},
		{[]string{"-m", "x", "h"}, 2, "numerical"},
		{[]string{"http://"}, 3, "URL rejected"},
		{[]string{"http://h/[1-"}, 3, "unmatched"},
		{[]string{"http://name.invalid/"}, 6, "Could not resolve host: name.invalid"},
		{[]string{"http://" + gone}, 7, "Failed to connect to 127.0.0.1 port"},
		{[]string{"-m", "0.05", stuck.URL}, 28, "Operation timed out after"},
		{[]string{strings.Replace(stuck.URL, "http", "https", 1)}, 35, "TLS connect error"},
		{[]string{secure.URL}, 60, "SSL certificate problem"},
		{[]string{accept(t, "")}, 52, "Empty reply from server"},
		{[]string{accept(t, "SSH-2.0\r\n")}, 1, "HTTP/0.9"},
		{[]string{accept(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")}, 18, "6 bytes missing"},
		{[]string{accept(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")}, 18, "transfer closed"},
		{[]string{"--cacert", "/nowhere", secure.URL}, 77, "/nowhere"},
		{[]string{"-T", "/nowhere", "http://h"}, 26, "/nowhere"},
	} {
		got := do(t, "", test.args...)
		if got.code != test.code || !strings.Contains(got.err, test.text) || !strings.HasPrefix(got.err, fmt.Sprintf("curl: (%d) ", test.code)) {
			t.Errorf("%q: exit %d %q, want %d %q", test.args, got.code, got.err, test.code, test.text)
		}
	}
	if got := do(t, "", "-s", "http://"+gone); got.err != "" {
		t.Errorf("-s says %q", got.err)
	}
	if got := do(t, "", "-sS", "http://"+gone); got.err == "" {
		t.Error("-sS says nothing")
	}
	if got := do(t, "", "-k", secure.URL); got.code != 0 || !strings.Contains(got.out, "GET /") {
		t.Errorf("-k: %+v", got)
	}
}

func TestNamesAndProxies(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(mirror))
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--resolve", "shop.test:" + u.Port() + ":127.0.0.1", "http://shop.test:" + u.Port() + "/"},
		{"--connect-to", "shop.test:80:127.0.0.1:" + u.Port(), "http://shop.test/"},
		{"--connect-to", "::127.0.0.1:" + u.Port(), "http://shop.test/"},
	} {
		if got := do(t, "", args...); got.code != 0 || !strings.Contains(got.out, "Host: shop.test") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if got := do(t, "", "-x", s.URL, "http://shop.test/a"); !strings.HasPrefix(got.out, "GET http://shop.test/a HTTP/1.1\n") {
		t.Errorf("through a proxy: %+v", got)
	}
	if got := do(t, "", "-x", accept(t, "HTTP/1.1 403 Forbidden\r\n\r\n"), "https://shop.test/"); got.code != 56 || !strings.Contains(got.err, "response 403") {
		t.Errorf("a tunnel that is refused: %+v", got)
	}
}

func TestCookies(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login" {
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "jason", Path: "/", HttpOnly: true})
		}
		io.WriteString(w, r.Header.Get("Cookie"))
	}))
	defer s.Close()
	jar := filepath.Join(t.TempDir(), "jar")
	do(t, "", "-s", "-c", jar, "-d", "username=jason", s.URL+"/login")
	if got := do(t, "", "-s", "-b", jar, s.URL+"/page"); got.out != "session=jason" {
		t.Errorf("the next command sends %q, want the cookie", got.out)
	}
	if got := do(t, "", "-s", "-c", jar, s.URL+"/login", s.URL+"/page"); got.out != "session=jason" {
		t.Errorf("the next URL sends %q, want the cookie", got.out)
	}
}

func TestRetry(t *testing.T) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n < 3 {
			w.WriteHeader(503)
		}
	}))
	defer s.Close()
	if got := do(t, "", "-s", "--retry", "5", "--retry-delay", "0.001", "-w", "%{http_code}", s.URL); got.out != "200" || n != 3 {
		t.Errorf("after %d requests %+v, want 200 after three", n, got)
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			args []string
			want time.Duration
		}{{[]string{"5"}, 5 * time.Second}, {[]string{"1m", "0.5"}, 60500 * time.Millisecond}, {[]string{"1d"}, 24 * time.Hour}} {
			start := time.Now()
			if err := Main(t.Context(), append([]string{"/bin/sleep"}, test.args...), nil, io.Discard, io.Discard); err != nil || time.Since(start) != test.want {
				t.Errorf("sleep %q took %v, %v, want %v", test.args, time.Since(start), err, test.want)
			}
		}
	})
	for _, bad := range [][]string{nil, {"x"}, {"-1"}, {"5y"}} {
		if err := Sleep(t.Context(), bad, nil, io.Discard, io.Discard); err == nil {
			t.Errorf("sleep %q is accepted", bad)
		}
	}
}
