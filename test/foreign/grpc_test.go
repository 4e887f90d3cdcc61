package foreign

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// A line is a process that is talked to line by line. It ends when its input does.
type line struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

// start runs a program beside us.
func start(t *testing.T, cmd *exec.Cmd, env ...string) *line {
	t.Helper()
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	})
	return &line{t, in, bufio.NewScanner(out)}
}

// self is this program, as it was started.
func self(t *testing.T) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(path)
}

func (p *line) read() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the process has ended: %v", p.out.Err())
	}
	return p.out.Text()
}

// serverAt starts a server and returns its port.
func serverAt(t *testing.T, name string, env ...string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(start(t, self(t), append(env, envServer+"="+name)...).read())
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	return n
}

// calls makes n calls and returns how many said what.
func (p *line) calls(n int, header string) map[string]int {
	p.t.Helper()
	fmt.Fprintln(p.in, n, header)
	counts := map[string]int{}
	for _, word := range strings.Fields(p.read()) {
		i := strings.LastIndexByte(word, '=')
		counts[word[:i]], _ = strconv.Atoi(word[i+1:])
	}
	return counts
}

// only waits until ten calls in a row say the same.
func (p *line) only(what, header string) {
	p.t.Helper()
	mesh.Until(p.t, 20*time.Second, "only "+what, func() error {
		if got := p.calls(10, header); got[what] != 10 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

const greeterV1, greeterV2 = "v1/plain", "v2/plain"

// greeter is a service with two versions at two ports, and rules.
func greeter(v1, v2 int, rules string) string {
	return fmt.Sprintf(`A greeter without a proxy.
-- config.yaml --
kind: DestinationRule
metadata: {name: greeter, namespace: default}
spec: {host: greeter.default.svc.cluster.local, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
%s
-- services --
greeter.default 7070/grpc vip=10.96.0.9 select=app=greeter
-- endpoints --
greeter.default 127.0.0.1:%d labels=version=v1
greeter.default 127.0.0.1:%d labels=version=v2
`, rules, v1, v2)
}

func virtualService(http string) string {
	return "---\nkind: VirtualService\nmetadata: {name: greeter, namespace: default}\nspec: {hosts: [greeter.default.svc.cluster.local], http: [" + http + "]}\n"
}

const (
	toV1 = "{route: [{destination: {host: greeter.default.svc.cluster.local, subset: v1}}]}"
	toV2 = "{route: [{destination: {host: greeter.default.svc.cluster.local, subset: v2}}]}"
)

// rules plays what rules say to a client that has no proxy; more are of the client's own kind.
func rules(t *testing.T, client func(p *plane, target string) *line) {
	v1, v2 := serverAt(t, "v1"), serverAt(t, "v2")
	p := newPlane(t, greeter(v1, v2, ""))
	// The target is a name as an application has it, and a port of the Service.
	c := client(p, "xds:///greeter:7070")
	mesh.Until(t, 20*time.Second, "both versions take calls", func() error {
		got := c.calls(40, "")
		if got[greeterV1] < 10 || got[greeterV2] < 10 || got[greeterV1]+got[greeterV2] != 40 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	p.Change(greeter(v1, v2, virtualService(toV2)))
	c.only(greeterV2, "")
	p.Change(greeter(v1, v2, virtualService("{match: [{headers: {who: {exact: jason}}}], route: [{destination: {host: greeter.default.svc.cluster.local, subset: v1}}]}, "+toV2)))
	c.only(greeterV1, "who=jason")
	c.only(greeterV2, "who=anna")
	p.Change(greeter(v1, v2, virtualService("{route: [{destination: {host: greeter.default.svc.cluster.local, subset: v1}, weight: 90}, {destination: {host: greeter.default.svc.cluster.local, subset: v2}, weight: 10}]}")))
	mesh.Until(t, 20*time.Second, "nine of ten calls go to v1", func() error {
		got := c.calls(300, "")
		if n := got[greeterV1]; n < 240 || n > 290 || n+got[greeterV2] != 300 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	p.Change(greeter(v1, v2, virtualService("{fault: {abort: {percentage: {value: 100}, grpcStatus: RESOURCE_EXHAUSTED}}, route: [{destination: {host: greeter.default.svc.cluster.local, subset: v1}}]}")))
	mesh.Until(t, 20*time.Second, "the fault is in force", func() error {
		for what := range c.calls(10, "") {
			if !strings.HasPrefix(what, "ResourceExhausted:") {
				return fmt.Errorf("%s", what)
			}
		}
		return nil
	})
	// A version that has gone is no place to send calls to; the other goes on.
	p.Change(strings.Replace(greeter(v1, v2, ""), fmt.Sprintf("greeter.default 127.0.0.1:%d labels=version=v1\n", v1), "", 1))
	c.only(greeterV2, "")
	p.Refusals()
}

// goClient is grpc-go with its own xDS client.
func goClient(t *testing.T) func(p *plane, target string) *line {
	return func(p *plane, target string) *line {
		return start(t, self(t), envClient+"="+target, "GRPC_XDS_BOOTSTRAP="+p.bootstrap("client", nil))
	}
}

// TestGRPCGo: routes, weights, headers, faults and endpoints hold for grpc-go without a proxy.
func TestGRPCGo(t *testing.T) { rules(t, goClient(t)) }

// TestGRPCMutualTLS: both sides of a call prove who they are with the mesh's certificates, by a policy for the server and a rule for its clients.
func TestGRPCMutualTLS(t *testing.T) {
	port := mesh.FreePort(t)
	p := newPlane(t, fmt.Sprintf(`A server that takes mutual TLS only.
-- config.yaml --
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
---
kind: DestinationRule
metadata: {name: secure, namespace: default}
spec: {host: secure.default.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
---
kind: DestinationRule
metadata: {name: wrong, namespace: default}
spec: {host: wrong.default.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
-- services --
secure.default %[1]d/grpc vip=10.96.0.9 select=app=secure accounts=spiffe://cluster.local/ns/default/sa/secure
wrong.default %[1]d/grpc vip=10.96.0.8 accounts=spiffe://cluster.local/ns/default/sa/other
-- endpoints --
secure.default 127.0.0.1:%[1]d labels=app=secure
wrong.default 127.0.0.1:%[1]d labels=app=secure
-- workloads --
default/secure 127.0.0.1 labels=app=secure
`, port))
	serverAt(t, "secure", envListen+"="+net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), "GRPC_XDS_BOOTSTRAP="+p.bootstrap("secure", map[string]string{"app": "secure"}))
	client := goClient(t)
	client(p, fmt.Sprintf("xds:///secure:%d", port)).only("secure/spiffe://cluster.local/ns/default/sa/client", "")
	for what := range client(p, fmt.Sprintf("xds:///wrong:%d", port)).calls(1, "") {
		if !strings.HasPrefix(what, "Unavailable:") || !strings.Contains(what, "SAN") {
			t.Errorf("a server that is somebody else: %s", what)
		}
	}
	plain := start(t, self(t), envClient+"="+fmt.Sprintf("127.0.0.1:%d", port), "GRPC_XDS_BOOTSTRAP="+p.bootstrap("client", nil))
	for what := range plain.calls(1, "") {
		if !strings.HasPrefix(what, "Unavailable:") {
			t.Errorf("a client without TLS: %s", what)
		}
	}
	p.Refusals()
}

// TestGRPCOutlier: a host of which every call fails gets none for a while.
func TestGRPCOutlier(t *testing.T) {
	good, bad := serverAt(t, "v1"), serverAt(t, "v2", envFail+"=1")
	p := newPlane(t, fmt.Sprintf(`A host that fails.
-- config.yaml --
kind: DestinationRule
metadata: {name: greeter, namespace: default}
spec:
  host: greeter.default.svc.cluster.local
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}}
---
kind: VirtualService
metadata: {name: greeter, namespace: default}
spec: {hosts: [greeter.default.svc.cluster.local], http: [{retries: {attempts: 0}, route: [{destination: {host: greeter.default.svc.cluster.local}}]}]}
-- services --
greeter.default 7070/grpc vip=10.96.0.9
-- endpoints --
greeter.default 127.0.0.1:%d
greeter.default 127.0.0.1:%d
`, good, bad))
	c := goClient(t)(p, "xds:///greeter.default.svc.cluster.local:7070")
	// The client asks the hosts that it has connected to, and the one that fails may be the second.
	mesh.Until(t, 20*time.Second, "a call of the host that fails", func() error {
		if got := c.calls(20, ""); got[greeterV1] == 20 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	c.only(greeterV1, "")
	p.Refusals()
}
