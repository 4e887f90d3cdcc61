//go:build linux

package script_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/mallamesh/malla/test/script/mesh"
)

// The names that this machine's resolver knows besides its usual ones.
const (
	outsideHost  = "shop.outside.test"
	outsideAlias = "www.outside.test"
)

// outsideAddress is an IPv4 address of this machine that is not loopback, where a
// server stands for one on the Internet; "" if the machine has none.
func outsideAddress() string {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

// withResolver returns a program that is malla on a machine whose /etc/resolv.conf
// names a DNS server of this test: it changes that file in a mount namespace of its
// own. Without root, malla as it is.
func withResolver(t *testing.T) string {
	t.Helper()
	bin := mesh.Binary(t)
	if os.Getuid() != 0 || outsideAddress() == "" {
		return bin
	}
	pid := os.Getpid()
	address := fmt.Sprintf("127.53.%d.%d", pid>>8&0xff, pid&0xff) // the port is fixed: 53
	packets, err := net.ListenPacket("udp", address+":53")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(answerOutside)}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { packets.Close() })
	dir := t.TempDir()
	conf, program := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "malla")
	write(t, conf, "nameserver "+address+"\n")
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind %s /etc/resolv.conf && exec %s \"$@\"' malla \"$@\"\n", conf, bin), 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

func answerOutside(w dns.ResponseWriter, q *dns.Msg) {
	a := new(dns.Msg).SetReply(q)
	head := func(name string, typ uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET, Ttl: 60}
	}
	name := strings.ToLower(q.Question[0].Name)
	if name == outsideAlias+"." {
		a.Answer = append(a.Answer, &dns.CNAME{Hdr: head(name, dns.TypeCNAME), Target: outsideHost + "."})
		name = outsideHost + "."
	}
	switch {
	case name != outsideHost+"." && name != "httpbin.org.":
		a.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA:
		a.Answer = append(a.Answer, &dns.A{Hdr: head(name, dns.TypeA), A: net.ParseIP(outsideAddress())})
	}
	_ = w.WriteMsg(a)
}

// outsideServer is a server on the Internet, and its port.
func outsideServer(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", outsideAddress()+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/delay/") {
			select {
			case <-time.After(5 * time.Second):
			case <-r.Context().Done():
			}
		}
		fmt.Fprintf(w, "outside, asked for %s", r.Host)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// What the mesh does not know is asked of the machine's own resolver, by every pod.
func (h httpbin) outside(t *testing.T) {
	if h.Bin == mesh.Binary(t) {
		t.Skip("a DNS server on port 53 needs root, and a server outside needs a network")
	}
	port := outsideServer(t)
	for _, name := range []string{outsideHost, outsideAlias} {
		url, want := fmt.Sprintf("http://%s:%d/", name, port), fmt.Sprintf("outside, asked for %s:%d", name, port)
		if got := h.status(url); got != fmt.Sprintf("200 %q", want) {
			t.Errorf("%s with a sidecar: %s", name, got)
		}
		if r := h.ExecIn("legacy", "deploy/sleep", "sleep", "curl", "-sS", url); r.Out != want {
			t.Errorf("%s without: %s", name, r)
		}
	}
	if r := h.Exec("deploy/sleep", "sleep", "getent", "ahostsv4", outsideHost); !strings.HasPrefix(r.Out, outsideAddress()+" ") {
		t.Errorf("getent: %s", r)
	}
	if r := h.curl("--connect-timeout", "5", "http://nobody.outside.test/"); r.Code != 6 {
		t.Errorf("a name that nobody has: %s, want exit 6", r)
	}
	h.LogLine("app=sleep", "istio-proxy", []string{fmt.Sprintf(` "%s:%d" PassthroughCluster `, outsideAddress(), port)})

	// The egress task, on the port of this server.
	task := strings.ReplaceAll(sample(t, "bookinfo", "tasks", "egress.yaml"), "number: 80", fmt.Sprintf("number: %d", port))
	h.Apply(task)
	defer h.Delete(task)
	h.until(t, `504 "upstream request timeout"`, fmt.Sprintf("http://httpbin.org:%d/delay/5", port))
	h.LogLine("app=sleep", "istio-proxy", []string{" 504 UT ", fmt.Sprintf(" outbound|%d||httpbin.org ", port)})
}

// Where MeshConfig says REGISTRY_ONLY, a pod with a sidecar reaches what has an
// entry and nothing else.
func (h httpbin) registryOnly(t *testing.T) {
	port := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "my machine") }))
	url := fmt.Sprintf("http://host.malla.internal:%d/", port)
	h.until(t, `200 "my machine"`, url)
	defer h.meshConfig(t, "accessLogFile: /dev/stdout\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}")()

	mesh.Until(t, 5*time.Second, "a port that no service has: refused", func() error {
		if r := h.curl("--max-time", "3", url); r.Code != 56 && r.Code != 52 {
			return fmt.Errorf("%s, want exit 52 or 56", r)
		}
		return nil
	})
	h.LogLine("app=sleep", "istio-proxy", []string{" UH ", " BlackHoleCluster "})
	// Port 8000 is httpbin's: its table knows the host or answers.
	h.until(t, `502 ""`, "-H", "Host: example.com", "http://"+h.Field("service/httpbin", ".spec.clusterIP")+":8000/")
	h.until(t, `200 ""`, "-o", "/dev/null", "httpbin:8000/get")
	if r := h.ExecIn("legacy", "deploy/sleep", "sleep", "curl", "-sS", url); r.Out != "my machine" {
		t.Errorf("without a sidecar: %s", r)
	}

	entry := fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: my-machine}
spec:
  hosts: [host.malla.internal]
  ports: [{number: %d, name: http, protocol: HTTP}]
  resolution: DNS
  location: MESH_EXTERNAL
`, port)
	h.Apply(entry)
	defer h.Delete(entry)
	h.until(t, `200 "my machine"`, url)
}

// meshConfig replaces MeshConfig; what it returns brings the old one back.
func (h httpbin) meshConfig(t *testing.T, text string) (restore func()) {
	t.Helper()
	old := h.Must("get", "configmap", "istio", "-n", "istio-system", "-o", `jsonpath={.data.mesh}`)
	set := func(text string) {
		indented := "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
		h.Apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n" + indented + "\n")
	}
	set(text)
	return func() { set(old) }
}
