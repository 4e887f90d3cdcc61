package registry

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/source/memory"
	"github.com/mallamesh/malla/model"
)

func service(name string, port int) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: prod}\nspec: {clusterIP: 10.96.0.7, selector: {app: %s}, ports: [{name: http, port: %d}]}\n", name, name, port)
}

func slice(name string, pods ...int) string {
	text := fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-1, namespace: prod, labels: {kubernetes.io/service-name: %s}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n", name, name)
	for _, p := range pods {
		text += fmt.Sprintf("- {addresses: [10.244.0.%d], targetRef: {kind: Pod, name: p%d}}\n", p, p)
	}
	return text
}

func pod(n int, version string, extra string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p%d, namespace: prod, resourceVersion: %q, labels: {app: x%s}}\nspec: {serviceAccountName: sa%d, containers: [{name: c, image: i}]}\nstatus: {phase: Running, podIP: 10.244.0.%d}\n", n, version, extra, n%3, n)
}

func put(t *testing.T, s *memory.Source, texts ...string) *config.Snapshot {
	t.Helper()
	for _, text := range texts {
		if err := s.PutYAML(text); err != nil {
			t.Fatal(err)
		}
	}
	return s.Snapshot()
}

// An endpoint that comes makes a new set for its service, and nothing else.
func TestEndpointsAreSeparate(t *testing.T) {
	mesh := model.DefaultMeshConfig()
	s := memory.New()
	var b Builder
	before := b.Build(put(t, s, service("a", 80), service("b", 80), slice("a", 1), slice("b", 2), pod(1, "1", ""), pod(2, "1", ""), pod(4, "1", "")), &mesh)
	after := b.Build(put(t, s, slice("a", 1, 4)), &mesh) // p4 has p1's account
	if &before.Services[0] != &after.Services[0] || &before.Workloads[0] != &after.Workloads[0] {
		t.Error("an endpoint more must leave services and workloads as they are")
	}
	want := []model.ServiceKey{{Host: "a.prod.svc.cluster.local", Namespace: "prod"}}
	if got := Changed(before, after); !slices.Equal(got, want) {
		t.Errorf("changed %v, want %v", got, want)
	}
	if n := len(after.Endpoints[want[0]].Endpoints); n != 2 {
		t.Errorf("%d endpoints, want 2", n)
	}
	// A new account is news about the service: clients must learn whom to trust.
	later := b.Build(put(t, s, slice("a", 1, 2)), &mesh)
	if later.Services[0] == after.Services[0] || len(later.Services[0].Accounts) != 2 || later.Services[1] != after.Services[1] {
		t.Error("an account more must make a new service, and leave the others")
	}
	// A pod whose status moves in a way that is of no interest changes nothing.
	if same := b.Build(put(t, s, pod(2, "2", "")), &mesh); same != later {
		t.Error("a pod of the same content must give the same state")
	}
	if again := b.Build(s.Snapshot(), &mesh); again != later {
		t.Error("the same snapshot must give the same state")
	}
	s.Delete("EndpointSlice", "prod", "a-1")
	gone := b.Build(s.Snapshot(), &mesh)
	if got := Changed(later, gone); !slices.Equal(got, want) || len(gone.Endpoints[want[0]].Endpoints) != 0 {
		t.Errorf("a slice that goes: changed %v, want %v without endpoints", got, want)
	}
	other := mesh
	other.TrustDomain = "example.org"
	if moved := b.Build(s.Snapshot(), &other); moved.Services[1].Accounts[0] != "spiffe://example.org/ns/prod/sa/sa2" {
		t.Errorf("another trust domain: accounts %v", moved.Services[1].Accounts)
	}
}

// Random edits give what is built from scratch.
func TestIncremental(t *testing.T) {
	mesh := model.DefaultMeshConfig()
	r := rand.New(rand.NewPCG(3, 4))
	s := memory.New()
	var b Builder
	for step := range 300 {
		for range 1 + r.IntN(3) {
			n, name := r.IntN(8), fmt.Sprintf("s%d", r.IntN(4))
			switch r.IntN(12) {
			case 0, 1:
				put(t, s, pod(n, fmt.Sprint(step), []string{"", ", version: v1", ", security.istio.io/tlsMode: istio"}[r.IntN(3)]))
			case 2:
				s.Delete("Pod", "prod", fmt.Sprintf("p%d", n))
			case 3, 4:
				put(t, s, slice(name, r.Perm(8)[:r.IntN(5)]...))
			case 5:
				put(t, s, service(name, 80+r.IntN(3)))
			case 6:
				s.Delete("Service", "prod", name)
			case 7:
				put(t, s, fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e%d, namespace: prod}\nspec: {hosts: [h%d.test, s1.prod.svc.cluster.local], resolution: DNS, ports: [{number: %d, name: http, protocol: HTTP}]}\n", n, n%3, 80+n))
			case 8:
				s.Delete("ServiceEntry", "prod", fmt.Sprintf("e%d", n))
			case 9:
				put(t, s, fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e%d, namespace: prod}\nspec: {hosts: [w%d.test], resolution: STATIC, workloadSelector: {labels: {app: %s}}, ports: [{number: 80, name: http, protocol: HTTP}]}\n", n, n%3, []string{"x", name}[r.IntN(2)]))
			case 10:
				put(t, s, fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w%d, namespace: prod}\nspec: {address: 192.0.2.%d, labels: {app: %s}, serviceAccount: vm%d}\n", n, n, []string{"x", name}[r.IntN(2)], r.IntN(2)))
			case 11:
				s.Delete("WorkloadEntry", "prod", fmt.Sprintf("w%d", n))
			}
		}
		got, want := b.Build(s.Snapshot(), &mesh), Build(s.Snapshot(), &mesh)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Fatalf("step %d: from scratch and incrementally differ:\n%s", step, diff)
		}
	}
}

// BenchmarkEndpoint: one endpoint moves in a mesh of 1,000 services and 5,000 pods.
func BenchmarkEndpoint(b *testing.B) {
	mesh := model.DefaultMeshConfig()
	s := memory.New()
	add := func(text string) {
		if err := s.PutYAML(text); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 1000 {
		name := fmt.Sprintf("s%d", i)
		add(service(name, 80) + "---\n" + slice(name, i%250, (i+1)%250, (i+2)%250, (i+3)%250, (i+4)%250))
	}
	for i := range 5000 {
		add(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: p%d, namespace: prod, labels: {app: x}}\nspec: {containers: [{name: c, image: i}]}\nstatus: {phase: Running, podIP: 10.244.%d.%d}\n", i, i/250, i%250))
	}
	var builder Builder
	builder.Build(s.Snapshot(), &mesh)
	var sides []*config.Object
	for _, text := range []string{slice("s7", 1, 2), slice("s7", 1, 2, 3)} {
		objects, err := memory.Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		sides = append(sides, objects...)
	}
	for i := 0; b.Loop(); i++ {
		s.Put(sides[i%2])
		builder.Build(s.Snapshot(), &mesh)
	}
}
