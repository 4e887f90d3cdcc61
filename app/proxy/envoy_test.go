package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

// An Envoy starts with who it is, and with the sockets of its agent: nothing else is written down.
func TestEnvoyBootstrap(t *testing.T) {
	e := &environment{Type: "sidecar", Pod: "web", Namespace: "default", IPs: []string{"10.244.0.9"}, Domain: "cluster.local", Discovery: "istiod.istio-system.svc:15012", AdminPort: 15000,
		Matcher: statsMatcher{InclusionPrefixes: []string{"http."}}}
	read := func(mark int) *bootstrapv3.Bootstrap {
		t.Helper()
		text, err := e.envoyBootstrap("/run/x", mark)
		if err != nil {
			t.Fatal(err)
		}
		b := new(bootstrapv3.Bootstrap)
		if err := protojson.Unmarshal(text, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := read(captureMark)
	if id := b.GetNode().GetId(); id != "sidecar~10.244.0.9~web.default~default.svc.cluster.local" {
		t.Errorf("node %q", id)
	}
	if p := b.GetNode().GetMetadata().GetFields()["MALLA_PROFILE"].GetStringValue(); p != "stock" {
		t.Errorf("profile %q, want stock: it lacks Istio's filters", p)
	}
	for i, want := range []string{"/run/x/xds", "/run/x/sds"} {
		c := b.GetStaticResources().GetClusters()[i]
		if got := c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetPipe().GetPath(); got != want {
			t.Errorf("cluster %s is at %q, want %q", c.GetName(), got, want)
		}
	}
	if o := b.GetClusterManager().GetUpstreamBindConfig().GetSocketOptions(); len(o) != 1 || o[0].GetIntValue() != captureMark {
		t.Errorf("socket options %v, want the mark", o)
	}
	if read(0).GetClusterManager() != nil {
		t.Error("sockets are marked without the right to do so")
	}
}

// What is on PATH may be a script of a Python package; the program is beside it.
func TestFindEnvoy(t *testing.T) {
	dir := t.TempDir()
	if d, err := filepath.EvalSymlinks(dir); err == nil {
		dir = d
	}
	write := func(path, text string) string {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script := write("bin/envoy", "#!/usr/bin/python3\n")
	find := func() (string, error) {
		return FindEnvoy(func(name string) string { return map[string]string{EnvEnvoy: script}[name] })
	}
	if got, err := find(); err != nil || got != script {
		t.Errorf("a script alone: %q, %v", got, err)
	}
	program := write("lib/python3.11/site-packages/envoy/_bin/envoy", "\x7fELF")
	if got, err := find(); err != nil || got != program {
		t.Errorf("beside a package: %q, %v; want %q", got, err, program)
	}
	script = filepath.Join(dir, "none")
	if _, err := find(); err == nil {
		t.Error("a program that is not there is found")
	}
}

// An Envoy says that it is live whatever it has refused. Its workload is not, before it has taken what it was first sent.
func TestAnEnvoyWhoseFirstConfigurationIsRefusedIsNotReady(t *testing.T) {
	counters := func(cds, lds, refused int) string {
		return fmt.Sprintf("cluster_manager.cds.update_rejected: 0\ncluster_manager.cds.update_success: %d\nlistener_manager.lds.update_rejected: %d\nlistener_manager.lds.update_success: %d\n", cds, refused, lds)
	}
	for _, test := range []struct{ text, want string }{
		{counters(1, 0, 0), "config not fully received from XDS server: cds updates: 1 successful, 0 rejected; lds updates: 0 successful, 0 rejected"},
		{counters(1, 0, 2), "config received from XDS server, but was rejected: cds updates: 1 successful, 0 rejected; lds updates: 0 successful, 2 rejected"},
		{counters(1, 1, 2), ""},
	} {
		if got := untaken(test.text); got != test.want {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}
