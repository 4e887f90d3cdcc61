package peers

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(interopCase); name != "" {
		os.Exit(interop(name))
	}
	code := m.Run()
	process.Clean()
	os.Exit(code)
}

// A hop is a way through a proxy: a listener and a cluster of its own.
type hop struct {
	name    string
	tls     bool   // downstream
	mutual  bool   // a client certificate is wanted
	to      string // the upstream's address
	toH2    bool   // the upstream speaks HTTP/2
	toTLS   bool   // the upstream speaks TLS, and is shown our certificate
	hcm     string // more fields of the connection manager, a line each
	h2      string // fields of its http2_protocol_options
	cluster string // more fields of the cluster, a line each
}

// A proxy is a running one.
type proxy struct {
	*process.Process
	admin string
	at    map[string]string // addresses of the hops' listeners
}

// host is an address of this process's own, so that ports that were free stay so.
var host = fmt.Sprintf("127.%d.%d.%d", 220+os.Getpid()>>14&15, os.Getpid()>>7&127, 1+os.Getpid()&127)

// plain dials without TLS, where a transport of HTTP/2 would expect it.
func plain(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// free returns an address that nobody listens on.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func serve(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func pki(t testing.TB) *peer.PKI {
	t.Helper()
	p, err := peer.NewPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// malla runs malla-proxy with some hops.
func malla(t testing.TB, p *peer.PKI, hops ...hop) *proxy {
	t.Helper()
	return run(t, process.Proxy(t), nil, p, hops...)
}

// run runs a proxy until the test ends.
func run(t testing.TB, binary string, flags []string, p *peer.PKI, hops ...hop) *proxy {
	t.Helper()
	x := &proxy{admin: free(t), at: map[string]string{}}
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(file, []byte(x.bootstrap(t, p, hops)), 0o600); err != nil {
		t.Fatal(err)
	}
	x.Process = process.Start(t, binary, append([]string{"-c", file, "--log-level", "warning", "--drain-time-s", "2"}, flags...)...)
	mesh.Until(t, 20*time.Second, "the proxy being ready", func() error {
		select {
		case <-x.Done:
			t.Fatalf("the proxy has ended:\n%s", x.Log())
		default:
		}
		text, err := peer.Ask(x.admin, "/ready")
		if err == nil && !strings.HasPrefix(text, "LIVE") {
			err = fmt.Errorf("it says %s", text)
		}
		return err
	})
	return x
}

// stat is a counter or gauge; -1 if there is none of that name.
func (x *proxy) stat(t testing.TB, name string) int64 {
	t.Helper()
	text, err := peer.Ask(x.admin, "/stats")
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
func (x *proxy) bootstrap(t testing.TB, p *peer.PKI, hops []hop) string {
	var listeners, clusters strings.Builder
	for _, h := range hops {
		x.at[h.name] = free(t)
		listeners.WriteString(h.listener(x.at[h.name], p))
		clusters.WriteString(h.upstream(p))
	}
	return fmt.Sprintf("admin:\n  address: %s\nstatic_resources:\n  listeners:\n%s  clusters:\n%s", socket(x.admin), listeners.String(), clusters.String())
}

func socket(address string) string {
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

func (h *hop) listener(at string, p *peer.PKI) string {
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
%s`, h.name, socket(at), h.name, h.h2, indent(10, h.hcm), h.name, h.secured(p))
}

func (h *hop) secured(p *peer.PKI) string {
	if !h.tls {
		return ""
	}
	trust := ""
	if h.mutual {
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
`, h.mutual, p.Dir, p.Dir, trust)
}

func (h *hop) upstream(p *peer.PKI) string {
	protocol := "http_protocol_options: {enable_trailers: true}"
	if h.toH2 {
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
%s`, h.name, protocol, h.name, socket(h.to), indent(4, h.cluster))
	if h.toTLS {
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
