package shard

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/tcp"
	mtls "github.com/mallamesh/malla/proxy/tls"
)

// A live is shards on real sockets of the loopback interface.
type live struct {
	*Shards
	t  *testing.T
	rt *Runtime
}

// newLive runs listeners "http" and "tcp" in front of a server, and "mtls" in front of both.
func newLive(t *testing.T, backend string, concurrency int) *live {
	t.Helper()
	ca, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := newSecrets(t, ca, reviews)
	reg := stats.NewRegistry(false)
	app := static("app")
	c, err := cluster.New(app, reg, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetEndpoints([]cluster.Endpoint{{Addr: netip.MustParseAddrPort(backend)}})
	table, err := route.NewTable(route.Config{VirtualHosts: []route.VirtualHostConfig{{Name: "v", Domains: []string{"*"}, Routes: []route.RouteConfig{to("app")}}}})
	if err != nil {
		t.Fatal(err)
	}
	h := &stream.Config{Routes: table, Expect100Here: true, Upgrades: []string{"websocket"}, Filters: []stream.Factory{router.New(router.Config{})}}
	socket, err := mtls.NewServer(mtls.ServerConfig{Common: mtls.Common{Identities: []*mtls.Identity{server.identity}, Trust: server.trust}})
	if err != nil {
		t.Fatal(err)
	}
	// The addresses differ in their last byte, because sockets are kept by address.
	at := func(n byte) []netip.AddrPort {
		return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, n}), 0)}
	}
	l := &live{t: t, rt: &Runtime{
		Clusters: map[string]*cluster.Cluster{"app": c},
		Listeners: []*listen.Config{
			{Name: "http", Bind: true, Addrs: at(1), Chains: []*listen.Chain{{Filter: h}}},
			{Name: "tcp", Bind: true, Addrs: at(2), Chains: []*listen.Chain{{Filter: &tcp.Config{Cluster: "app"}}}},
			{Name: "mtls", Bind: true, Addrs: at(3), TLSInspector: &listen.Inspector{}, Chains: []*listen.Chain{{TLS: socket, Filter: h}}},
		},
	}}
	if l.Shards, err = New(Options{Concurrency: concurrency}); err != nil {
		t.Fatal(err)
	}
	l.Start()
	t.Cleanup(l.Close)
	if err := l.Apply(l.rt); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *live) addr(name string) string {
	a, ok := l.Addr(name)
	if !ok {
		l.t.Fatalf("listener %s has no address", name)
	}
	return a.String()
}

// echo answers with the method and the body.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %d ", r.Method, len(body))
	w.Write(body)
}

func TestOverSockets(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(echo))
	defer backend.Close()
	l := newLive(t, backend.Listener.Addr().String(), 2)
	tlsClient := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	plain := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 10}}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	for _, test := range []struct {
		client *http.Client
		url    string
	}{
		{plain, "http://" + l.addr("http")},
		{plain, "http://" + l.addr("tcp")},
		{tlsClient, "https://" + l.addr("mtls")},
	} {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for _, body := range [][]byte{nil, []byte("x"), big} {
					for range 3 {
						r, err := test.client.Post(test.url+"/echo", "text/plain", bytes.NewReader(body))
						if err != nil {
							t.Errorf("%s with %d bytes: %v", test.url, len(body), err)
							return
						}
						got, err := io.ReadAll(r.Body)
						r.Body.Close()
						want := fmt.Sprintf("POST %d %s", len(body), body)
						if err != nil || string(got) != want {
							t.Errorf("%s with %d bytes: %d bytes came back, %v", test.url, len(body), len(got), err)
							return
						}
					}
				}
			})
		}
		all.Wait()
	}
	plain.CloseIdleConnections()
	tlsClient.CloseIdleConnections()
}

// Configuration changes under load, and nothing fails.
func TestApplyUnderLoad(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(echo))
	defer backend.Close()
	l := newLive(t, backend.Listener.Addr().String(), 1)
	stop := make(chan struct{})
	var all sync.WaitGroup
	url := "http://" + l.addr("http") + "/"
	for range 4 {
		all.Go(func() {
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := client.Get(url)
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				io.Copy(io.Discard, r.Body)
				r.Body.Close()
				if r.StatusCode != 200 {
					t.Errorf("status %d", r.StatusCode)
				}
			}
		})
	}
	for i := range 30 {
		next := *l.rt
		old := l.rt.Listeners[0]
		chain := *old.Chains[0]
		next.Listeners = append([]*listen.Config{{Name: old.Name, Version: fmt.Sprint(i), Bind: true, Addrs: old.Addrs, Chains: []*listen.Chain{&chain}}}, l.rt.Listeners[1:]...)
		if err := l.Apply(&next); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	all.Wait()
}

func TestTrustedClientsOnly(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(echo))
	defer backend.Close()
	l := newLive(t, backend.Listener.Addr().String(), 1)
	other, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id, _ := pki.ParseID(productpage)
	key, chain, err := other.Serve(id, nil, nil, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", l.addr("mtls"), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: raw(chain), PrivateKey: key}}})
	if err == nil {
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		_, err = bufio.NewReader(c).ReadByte()
		c.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "tls:") {
		t.Errorf("a client of another authority got %v, want an alert", err)
	}
}

func raw(chain []*x509.Certificate) (der [][]byte) {
	for _, c := range chain {
		der = append(der, c.Raw)
	}
	return der
}

// A server that is not there is an answer, not a hang.
func TestNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	l := newLive(t, addr, 1)
	r, err := http.Get("http://" + l.addr("http") + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	if r.StatusCode != 503 || !strings.HasSuffix(string(body), "remote connection failure") {
		t.Errorf("status %d, body %q", r.StatusCode, body)
	}
}

// A proxy that has stopped listening because it is about to end does not begin again when
// configuration arrives while its connections drain.
func TestStoppedListenersStayStopped(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(echo))
	defer backend.Close()
	l := newLive(t, backend.Listener.Addr().String(), 1)
	if err := l.StopListening(false); err != nil {
		t.Fatal(err)
	}
	next := *l.rt
	if err := l.Apply(&next); err != nil {
		t.Fatal(err)
	}
	if addr, ok := l.Addr("http"); ok {
		t.Errorf("the listener is back at %s", addr)
	}
}
