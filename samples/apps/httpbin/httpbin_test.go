package httpbin

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

func do(goStyle bool, method, url, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler(goStyle).ServeHTTP(w, r)
	return w
}

// The picture has 135 bytes and begins with a line that people look for.
func TestTeapot(t *testing.T) {
	w := do(false, "GET", "/status/418", "")
	lines := strings.Split(w.Body.String(), "\n")
	if w.Code != 418 || w.Body.Len() != 135 || w.Header().Get("Content-Length") != "135" || strings.TrimSpace(lines[1]) != "-=[ teapot ]=-" {
		t.Errorf("%d, %d bytes, %q; want 418, 135 bytes, the teapot", w.Code, w.Body.Len(), w.Body)
	}
	if got := w.Header().Get("X-More-Info"); got != "http://tools.ietf.org/html/rfc2324" {
		t.Errorf("x-more-info %q", got)
	}
	if w := do(true, "GET", "/status/418", ""); w.Body.String() != "I'm a teapot!" {
		t.Errorf("go-httpbin's teapot says %q", w.Body)
	}
}

func TestStatus(t *testing.T) {
	for path, want := range map[string]int{"/status/200": 200, "/status/503": 503, "/status/302": 302, "/status/401": 401, "/status/204": 204, "/status/x": 400, "/status/99": 400, "/status/100": 400, "/status/1000": 400, "/status/200:x": 400} {
		if w := do(false, "GET", path, ""); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	if w := do(false, "POST", "/status/302", ""); w.Header().Get("Location") != "/redirect/1" {
		t.Errorf("302 leads to %q", w.Header().Get("Location"))
	}
	count := map[int]int{}
	for range 2000 {
		count[do(false, "GET", "/status/200:9,503:1", "").Code]++
	}
	if n := count[503]; n < 200-68 || n > 200+68 || count[200]+n != 2000 { // 5 sigma
		t.Errorf("of 2000 answers by 9:1 %v", count)
	}
}

func TestEcho(t *testing.T) {
	w := do(false, "POST", "/post?a=1&a=2&b=3", `{"x":[1]}`, "Content-Type", "application/json", "X-Request-Id", "id-1", "X-Forwarded-For", "10.0.0.1")
	var got struct {
		Args    map[string]any
		Data    string
		JSON    any
		Headers map[string]string
		Origin  string
		URL     string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	// What a mesh adds is shown, other than by the original.
	if fmt.Sprint(got.Args) != "map[a:[1 2] b:3]" || got.Data != `{"x":[1]}` || fmt.Sprint(got.JSON) != "map[x:[1]]" ||
		got.Headers["X-Request-Id"] != "id-1" || got.Headers["Host"] != "example.com" || got.Origin != "10.0.0.1" || got.URL != "http://example.com/post?a=1&a=2&b=3" {
		t.Errorf("%+v", got)
	}
	for _, test := range []struct{ method, path, contentType, body, want string }{
		{"PUT", "/put", "application/x-www-form-urlencoded", "a=b&a=c", `"a": [`},
		{"DELETE", "/delete", "", "", `"data": ""`},
		{"PATCH", "/anything/x", "", "t", `"method": "PATCH"`},
		{"POST", "/post", "multipart/form-data; boundary=B", "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"n\"\r\n\r\nfile\r\n--B--\r\n", `"f": "file"`},
		{"POST", "/post", "application/x-bin", "\xff\x00", `data:application/x-bin;base64,/wA=`},
	} {
		if w := do(false, test.method, test.path, test.body, "Content-Type", test.contentType); w.Code != 200 || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s %s: %d %s, want %s", test.method, test.path, w.Code, w.Body, test.want)
		}
	}
	if w := do(false, "GET", "/post", ""); w.Code != 405 {
		t.Errorf("GET /post: %d, want 405", w.Code)
	}
	// go-httpbin shows lists.
	if w := do(true, "GET", "/headers", "", "A", "b"); !strings.Contains(w.Body.String(), "\"A\": [\n") {
		t.Errorf("go-httpbin's headers: %s", w.Body)
	}
}

func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for path, want := range map[string]time.Duration{
			"/delay/2": 2 * time.Second, "/delay/0.5": 500 * time.Millisecond, "/delay/1s": time.Second, "/delay/60": 10 * time.Second, // the original's bound
			"/drip?duration=3&numbytes=6&delay=1": 4 * time.Second, "/sse?count=2&duration=1s": time.Second,
		} {
			start := time.Now()
			w := do(false, "GET", path, "")
			if got := time.Since(start); w.Code != 200 || got != want {
				t.Errorf("%s: %d after %v, want %v", path, w.Code, got, want)
			}
		}
	})
	for _, path := range []string{"/delay/x", "/delay/-1", "/drip?numbytes=0", "/drip?duration=x", "/sse?duration=x"} {
		if w := do(false, "GET", path, ""); w.Code != 400 {
			t.Errorf("%s: %d, want 400", path, w.Code)
		}
	}
}

