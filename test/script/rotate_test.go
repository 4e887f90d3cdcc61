//go:build linux

package script_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// Certificates of a few seconds rotate under load; neither new connections, nor
// one that stays, nor a WebSocket notices.
func TestCertificatesRotateUnderLoad(t *testing.T) {
	linux(t)
	const rotations = 20
	// Istio's own way to ask for short lifetimes.
	app := deployment("web", httpbinImage) + service("web", 80, 80) + gateway80 + `
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    defaultConfig: {proxyMetadata: {SECRET_TTL: 4s}}
`
	m := mesh.Up(t, mesh.Options{Name: "rotate", Paths: []string{dirOf(t, map[string]string{"app.yaml": app})}})
	c := mesh.Client(5 * time.Second)
	mesh.Until(t, 10*time.Second, "an answer", func() error {
		a, err := mesh.Get(c, m.URL("/get"))
		if err == nil {
			err = mesh.OK(a)
		}
		return err
	})
	certificate := func() string {
		r := m.Exec("deploy/web", "istio-proxy", append(append([]string{}, curl...), "-sS", "localhost:15000/certs")...)
		serials := serialNumber.FindAllString(r.Out, -1)
		if len(serials) == 0 {
			t.Fatalf("no serial numbers in /certs: %s", r)
		}
		return strings.Join(serials, " ")
	}

	fresh := mesh.Steady(m.URL("/status/200"), 200, mesh.OK, "connection: close")
	keep := openLong(t, m)
	socket := openWebSocket(t, m)
	seen := map[string]bool{}
	mesh.Until(t, 90*time.Second, fmt.Sprintf("%d certificates", rotations+1), func() error {
		// Connections between gateway and sidecar are made anew when the certificate
		// is; the long ones must stay.
		if err := keep.ask(); err != nil {
			t.Fatalf("the long connection after %d rotations: %v", len(seen), err)
		}
		if err := socket.echo(fmt.Sprintf("%d", len(seen))); err != nil {
			t.Fatalf("the WebSocket after %d rotations: %v", len(seen), err)
		}
		seen[certificate()] = true
		if n := fresh.Failed(); n > 0 {
			t.Fatalf("after %d rotations: %v", len(seen), fresh.Stop())
		}
		if len(seen) <= rotations {
			return fmt.Errorf("%d seen", len(seen))
		}
		return nil
	})
	if err := fresh.Stop(); err != nil {
		t.Error(err)
	}
}

var serialNumber = regexp.MustCompile(`"serial_number": *"[^"]+"`)

// A longConn is one HTTP/1.1 connection that is used for many requests.
type longConn struct {
	c net.Conn
	r *bufio.Reader
}

func openLong(t *testing.T, m *mesh.Mesh) *longConn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.Port(80)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &longConn{c, bufio.NewReader(c)}
}

func (l *longConn) ask() error {
	_ = l.c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(l.c, "GET /status/200 HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(l.r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != 200 || resp.Close {
		return fmt.Errorf("status %s, close %v", resp.Status, resp.Close)
	}
	return nil
}

type webSocket struct{ longConn }

func openWebSocket(t *testing.T, m *mesh.Mesh) *webSocket {
	t.Helper()
	s := &webSocket{*openLong(t, m)}
	_ = s.c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(s.c, "GET /websocket/echo HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	resp, err := http.ReadResponse(s.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("WebSocket: %+v, %v", resp, err)
	}
	return s
}

func (s *webSocket) echo(text string) error {
	_ = s.c.SetDeadline(time.Now().Add(5 * time.Second))
	frame := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
	if _, err := s.c.Write(frame); err != nil {
		return err
	}
	want := append([]byte{0x81, byte(len(text))}, text...)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s.r, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("echo of %q is % x", text, got)
	}
	return nil
}
