//go:build linux

package script_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

const httpsGateway = `
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web-https}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, credentialName: web-credential}, hosts: [web.example.com]}
  - {port: {number: 443, name: mutual, protocol: HTTPS}, tls: {mode: MUTUAL, credentialName: web-credential}, hosts: [mutual.example.com]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web-https}
spec:
  hosts: ["*"]
  gateways: [web-https]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
`

// filesGateway names files that are not there.
const filesGateway = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: files}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE, serverCertificate: /nowhere/cert.pem, privateKey: /nowhere/key.pem}, hosts: [files.example.com]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: files}
spec: {hosts: [files.example.com], gateways: [files], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]}
`

const ingress = `
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: in, annotations: {nginx.ingress.kubernetes.io/rewrite-target: /$2}}
spec:
  ingressClassName: malla
  tls: [{hosts: [in.example.com], secretName: in-credential}]
  rules:
  - host: in.example.com
    http: {paths: [{path: "/in(/|$)(.*)", pathType: ImplementationSpecific, backend: {service: {name: web, port: {name: http}}}}]}
`

// A gateway that ends TLS: without its Secret it does not answer there and serves its
// other port; with it, it does within a second; a new one is on new connections, and
// those that are open stay.
func TestGatewayEndsTLS(t *testing.T) {
	linux(t)
	app := deployment("web", httpbinImage) + service("web", 80, 80) + gateway80 + httpsGateway
	m := mesh.Up(t, mesh.Options{Name: "https", Paths: []string{dirOf(t, map[string]string{"app.yaml": app})}, Publish: []int{80, 443}})
	https := &tlsClient{address: fmt.Sprintf("127.0.0.1:%d", m.Port(443))}
	plain := mesh.Client(5 * time.Second)

	mesh.Until(t, 10*time.Second, "port 80 without the Secret", func() error {
		a, err := mesh.Get(plain, m.URL("/get"))
		if err != nil {
			return err
		}
		return mesh.OK(a)
	})
	if c, err := https.dial("web.example.com", nil); err == nil {
		c.Close()
		t.Error("a handshake without a certificate")
	}
	mesh.Until(t, 10*time.Second, "the Gateway names the Secret that is missing", func() error {
		if r := m.Run("get", "gateway", "web-https", "-o", "yaml"); !strings.Contains(r.Out, "there is no Secret istio-system/web-credential") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})

	// What only the proxy can find out stands on the object, too.
	m.Apply(filesGateway)
	mesh.Until(t, 10*time.Second, "the Gateway says that the proxy cannot read the file", func() error {
		if r := m.Run("get", "gateways.networking.istio.io", "files", "-o", "yaml"); !strings.Contains(r.Out, "/nowhere/cert.pem: no such file") || !strings.Contains(r.Out, "the proxy istio-ingressgateway-") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	m.Delete(filesGateway)

	first := newKeyPair(t, "first")
	m.Apply(first.secret("web-credential"))
	var open *openConn
	mesh.Until(t, 5*time.Second, "an answer over TLS", func() (err error) {
		open, err = https.open("web.example.com", first)
		return err
	})
	if err := open.ask("web.example.com", 200); err != nil {
		t.Fatal(err)
	}

	second := newKeyPair(t, "second")
	m.Apply(second.secret("web-credential"))
	applied := time.Now()
	mesh.Until(t, 5*time.Second, "the new certificate", func() error {
		c, err := https.open("web.example.com", second)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		return c.ask("web.example.com", 200)
	})
	t.Logf("a new certificate %s after it was applied", time.Since(applied))
	if err := open.ask("web.example.com", 200); err != nil {
		t.Errorf("the connection that was open: %v", err)
	}

	t.Run("a host of another server is misdirected", func(t *testing.T) {
		for host, want := range map[string]int{"web.example.com": 200, "mutual.example.com": 421, "other.example.com": 421} {
			if got, err := https.overHTTP2("web.example.com", host, second); err != nil || got != want {
				t.Errorf("%s over a connection for web.example.com: %d, %v, want %d", host, got, err, want)
			}
		}
	})
	t.Run("only clients with a certificate of the roots are let in", func(t *testing.T) {
		c, err := https.open("mutual.example.com", second, second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		if err := c.ask("mutual.example.com", 200); err != nil {
			t.Error(err)
		}
		if c, err := https.open("mutual.example.com", second); err == nil && c.ask("mutual.example.com", 200) == nil {
			t.Error("one without is let in")
		}
		if c, err := https.open("mutual.example.com", second, first); err == nil && c.ask("mutual.example.com", 200) == nil {
			t.Error("one of other roots is let in")
		}
	})
	t.Run("the key is nowhere to be seen", func(t *testing.T) {
		seen := m.Log() + m.ExecIn("istio-system", "deploy/istio-ingressgateway", "istio-proxy", append(append([]string{}, curl...), "-sS", "localhost:15000/config_dump?include_eds")...).Out
		if body := strings.Split(string(second.key), "\n")[1]; strings.Contains(seen, body) || strings.Contains(seen, base64.StdEncoding.EncodeToString(second.key)[:80]) {
			t.Error("the private key is in a log or a dump")
		}
	})
	t.Run("an Ingress beside it, with a certificate of its own namespace", func(t *testing.T) {
		third := newKeyPair(t, "third")
		m.Apply(strings.ReplaceAll(third.secret("in-credential"), "istio-system", "default") + ingress)
		mesh.Until(t, 5*time.Second, "an answer over TLS", func() error {
			c, err := https.open("in.example.com", third)
			if err != nil {
				return err
			}
			defer c.conn.Close()
			return c.get("/in/get", "in.example.com", 200)
		})
		mesh.Until(t, 5*time.Second, "where it is served", func() error {
			if got := strings.Join(strings.Fields(m.Must("get", "ingress", "in", "--no-headers")), " "); !strings.HasPrefix(got, "in malla in.example.com 127.0.0.1 80, 443 ") {
				return fmt.Errorf("%q", got)
			}
			return nil
		})
		for path, want := range map[string]int{"/in/status/418": 418, "/IN/get": 200, "/inside": 404} {
			a, err := mesh.Get(plain, m.URL(path), "Host: in.example.com")
			if err != nil || a.Status != want {
				t.Errorf("%s: %d, %v, want %d", path, a.Status, err, want)
			}
		}
	})
	m.Run("delete", "secret", "-n", "istio-system", "web-credential")
	mesh.Until(t, 10*time.Second, "a finding, and the last certificate", func() error {
		if r := m.Run("get", "gateway", "web-https", "-o", "yaml"); !strings.Contains(r.Out, "there is no Secret") {
			return fmt.Errorf("%s", r)
		}
		c, err := https.open("web.example.com", second)
		if err == nil {
			c.conn.Close()
		}
		return err
	})
}

// A keyPair is a certificate that is its own root.
type keyPair struct {
	cert, key []byte
	pair      tls.Certificate
}

func newKeyPair(t *testing.T, name string) *keyPair {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"*.example.com"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	k := &keyPair{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})}
	if k.pair, err = tls.X509KeyPair(k.cert, k.key); err != nil {
		t.Fatal(err)
	}
	return k
}

// secret is the Secret that holds the pair, and the certificate as the root of clients.
func (k *keyPair) secret(name string) string {
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: %s, namespace: istio-system}\ndata: {tls.crt: %s, tls.key: %s, ca.crt: %[2]s}\n", name, text(k.cert), text(k.key))
}

// A tlsClient makes TLS connections to one address.
type tlsClient struct{ address string }

// dial makes one for the name, to a server whose certificate is that of the pair.
func (c *tlsClient) dial(name string, server *keyPair, client ...*keyPair) (*tls.Conn, error) {
	config := &tls.Config{ServerName: name, RootCAs: x509.NewCertPool(), NextProtos: []string{"http/1.1"}}
	if server != nil {
		config.RootCAs.AppendCertsFromPEM(server.cert)
	}
	for _, k := range client {
		config.Certificates = append(config.Certificates, k.pair)
	}
	return tls.DialWithDialer(&net.Dialer{Timeout: 2 * time.Second}, "tcp", c.address, config)
}

// overHTTP2 asks for a host over a connection that was made for a name.
func (c *tlsClient) overHTTP2(name, host string, server *keyPair) (status int, err error) {
	config := &tls.Config{ServerName: name, RootCAs: x509.NewCertPool(), NextProtos: []string{"h2"}}
	config.RootCAs.AppendCertsFromPEM(server.cert)
	transport := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		return tls.DialWithDialer(&net.Dialer{Timeout: 2 * time.Second}, "tcp", c.address, config)
	}}
	defer transport.CloseIdleConnections()
	q, err := http.NewRequest("GET", "https://"+host+"/get", nil)
	if err != nil {
		return 0, err
	}
	a, err := transport.RoundTrip(q)
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	if a.ProtoMajor != 2 {
		return 0, fmt.Errorf("spoken is %s, want HTTP/2", a.Proto)
	}
	return a.StatusCode, nil
}

// An openConn is a connection for HTTP/1.1 that is used more than once.
type openConn struct {
	conn *tls.Conn
	r    *bufio.Reader
}

func (c *tlsClient) open(name string, server *keyPair, client ...*keyPair) (*openConn, error) {
	conn, err := c.dial(name, server, client...)
	if err != nil {
		return nil, err
	}
	return &openConn{conn, bufio.NewReader(conn)}, nil
}

func (c *openConn) ask(host string, want int) error { return c.get("/get", host, want) }

func (c *openConn) get(path, host string, want int) error {
	_ = c.conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
		return err
	}
	a, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		return err
	}
	if a.StatusCode != want {
		return fmt.Errorf("status %d, want %d", a.StatusCode, want)
	}
	return nil
}
