// Package hop runs malla-proxy, or the real Envoy, between the clients and servers of a test.
//
// A [Hop] is a way through it: a listener and a cluster. What a test is about stands in the fields of the hop;
// all else is as a bootstrap of Envoy's has it.
package hop

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// A Hop is a way through a proxy: a listener and a cluster of its own.
type Hop struct {
	Name    string
	TLS     bool   // downstream
	Mutual  bool   // a client certificate is wanted
	To      string // the upstream's address
	ToH2    bool   // the upstream speaks HTTP/2
	ToTLS   bool   // the upstream speaks TLS, and is shown our certificate
	HCM     string // more fields of the connection manager, a line each
	H2      string // fields of its http2_protocol_options
	Cluster string // more fields of the cluster, a line each
}

// A Proxy is a running one.
type Proxy struct {
	*process.Process
	Admin string
	At    map[string]string // addresses of the hops' listeners
}

// Host is an address of this process's own, so that ports that were free stay so.
var Host = fmt.Sprintf("127.%d.%d.%d", 220+os.Getpid()>>14&15, os.Getpid()>>7&127, 1+os.Getpid()&127)

// Plain dials without TLS, where a transport of HTTP/2 would expect it.
func Plain(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// given are the addresses that Free has returned: the system soon gives a port again that nobody has taken yet.
var given sync.Map

// Free returns an address that nobody listens on, and never the same twice.
func Free(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", Host+":0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if _, before := given.LoadOrStore(l.Addr().String(), true); !before {
			return l.Addr().String()
		}
	}
}

// Serve listens on a free address until the test ends.
func Serve(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", Host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// PKI makes the certificates of a test.
func PKI(t testing.TB) *peer.PKI {
	t.Helper()
	p, err := peer.NewPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Malla runs malla-proxy with some hops.
func Malla(t testing.TB, p *peer.PKI, hops ...Hop) *Proxy {
	t.Helper()
	return Run(t, process.Proxy(t), nil, p, hops...)
}

// Run runs a proxy with some hops until the test ends.
func Run(t testing.TB, binary string, flags []string, p *peer.PKI, hops ...Hop) *Proxy {
	t.Helper()
	x := &Proxy{Admin: Free(t), At: map[string]string{}}
	x.start(t, binary, flags, x.bootstrap(t, p, hops))
	return x
}

// Configured runs malla-proxy with a bootstrap's text, to which the section admin is added.
func Configured(t testing.TB, flags []string, text string) *Proxy {
	t.Helper()
	x := &Proxy{Admin: Free(t)}
	x.start(t, process.Proxy(t), flags, "admin: {address: "+Socket(x.Admin)+"}\n"+text)
	return x
}

// start runs the proxy until the test ends.
func (x *Proxy) start(t testing.TB, binary string, flags []string, bootstrap string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(file, []byte(bootstrap), 0o600); err != nil {
		t.Fatal(err)
	}
	x.Process = process.Start(t, binary, append([]string{"-c", file, "--log-level", "warning", "--drain-time-s", "2"}, flags...)...)
	mesh.Until(t, 20*time.Second, "the proxy being ready", func() error {
		select {
		case <-x.Done:
			t.Fatalf("the proxy has ended:\n%s", x.Log())
		default:
		}
		text, err := peer.Ask(x.Admin, "/ready")
		if err == nil && !strings.HasPrefix(text, "LIVE") {
			err = fmt.Errorf("it says %s", text)
		}
		return err
	})
}

// Stat is a counter or gauge; -1 if there is none of that name.
func (x *Proxy) Stat(t testing.TB, name string) int64 {
	t.Helper()
	text, err := peer.Ask(x.Admin, "/stats")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(l, name+": "); ok {
			var n int64
			if _, err := fmt.Sscan(v, &n); err != nil {
				t.Fatalf("%s: %v", l, err)
			}
			return n
		}
	}
	return -1
}

// bootstrap writes the configuration.
func (x *Proxy) bootstrap(t testing.TB, p *peer.PKI, hops []Hop) string {
	var listeners, clusters strings.Builder
	for _, h := range hops {
		x.At[h.Name] = Free(t)
		listeners.WriteString(h.listener(x.At[h.Name], p))
		clusters.WriteString(h.upstream(p))
	}
	return fmt.Sprintf("admin:\n  address: %s\nstatic_resources:\n  listeners:\n%s  clusters:\n%s", Socket(x.Admin), listeners.String(), clusters.String())
}

// Socket is an address as Envoy's API has it.
func Socket(address string) string {
	ip, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("{socket_address: {address: %s, port_value: %s}}", ip, port)
}

func indent(by int, text string) string {
	if text == "" {
		return ""
	}
	pad := strings.Repeat(" ", by)
	return pad + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+pad) + "\n"
}

func (h *Hop) listener(at string, p *peer.PKI) string {
	return fmt.Sprintf(`  - name: %s
    address: %s
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: %s
          upgrade_configs: [{upgrade_type: websocket}]
          http_protocol_options: {enable_trailers: true}
          http2_protocol_options: {%s}
%s          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: %s, timeout: 0s}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
%s`, h.Name, Socket(at), h.Name, h.H2, indent(10, h.HCM), h.Name, h.secured(p))
}

func (h *Hop) secured(p *peer.PKI) string {
	if !h.TLS {
		return ""
	}
	trust := ""
	if h.Mutual {
		trust = fmt.Sprintf("\n            validation_context: {trusted_ca: {filename: %s/ca.pem}}", p.Dir)
	}
	return fmt.Sprintf(`      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: %v
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [{certificate_chain: {filename: %s/server.pem}, private_key: {filename: %s/server-key.pem}}]%s
`, h.Mutual, p.Dir, p.Dir, trust)
}

func (h *Hop) upstream(p *peer.PKI) string {
	protocol := "http_protocol_options: {enable_trailers: true}"
	if h.ToH2 {
		protocol = "http2_protocol_options: {allow_connect: true}"
	}
	text := fmt.Sprintf(`  - name: %s
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {%s}
    load_assignment:
      cluster_name: %s
      endpoints: [{lb_endpoints: [{endpoint: {address: %s}}]}]
%s`, h.Name, protocol, h.Name, Socket(h.To), indent(4, h.Cluster))
	if h.ToTLS {
		text += fmt.Sprintf(`    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: server.example
        common_tls_context:
          tls_certificates: [{certificate_chain: {filename: %s/client.pem}, private_key: {filename: %s/client-key.pem}}]
          validation_context: {trusted_ca: {filename: %s/ca.pem}}
`, p.Dir, p.Dir, p.Dir)
	}
	return text
}
