package peers

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

const page = "a page that another server has\n"

// site is a directory with a page and a big file.
func site(t *testing.T) (dir string, size int) {
	t.Helper()
	dir, size = t.TempDir(), 8<<20
	for name, text := range map[string]string{"page.txt": page, "big": strings.Repeat("0123456789abcdef", size/16)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, size
}

func listening(t *testing.T, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		mesh.Until(t, 10*time.Second, a+" being open", func() error {
			c, err := net.Dial("tcp", a)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
}

// pages gets small and big answers through every hop, by curl in both versions and many at once by h2load.
func pages(t *testing.T, x *hop.Proxy, size int) {
	for name, at := range x.At {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, version := range []string{"--http1.1", "--http2-prior-knowledge"} {
				if got := command(t, "curl", "-sS", version, "http://"+at+"/page.txt"); got != page {
					t.Errorf("curl %s has got %q", version, got)
				}
				if got := command(t, "curl", "-sS", version, "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "http://"+at+"/big"); got != fmt.Sprintf("200 %d", size) {
					t.Errorf("curl %s has got %s of %d bytes", version, got, size)
				}
			}
			out := command(t, "h2load", "-n", "2000", "-c", "4", "-m", "50", "http://"+at+"/page.txt")
			if !strings.Contains(out, "status codes: 2000 2xx") {
				t.Errorf("h2load:\n%s", out)
			}
		})
	}
}

// nginx behind us, in HTTP/1.1 and HTTP/2, plain and TLS.
func TestNginx(t *testing.T) {
	p := hop.PKI(t)
	dir, size := site(t)
	plain, h2, tls := hop.Free(t), hop.Free(t), hop.Free(t)
	conf := filepath.Join(t.TempDir(), "nginx.conf")
	tmp := t.TempDir()
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  keepalive_requests 500;
  server { listen %[2]s; root %[3]s; }
  server { listen %[4]s http2; root %[3]s; }
  server { listen %[5]s ssl http2; root %[3]s; ssl_certificate %[6]s/server.pem; ssl_certificate_key %[6]s/server-key.pem;
           ssl_client_certificate %[6]s/ca.pem; ssl_verify_client on; }
}
`, tmp, plain, dir, h2, tls, p.Dir)
	if err := peer.WriteFile(conf, text); err != nil {
		t.Fatal(err)
	}
	process.Start(t, process.Tool(t, "nginx"), "-c", conf, "-e", "stderr")
	listening(t, plain, h2, tls)
	pages(t, hop.Malla(t, p, hop.Hop{Name: "h1", To: plain}, hop.Hop{Name: "h2", To: h2, ToH2: true}, hop.Hop{Name: "tls_h2", To: tls, ToH2: true, ToTLS: true}, hop.Hop{Name: "tls_h1", To: tls, ToTLS: true}), size)
}

// nghttpd behind us, plain and TLS.
func TestNghttpd(t *testing.T) {
	p := hop.PKI(t)
	dir, size := site(t)
	plain, tls := hop.Free(t), hop.Free(t)
	at := func(address string) []string {
		ip, port, _ := net.SplitHostPort(address)
		return []string{"-a", ip, "-d", dir, port}
	}
	nghttpd := process.Tool(t, "nghttpd")
	process.Start(t, nghttpd, append([]string{"--no-tls"}, at(plain)...)...)
	process.Start(t, nghttpd, append(at(tls), p.Dir+"/server-key.pem", p.Dir+"/server.pem")...)
	listening(t, plain, tls)
	pages(t, hop.Malla(t, p, hop.Hop{Name: "h2", To: plain, ToH2: true}, hop.Hop{Name: "tls_h2", To: tls, ToH2: true, ToTLS: true}), size)
}

// Node's http2 module before us and behind us: many streams, bodies both ways, trailers, a stream that is broken off.
func TestNode(t *testing.T) {
	p := hop.PKI(t)
	node := process.Tool(t, "node")
	h2, h1 := hop.Free(t), hop.Free(t)
	process.Start(t, node, "testdata/server.js", h1, h2)
	listening(t, h1, h2)
	x := hop.Malla(t, p, hop.Hop{Name: "h2", To: h2, ToH2: true}, hop.Hop{Name: "tls_h2", TLS: true, To: h2, ToH2: true}, hop.Hop{Name: "h1", To: h1})
	for name, scheme := range map[string]string{"h2": "http", "tls_h2": "https", "h1": "http"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := strings.TrimSpace(command(t, "node", "testdata/client.js", scheme+"://"+x.At[name])); got != "all is well" {
				t.Error(got)
			}
		})
	}
}
