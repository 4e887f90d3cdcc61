package redirect

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// patience bounds what must not hang.
const patience = 20 * time.Second

//go:embed testdata/proxy.yaml
var bootstrap string

// mark is what original_src gives connections to the server; the router lets no others out.
const mark = 7

// A way is how connections to a port of the server get into a proxy. Ports of the server say which.
type way struct {
	name string
	port int // of the server; the proxies add their base
}

var ways = []way{{"REDIRECT", 1}, {"TPROXY", 2}, {"TPROXY without conntrack", 3}, {"TPROXY to a TCP proxy", 4}}

// toSource leads by REDIRECT to the listener that has original_src. That works only by chance, as the two
// connections of a request may get one port and be one to conntrack; so it is for what must fail.
var toSource = way{"REDIRECT to original_src", 5}

// A proxy is one of those that are compared. Everything that is its own has a port at its base.
type proxy struct {
	name string
	base int // 15001: redirected, 15006: by TPROXY, 15000: admin, if it is 15000
}

var proxies = []proxy{{"malla", 15000}, {"Envoy", 16000}}

// Values of the configuration's template.
func (p proxy) Redirected() int  { return p.base + 1 }
func (p proxy) Transparent() int { return p.base + 6 }
func (p proxy) Admin() int       { return p.base }
func (p proxy) TCP() int         { return p.base + 100 + 4 }
func (proxy) Mark() int          { return mark }

// port is the server's port that leads to the proxy that way.
func (p proxy) port(w way) int { return p.base + 100 + w.port }

// start starts the proxy in further namespaces, if any, and does not wait for it.
func (p proxy) start(t *testing.T, config string, namespaces uintptr) *process.Process {
	t.Helper()
	program, args := "", []string{"-c", p.config(t, config)}
	switch p.name {
	case "malla":
		program = process.Proxy(t)
	case "Envoy":
		program, args = process.Envoy(t), append(args, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning")
	}
	return process.StartAs(t, apart(namespaces), program, args...)
}

func (p proxy) ready(t *testing.T, run *process.Process) {
	t.Helper()
	mesh.Until(t, 30*time.Second, p.name+" is ready", func() error {
		select {
		case <-run.Done:
			t.Fatalf("%s ended: %s", p.name, run.Log())
		default:
		}
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", p.Admin()))
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// config writes the proxy's configuration.
func (p proxy) config(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := template.Must(template.New("").Parse(text)).Execute(&b, p); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// redirects are the router's rules for REDIRECT.
func redirects() string {
	var b strings.Builder
	fmt.Fprintln(&b, "table inet redirects {\nchain in {\ntype nat hook prerouting priority dstnat;")
	for _, p := range proxies {
		fmt.Fprintf(&b, "iifname c0 tcp dport %d redirect to :%d\n", p.port(ways[0]), p.Redirected())
		fmt.Fprintf(&b, "iifname c0 tcp dport %d redirect to :%d\n", p.port(toSource), p.Transparent())
	}
	return b.String() + "}\n}\n"
}

// tproxies are the router's rules for TPROXY. Answers of the server to the client are the proxy's.
func tproxies() string {
	var b strings.Builder
	fmt.Fprintln(&b, "table inet tproxies {")
	for _, hook := range []string{"prerouting", "output"} {
		fmt.Fprintf(&b, "chain raw_%[1]s {\ntype filter hook %[1]s priority raw;\n", hook)
		for _, p := range proxies {
			fmt.Fprintf(&b, "tcp dport %[1]d notrack\ntcp sport %[1]d notrack\n", p.port(ways[2]))
		}
		fmt.Fprintln(&b, "}")
	}
	fmt.Fprintln(&b, "chain in {\ntype filter hook prerouting priority mangle;\niifname s0 meta l4proto tcp socket transparent 1 meta mark set 1 accept")
	for _, p := range proxies {
		fmt.Fprintf(&b, "iifname c0 tcp dport %d-%d meta mark set 1 tproxy to :%d accept\n", p.port(ways[1]), p.port(ways[3]), p.Transparent())
	}
	fmt.Fprintln(&b, "}\nchain out {\ntype filter hook output priority filter;")
	for _, p := range proxies {
		fmt.Fprintf(&b, "oifname s0 tcp dport %d-%d meta mark != %d drop\n", p.port(ways[1]), p.port(ways[3]), mark)
	}
	return b.String() + "}\n}\n"
}

// rules gives the router rules, or skips the test where the kernel lacks the parts.
func rules(t *testing.T, text, parts string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.nft")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := sh("nft -f " + file); err != nil {
		process.Skip(t, fmt.Sprintf("this kernel lacks %s: %v", parts, err))
	}
}

// ask returns the answer to a request of the client.
func ask(t *testing.T, c *http.Client, url string) (status int, body string, header http.Header) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// A connection that was redirected goes on to where the client wanted it to go, by REDIRECT and by TPROXY,
// in IPv4 and IPv6, with the mark and the client's own address as its source where original_src is
// configured; malla-proxy and Envoy do the same.
func TestOriginalDestinationAndSource(t *testing.T) {
	if !inside(t) {
		return
	}
	n := newNetwork(t)
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			p.ready(t, p.start(t, bootstrap, 0))
			for _, w := range ways {
				t.Run(w.name, func(t *testing.T) {
					if w.port == 1 {
						rules(t, "table inet redirects\ndelete table inet redirects\n"+redirects(), "nft_redir")
					} else {
						rules(t, "table inet tproxies\ndelete table inet tproxies\n"+tproxies(), "nft_tproxy or nft_socket")
					}
					n.serve(t, p.port(w))
					for family, server := range servers {
						t.Run(family, func(t *testing.T) { passes(t, n, p, w, family, server) })
					}
				})
			}
		})
	}
}

func passes(t *testing.T, n *network, p proxy, w way, family, server string) {
	dialled := net.JoinHostPort(server, fmt.Sprint(p.port(w)))
	for range 2 { // the second time on connections that there are already
		for _, client := range clients[family] {
			source, via := client, "proxy"
			if w.port == 1 {
				source = routers[family]
			}
			if w.port == 4 {
				via = ""
			}
			status, body, header := ask(t, n.browser(t, client), "http://"+dialled+"/")
			if want := source + " came to " + dialled; status != 200 || body != want || header.Get("x-via") != via {
				t.Errorf("the client %s that dialled %s got %d %q by %q; want %q by %q", client, dialled, status, body, header.Get("x-via"), want, via)
			}
		}
	}
}

// Without CAP_NET_ADMIN a transparent listener is an error that says so.
func TestTransparentListenerNeedsCapability(t *testing.T) {
	if !inside(t) {
		return
	}
	if err := sh("ip link set lo up"); err != nil {
		t.Fatal(err)
	}
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			run := p.start(t, bootstrap, syscall.CLONE_NEWUSER)
			select {
			case <-run.Done:
			case <-time.After(patience):
				t.Fatal("the proxy runs without what it is configured to listen on")
			}
			if code := run.Cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("the proxy ended with %d, want 1", code)
			}
			want := []string{"IP_TRANSPARENT", "CAP_NET_ADMIN"}
			if p.name == "Envoy" {
				want = []string{"IP_TRANSPARENT", "Operation not permitted"}
			}
			says(t, run, want...)
		})
	}
}

