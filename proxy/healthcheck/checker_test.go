package healthcheck

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/stats"
)

type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Append(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(line))
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "")
}

// until waits for what other goroutines do.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.After(10 * time.Second); !ok(); {
		select {
		case <-end:
			t.Fatalf("not in time: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// Hosts come and go while they are checked: what passes is used, what fails is not, what is no
// longer named goes when it fails, and after Close nothing changes any more.
func TestAClusterIsChecked(t *testing.T) {
	var well, asked atomic.Int64
	well.Store(1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if well.Load() == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	registry := stats.NewRegistry(false)
	c, err := cluster.New(cluster.Config{Name: "c", Kind: cluster.EDS, Check: &cluster.CheckPolicy{}}, registry, nil)
	if err != nil {
		t.Fatal(err)
	}
	up := cluster.Endpoint{Addr: netip.MustParseAddrPort(server.Listener.Addr().String())}
	down := cluster.Endpoint{Addr: netip.MustParseAddrPort("127.0.0.1:1")}
	c.SetEndpoints([]cluster.Endpoint{up, down})
	usable := func() (n int) {
		for _, h := range c.Hosts().All {
			if h.Usable() {
				n++
			}
		}
		return n
	}
	if usable() != 0 {
		t.Error("hosts that were not checked are used")
	}
	set, _ := registry.HealthChecks("c")
	journal, ready := &lines{}, make(chan struct{})
	span := 5 * time.Millisecond
	k := Start(t.Context(), c, &Config{Timeout: time.Second, Interval: span, NoTrafficInterval: span, UnhealthyThreshold: 1, HealthyThreshold: 1,
		Probe: &HTTP{Path: "/"}, Events: []cluster.Journal{journal}}, set, new(net.Dialer).DialContext, func() { close(ready) })
	<-ready
	if got := usable(); got != 1 {
		t.Errorf("%d hosts are used after the first round, want 1", got)
	}
	if got := set.Healthy.Value(); got != 1 {
		t.Errorf("health_check.healthy is %d, want 1", got)
	}
	c.SetEndpoints([]cluster.Endpoint{down})
	if got := len(c.Hosts().All); got != 2 {
		t.Errorf("%d hosts, want 2: one that passes stays", got)
	}
	well.Store(0)
	until(t, "the host that is not named goes when it fails", func() bool { return len(c.Hosts().All) == 1 })
	c.SetEndpoints([]cluster.Endpoint{up, down})
	well.Store(1)
	until(t, "it comes back", func() bool { return usable() == 1 })
	k.Close()
	well.Store(0)
	before := asked.Load()
	if usable() != 1 || asked.Load() != before {
		t.Error("checks go on after Close")
	}
	if got := set.Healthy.Value(); got != 0 {
		t.Errorf("health_check.healthy is %d after Close, want 0", got)
	}
	for _, want := range []string{`"add_healthy_event":{"first_check":true}`, `"eject_unhealthy_event":{"failure_type":"ACTIVE","http_status_code":503}`, `"failure_type":"NETWORK"`} {
		if !strings.Contains(journal.String(), want) {
			t.Errorf("%s was not told:\n%s", want, journal)
		}
	}
}

// A host that sends without end, or never, costs a bounded time and memory.
func TestAHostThatMisbehaves(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"endless body": func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
			for b := make([]byte, 64<<10); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		},
		"endless headers": func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n"))
			for {
				if _, err := c.Write([]byte("x: " + strings.Repeat("y", 1000) + "\r\n")); err != nil {
					return
				}
			}
		},
		"endless 100s": func(c net.Conn) {
			for {
				if _, err := c.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						serve(c)
					}()
				}
			}()
			registry := stats.NewRegistry(false)
			c, err := cluster.New(cluster.Config{Name: "c", Check: &cluster.CheckPolicy{}}, registry, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.SetEndpoints([]cluster.Endpoint{{Addr: netip.MustParseAddrPort(l.Addr().String())}})
			set, _ := registry.HealthChecks("c")
			ready := make(chan struct{})
			k := Start(context.Background(), c, &Config{Timeout: 300 * time.Millisecond, Interval: time.Hour, UnhealthyThreshold: 1, HealthyThreshold: 1,
				Probe: &HTTP{Path: "/"}}, set, new(net.Dialer).DialContext, func() { close(ready) })
			defer k.Close()
			<-ready
			if set.Failure.Value() != 1 {
				t.Error("the check did not fail")
			}
		})
	}
}

// Checks go on over one connection, unless each is to have its own.
func TestConnectionsOfChecks(t *testing.T) {
	for _, own := range []bool{false, true} {
		var asked, opened atomic.Int64
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				opened.Add(1)
			}
		}
		server.Start()
		registry := stats.NewRegistry(false)
		c, err := cluster.New(cluster.Config{Name: "c", Check: &cluster.CheckPolicy{}}, registry, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.SetEndpoints([]cluster.Endpoint{{Addr: netip.MustParseAddrPort(server.Listener.Addr().String())}})
		set, _ := registry.HealthChecks("c")
		span := time.Millisecond
		k := Start(t.Context(), c, &Config{Timeout: 10 * time.Second, Interval: span, NoTrafficInterval: span, UnhealthyThreshold: 1, HealthyThreshold: 1,
			Probe: &HTTP{Path: "/"}, NoReuse: own}, set, new(net.Dialer).DialContext, func() {})
		until(t, "five checks", func() bool { return asked.Load() >= 5 })
		k.Close()
		server.Close()
		if n := opened.Load(); own && n < 5 || !own && n != 1 {
			t.Errorf("NoReuse %v: 5 checks over %d connections", own, n)
		}
	}
}
