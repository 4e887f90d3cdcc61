//go:build linux

package script_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

const stickyApp = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: test2}
spec:
  replicas: 2
  selector: {matchLabels: {app: test2}}
  template:
    metadata: {labels: {app: test2}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: app, image: "gcr.io/google-samples/hello-app:1.0", ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: test2-bwce-srv}
spec: {selector: {app: test2}, ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: default-gw}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: test-vs}
spec: {hosts: [test.com], gateways: [default-gw], http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: test2-bwce-srv, port: {number: 8080}}}]}]}
`

type traffic struct{ *mesh.Mesh }

// TestTraffic is what teams try of traffic management first, besides routes: clients that stay with one pod, and ways out
// of the mesh with TLS that somebody else ends, or that the proxy begins.
func TestTraffic(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"app.yaml": stickyApp + sleeper("client", "")})
	m := mesh.Up(t, mesh.Options{Name: "traffic", Publish: []int{80}, Paths: []string{dir}, Flags: []string{"--inject"}})
	run := func(name string, f func(traffic, *testing.T)) {
		t.Run(name, func(t *testing.T) { f(traffic{m.In(t)}, t) })
	}
	run("a client stays with one pod", traffic.sticky)
	run("TLS goes out as it is, where an entry allows it", traffic.passthrough)
	run("the proxy begins TLS for an application that does not", traffic.origination)
}

// pods asks n times, each time on a connection of its own, and returns how often each pod has answered, and what
// cookies were set: what a proxy puts into one follows from the connection's addresses.
func (m traffic) pods(n int, path string, header ...string) (hosts map[string]int, cookies []string, err error) {
	var mu sync.Mutex
	hosts = mesh.Count(n, 2, func(c *http.Client) (string, error) {
		defer c.CloseIdleConnections()
		a, err := mesh.Get(c, m.URL(path), append([]string{"Host: test.com"}, header...)...)
		if err != nil {
			return "", err
		}
		if set := a.Header.Get("set-cookie"); set != "" {
			mu.Lock()
			cookies = append(cookies, set)
			mu.Unlock()
		}
		_, host, ok := strings.Cut(a.Body, "Hostname: ")
		if a.Status != 200 || !ok {
			return "", fmt.Errorf("%d %q", a.Status, a.Body)
		}
		return strings.TrimSpace(host), nil
	})
	for host := range hosts {
		if !strings.HasPrefix(host, "test2-") {
			return hosts, cookies, fmt.Errorf("answers %v", hosts)
		}
	}
	return hosts, cookies, nil
}

func (m traffic) sticky(t *testing.T) {
	rule := func(hash string) string {
		return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: default-sticky-dr}\nspec: {host: test2-bwce-srv, trafficPolicy: {loadBalancer: {consistentHash: {%s}}}}\n", hash)
	}
	defer m.Run("delete", "destinationrule", "default-sticky-dr")
	// Each row: requests that are alike go to one pod; those that differ (or, for a cookie, bring none) to both.
	for _, algorithm := range []string{"ringHash: {minimumRingSize: 1024}", "maglev: {tableSize: 65537}"} {
		m.Apply(rule("httpCookie: {name: ISTIOID, ttl: 60s}, " + algorithm))
		var cookie string
		mesh.Until(t, 5*time.Second, algorithm+": a first answer sets the cookie", func() error {
			_, set, err := m.pods(1, "/")
			if err != nil || len(set) != 1 || !strings.HasPrefix(set[0], `ISTIOID="`) || !strings.HasSuffix(set[0], `"; Max-Age=60; HttpOnly`) {
				return fmt.Errorf("%q, %v", set, err)
			}
			cookie, _, _ = strings.Cut(set[0], ";")
			return nil
		})
		if hosts, set, err := m.pods(50, "/", "Cookie: "+cookie); err != nil || len(hosts) != 1 || len(set) > 0 {
			t.Errorf("%s, 50 requests with the cookie: %v, cookies %q, %v, want one pod and no cookie", algorithm, hosts, set, err)
		}
		if hosts, set, err := m.pods(40, "/"); err != nil || len(hosts) != 2 || len(set) != 40 {
			t.Errorf("%s, 40 without: %v, %d cookies, %v, want both pods", algorithm, hosts, len(set), err)
		}
		for _, key := range []struct{ hash, path, header string }{
			{"httpHeaderName: x-user", "/", "x-user: %d"}, {"httpQueryParameterName: user", "/?user=%d", ""},
		} {
			m.Apply(rule(key.hash + ", " + algorithm))
			ask := func(user, n int) (map[string]int, []string, error) {
				path, header := key.path, []string{}
				if key.header != "" {
					header = append(header, fmt.Sprintf(key.header, user))
				} else {
					path = fmt.Sprintf(path, user)
				}
				return m.pods(n, path, header...)
			}
			mesh.Until(t, 5*time.Second, key.hash+", "+algorithm, func() error {
				seen := map[string]bool{}
				for user := range 40 { // that all of them are with one pod chance shows once in 10^11 times
					hosts, set, err := ask(user, 2)
					if err != nil || len(hosts) != 1 || len(set) > 0 {
						return fmt.Errorf("user %d: %v, cookies %q, %v, want one pod and no cookie", user, hosts, set, err)
					}
					for h := range hosts {
						seen[h] = true
					}
				}
				if len(seen) != 2 {
					return fmt.Errorf("forty users are with %v, want both pods", seen)
				}
				return nil
			})
		}
		m.Apply(rule("useSourceIp: true, " + algorithm))
		mesh.Until(t, 5*time.Second, "useSourceIp, "+algorithm, func() error {
			if hosts, set, err := m.pods(40, "/"); err != nil || len(hosts) != 1 || len(set) > 0 {
				return fmt.Errorf("%v, cookies %q, %v, want one pod and no cookie", hosts, set, err)
			}
			return nil
		})
	}
}

// secureServer is a server outside of the mesh that speaks TLS with this certificate, and says what name it was asked for.
func secureServer(t *testing.T, k *keyPair) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{k.pair}}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "TLS for %s, host %s", r.TLS.ServerName, r.Host)
	})}
	go func() { _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { s.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func (m traffic) curl(args ...string) mesh.Result {
	return m.Exec("deploy/client", "client", append(append([]string{}, curl...), append([]string{"-sS", "--max-time", "5", "-w", " %{http_code}"}, args...)...)...)
}

// passthrough: what a wildcard entry names goes to where the application dials, and nobody but the server ends its TLS.
func (m traffic) passthrough(t *testing.T) {
	k := newKeyPair(t, "outside")
	port := secureServer(t, k)
	defer httpbin(m).meshConfig(t, "accessLogFile: /dev/stdout\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}")()
	ask := func(host string) mesh.Result {
		return m.curl("-k", "--resolve", fmt.Sprintf("%s:%d:%s", host, port, hostAddress), fmt.Sprintf("https://%s:%d/", host, port))
	}
	refused := func() error {
		if r := ask("es.example.com"); r.Code != 35 && r.Code != 56 {
			return fmt.Errorf("%s, want a refused connection", r)
		}
		return nil
	}
	mesh.Until(t, 10*time.Second, "without an entry", refused)
	m.LogLine("app=client", "istio-proxy", []string{" UH ", " BlackHoleCluster "})
	entry := fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: external-svc-redirect}
spec:
  hosts: [example.com, "*.example.com"]
  location: MESH_EXTERNAL
  ports: [{number: %d, name: https, protocol: TLS}]
  resolution: NONE
`, port)
	m.Apply(entry)
	mesh.Until(t, 5*time.Second, "with an entry", func() error {
		if r := ask("es.example.com"); r.Out != fmt.Sprintf("TLS for es.example.com, host es.example.com:%d 200", port) {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	m.LogLine("app=client", "istio-proxy", []string{fmt.Sprintf("outbound|%d||*.example.com", port), " es.example.com "})
	if r := ask("example.org"); r.Code != 35 && r.Code != 56 {
		t.Errorf("a host that no entry names: %s, want a refused connection", r)
	}
	m.Delete(entry)
	mesh.Until(t, time.Second, "the entry is gone", refused)
}

// origination: the application speaks plain HTTP, the server sees TLS for the right name, and one that cannot prove it is
// not spoken to.
func (m traffic) origination(t *testing.T) {
	k, other := newKeyPair(t, "outside"), newKeyPair(t, "other")
	port, wrong := secureServer(t, k), secureServer(t, other)
	entry := func(name string, port int) string {
		return fmt.Sprintf(`
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s.example.com]
  location: MESH_EXTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: %[2]d}]
  resolution: STATIC
  endpoints: [{address: %[3]s, ports: {http: %[2]d}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %[1]s}
spec:
  host: %[1]s.example.com
  workloadSelector: {matchLabels: {app: client}}
  trafficPolicy: {tls: {mode: SIMPLE, credentialName: outside-ca}}
`, name, port, hostAddress)
	}
	objects := strings.ReplaceAll(k.secret("outside-ca"), "istio-system", "default") + entry("wiki", port) + entry("wrong", wrong)
	m.Apply(objects)
	defer m.Delete(objects)
	ask := func(host string) mesh.Result { return m.curl("-H", "Host: "+host, "http://240.0.9.1/") }
	mesh.Until(t, 5*time.Second, "TLS for an application that speaks plain HTTP", func() error {
		if r := ask("wiki.example.com"); r.Out != "TLS for wiki.example.com, host wiki.example.com 200" {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if r := ask("wrong.example.com"); !strings.HasSuffix(r.Out, " 503") {
		t.Errorf("a server whose certificate nobody vouches for: %s, want 503", r)
	}
	m.LogLine("app=client", "istio-proxy", []string{" 503 URX,UF ", "outbound|80||wrong.example.com"})

	// With the port declared as TLS the proxy would speak TLS around TLS: the author is told, and how to do it.
	double := `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: double}
spec: {hosts: [double.example.com], location: MESH_EXTERNAL, ports: [{number: 443, name: https, protocol: HTTPS}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: double}
spec: {host: double.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}
`
	m.Apply(double)
	defer m.Delete(double)
	mesh.Until(t, 10*time.Second, "a finding about TLS in TLS", func() error {
		if r := m.Run("get", "destinationrule", "double", "-o", "yaml"); !strings.Contains(strings.Join(strings.Fields(r.Out), " "), "{number: 80, name: http, protocol: HTTP, targetPort: 443}") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
