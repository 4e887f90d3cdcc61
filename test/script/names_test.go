//go:build linux

package script_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// hostAddress is where pods find this machine's loopback.
const hostAddress = "10.96.255.254"

// speaker says its name to who connects to a port of this machine.
func speaker(t *testing.T, name string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, name)
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// sleeper is a deployment that does nothing, with settings for its proxy: whether it answers names, "" for none.
func sleeper(name, answers string) string {
	annotations := ""
	if answers != "" {
		annotations = fmt.Sprintf("annotations:\n        proxy.istio.io/config: |\n          proxyMetadata: {ISTIO_META_DNS_CAPTURE: %[1]q, ISTIO_META_DNS_AUTO_ALLOCATE: %[1]q}", answers)
	}
	return fmt.Sprintf("\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %[1]s}\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: %[1]s}}\n  template:\n    metadata:\n      labels: {app: %[1]s}\n      %[2]s\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers: [{name: %[1]s, image: curlimages/curl, command: [sleep, infinity]}]\n", name, annotations)
}

// TestNames: proxies that answer names, and services that only their names tell apart.
func TestNames(t *testing.T) {
	linux(t)
	entry := func(name string, port int) string {
		return fmt.Sprintf("---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s}\nspec:\n  hosts: [%[1]s.example.test]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{number: 5432, name: tcp, protocol: TCP}]\n  endpoints: [{address: %s, ports: {tcp: %d}}]\n", name, hostAddress, port)
	}
	dir := dirOf(t, map[string]string{
		"clients.yaml": sleeper("with", "true") + sleeper("without", "false"),
		"entries.yaml": entry("db1", speaker(t, "A")) + entry("db2", speaker(t, "B")),
	})
	m := mesh.Up(t, mesh.Options{Name: "names", Paths: []string{dir}, Flags: []string{"--inject"}})

	addresses := func(pod, host string) (v4, v6 string, err error) {
		for i, kind := range []string{"ahostsv4", "ahostsv6"} {
			r := m.Exec("deploy/"+pod, pod, "getent", kind, host)
			if r.Code != 0 {
				return "", "", fmt.Errorf("getent %s %s: %s", kind, host, r)
			}
			if a := strings.Fields(r.Out)[0]; i == 0 {
				v4 = a
			} else {
				v6 = a
			}
		}
		return v4, v6, nil
	}
	said := func(pod, host string) string {
		r := m.Exec("deploy/"+pod, pod, "timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/"+host+"/5432 && head -n 1 <&3")
		return strings.TrimSpace(r.Out)
	}
	seen := map[string]string{}
	for host, want := range map[string]string{"db1.example.test": "A", "db2.example.test": "B"} {
		var v4, v6 string
		mesh.Until(t, 30*time.Second, "an entry that came with the pods has addresses", func() (err error) {
			v4, v6, err = addresses("with", host)
			return err
		})
		for a, in := range map[string]string{v4: "240.240.0.0/16", v6: "2001:2::/48"} {
			if !netip.MustParsePrefix(in).Contains(netip.MustParseAddr(a)) || seen[a] != "" {
				t.Errorf("%s is %s, want an address of its own in %s; %s", host, a, in, seen[a])
			}
			seen[a] = host
		}
		for _, to := range []string{host, v4, v6} {
			// The name may be known a moment before the listener of its address is there.
			mesh.Until(t, 30*time.Second, host+" at "+to, func() error {
				if got := said("with", to); got != want {
					return fmt.Errorf("it answers %q, want %q", got, want)
				}
				return nil
			})
		}
		if again, _, err := addresses("with", host); err != nil || again != v4 {
			t.Errorf("%s was %s and is %s: %v", host, v4, again, err)
		}
	}
	if r := m.Exec("deploy/without", "without", "getent", "hosts", "db1.example.test"); r.Code != 2 {
		t.Errorf("a pod whose proxy answers no names: %s, want exit 2", r)
	}
	if r := m.Exec("deploy/with", "with", "getent", "hosts", "kubernetes.default"); r.Code != 0 {
		t.Errorf("what the proxy does not know is asked of others: %s", r)
	}

	t.Run("policy", func(t *testing.T) {
		m := m.In(t)
		m.Apply("apiVersion: malla.dev/v1\nkind: DNSPolicy\nmetadata: {name: names}\nspec:\n  selector: {matchLabels: {app: with}}\n  rules: [{hosts: [db2.example.test], deny: NXDOMAIN, log: true}, {hosts: [db1.example.test], log: true}]\n")
		mesh.Until(t, 30*time.Second, "a name that is denied is not there", func() error {
			if r := m.Exec("deploy/with", "with", "getent", "hosts", "db2.example.test"); r.Code != 2 {
				return fmt.Errorf("%s, want exit 2", r)
			}
			return nil
		})
		m.LogLine("app=with", "istio-proxy", []string{"name=db2.example.test", "answer=NXDOMAIN", "from=policy", "policy=default/names"})
		if _, _, err := addresses("with", "db1.example.test"); err != nil {
			t.Error(err)
		}
		m.LogLine("app=with", "istio-proxy", []string{"name=db1.example.test", "type=A", "answer=NOERROR", "from=table", "means=[240.240."})
		r := m.Exec("deploy/with", "with", "curl", "-sS", "http://127.0.0.1:15020/stats/prometheus")
		for _, want := range []string{"\nistio_agent_dns_requests_total ", "\nistio_agent_dns_upstream_requests_total ", "istio_agent_dns_upstream_request_duration_seconds_count "} {
			if !strings.Contains("\n"+r.Out, want) {
				t.Errorf("no %q in the metrics: %.400s", strings.TrimSpace(want), r)
			}
		}
	})

	t.Run("for all pods by MeshConfig", func(t *testing.T) {
		h := httpbin{m.In(t)}
		h.meshConfig(t, "defaultConfig:\n  proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\", ISTIO_META_DNS_AUTO_ALLOCATE: \"true\"}")
		h.Apply(sleeper("late", ""))
		h.Rollout("late")
		mesh.Until(t, 30*time.Second, "a pod that says nothing", func() error {
			if got := said("late", "db1.example.test"); got != "A" {
				return fmt.Errorf("%q, want A; %s", got, h.Exec("deploy/late", "late", "getent", "hosts", "db1.example.test"))
			}
			return nil
		})
		if r := h.Exec("deploy/without", "without", "getent", "hosts", "db1.example.test"); r.Code != 2 {
			t.Errorf("a pod that says no: %s, want exit 2", r)
		}
	})
}