func TestBodies(t *testing.T) {
	for path, want := range map[string]int{"/bytes/17": 17, "/bytes/1000000": maxBytes, "/stream-bytes/1000?chunk_size=10": 1000, "/range/30": 30} {
		if w := do(false, "GET", path, ""); w.Code != 200 || w.Body.Len() != want {
			t.Errorf("%s: %d, %d bytes, want %d", path, w.Code, w.Body.Len(), want)
		}
	}
	if a, b := do(false, "GET", "/bytes/9?seed=3", "").Body.String(), do(false, "GET", "/bytes/9?seed=3", "").Body.String(); a != b {
		t.Error("the same seed gives other bytes")
	}
	if w := do(false, "GET", "/stream/3", ""); strings.Count(w.Body.String(), "\n") != 3 || !strings.Contains(w.Body.String(), `"id":2`) {
		t.Errorf("/stream/3: %s", w.Body)
	}
	if w := do(false, "GET", "/range/26", "", "Range", "bytes=2-4"); w.Code != 206 || w.Body.String() != "cde" {
		t.Errorf("range: %d %s", w.Code, w.Body)
	}
	for path, open := range map[string]func(io.Reader) (io.Reader, error){
		"/gzip":    func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"/deflate": func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
	} {
		r, err := open(bytes.NewReader(do(false, "GET", path, "").Body.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(r); err != nil || !bytes.Contains(text, []byte(`"method": "GET"`)) {
			t.Errorf("%s: %s %v", path, text, err)
		}
	}
}

func TestRedirects(t *testing.T) {
	for path, want := range map[string]string{
		"/redirect/1": "302 /get", "/redirect/3": "302 /relative-redirect/2", "/relative-redirect/2": "302 /relative-redirect/1",
		"/absolute-redirect/2": "302 http://example.com/absolute-redirect/1", "/absolute-redirect/1": "302 http://example.com/get",
		"/redirect-to?url=http://x/y": "302 http://x/y", "/redirect-to?url=/a&status_code=307": "307 /a",
		"/redirect-to": "400 ", "/redirect-to?url=/a&status_code=200": "400 ", "/redirect/x": "400 ",
		"/cookies/set?a=b": "302 /cookies", "/cookies/delete?a": "302 /cookies",
	} {
		w := do(false, "GET", path, "")
		if got := fmt.Sprintf("%d %s", w.Code, w.Header().Get("Location")); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		path   string
		header []string
		status int
		want   string
	}{
		{"/", nil, 200, "<h1>httpbin</h1>"},
		{"/html", nil, 200, "<h1>"},
		{"/json", nil, 200, `"slideshow"`},
		{"/xml", nil, 200, "<slideshow"},
		{"/robots.txt", nil, 200, "Disallow: /deny\n"},
		{"/image/png", nil, 200, "\x89PNG"},
		{"/image/jpeg", nil, 200, "\xff\xd8"},
		{"/image/svg", nil, 200, "<svg"},
		{"/image", []string{"Accept", "text/html"}, 406, "supported media type"},
		{"/encoding/utf8", nil, 200, "Zażółć"},
		{"/base64/aGVsbG8=", nil, 200, "hello"},
		{"/base64/encode/hello", nil, 200, "aGVsbG8="},
		{"/base64/!", nil, 400, "Incorrect"},
		{"/uuid", nil, 200, "-"},
		{"/ip", nil, 200, `"origin": "192.0.2.1"`},
		{"/user-agent", []string{"User-Agent", "curl/8"}, 200, `"user-agent": "curl/8"`},
		{"/cookies", []string{"Cookie", "a=b"}, 200, `"a": "b"`},
		{"/basic-auth/u/p", nil, 401, ""},
		{"/basic-auth/u/p", []string{"Authorization", "Basic dTpw"}, 200, `"authenticated": true`},
		{"/basic-auth/u/q", []string{"Authorization", "Basic dTpw"}, 401, ""},
		{"/hidden-basic-auth/u/p", nil, 404, ""},
		{"/bearer", nil, 401, ""},
		{"/bearer", []string{"Authorization", "Bearer t"}, 200, `"token": "t"`},
		{"/cache", nil, 200, ""},
		{"/cache", []string{"If-None-Match", "x"}, 304, ""},
		{"/etag/x", []string{"If-None-Match", `"x"`}, 304, ""},
		{"/etag/x", []string{"If-Match", `"y"`}, 412, ""},
		{"/response-headers?X-Malla=a", nil, 200, `"X-Malla": "a"`},
		{"/nothing", nil, 404, ""},
	} {
		w := do(false, "GET", test.path, "", test.header...)
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s %q: %d %.80q, want %d %q", test.path, test.header, w.Code, w.Body, test.status, test.want)
		}
	}
	if got := do(false, "GET", "/response-headers?X-Malla=a", "").Header().Get("X-Malla"); got != "a" {
		t.Errorf("response-headers sets %q", got)
	}
	if got := do(false, "GET", "/cache/60", "").Header().Get("Cache-Control"); got != "public, max-age=60" {
		t.Errorf("cache says %q", got)
	}
	if w := do(false, "OPTIONS", "/get", "", "Origin", "http://a"); w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != "http://a" {
		t.Errorf("OPTIONS: %d %v", w.Code, w.Header())
	}
}

func TestWebSocket(t *testing.T) {
	s := httptest.NewServer(handler(false))
	defer s.Close()
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http")+"/websocket/echo", http.Header{"Origin": {"http://elsewhere"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, want := range []string{"a", strings.Repeat("long", 50000)} {
		if err := c.WriteMessage(websocket.TextMessage, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if kind, got, err := c.ReadMessage(); err != nil || kind != websocket.TextMessage || string(got) != want {
			t.Errorf("echo of %d bytes: %d bytes, %v", len(want), len(got), err)
		}
	}
}

func TestPort(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "80"},
		{[]string{"gunicorn", "--access-logfile", "-", "-b", "[::]:8080", "httpbin:app", "-k", "gevent"}, "8080"},
		{[]string{"gunicorn", "-b", "0.0.0.0:8081", "httpbin:app"}, "8081"},
		{[]string{"-port=9"}, "9"},
		{[]string{"-b", "8080"}, ""},
		{[]string{"-b"}, ""},
		{[]string{"-port", "http"}, ""},
	} {
		if got, err := listenPort(test.args, "80"); got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("listenPort(%q) = %q, %v, want %q", test.args, got, err, test.want)
		}
	}
}
