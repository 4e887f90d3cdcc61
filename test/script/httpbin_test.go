//go:build linux

package script_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// TestHttpbin is what people try next: a shell in the mesh, a service to ask, and
// what the mesh makes of it.
func TestHttpbin(t *testing.T) {
	linux(t)
	m := mesh.Up(t, mesh.Options{Name: "httpbin", Bin: withResolver(t), Publish: []int{80, 8081}, Paths: []string{
		filepath.Join("testdata", "namespaces"), mesh.Samples(t, "httpbin"), mesh.Samples(t, "sleep"), filepath.Join("testdata", "security")}})
	run := func(name string, f func(httpbin, *testing.T)) {
		t.Run(name, func(t *testing.T) { f(httpbin{m.In(t)}, t) })
	}
	run("a teapot, and its lines in both logs", httpbin.teapot)
	run("the log of old, by its name and by its format", httpbin.oldLog)
	run("exec passes exit codes, input and output", httpbin.exec)
	run("exec -it is a shell at a terminal", httpbin.shell)
	run("logs -f follows", httpbin.follow)
	run("between sidecars there is TLS only", httpbin.onlyTLS)
	run("who may speak plain text", httpbin.peerAuthentication)
	run("the mesh's own answers", httpbin.localReplies)
	run("headers are changed by rule, and server stays", httpbin.headers)
	run("matches, rewrites, redirects, direct answers", httpbin.routing)
	run("the circuit breaks", httpbin.circuitBreaker)
	run("retries and ejection", httpbin.outlier)
	run("smuggled requests are refused", httpbin.smuggling)
	run("100-continue, chunks, trailers, WebSocket", httpbin.protocol)
	run("HTTP/2 between sidecars, HTTP/1.1 for the applications", httpbin.upgraded)
	run("names and addresses of pods", httpbin.names)
	run("services without selector, headless, ExternalName", httpbin.services)
	run("my own machine from a pod", httpbin.hostMachine)
	run("metrics have Istio's names", httpbin.metrics)
	run("an application's own metrics are merged", httpbin.merged)
	run("names outside of the mesh, by the machine's resolver", httpbin.outside)
	run("REGISTRY_ONLY lets nobody out without an entry", httpbin.registryOnly)
	run("the admin interface answers", httpbin.admin)
	run("only the sidecar has network privileges", httpbin.privileges)
}

type httpbin struct{ *mesh.Mesh }

// curl in a container of our own does not depend on the machine.
var curl = []string{"/malla", "sample", "curl"}

// curl asks from the pod sleep in default, which has a sidecar.
func (h httpbin) curl(args ...string) mesh.Result {
	return h.Exec("deploy/sleep", "sleep", append([]string{"curl", "-sS"}, args...)...)
}

// status asks and returns status and body.
func (h httpbin) status(args ...string) string {
	r := h.curl(append([]string{"-w", "\n%{http_code}"}, args...)...)
	i := strings.LastIndex(r.Out, "\n")
	if r.Code != 0 || i < 0 {
		return fmt.Sprintf("exit %d %s", r.Code, strings.TrimSpace(r.Err))
	}
	return r.Out[i+1:] + " " + strconvQuote(r.Out[:i])
}

func strconvQuote(s string) string { return fmt.Sprintf("%q", s) }

// until waits until an answer is as wanted.
func (h httpbin) until(t *testing.T, want string, args ...string) {
	t.Helper()
	mesh.Until(t, 5*time.Second, fmt.Sprintf("curl %v", args), func() error {
		if got := h.status(args...); got != want {
			return fmt.Errorf("%s, want %s", got, want)
		}
		return nil
	})
}

var line = regexp.MustCompile(`^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "(\S+ \S+ \S+)" (\d+) (\S+) (\S+) (\S+) "([^"]*)" (\d+) (\d+) (\d+) (\S+) "([^"]*)" "([^"]*)" "([^"]*)" "([^"]*)" "([^"]*)" (\S+) (\S+) (\S+) (\S+) (\S+) (\S+)$`)

// Fields of line.
const (
	fRequest = iota + 1
	fCode
	fFlags
	fDetails
	fTermination
	fTransportFailure
	fReceived
	fSent
	fDuration
	fUpstreamTime
	fForwardedFor
	fUserAgent
	fRequestID
	fAuthority
	fUpstreamHost
	fCluster
	fUpstreamLocal
	fDownstreamLocal
	fDownstreamRemote
	fServerName
	fRoute
)

func parseLine(t *testing.T, text string) []string {
	t.Helper()
	f := line.FindStringSubmatch(text)
	if f == nil {
		t.Fatalf("not in Istio's format: %s", text)
	}
	return f
}

