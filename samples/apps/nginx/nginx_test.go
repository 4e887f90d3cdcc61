package nginx

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// mount makes a disk with files mounted at conf.d, and others anywhere.
func mount(t *testing.T, files map[string]string) disk {
	t.Helper()
	d := disk{prefix: t.TempDir(), mounts: []string{confDir}}
	for name, text := range files {
		if !strings.HasPrefix(name, "/") {
			name = confDir + "/" + name
		}
		file := filepath.Join(d.prefix, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// run serves one mounted configuration and returns its handler for port 80.
func run(t *testing.T, d disk) *handler {
	t.Helper()
	c, err := load(d, mainFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.resolve(t.Context(), net.DefaultResolver.LookupHost); err != nil {
		t.Fatal(err)
	}
	return &handler{config: c, disk: d, addr: c.addrs()[0], log: io.Discard}
}

func conf(t *testing.T, text string) *handler {
	return run(t, mount(t, map[string]string{"t.conf": text}))
}

func get(h http.Handler, url string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
	return w
}

// raw is an upstream that keeps the bytes of the last request and answers with
// given ones.
func raw(t *testing.T, answer string) (addr string, request func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got := make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var b bytes.Buffer
			in := bufio.NewReader(io.TeeReader(c, &b))
			if r, err := http.ReadRequest(in); err == nil {
				io.Copy(io.Discard, r.Body)
			}
			got <- b.String()
			io.WriteString(c, answer)
			c.Close()
		}
	}()
	return l.Addr().String(), func() string { return <-got }
}

const ok = "HTTP/1.1 200 OK\r\nServer: Jetty\r\nX-A: b\r\nContent-Length: 2\r\n\r\nhi"

// A mesh refuses HTTP/1.0, and nginx speaks it unless it is told not to.
func TestProxyVersion(t *testing.T) {
	for directive, want := range map[string]string{"": "GET /hello?x=1 HTTP/1.0\r\n", "proxy_http_version 1.1;": "GET /hello?x=1 HTTP/1.1\r\n"} {
		addr, request := raw(t, ok)
		w := get(conf(t, "server { listen 80; location /hello { proxy_pass http://"+addr+"; "+directive+" } }"), "http://gw/hello?x=1")
		sent := request()
		if !strings.HasPrefix(sent, want) || !strings.Contains(sent, "\r\nHost: "+addr+"\r\nConnection: close\r\n") {
			t.Errorf("with %q the upstream reads %q, want %q, its own name as Host, Connection: close", directive, sent, want)
		}
		if w.Code != 200 || w.Body.String() != "hi" || w.Header().Get("Server") != "nginx" || w.Header().Get("X-A") != "b" {
			t.Errorf("the client reads %d %q %v, want the answer with Server: nginx", w.Code, w.Body, w.Header())
		}
	}
}

func TestProxyURI(t *testing.T) {
	for _, test := range []struct{ location, path, request, want string }{
		{"/a", "", "/a/b%20c?d", "/a/b%20c?d"}, // without a path in proxy_pass nothing changes
		{"/a/", "/", "/a/b?d", "/b?d"},
		{"/a/", "/z/", "/a/b%20c", "/z/b%20c"},
		{"/a", "/z", "/a/b", "/z/b"},
		{"= /a", "/z", "/a", "/z"},
		{"~ ^/a", "", "/a/b", "/a/b"},
	} {
		addr, request := raw(t, ok)
		get(conf(t, "server { location "+test.location+" { proxy_pass http://"+addr+test.path+"; } }"), test.request)
		if sent := request(); !strings.HasPrefix(sent, "GET "+test.want+" HTTP/1.0\r\n") {
			t.Errorf("location %s, path %q: %s becomes %q, want %s", test.location, test.path, test.request, sent, test.want)
		}
	}
}

func TestProxyHeaders(t *testing.T) {
	addr, request := raw(t, ok)
	h := conf(t, `proxy_set_header X-Lost outer;
		server { location / { proxy_pass http://`+addr+`; proxy_http_version 1.1;
			proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_set_header X-All "$request_method ${uri}-$arg_q $http_x_in"; proxy_set_header Accept-Encoding ""; proxy_set_header Connection ""; } }`)
	r := httptest.NewRequest("POST", "http://shop:8080/p?q=7", strings.NewReader("body"))
	r.Header.Set("X-In", "in")
	r.Header.Set("Accept-Encoding", "gzip")
	r.Header.Set("X-Forwarded-For", "9.9.9.9")
	r.Header.Set("Keep-Alive", "5")
	h.ServeHTTP(httptest.NewRecorder(), r)
	sent := request()
	for _, want := range []string{"Host: shop\r\n", "X-Real-IP: 192.0.2.1\r\n", "X-Forwarded-For: 9.9.9.9, 192.0.2.1\r\n", "X-All: POST /p-7 in\r\n", "Content-Length: 4\r\n", "X-In: in\r\n", "\r\n\r\nbody"} {
		if !strings.Contains(sent, want) {
			t.Errorf("the upstream's %q lacks %q", sent, want)
		}
	}
	// An empty value sends nothing; a list is inherited whole or not at all; a
	// connection's own fields stay on it.
	for _, not := range []string{"Accept-Encoding", "Connection", "X-Lost", "Keep-Alive"} {
		if strings.Contains(sent, not) {
			t.Errorf("the upstream's %q has %s", sent, not)
		}
	}
}

func TestProxyErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	if w := get(conf(t, "server { location / { proxy_pass http://"+gone+"; } }"), "/"); w.Code != 502 || !strings.Contains(w.Body.String(), "<center><h1>502 Bad Gateway</h1></center>") {
		t.Errorf("nobody listens: %d %s, want nginx's 502 page", w.Code, w.Body)
	}
	empty, _ := raw(t, "")
	if w := get(conf(t, "server { location / { proxy_pass http://"+empty+"; } }"), "/"); w.Code != 502 {
		t.Errorf("closed without an answer: %d, want 502", w.Code)
	}
	addr, _ := raw(t, ok)
	w := httptest.NewRecorder()
	conf(t, "server { location / { proxy_pass http://"+addr+"; } }").ServeHTTP(w, httptest.NewRequest("POST", "/", io.LimitReader(zeros{}, 1<<20+1)))
	if w.Code != 413 {
		t.Errorf("a body over 1 MiB: %d, want 413", w.Code)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// The rules are in nginx's documentation of "location".
func TestLocationOrder(t *testing.T) {
	h := conf(t, `server {
		location / { return 200 root; }
		location = / { return 200 exact; }
		location /docs/ { return 200 docs; }
		location ^~ /images/ { return 200 images; }
		location ~* \.(gif|jpg)$ { return 200 picture; }
		location ~ ^/docs/\d+$ { return 200 number; }
	}`)
	for path, want := range map[string]string{
		"/": "exact", "/index": "root", "/docs/a": "docs", "/images/a.gif": "images", "/docs/a.JPG": "picture", "/docs/17": "number", "//docs/./a": "docs", "/docs/../x": "root",
	} {
		if got := get(h, "http://h"+path).Body.String(); got != want {
			t.Errorf("%s is answered by %s, want %s", path, got, want)
		}
	}
}

func TestServerNames(t *testing.T) {
	h := conf(t, `
		server { server_name a.test; return 200 a; }
		server { listen 80 default_server; server_name _; return 200 default; }
		server { server_name *.test; return 200 star; }
		server { server_name www.*; return 200 behind; }
		server { listen 81; server_name b.example; return 200 other; }`)
	for host, want := range map[string]string{"a.test": "a", "A.TEST:80": "a", "x.test": "star", "www.test": "star", "www.example": "behind", "b.example": "default", "": "default"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Body.String(); got != want {
			t.Errorf("host %q is answered by %s, want %s", host, got, want)
		}
	}
}

func TestReturnAndAddHeader(t *testing.T) {
	h := conf(t, `server {
		add_header X-On "$scheme/$server_port";
		add_header X-Ever yes always;
		location /text { default_type text/plain; return 200 "a\n"; }
		location /to { return 301 https://$host$request_uri; }
		location /here { return 302 /there; }
		location /no { return 403; }
		location /plain { return https://x.test/; }
	}`)
	for _, test := range []struct {
		path             string
		status           int
		location, body   string
		onSuccess, onAll string
	}{
		{"/text", 200, "", "a\n", "http/80", "yes"},
		{"/to?a=b", 301, "https://h/to?a=b", "", "http/80", "yes"},
		{"/here", 302, "http://h/there", "", "http/80", "yes"},
		{"/no", 403, "", "403 Forbidden", "", "yes"}, // add_header is for successes unless it says always
		{"/plain", 302, "https://x.test/", "302 Moved Temporarily", "http/80", "yes"},
	} {
		w := get(h, "http://h"+test.path)
		hd := w.Header()
		if w.Code != test.status || hd.Get("Location") != test.location || !strings.Contains(w.Body.String(), test.body) || hd.Get("X-On") != test.onSuccess || hd.Get("X-Ever") != test.onAll {
			t.Errorf("%s: %d %v %q, want %+v", test.path, w.Code, hd, w.Body, test)
		}
	}
}

func TestFiles(t *testing.T) {
	h := run(t, mount(t, map[string]string{
		"t.conf":               "server { location / { root /srv/www; index home.html index.html; } location /web/ { root /usr/share/nginx/html; } }",
		"/srv/www/home.html":   "home",
		"/srv/www/a/data.json": "{}",
		"/srv/secret":          "secret",
	}))
	for path, want := range map[string]string{
		"/": "200 text/html home", "/a/data.json": "200 application/json {}", "/a": "301", "/a/": "403", "/b": "404", "/../secret": "404", "/%2e%2e/secret": "404",
	} {
		w := get(h, "http://h"+path)
		got := fmt.Sprint(w.Code)
		if w.Code == 200 {
			got += " " + w.Header().Get("Content-Type") + " " + w.Body.String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	if w.Code != 405 {
		t.Errorf("POST to a file: %d, want 405", w.Code)
	}
}

// Without mounts the image's page is shown, whatever this machine has at the
// same paths.
func TestNothingMounted(t *testing.T) {
	d := mount(t, map[string]string{"/etc/nginx/nginx.conf": "gzip on;", "other.conf": "gzip on;", "/usr/share/nginx/html/index.html": "the machine's"})
	d.mounts = nil
	w := get(run(t, d), "http://h/")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "<h1>Welcome to nginx!</h1>") || w.Header().Get("Server") != "nginx" {
		t.Errorf("%d %v, want the welcome page", w.Code, w.Header())
	}
	// One file mounted into conf.d stands beside the image's own.
	d.mounts = []string{confDir + "/other.conf"}
	if _, err := load(d, mainFile); err == nil || !strings.Contains(err.Error(), "other.conf:1") {
		t.Errorf("the mounted file is not read: %v", err)
	}
}

// What is mounted below the default pages, a directory or one file, shows in its
// place; the image's own stay around it, and the machine's never show.
func TestMountedAmongTheDefaultPages(t *testing.T) {
	d := mount(t, map[string]string{
		"t.conf":                                 "server { location / { root /usr/share/nginx/html; } location /html/ { root /usr/share/nginx; } }",
		"/usr/share/nginx/html/index.html":       "mine",
		"/usr/share/nginx/html/50x.html":         "the machine's",
		"/usr/share/nginx/html/a/b/page.html":    "deep",
		"/usr/share/nginx/html/a/b/index.html":   "deep index",
		"/usr/share/nginx/html/machine/pag.html": "the machine's",
	})
	d.mounts = []string{confDir, htmlDir + "/index.html", htmlDir + "/a/b"}
	h := run(t, d)
	for path, want := range map[string]string{
		"/": "200 mine", "/index.html": "200 mine", "/html/index.html": "200 mine", "/a/b/page.html": "200 deep", "/a/b/": "200 deep index",
		"/a/b": "301", "/a/": "403", "/machine/pag.html": "404", "/html/machine/pag.html": "404",
	} {
		w := get(h, "http://h"+path)
		got := fmt.Sprint(w.Code)
		if w.Code == 200 {
			got += " " + w.Body.String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	// The same without the mount of one file: the image's welcome page.
	d.mounts = []string{confDir, htmlDir + "/a/b"}
	if w := get(run(t, d), "http://h/"); !strings.Contains(w.Body.String(), "Welcome to nginx!") {
		t.Errorf("%d %s, want the welcome page", w.Code, w.Body)
	}
}

func TestMountInfo(t *testing.T) {
	got := mountPoints(strings.NewReader("36 35 98:0 /mnt1 /etc/nginx/conf.d rw,noatime master:1 - ext3 /dev/root rw\n37 35 0:1 / /a\\040b rw - tmpfs x rw\n38 35 0:2 / /etc/nginx rw - overlay x rw\nshort\n"))
	if want := "[/etc/nginx/conf.d /a b]"; fmt.Sprint(got) != want {
		t.Errorf("mountPoints = %v, want %s", got, want)
	}
}

func TestMountedMainFile(t *testing.T) {
	d := mount(t, map[string]string{"/etc/nginx/nginx.conf": `
		user nginx; worker_processes auto; error_log /dev/stderr warn; pid /run/nginx.pid;
		events { worker_connections 1024; }
		http { include mime.types; include conf.d/*.conf; sendfile on; }`,
		"a.conf": "server { listen 8080; return 200 ok; }"})
	d.mounts = []string{etc}
	c, err := load(d, mainFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.servers) != 1 || c.addrs()[0] != "8080" || len(c.ignored) != 6 || !strings.Contains(c.ignored[0], "/etc/nginx/nginx.conf:2: user") {
		t.Errorf("%d servers on %v, without effect %q; want one on 8080 and six directives named", len(c.servers), c.addrs(), c.ignored)
	}
}

// What is not built in is refused by its name and line, all of it at once.
func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"server {\n  listen 80;\n  gzip on;\n}":                                   `t.conf:3: directive "gzip" is not built in in server`,
		"upstream b { server a; }\nserver {}":                                     `t.conf:1: directive "upstream"`,
		"server { location / {\nrewrite ^ /x; } }":                                `t.conf:2: directive "rewrite"`,
		"server { listen 443 ssl; }":                                              `t.conf:1: listen: parameter "ssl": the built-in nginx speaks plain HTTP/1 only`,
		"server {\nssl_certificate /a; }":                                         `t.conf:2: ssl_certificate: the built-in nginx speaks plain HTTP/1 only`,
		"server {\nhttp2 on; }":                                                   `t.conf:2: http2: the built-in nginx`,
		"server { listen http; }":                                                 `listen: found "http"`,
		"server { listen unix:/a; }":                                              `listen: found "unix:/a"`,
		"server { location / { proxy_pass https://a; } }":                         `proxy_pass: found "https://a"`,
		"server { location / { proxy_pass http://$host; } }":                      `found variables`,
		"server { location ~ a { proxy_pass http://a/b; } }":                      `regular expression`,
		"server { location ~ ( { return 200; } }":                                 `location: error parsing regexp`,
		"server { location / { proxy_http_version 2; } }":                         `found "2", want 1.0 or 1.1`,
		"server { location / { location /a { return 200; } } }":                   `directive "location"`,
		"server { location / { return 200; } location / { return 201; } }":        `is there twice`,
		"server { add_header A $nothing; }":                                       `variable $nothing is not built in`,
		"server { return 200":                                                     `is not ended by ";"`,
		"server { return 200;":                                                    `want "}"`,
		"server { return 'a; }":                                                   `quotes`,
		"}":                                                                       `found "}"`,
		"include t.conf;":                                                         ``,
		"server { root www; }":                                                    `want an absolute path`,
		strings.Repeat("server {", 20):                                            `nested deeper`,
		"include /etc/nginx/conf.d/t.conf;\nserver { return 200; }":               `includes itself`,
		"server { return 99; }":                                                   `return: found "99"`,
		"server { server_name ~a; }":                                              `server_name: found "~a"`,
		"server { gzip on; brotli on; }":                                          `directive "brotli"`,
		"server { location / { proxy_pass http://a; } }\nserver { keepalive 1; }": `directive "keepalive"`,
	} {
		_, err := load(mount(t, map[string]string{"t.conf": text}), mainFile)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %s", text, err, want)
		}
	}
}

// A name may appear a moment after the pod, but not much later.
func TestResolveWaitsForName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &config{servers: []*server{{locations: []*location{{pass: &upstream{host: "hello-svc", port: "80", at: place{"p.conf", 4}}}}}}}
		tries := 0
		err := c.resolve(t.Context(), func(context.Context, string) ([]string, error) {
			if tries++; tries < 4 {
				return nil, errors.New("no such host")
			}
			return []string{"10.96.0.7", "fd00::7"}, nil
		})
		if got := fmt.Sprint(c.servers[0].locations[0].pass.addrs); err != nil || got != "[10.96.0.7:80 [fd00::7]:80]" {
			t.Errorf("resolve: %v, %s, want both addresses", err, got)
		}
		err = c.resolve(t.Context(), func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") })
		if err == nil || !strings.Contains(err.Error(), `p.conf:4: host not found in upstream "hello-svc"`) {
			t.Errorf("a name that stays unknown: %v", err)
		}
	})
}

// An upgraded connection carries bytes both ways.
func TestUpgrade(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" || r.Header.Get("Connection") != "upgrade" {
			t.Errorf("the upstream reads %v, want the upgrade", r.Header)
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
		io.Copy(c, rw)
	}))
	defer upstream.Close()
	front := httptest.NewServer(conf(t, `server { location / { proxy_pass `+upstream.URL+`; proxy_http_version 1.1;
		proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; } }`))
	defer front.Close()
	c, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nping")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v, want 101", res, err)
	}
	echo := make([]byte, 4)
	if _, err := io.ReadFull(in, echo); err != nil || string(echo) != "ping" {
		t.Errorf("echo %q %v, want ping", echo, err)
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"nginx"}, {"-g", "daemon off;"}, {"/usr/sbin/nginx", "-g", "daemon off;"}} {
		if file, err := arguments(args); err != nil || file != mainFile {
			t.Errorf("arguments(%q) = %q, %v", args, file, err)
		}
	}
	for _, args := range [][]string{{"-t"}, {"-c"}, {"-g", "gzip on;"}} {
		if _, err := arguments(args); err == nil {
			t.Errorf("arguments(%q) are accepted", args)
		}
	}
}

// FuzzParse: no text takes the parser or the loader down.
func FuzzParse(f *testing.F) {
	f.Add("server { listen 80; location ~ a { return 200 \"x$uri\"; } } # c")
	f.Add("include conf.d/*; a '\\")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parse("f", "http {"+text+"}")
		if err != nil {
			return
		}
		l := &loader{disk: disk{prefix: "/nowhere"}, base: etc, config: &config{}, running: map[string]bool{}}
		l.each(list, l.main)
	})
}