// Without CAP_NET_ADMIN a connection from the client's address fails at once, and the host is not blamed for
// it. The access log says what is missing; Envoy's log says less.
func TestOriginalSourceNeedsCapability(t *testing.T) {
	if !inside(t) {
		return
	}
	n := newNetwork(t)
	rules(t, redirects(), "nft_redir")
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			run := p.start(t, strings.Replace(bootstrap, "transparent: true", "transparent: false", 1), syscall.CLONE_NEWUSER)
			p.ready(t, run)
			n.serve(t, p.port(toSource))
			for family, server := range servers {
				status, body, _ := ask(t, n.browser(t, clients[family][0]), "http://"+net.JoinHostPort(server, fmt.Sprint(p.port(toSource)))+"/")
				if want := "upstream connect error or disconnect/reset before headers. reset reason: local connection failure"; status != 503 || body != want {
					t.Errorf("%s: got %d %q, want 503 %q", family, status, body, want)
				}
			}
			want := []string{"SO_MARK option on socket failed: Operation not permitted", "log 503 UF "}
			if p.name == "malla" {
				want = []string{"log 503 UF ", "setsockopt_SO_MARK:_operation_not_permitted:_it_needs_CAP_NET_ADMIN"}
			}
			says(t, run, want...)
		})
	}
}

// says waits until a proxy has said all of the words.
func says(t *testing.T, run *process.Process, words ...string) {
	t.Helper()
	for _, w := range words {
		mesh.Until(t, 15*time.Second, fmt.Sprintf("the proxy says %q", w), func() error {
			if !strings.Contains(run.Log(), w) {
				return errors.New("it does not")
			}
			return nil
		})
	}
}
