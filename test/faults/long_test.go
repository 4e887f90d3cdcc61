package faults

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/script/mesh"
)

// Ten thousand clients that keep a connection and say nothing cost little, and nothing when they have gone.
func TestTenThousandIdleConnections(t *testing.T) {
	t.Parallel()
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	server, _ := echoServer(t)
	x := hop.Malla(t, hop.PKI(t), hop.Hop{Name: "main", To: server})
	one := func() (net.Conn, error) {
		c, err := net.Dial("tcp", x.At["main"])
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nhost: x\r\n\r\n"); err != nil {
			return c, err
		}
		resp, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
		if err == nil && resp.StatusCode != 200 {
			err = fmt.Errorf("%s", resp.Status)
		}
		return c, err
	}
	warm, err := one()
	if err != nil {
		t.Fatal(err)
	}
	warm.Close()
	before := holds(t, x)
	conns := make([]net.Conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	for i := range conns {
		if conns[i], err = one(); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if got := x.Stat(t, "http.main.downstream_cx_active"); got != int64(n) {
		t.Errorf("%d connections are open, want %d", got, n)
	}
	each := (holds(t, x).memory - before.memory) / int64(n)
	t.Logf("%d bytes for each connection", each)
	if each > 16<<10 {
		t.Errorf("an idle connection costs %d bytes, want 16 KB at most", each)
	}
	for _, c := range conns {
		c.Close()
	}
	mesh.Until(t, 15*time.Second, "the connections have gone", func() error {
		if now := holds(t, x); x.Stat(t, "http.main.downstream_cx_active") != 0 || now.descriptors > before.descriptors || now.goroutines > before.goroutines+slack {
			return fmt.Errorf("it holds %+v, before %+v", now, before)
		}
		return nil
	})
}

// A gigabyte each way, and the proxy holds no more of it than its buffers: neither while it flows, nor while the client
// takes nothing of it and sends what it can.
func TestGigabyteBodies(t *testing.T) {
	t.Parallel()
	size := int64(1 << 30)
	if testing.Short() {
		size = 128 << 20
	}
	const (
		most   = 96 << 20 // what the memory grows by: 32 MB of windows of HTTP/2 both ways, as much again before Go collects, and half for a slow collector; the rest of the body has no place in it
		enough = 96 << 20 // more than all buffers on the way have, those of the system for the proxy's connections too
	)
	l := hop.Serve(t)
	s := &http.Server{Handler: http.HandlerFunc(echo), Protocols: both(), ConnState: func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			small(c)
		}
	}}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	for _, name := range []string{"one", "two"} {
		p := new(http.Protocols)
		p.SetHTTP1(name == "one")
		p.SetUnencryptedHTTP2(name == "two")
		tr := &http.Transport{Protocols: p, DisableCompression: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil {
				small(c)
			}
			return c, err
		}}
		client := &http.Client{Transport: tr, Timeout: 5 * time.Minute}
		x := hop.Malla(t, hop.PKI(t), hop.Hop{Name: name, To: l.Addr().String(), ToH2: name == "two"}) // its own, for the most it has held
		before := holds(t, x).most
		sent, got := sha256.New(), sha256.New()
		var taken atomic.Int64
		body := io.TeeReader(io.LimitReader(rand.New(rand.NewSource(1)), size), writerFunc(func(b []byte) (int, error) {
			taken.Add(int64(len(b)))
			return sent.Write(b)
		}))
		resp, err := client.Post("http://"+x.At[name]+"/", "application/octet-stream", body)
		if err != nil {
			t.Fatal(err)
		}
		for last := int64(-1); last < taken.Load() && last < enough; { // until nothing moves, or what moves goes into the proxy
			last = taken.Load()
			pause(200 * time.Millisecond)
		}
		first := taken.Load()
		if first >= enough {
			t.Errorf("%s: %d MB were taken of a client that reads nothing, want less than %d", name, first>>20, enough>>20)
		}
		n, err := io.Copy(got, resp.Body)
		resp.Body.Close()
		if err != nil || n != size || string(got.Sum(nil)) != string(sent.Sum(nil)) {
			t.Errorf("%s: %d bytes of %d came back, %v", name, n, size, err)
		}
		if m := holds(t, x).most; m-before > most {
			t.Errorf("%s: the proxy has held %d MB, %d before the body; want %d more at most", name, m>>20, before>>20, most>>20)
		} else {
			t.Logf("%s: the proxy has held %d MB at most, %d before the body; %d MB were taken at first", name, m>>20, before>>20, first>>20)
		}
		client.CloseIdleConnections()
	}
}

