//go:build linux

package script_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	coder "github.com/coder/websocket"

	"github.com/mallamesh/malla/test/busy"
	"github.com/mallamesh/malla/test/script/mesh"
)

// envRelay makes this program the application in a pod: an echo, or, if it is a host, a server that passes everything on to
// it: what comes for /two by HTTP/2 to port 81, the rest by HTTP/1.1 to port 80. When it is told to end it answers what it has.
const envRelay = "MALLA_TEST_RELAY"

func relayServer(to string) {
	handler := http.HandlerFunc(echo)
	if to != "echo" {
		handler = passTo(to).ServeHTTP
	}
	var sockets sync.WaitGroup // a server does not wait for connections that have become something else
	s := &http.Server{Addr: ":8080", Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sockets.Add(1)
		defer sockets.Done()
		handler(w, r)
	})}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan struct{})
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	go func() {
		defer close(ended)
		<-told
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		sockets.Wait()
	}()
	if err := s.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-ended
}

// passTo returns a server that passes requests on.
func passTo(host string) http.Handler {
	pass := func(port string, two bool) http.Handler {
		to, _ := url.Parse("http://" + host + ":" + port)
		p := httputil.NewSingleHostReverseProxy(to)
		t := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 64}
		t.Protocols.SetHTTP1(!two)
		t.Protocols.SetUnencryptedHTTP2(two)
		p.Transport = t
		return p
	}
	one, two := pass("80", false), pass("81", true)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/two" {
			two.ServeHTTP(w, r)
			return
		}
		one.ServeHTTP(w, r)
	})
}

// echo answers with what it is sent, on a WebSocket too.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		_, _ = io.Copy(w, r.Body)
		return
	}
	ws, err := coder.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	for {
		kind, text, err := ws.Read(r.Context())
		if err != nil || ws.Write(r.Context(), kind, text) != nil {
			return
		}
	}
}

// relay is a Deployment and a Service with a relay.
func relay(name, to string) string {
	return strings.Replace(deployment(name, "example.com/relay",
		"        env: [{name: "+envRelay+", value: "+to+"}]",
		"        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}"), "terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 10", 1) + fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {selector: {app: %[1]s}, ports: [{name: http, port: 80, targetPort: 8080}, {name: http2, port: 81, targetPort: 8080}]}
`, name)
}

// A server, its client and the gateway are replaced one after the other, each with its proxy, which is told to end by
// SIGTERM, under 500 messages a second over kept connections of HTTP/1.1 and HTTP/2 and over WebSockets: nobody notices.
func TestRollingUpdates(t *testing.T) {
	linux(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := dirOf(t, map[string]string{"app.yaml": relay("back", "echo") + "\n---\n" + relay("web", "back") + gateway80})
	m := mesh.Up(t, mesh.Options{Name: "rolling", Paths: []string{dir}, Flags: []string{"--inject", "--image", "example.com/relay=" + self}})
	one := mesh.Client(15 * time.Second)
	mesh.Until(t, 20*time.Second, "an answer of the server behind the server", func() error { return echoed(one, m.URL("/two"), "hello") })

	two := mesh.Client(15 * time.Second)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	two.Transport = &http.Transport{Protocols: protocols, DisableCompression: true}
	var n atomic.Int64
	begun := time.Now()
	load := map[string]*mesh.Load{"WebSockets": mesh.Every(2, func() error { return talk(m.URL("/"), 20) })}
	for name, c := range map[string]*http.Client{"HTTP/1.1": one, "HTTP/2": two} {
		load[name] = mesh.Every(230, func() error {
			i := n.Add(1)
			return echoed(c, m.URL([]string{"/", "/two"}[i%2]), fmt.Sprint(i))
		})
	}
	type workload struct {
		name, label string
		where       []string
	}
	for _, w := range []workload{{"back", "app=back", nil}, {"web", "app=web", nil}, {"istio-ingressgateway", "istio=ingressgateway", []string{"-n", "istio-system"}}} {
		before := m.Pods(w.label, w.where...)
		m.Must(append([]string{"rollout", "restart", "deployment", w.name}, w.where...)...)
		m.Rollout(w.name, w.where...)
		mesh.Until(t, 30*time.Second, "the old pod of "+w.name+" gone", func() error {
			now := m.Pods(w.label, w.where...)
			if len(now) != 1 || now[0] == before[0] {
				return fmt.Errorf("pods %v, before %v", now, before)
			}
			return nil
		})
	}
	took := busy.Free(begun, time.Now()).Seconds()
	for name, l := range load {
		if err := l.Stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		rate := float64(l.Sent()) / took
		t.Logf("%s: %d, %.0f a second that the machine had", name, l.Sent(), rate)
		if least := least[name]; rate < least {
			t.Errorf("%s: %.1f were sent a second, want at least %v", name, rate, least)
		}
	}
}

// least is how many of each a second that the machine had for everybody make it a load. They are told to be sent more often.
var least = map[string]float64{"HTTP/1.1": 100, "HTTP/2": 100, "WebSockets": 1}

// echoed has a text echoed.
func echoed(c *http.Client, at, text string) error {
	a, err := mesh.Do(c, http.MethodPost, at, text)
	if err == nil && (a.Status != 200 || a.Body != text) {
		err = fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	return err
}

// talk has a WebSocket carry so many texts to and fro, twenty a second.
func talk(at string, texts int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	ws, _, err := coder.Dial(ctx, "ws"+strings.TrimPrefix(at, "http"), nil)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := range texts {
		<-tick.C
		text := fmt.Sprint(i)
		if err := ws.Write(ctx, coder.MessageText, []byte(text)); err != nil {
			return err
		}
		if _, got, err := ws.Read(ctx); err != nil || string(got) != text {
			return fmt.Errorf("text %d: read %q, %w", i, got, err)
		}
	}
	return ws.Close(coder.StatusNormalClosure, "")
}