func (h httpbin) teapot(t *testing.T) {
	pod := strings.TrimSpace(h.Must("get", "pod", "-l", "app=sleep", "-o", "jsonpath={.items..metadata.name}"))
	r := h.Exec(pod, "sleep", "curl", "-sS", "-v", "httpbin:8000/status/418")
	if r.Code != 0 || len(r.Out) != 135 {
		t.Fatalf("curl -v: %d bytes, want the teapot's 135: %s", len(r.Out), r)
	}
	words(t, "curl -v", r.Err, "< HTTP/1.1 418", "< server: envoy", "> Host: httpbin:8000")
	if first := strings.Fields(r.Out); strings.Join(first[:3], " ") != "-=[ teapot ]=-" {
		t.Errorf("first line %q", first)
	}
	client := parseLine(t, h.LogLine("app=sleep", "istio-proxy", []string{"/status/418"}))
	server := parseLine(t, h.LogLine("app=httpbin", "istio-proxy", []string{"/status/418"}))
	sleepIP := h.Field("pod/"+pod, ".status.podIP")
	podIP := h.Field("pod/"+h.Pod("app=httpbin"), ".status.podIP")
	vip := h.Field("service/httpbin", ".spec.clusterIP")
	for i, want := range map[int]string{
		fRequest: "GET /status/418 HTTP/1.1", fCode: "418", fFlags: "-", fDetails: "via_upstream", fTermination: "-", fTransportFailure: "-",
		fReceived: "0", fSent: "135", fForwardedFor: "-", fAuthority: "httpbin:8000", fUpstreamHost: podIP + ":80",
		fCluster: "outbound|8000||httpbin.default.svc.cluster.local", fDownstreamLocal: vip + ":8000", fServerName: "-", fRoute: "default",
	} {
		if client[i] != want {
			t.Errorf("outbound field %d: %q, want %q in\n%s", i, client[i], want, client[0])
		}
	}
	for i, prefix := range map[int]string{fUserAgent: "curl/", fUpstreamLocal: sleepIP + ":", fDownstreamRemote: sleepIP + ":"} {
		if !strings.HasPrefix(client[i], prefix) {
			t.Errorf("outbound field %d: %q, want %s...", i, client[i], prefix)
		}
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`).MatchString(client[fRequestID]) {
		t.Errorf("request id %q", client[fRequestID])
	}
	for i, want := range map[int]string{
		fRequest: "GET /status/418 HTTP/1.1", fCode: "418", fFlags: "-", fDetails: "via_upstream", fSent: "135", fRequestID: client[fRequestID],
		fUpstreamHost: podIP + ":80", fCluster: "inbound|80||", fDownstreamLocal: podIP + ":80", fDownstreamRemote: client[fUpstreamLocal],
		fServerName: "outbound_.8000_._.httpbin.default.svc.cluster.local", fRoute: "default",
	} {
		if server[i] != want {
			t.Errorf("inbound field %d: %q, want %q in\n%s", i, server[i], want, server[0])
		}
	}
}

func (h httpbin) oldLog(t *testing.T) {
	format := `[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n`
	want := regexp.MustCompile(`^\[\S+Z\] "GET /status/418\?\w+ HTTP/1.1" 418 - "-" 0 135 \d+ \d+ "-" "curl/[^"]+" "[-0-9a-f]{36}" "httpbin:8000" "[\d.]+:80" outbound\|8000\|\|httpbin.default.svc.cluster.local [\d.]+:\d+ [\d.]+:8000 [\d.]+:\d+ - default$`)
	for name, config := range map[string]string{
		"named":  "accessLogFormat: istio-1.8", // the log is on without being asked for
		"format": "accessLogFile: /dev/stdout\naccessLogFormat: \"" + format + "\"",
	} {
		restore := h.meshConfig(t, config)
		mesh.Until(t, 10*time.Second, "a line in the old format, "+name, func() error {
			h.curl("httpbin:8000/status/418?" + name)
			var last string
			for _, l := range h.Logs("app=sleep", "istio-proxy") {
				if strings.Contains(l, "/status/418?"+name) {
					last = l
				}
			}
			if !want.MatchString(last) {
				return fmt.Errorf("the last line is %q", last)
			}
			return nil
		})
		restore()
	}
}

func (h httpbin) exec(t *testing.T) {
	for _, test := range []struct {
		command []string
		stdin   string
		out     string
		code    int
	}{
		{[]string{"true"}, "", "", 0},
		{[]string{"sh", "-c", "exit 3"}, "", "", 3},
		{[]string{"sh", "-c", "kill -9 $$"}, "", "", 137},
		{[]string{"sh", "-c", "echo out; echo err >&2"}, "", "out\n", 0},
		{[]string{"cat"}, "in\n", "in\n", 0},
		{[]string{"hostname"}, "", h.Pod("app=sleep") + "\n", 0},
	} {
		r := h.RunIn(10*time.Second, test.stdin, append([]string{"exec", "-i", "deploy/sleep", "-c", "sleep", "--"}, test.command...)...)
		if r.Code != test.code || r.Out != test.out {
			t.Errorf("exec %q: %s, want exit %d, %q", test.command, r, test.code, test.out)
		}
	}
	if r := h.Exec("deploy/sleep", "sleep", "no-such-program"); r.Code == 0 || !strings.Contains(r.Err, "no-such-program") {
		t.Errorf("a program that is not there: %s", r)
	}
}

func (h httpbin) follow(t *testing.T) {
	ctx := t.Context()
	cmd := h.Command(ctx, "logs", "-f", "-l", "app=httpbin", "-c", "istio-proxy", "--tail=0")
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout = file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	mesh.Until(t, 10*time.Second, "a followed line", func() error {
		n++
		h.curl(fmt.Sprintf("httpbin:8000/anything/followed-%d", n))
		text, _ := os.ReadFile(file.Name())
		if !bytes.Contains(text, []byte("/anything/followed-")) {
			return fmt.Errorf("the log is %q", text)
		}
		return nil
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (h httpbin) onlyTLS(t *testing.T) {
	sleepIP := h.Field("pod/"+h.Pod("app=sleep"), ".status.podIP")
	podIP := h.Field("pod/"+h.Pod("app=httpbin"), ".status.podIP")
	seen := tap(t, h.Mesh, func() {
		for range 3 {
			if got := h.status("-X", "POST", "-d", "my-secret-word", "httpbin:8000/anything"); !strings.HasPrefix(got, "200 ") {
				t.Errorf("curl: %s", got)
			}
		}
	})
	pair := 0
	for _, s := range seen {
		from, to := s.From.Addr().String(), s.To.Addr().String()
		if !(from == sleepIP && to == podIP || from == podIP && to == sleepIP) {
			continue
		}
		pair++
		for _, clear := range []string{"POST /", "HTTP/1.1", "my-secret-word", "httpbin"} {
			if bytes.Contains(s.Data, []byte(clear)) && clear != "httpbin" { // the server name of a ClientHello is readable
				t.Errorf("%s -> %s shows %q", s.From, s.To, clear)
			}
		}
	}
	if pair == 0 {
		t.Errorf("nothing passed between %s and %s; %d segments in all", sleepIP, podIP, len(seen))
	}
	// A new connection begins with a handshake.
	h.Must("rollout", "restart", "deployment", "sleep")
	h.Rollout("sleep")
	sleepIP = h.Field("pod/"+h.Pod("app=sleep", "--field-selector=status.phase=Running"), ".status.podIP")
	seen = tap(t, h.Mesh, func() { h.curl("httpbin:8000/get") })
	first := map[netip.AddrPort]bool{}
	for _, s := range seen {
		if s.From.Addr().String() == sleepIP && s.To.String() == podIP+":80" && !first[s.From] {
			first[s.From] = true
			if len(s.Data) < 6 || s.Data[0] != 22 || s.Data[1] != 3 || s.Data[5] != 1 {
				t.Errorf("a connection begins with % x, want a ClientHello", s.Data[:min(16, len(s.Data))])
			}
		}
	}
	if len(first) == 0 {
		t.Errorf("no connection from %s to %s:80", sleepIP, podIP)
	}
	out, err := inRouter(t, h.Mesh, "dial "+podIP+":80").Output()
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	uris, then, _ := strings.Cut(string(out), "\n")
	if uris != "spiffe://cluster.local/ns/default/sa/httpbin" {
		t.Errorf("httpbin's certificate is of %q, %s", uris, then)
	}
	if !strings.Contains(then, "tls: ") { // certificate required
		t.Errorf("a client without a certificate: %s, want it refused", then)
	}
}

func (h httpbin) peerAuthentication(t *testing.T) {
	const pa = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: %s}\nspec: {mtls: {mode: %s}}\n"
	const (
		accepted = "200"
		refused  = "refused"
	)
	ask := func(pod, namespace string) string {
		r := h.ExecIn(namespace, pod, "sleep", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", "http://httpbin.foo:8000/headers")
		switch {
		case r.Code == 0:
			return r.Out
		case r.Code == 56 || strings.Contains(r.Err, "reset"):
			return refused
		}
		return r.String()
	}
	for _, test := range []struct {
		mode, meshWide string
		plain          string
		tls            bool
	}{
		{"PERMISSIVE", "", accepted, true},
		{"STRICT", "", refused, true},
		{"DISABLE", "", accepted, false},
		{"UNSET", "STRICT", refused, true},
	} {
		t.Run(strings.TrimSpace(test.mode+" "+test.meshWide), func(t *testing.T) {
			if test.meshWide != "" {
				root := fmt.Sprintf(pa, "istio-system", test.meshWide)
				h.Apply(root)
				defer h.Delete(root)
			}
			policy := fmt.Sprintf(pa, "foo", test.mode)
			h.Apply(policy)
			defer h.Delete(policy)
			mesh.Until(t, 5*time.Second, "a pod without a sidecar", func() error {
				if got := ask("deploy/sleep", "legacy"); got != test.plain {
					return fmt.Errorf("%s, want %s", got, test.plain)
				}
				return nil
			})
			mark := fmt.Sprintf("/anything/pa-%s%s", test.mode, test.meshWide)
			mesh.Until(t, 5*time.Second, "a pod with a sidecar", func() error {
				if got := h.status("-o", "/dev/null", "http://httpbin.foo:8000"+mark); !strings.HasPrefix(got, "200") {
					return fmt.Errorf("%s, want 200", got)
				}
				lines := h.Logs("app=httpbin", "istio-proxy", "-n", "foo")
				last := ""
				for _, l := range lines {
					if strings.Contains(l, mark) {
						last = l
					}
				}
				if last == "" {
					return fmt.Errorf("not in httpbin's log")
				}
				if name := parseLine(t, last)[fServerName]; (name != "-") != test.tls {
					return fmt.Errorf("server name %q in httpbin's log, want TLS: %v", name, test.tls)
				}
				return nil
			})
		})
	}
	if err := mesh.Hold(300*time.Millisecond, func() error {
		if got := h.status("-o", "/dev/null", "http://httpbin.foo:8000/get"); !strings.HasPrefix(got, "200") {
			return fmt.Errorf("after the last policy: %s", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// rule is a VirtualService of httpbin with one http rule.
func rule(http string) string {
	return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: httpbin-rule}\nspec:\n  hosts: [httpbin]\n  http:\n  - " + strings.ReplaceAll(strings.TrimSpace(http), "\n", "\n    ") + "\n"
}

const toHttpbin = "route: [{destination: {host: httpbin}}]"

func (h httpbin) localReplies(t *testing.T) {
	for _, test := range []struct {
		name, config string
		want         string // status and body
		log          string // in the log of the sidecar that dials
		url          string
	}{
		{"an abort fault", rule("fault: {abort: {percentage: {value: 100}, httpStatus: 418}}\n" + toHttpbin), `418 "fault filter abort"`, " 418 FI fault_filter_abort ", "httpbin:8000/get"},
		{"a timeout", rule("timeout: 0.3s\n" + toHttpbin), `504 "upstream request timeout"`, " 504 UT response_timeout ", "httpbin:8000/delay/5"},
		{"no route", rule("match: [{uri: {exact: /only}}]\n" + toHttpbin), `404 ""`, " 404 NR route_not_found ", "httpbin:8000/get"},
		{"no cluster", rule("route: [{destination: {host: nowhere.default.svc.cluster.local}}]"), `503 ""`, " 503 NC cluster_not_found ", "httpbin:8000/get"},
		{"no endpoint", `
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, ports: [{name: http, port: 8000}]}
`, `503 "no healthy upstream"`, " 503 UH no_healthy_upstream ", "empty:8000/get"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.Apply(test.config)
			defer h.Delete(test.config)
			mark := "?local=" + strings.ReplaceAll(test.name, " ", "-")
			h.until(t, test.want, test.url+mark)
			h.LogLine("app=sleep", "istio-proxy", []string{mark, test.log})
		})
	}
	h.until(t, `200 ""`, "-o", "/dev/null", "httpbin:8000/get")
}

func (h httpbin) headers(t *testing.T) {
	rules := rule(`headers:
  request: {set: {x-set: "1"}, add: {x-add: "2"}, remove: [x-gone]}
  response: {remove: [x-my-fault-source, server], add: {x-answer: "3"}}
` + toHttpbin)
	h.Apply(rules)
	defer h.Delete(rules)
	url := "httpbin:8000/response-headers?x-my-fault-source=a&x-other=b"
	mesh.Until(t, 5*time.Second, "changed headers", func() error {
		r := h.curl("-i", url)
		head := strings.ToLower(r.Out)
		if strings.Contains(head, "\nx-my-fault-source:") || !strings.Contains(head, "\nx-answer: 3") {
			return fmt.Errorf("%s", r)
		}
		if !strings.Contains(head, "\nx-other: b") || !strings.Contains(head, "\nserver: envoy") {
			t.Errorf("head:\n%s", r.Out)
		}
		return nil
	})
	r := h.curl("-H", "x-gone: here", "httpbin:8000/headers")
	words(t, "headers at httpbin", r.Out, `"X-Set"`, `"X-Add"`)
	if strings.Contains(r.Out, "X-Gone") {
		t.Errorf("x-gone has come through: %s", r.Out)
	}
	// At the gateway the answer says istio-envoy, whatever the rule removes.
	gateway := `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: example}
spec:
  hosts: [example.com]
  gateways: [httpbin-gateway]
  http:
  - headers: {response: {remove: [x-my-fault-source, server]}}
    route: [{destination: {host: httpbin, subset: version-1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: example}
spec: {host: httpbin, subsets: [{name: version-1, labels: {version: v1}}]}
`
	h.Apply(gateway)
	defer h.Delete(gateway)
	c := mesh.Client(3 * time.Second)
	mesh.Until(t, 5*time.Second, "the header gone at the gateway", func() error {
		a, err := mesh.Get(c, h.URL("/response-headers?x-my-fault-source=a&server=Jetty&x-other=b"), "host: example.com")
		if err != nil {
			return err
		}
		if a.Status != 200 || a.Header.Get("x-my-fault-source") != "" || a.Header.Get("x-other") != "b" || a.Header.Get("server") != "istio-envoy" {
			return fmt.Errorf("%d %v", a.Status, a.Header)
		}
		return nil
	})
}

func (h httpbin) routing(t *testing.T) {
	rules := `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin-rule}
spec:
  hosts: [httpbin]
  http:
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /anything/new/, authority: other.example}
    route: [{destination: {host: httpbin}}]
  - match: [{uri: {exact: /moved}}]
    redirect: {uri: /get, redirectCode: 308}
  - match: [{uri: {regex: "/direct/[0-9]+"}}]
    directResponse: {status: 203, body: {string: "said by the mesh"}}
  - match:
    - {method: {exact: PUT}, queryParams: {a: {exact: b}}, headers: {x-one: {prefix: t}}, authority: {prefix: httpbin}}
    directResponse: {status: 202}
  - route: [{destination: {host: httpbin}}]
`
	h.Apply(rules)
	defer h.Delete(rules)
	h.until(t, `203 "said by the mesh"`, "httpbin:8000/direct/7")
	if r := h.curl("-i", "httpbin:8000/moved"); !strings.Contains(r.Out, " 308 ") || !strings.Contains(strings.ToLower(r.Out), "location: http://httpbin:8000/get") {
		t.Errorf("redirect: %s", r)
	}
	r := h.curl("httpbin:8000/old/x")
	words(t, "a rewritten request", r.Out, "/anything/new/x", "other.example")
	if got := h.status("-X", "PUT", "-H", "x-one: two", "httpbin:8000/put?a=b"); got != `202 ""` {
		t.Errorf("all conditions hold: %s", got)
	}
	if got := h.status("-o", "/dev/null", "-X", "PUT", "-H", "x-one: two", "httpbin:8000/put?a=c"); !strings.HasPrefix(got, "200") {
		t.Errorf("one condition does not hold: %s", got)
	}
	h.LogLine("app=sleep", "istio-proxy", []string{`"GET /old/x HTTP/1.1" 200 `}) // the log shows what was asked
}

// upgraded asks for HTTP/2 between the sidecars (h2UpgradePolicy). The client speaks HTTP/1.1, and so does the server, which
// knows nothing else; what they could do before they still can.
func (h httpbin) upgraded(t *testing.T) {
	rules := `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec:
  host: httpbin
  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}
`
	h.Apply(rules)
	defer h.Delete(rules)
	mesh.Until(t, 10*time.Second, "HTTP/2 at the server's sidecar", func() error {
		h.curl("httpbin:8000/status/418?upgraded")
		for _, l := range h.Logs("app=httpbin", "istio-proxy") {
			if strings.Contains(l, `"GET /status/418?upgraded HTTP/2" 418`) {
				return nil
			}
		}
		return fmt.Errorf("no line in its log says so")
	})
	h.LogLine("app=sleep", "istio-proxy", []string{`"GET /status/418?upgraded HTTP/1.1" 418`})
	h.protocol(t)
}

func (h httpbin) circuitBreaker(t *testing.T) {
	h.Must("apply", "-f", mesh.Samples(t, "loadclient", "load.yaml"))
	h.Rollout("load")
	h.Must("apply", "-f", mesh.Samples(t, "bookinfo", "tasks", "circuit-breaker.yaml"))
	defer h.Must("delete", "-f", mesh.Samples(t, "bookinfo", "tasks", "circuit-breaker.yaml"))
	if err := mesh.Within(time.Second, func() error {
		r := h.Exec("deploy/load", "load", "/malla", "sample", "load", "-c", "3", "-qps", "0", "-n", "12", "http://httpbin:8000/delay/0.05")
		if r.Code != 0 || !strings.Contains(r.Out, "503") || !strings.Contains(r.Out, "200") {
			return fmt.Errorf("%s", r)
		}
		return nil
	}); err != nil {
		t.Errorf("503 for what comes on top: %v", err)
	}
	h.LogLine("app=load", "istio-proxy", []string{" 503 UO upstream_reset_before_response_started{overflow} "})
	found := false
	for range 5 {
		r := h.Exec("deploy/load", "load", "sh", "-c", `for i in 1 2 3 4 5 6; do curl -si httpbin:8000/delay/1 & done; wait`)
		if strings.Contains(r.Out, " 503 ") {
			words(t, "an overflow", strings.ToLower(r.Out), "x-envoy-overloaded: true")
			found = true
			break
		}
	}
	if !found {
		t.Error("six requests at once: none was refused")
	}
}

func (h httpbin) outlier(t *testing.T) {
	h.Must("scale", "deployment", "httpbin", "--replicas=2")
	defer mesh.Until(t, 20*time.Second, "one httpbin again", func() error { return mesh.Near("pods", len(h.Pods("app=httpbin")), 1, 0) })
	defer h.Must("scale", "deployment", "httpbin", "--replicas=1")
	h.Rollout("httpbin")
	rules := `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec:
  host: httpbin
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 50}
`
	h.Apply(rules)
	defer h.Delete(rules)
	mesh.Until(t, 15*time.Second, "one of two ejected", func() error {
		h.Exec("deploy/load", "load", "/malla", "sample", "load", "-c", "2", "-qps", "0", "-n", "40", "http://httpbin:8000/status/503")
		r := h.Exec("deploy/load", "istio-proxy", append(append([]string{}, curl...), "-sS", "localhost:15000/clusters")...)
		for _, l := range strings.Split(r.Out, "\n") {
			if strings.HasPrefix(l, "outbound|8000||httpbin.default.svc.cluster.local::10.244.") && strings.Contains(l, "health_flags::/failed_outlier_check") {
				return nil
			}
		}
		return fmt.Errorf("no host is ejected")
	})
	seen := map[string]int{}
	for range 10 {
		r := h.Exec("deploy/load", "load", "curl", "-sS", "httpbin:8000/hostname")
		seen[r.Out]++
	}
	if len(seen) != 1 {
		t.Errorf("answers of %v, want of the one that is not ejected", seen)
	}
}

func (h httpbin) protocol(t *testing.T) {
	h.Apply(gatewayRoute)
	defer h.Delete(gatewayRoute)
	h.offered(t)
	a := raw(h.Port(80), "POST /anything HTTP/1.1\r\nHost: all.example\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", 5*time.Second)
	words(t, "100-continue", a, "HTTP/1.1 200", "hello")
	a = raw(h.Port(80), "POST /anything HTTP/1.1\r\nHost: all.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nx-t: end\r\n\r\n", 5*time.Second)
	words(t, "chunks", a, "HTTP/1.1 200", "hello")
	a = raw(h.Port(80), strings.Repeat("GET /status/200?a HTTP/1.1\r\nHost: all.example\r\n\r\n", 4)+"GET /status/201?a HTTP/1.1\r\nHost: all.example\r\nConnection: close\r\n\r\n", 5*time.Second)
	if strings.Count(a, "HTTP/1.1 200") != 4 || strings.Count(a, "HTTP/1.1 201") != 1 || strings.LastIndex(a, "HTTP/1.1 200") > strings.Index(a, "HTTP/1.1 201") {
		t.Errorf("five requests in a row: %s", a)
	}
	a = raw(h.Port(80), "GET /get HTTP/1.0\r\nHost: all.example\r\n\r\n", 5*time.Second)
	words(t, "HTTP/1.0", a, "HTTP/1.1 426 Upgrade Required")
	key := "dGhlIHNhbXBsZSBub25jZQ=="
	// "hi" as a masked text frame, then a close frame.
	a = raw(h.Port(80), "GET /websocket/echo HTTP/1.1\r\nHost: all.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n"+
		"\x81\x82\x00\x00\x00\x00hi\x88\x80\x00\x00\x00\x00", 5*time.Second)
	words(t, "WebSocket", a, "HTTP/1.1 101", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "\x81\x02hi")
}

// gatewayRoute offers all of httpbin at the gateway under a name.
const gatewayRoute = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all}
spec:
  hosts: [all.example]
  gateways: [httpbin-gateway]
  http: [{route: [{destination: {host: httpbin, port: {number: 8000}}}]}]
`

// offered waits until gatewayRoute is in force.
func (h httpbin) offered(t *testing.T) {
	t.Helper()
	c := mesh.Client(5 * time.Second)
	mesh.Until(t, 5*time.Second, "all of httpbin at the gateway", func() error {
		a, err := mesh.Get(c, h.URL("/get"), "host: all.example")
		if err == nil {
			err = mesh.OK(a)
		}
		return err
	})
}

func (h httpbin) smuggling(t *testing.T) {
	h.Apply(gatewayRoute)
	defer h.Delete(gatewayRoute)
	h.offered(t)
	for _, test := range []struct{ what, head, want string }{
		{"both lengths", "Content-Length: 4\r\nTransfer-Encoding: chunked", "400"},
		{"two lengths", "Content-Length: 4\r\nContent-Length: 5", "400"},
		{"a length that is no number", "Content-Length: +4", "400"},
		{"an unknown transfer coding", "Transfer-Encoding: gzip, chunked", "501"},
		{"a folded header", "X-A: b\r\n c", "400"},
		{"a bare line feed", "X-A: b\nX-B: c", "400"},
		{"a bare carriage return", "X-A: b\rX-B: c", "400"},
		{"a space before the colon", "X-A : b", "400"},
		{"too many headers", strings.TrimSuffix(strings.Repeat("x: y\r\n", 200), "\r\n"), "431"},
		{"too large a header", "X-A: " + strings.Repeat("a", 70<<10), "431"},
	} {
		a := raw(h.Port(80), "POST /anything HTTP/1.1\r\nHost: all.example\r\n"+test.head+"\r\n\r\n", 5*time.Second)
		if !strings.HasPrefix(a, "HTTP/1.1 "+test.want+" ") {
			t.Errorf("%s: %.80q, want %s", test.what, a, test.want)
		}
	}
	a := raw(h.Port(80), "POST /anything HTTP/1.1\r\nHost: all.example\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 5*time.Second)
	if !strings.HasPrefix(a, "HTTP/1.1 400 ") {
		t.Errorf("a bad chunk size: %.80q, want 400", a)
	}
}

func (h httpbin) names(t *testing.T) {
	pod := h.Pod("app=sleep", "--field-selector=status.phase=Running")
	for _, name := range []string{"httpbin", "httpbin.default", "httpbin.default.svc", "httpbin.default.svc.cluster.local", "httpbin.default.svc.cluster.local."} {
		if got := h.status("-o", "/dev/null", "http://"+name+":8000/get"); !strings.HasPrefix(got, "200") {
			t.Errorf("%s: %s", name, got)
		}
	}
	r := h.Exec(pod, "sleep", "sh", "-c", "cat /etc/resolv.conf /etc/nsswitch.conf /etc/hosts; echo HOME=$HOME; id -u; for d in /tmp /run /var/tmp $HOME; do echo x > $d/malla-test-file && echo wrote $d; done")
	words(t, "inside the pod", r.Out, "nameserver 10.96.0.10", "search default.svc.cluster.local svc.cluster.local cluster.local", "ndots:5", "files dns", pod,
		"wrote /tmp", "wrote /run", "wrote /var/tmp", "HOME=")
	for _, dir := range []string{"/tmp", "/run", "/var/tmp", os.Getenv("HOME")} {
		if _, err := os.Stat(filepath.Join(dir, "malla-test-file")); err == nil {
			t.Errorf("what a pod wrote has landed in %s", dir)
		}
	}
	if ips := strings.Fields(h.Must("get", "pod", pod, "-o", "jsonpath={.status.podIPs[*].ip}")); len(ips) != 2 || !strings.HasPrefix(ips[0], "10.244.") || !strings.HasPrefix(ips[1], "fd00:6d61:6c6c:1:") {
		t.Errorf("addresses %v, want one of each family", ips)
	}
	v6 := strings.Fields(h.Must("get", "pod", h.Pod("app=httpbin"), "-o", "jsonpath={.status.podIPs[*].ip}"))[1]
	if got := h.status("-o", "/dev/null", "-g", "http://["+v6+"]:80/get"); !strings.HasPrefix(got, "200") {
		t.Errorf("by IPv6: %s", got)
	}
	r = h.curl("--connect-timeout", "2", "http://no-such-name:8000/")
	if r.Code != 6 {
		t.Errorf("an unknown name: %s, want exit 6", r)
	}
}

func (h httpbin) services(t *testing.T) {
	podIP := h.Field("pod/"+h.Pod("app=httpbin"), ".status.podIP")
	objects := fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: httpbin}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: by-hand}
spec: {ports: [{name: http, port: 9000, targetPort: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-1, labels: {kubernetes.io/service-name: by-hand}}
addressType: IPv4
ports: [{name: http, port: 80, protocol: TCP}]
endpoints: [{addresses: ["%s"], conditions: {ready: true}}]
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: httpbin.default.svc.cluster.local, ports: [{name: http, port: 8000}]}
`, podIP)
	h.Apply(objects)
	defer h.Delete(objects)
	for _, url := range []string{"headless:80/get", "by-hand:9000/get", "alias:8000/get"} {
		mesh.Until(t, 5*time.Second, url, func() error {
			if got := h.status("-o", "/dev/null", "http://"+url); !strings.HasPrefix(got, "200") {
				return fmt.Errorf("with a sidecar: %s", got)
			}
			r := h.ExecIn("legacy", "deploy/sleep", "sleep", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://"+strings.Replace(url, ":", ".default:", 1))
			if r.Out != "200" {
				return fmt.Errorf("without: %s", r)
			}
			return nil
		})
	}
}

func (h httpbin) admin(t *testing.T) {
	get := func(args ...string) string {
		r := h.Exec("deploy/httpbin", "istio-proxy", append(append([]string{}, curl...), append([]string{"-sS"}, args...)...)...)
		if r.Code != 0 {
			t.Errorf("curl %v: %s", args, r)
		}
		return r.Out
	}
	for path, want := range map[string][]string{
		"/ready":            {"LIVE"},
		"/stats":            {"server.live: 1", "cluster_manager."},
		"/stats/prometheus": {"# TYPE envoy_server_live gauge"},
		"/config_dump":      {"ListenersConfigDump", "ClustersConfigDump", "RoutesConfigDump", "virtualInbound", "outbound|8000||httpbin.default.svc.cluster.local"},
		"/clusters":         {"outbound|8000||httpbin.default.svc.cluster.local::10.244.", "inbound|80||"},
		"/listeners":        {"virtualInbound::", "virtualOutbound::"},
		"/certs":            {"spiffe://cluster.local/ns/default/sa/httpbin"},
		"/server_info":      {`"state"`, `"LIVE"`, `"version"`},
		"/help":             {"/config_dump", "/quitquitquit"},
	} {
		words(t, path, get("localhost:15000"+path), want...)
	}
	words(t, "/logging", get("-X", "POST", "localhost:15000/logging"), "info")
	if r := h.ExecIn("legacy", "deploy/sleep", "sleep", "curl", "-sS", "--max-time", "3", "http://"+h.Field("pod/"+h.Pod("app=httpbin"), ".status.podIP")+":15000/stats"); strings.Contains(r.Out, "server.") {
		t.Errorf("the admin interface answers other pods: %s", r)
	}
}

func (h httpbin) privileges(t *testing.T) {
	r := h.Exec("deploy/sleep", "sleep", "cat", "/proc/self/status")
	words(t, "status", r.Out, "NoNewPrivs:\t1")
	for _, set := range []string{"CapEff", "CapPrm", "CapBnd", "CapAmb"} {
		found := regexp.MustCompile(set + `:\t([0-9a-f]{16})`).FindStringSubmatch(r.Out)
		if found == nil {
			t.Fatalf("no %s in %s", set, r)
		}
		mask, _ := strconv.ParseUint(found[1], 16, 64)
		// capabilities(7): NET_ADMIN, NET_RAW, SYS_MODULE, SYS_PTRACE, SYS_ADMIN, SYS_RESOURCE, PERFMON, BPF.
		for _, bit := range []int{12, 13, 16, 19, 21, 24, 38, 39} {
			if mask&(1<<bit) != 0 {
				t.Errorf("an application has %s %s with capability %d", set, found[1], bit)
			}
		}
	}
	// It cannot make a packet that passes the sidecar by.
	if got := h.Exec("deploy/sleep", "sleep", "sh", "-c", "ip link add dummy0 type dummy 2>&1; nft flush ruleset 2>&1"); got.Code == 0 {
		t.Errorf("an application may change the network: %s", got)
	}
}

func (h httpbin) hostMachine(t *testing.T) {
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			mesh.Pause(4 * time.Second)
		}
		fmt.Fprint(w, "my machine")
	}))
	url := fmt.Sprintf("http://host.malla.internal:%d/", server)
	if got := h.status(url); got != `200 "my machine"` {
		t.Errorf("with a sidecar: %s", got)
	}
	r := h.ExecIn("legacy", "deploy/sleep", "sleep", "curl", "-sS", url)
	if r.Out != "my machine" {
		t.Errorf("without: %s", r)
	}
	// The egress task, on a port of this test's own.
	task := strings.ReplaceAll(sample(t, "bookinfo", "tasks", "egress-host.yaml"), "7070", fmt.Sprint(server))
	h.Apply(task)
	defer h.Delete(task)
	h.until(t, `504 "upstream request timeout"`, url+"slow")
}