// small keeps the system from holding much of what goes over a connection.
func small(c net.Conn) {
	_ = c.(*net.TCPConn).SetReadBuffer(256 << 10)
	_ = c.(*net.TCPConn).SetWriteBuffer(256 << 10)
}

// A writerFunc is a function that writes.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// Certificates are replaced a hundred times under connections that begin, and under long ones of both versions of HTTP.
func TestCertificatesRotated(t *testing.T) {
	t.Parallel()
	times := 100
	if testing.Short() {
		times = 10
	}
	server, _ := echoServer(t)
	pki, dir, at := []*peer.PKI{hop.PKI(t), hop.PKI(t)}, t.TempDir(), hop.Free(t)
	put := func(i int) {
		path := filepath.Join(dir, "sds.yaml")
		text := fmt.Sprintf("resources:\n- {\"@type\": %[1]sextensions.transport_sockets.tls.v3.Secret, name: own, tls_certificate: {certificate_chain: {filename: %[2]s/server.pem}, private_key: {filename: %[2]s/server-key.pem}}}\n", ads, pki[i%2].Dir)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	x := hop.Configured(t, nil, fmt.Sprintf(`node: {id: test, cluster: test}
static_resources:
  listeners:
  - name: main
    address: %[2]s
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": %[1]sextensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: app}}]}]}
          http_filters:
          - {name: router, typed_config: {"@type": %[1]sextensions.filters.http.router.v3.Router}}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": %[1]sextensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificate_sds_secret_configs: [{name: own, sds_config: {path_config_source: {path: %[3]s/sds.yaml}}}]
  clusters:
  - {name: app, load_assignment: {cluster_name: app, endpoints: [{lb_endpoints: [{endpoint: {address: %[4]s}}]}]}}
`, ads, hop.Socket(at), dir, hop.Socket(server)))
	shown := func() (string, error) {
		c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return "", err
		}
		defer c.Close()
		return string(c.ConnectionState().PeerCertificates[0].Raw), nil
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var counts tally
	var all sync.WaitGroup
	for i := range 6 {
		p := new(http.Protocols)
		p.SetHTTP1(i%2 == 0)
		p.SetHTTP2(i%2 == 1)
		client := &http.Client{Transport: &http.Transport{Protocols: p, DisableKeepAlives: i >= 4, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 20 * time.Second}
		all.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				counts.ask(client, "POST", "https://"+at+"/", []byte("body"))
				pause(10 * time.Millisecond)
			}
		})
	}
	last, err := shown()
	if err != nil {
		t.Fatal(err)
	}
	for i := range times {
		put(i + 1)
		mesh.Until(t, 20*time.Second, "another certificate is shown", func() error {
			now, err := shown()
			if err == nil && now == last {
				err = fmt.Errorf("it is still the one before")
			}
			if err == nil {
				last = now
			}
			return err
		})
		mesh.Until(t, 20*time.Second, "two more requests", func() error {
			if n := counts.answered(); n < 2*(i+1) {
				return fmt.Errorf("%d are answered", n)
			}
			return nil
		})
	}
	stop()
	all.Wait()
	t.Logf("%d requests were answered; %d connections", counts.ok, x.Stat(t, "http.main.downstream_cx_total"))
	if len(counts.bad) > 0 || counts.ok < 2*times {
		t.Errorf("%d requests were answered; failed: %v", counts.ok, counts.bad)
	}
	if strings.Contains(x.Log(), "level=ERROR") {
		t.Errorf("the proxy said %s", x.Log())
	}
}
