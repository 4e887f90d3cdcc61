package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// A backend is what stands behind all proxies of a workload.
type backend uint8

const (
	web    backend = iota // HTTP/1.1: nginx, or else this program
	web2                  // HTTP/2: nghttpd
	grpc                  // the same with trailers
	stream                // bytes: this program
)

const (
	// small is the body of the backends; testdata/backend.conf has the same.
	small     = "hello from the backend, this is a small body\n"
	largeSize = 100 << 10

	smallPath = "/small"
	largePath = "/large"
	rlsPath   = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit" // answers that nothing is over its limit
)

// needs is the program that must be there for the backend.
func (k backend) needs() string {
	if k == web2 || k == grpc {
		return "nghttpd"
	}
	return ""
}

// startBackend starts the one backend of all contestants.
func (b *bench) startBackend(k backend, dir string) (*server, int) {
	port := mesh.FreePort(b)
	var cmd *exec.Cmd
	switch {
	case k == web2 || k == grpc:
		// Room for all streams on one connection: Envoy sends more than a new connection allows before
		// it has read what that is, and has to answer 503.
		args := []string{"--no-tls", "-m", "1024", "-a", "127.0.0.1", "-d", b.documents(dir)}
		if k == grpc {
			args = append(args, "--trailer", "grpc-status: 0")
		}
		cmd = exec.Command(find("nghttpd"), append(args, strconv.Itoa(port))...)
	case k == web && find("nginx") != "":
		cmd = exec.Command(find("nginx"), "-c", b.fill("backend.conf", config{Dir: dir, Port: port}), "-p", dir)
	default:
		return b.start([]int{port}, b.helperCommand(helperSpec{Kind: map[backend]string{web: "web", stream: "stream"}[k], Addr: fmt.Sprintf("127.0.0.1:%d", port)})), port
	}
	return b.start([]int{port}, cmd), port
}

// documents writes the bodies that nghttpd serves.
func (b *bench) documents(dir string) string {
	dir = filepath.Join(dir, "www")
	err := os.MkdirAll(dir+filepath.Dir(rlsPath), 0o755)
	for path, body := range map[string]string{smallPath: small, largePath: strings.Repeat("0123456789abcdef", largeSize/16), rlsPath: "\x00\x00\x00\x00\x02\x08\x01"} {
		if err == nil {
			err = os.WriteFile(dir+path, []byte(body), 0o644)
		}
	}
	if err != nil {
		b.Fatalf("%v", err)
	}
	return dir
}

// serveWeb is the backend for HTTP/1.1 where there is no nginx.
func serveWeb(spec helperSpec) (helperResult, error) {
	s := http.Server{Addr: spec.Addr, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(small))
	})}
	return helperResult{}, s.ListenAndServe()
}
