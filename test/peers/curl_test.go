package peers

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/process"
)

// command runs a program to its end.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, process.Tool(t, name), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%.2000s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// big is a file with more than all windows hold.
func big(t *testing.T, size int) (path, sum string) {
	t.Helper()
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	path = filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(b)
	return path, hex.EncodeToString(h[:])
}

// origin is a server with something for each of curl's cases.
func origin(t *testing.T, file string) string {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) { // reading is what answers Expect
		h := sha256.New()
		n, _ := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x", n, h.Sum(nil))
	})
	mux.HandleFunc("/no", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(bytes.Repeat([]byte("zip"), 10000))
		z.Close()
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush() // in HTTP/1.1 a message with a length has no trailers
		w.Header().Set("X-Sum", "abc")
	})
	return backendOf(t, mux)
}

// curl gets and sends what it should in both versions, plain and TLS, before servers of both.
func TestCurl(t *testing.T) {
	p := hop.PKI(t)
	file, sum := big(t, 40<<20)
	at := origin(t, file)
	x := hop.Malla(t, p,
		hop.Hop{Name: "plain_h1", To: at}, hop.Hop{Name: "plain_h2", To: at, ToH2: true},
		hop.Hop{Name: "tls_h1", TLS: true, To: at}, hop.Hop{Name: "tls_h2", TLS: true, To: at, ToH2: true})
	for _, way := range []struct {
		name  string
		tls   bool
		flags []string
		want  string // version
	}{
		{"HTTP/1.1", false, []string{"--http1.1"}, "1.1"},
		{"prior knowledge", false, []string{"--http2-prior-knowledge"}, "2"},
		// h2c by upgrade is not HTTP/2 any more (RFC 9113, section 3.1): Envoy and we answer in HTTP/1.1.
		{"upgrade", false, []string{"--http2"}, "1.1"},
		{"ALPN, HTTP/1.1", true, []string{"--http1.1"}, "1.1"},
		{"ALPN, HTTP/2", true, []string{"--http2"}, "2"},
	} {
		for _, up := range []string{"h1", "h2"} {
			t.Run(way.name+" before "+up, func(t *testing.T) {
				t.Parallel()
				base, name := "http://", "plain_"
				if way.tls {
					base, name = "https://", "tls_"
				}
				base += x.At[name+up]
				curl := func(args ...string) string {
					t.Helper()
					args = append(append([]string{"-sS", "--cacert", p.Dir + "/ca.pem", "--insecure", "--max-time", "50"}, way.flags...), args...)
					return command(t, "curl", args...)
				}
				says := func(want string, args ...string) {
					t.Helper()
					if got := curl(args...); got != want {
						t.Errorf("curl %s: %.300q, want %q", strings.Join(args, " "), got, want)
					}
				}
				says("hello "+way.want+" 200", "-w", " %{http_version} %{http_code}", base+"/hello")
				if way.name != "prior knowledge" { // curl 7.88 cannot use such a connection twice, nor through Envoy
					says("hellohello", base+"/hello", base+"/hello")
				}
				says("40 MB 1 connections", "-o", "/dev/null", "-w", "40 MB %{num_connects} connections", base+"/big") // the sum follows
				if got := sha(t, func(path string) { curl("-o", path, base+"/big") }); got != sum {
					t.Errorf("the download's sum is %s, want %s", got, sum)
				}
				says(fmt.Sprintf("%d %s", 40<<20, sum), "-T", file, base+"/sum")
				says(fmt.Sprintf("%d %s", 40<<20, sum), "-T", file, "-H", "Expect: 100-continue", base+"/sum")
				says(fmt.Sprintf("%d %s", 40<<20, sum), "-X", "POST", "-H", "Transfer-Encoding: chunked", "--data-binary", "@"+file, base+"/sum")
				if way.want == "1.1" { // nor hear of a refusal while it uploads in HTTP/2
					says("403", "-o", "/dev/null", "-w", "%{http_code}", "-T", file, "-H", "Expect: 100-continue", base+"/no")
				}
				says(strings.Repeat("zip", 10000), "--compressed", base+"/gzip")
				says("200 0", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-I", base+"/big")
				says("206 10", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-r", "5-14", base+"/big")
				says("404", "-o", "/dev/null", "-w", "%{http_code}", base+"/nothing")
				if got := curl("-v", "--raw", "-H", "TE: trailers", base+"/trailers"); !strings.Contains(strings.ToLower(got), "x-sum: abc") {
					t.Errorf("curl shows no trailer:\n%s", got)
				}
			})
		}
	}
}

func sha(t *testing.T, download func(path string)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "got")
	download(path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// h2load's streams all end well: many at once, with big headers, through small windows.
func TestH2Load(t *testing.T) {
	p := hop.PKI(t)
	file, _ := big(t, 300<<10)
	at := origin(t, file)
	x := hop.Malla(t, p, hop.Hop{Name: "plain_h1", To: at}, hop.Hop{Name: "plain_h2", To: at, ToH2: true}, hop.Hop{Name: "tls_h2", TLS: true, To: at, ToH2: true})
	fat := []string{"-H", "x-fat: " + strings.Repeat("f", 20_000), "-H", "x-other: " + strings.Repeat("o", 20_000)}
	for _, way := range []struct {
		name  string
		path  string
		n     int
		flags []string
	}{
		{"a hundred at once", "/hello", 5000, []string{"-c", "4", "-m", "100"}},
		{"big headers", "/hello", 400, append([]string{"-c", "2", "-m", "20"}, fat...)},
		{"small windows", "/big", 60, []string{"-c", "2", "-m", "10", "-w", "12", "-W", "14"}},
		{"bodies", "/sum", 200, []string{"-c", "2", "-m", "20", "-d", file}},
		{"HTTP/1.1", "/hello", 2000, []string{"--h1", "-c", "16"}},
	} {
		for name, at := range x.At {
			t.Run(way.name+" through "+name, func(t *testing.T) {
				t.Parallel()
				scheme := "http://"
				if strings.HasPrefix(name, "tls") {
					scheme = "https://"
				}
				out := command(t, "h2load", append([]string{"-n", fmt.Sprint(way.n), scheme + at + way.path}, way.flags...)...)
				if want := fmt.Sprintf("status codes: %d 2xx, 0 3xx, 0 4xx, 0 5xx", way.n); !strings.Contains(out, want) || !strings.Contains(out, "0 failed, 0 errored, 0 timeout") {
					t.Errorf("want %s, none failed\n%s", want, out)
				}
			})
		}
	}
}

// nghttp shows what it got, trailers included, and takes a page with its priorities and windows.
func TestNghttp(t *testing.T) {
	p := hop.PKI(t)
	file, sum := big(t, 5<<20)
	at := origin(t, file)
	x := hop.Malla(t, p, hop.Hop{Name: "plain", To: at}, hop.Hop{Name: "tls", TLS: true, To: at, ToH2: true})
	for scheme, name := range map[string]string{"http": "plain", "https": "tls"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			base := scheme + "://" + x.At[name]
			if out := command(t, "nghttp", "-nv", "--no-verify-peer", "-w", "10", "-W", "12", base+"/trailers"); !strings.Contains(out, "x-sum: abc") {
				t.Errorf("nghttp shows no trailer:\n%s", out)
			}
			out := command(t, "nghttp", "-n", "-s", "--no-verify-peer", "-m", "20", base+"/hello", base+"/sum", base+"/gzip", base+"/trailers")
			if n := strings.Count(out, " 200 "); n != 20*4 {
				t.Errorf("%d answers are 200, want 80\n%s", n, out)
			}
			if out := command(t, "nghttp", "--no-verify-peer", "-d", file, "-t", "20", base+"/sum"); out != fmt.Sprintf("%d %s", 5<<20, sum) {
				t.Errorf("the upload's sum is %s, want %s", out, sum)
			}
		})
	}
}
