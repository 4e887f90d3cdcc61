package build

import (
	"strings"
	"testing"
)

const clusterAny = `"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster`

// A bootstrap that cannot be read is told all that is wrong with it, what is not supported as well, each with its line and once.
func TestMistakesOfBootstrap(t *testing.T) {
	_, err := ParseBootstrap("b.yaml", []byte(`
static_resources:
  clusters:
  - name: a
    connect_timeouts: 1s
    lrs_report_endpoint_metrics: [x]
    transport_socket: {name: t, typed_config: {"@type": type.googleapis.com/example.Socket}}
`), nil)
	want := `b.yaml:5: static_resources.clusters[0].connect_timeouts: envoy.config.cluster.v3.Cluster has no such field; did you mean connect_timeout?
b.yaml:7: static_resources.clusters[0].transport_socket.typed_config: type "type.googleapis.com/example.Socket" is not supported
b.yaml:6: static_resources.clusters[0].lrs_report_endpoint_metrics: is not supported`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// A mistake in a file of resources names the resource, too.
func TestMistakesOfFile(t *testing.T) {
	_, err := ParseFile("cds.yaml", []byte(`
version_info: 1.10
resources:
- {`+clusterAny+`, name: a, lb_policy: RANDM}
- `+clusterAny+`
  name: b
  connect_timeout: 1
- {"@type": type.googleapis.com/example.Cluster, name: c}
`), nil)
	for i, want := range []string{
		`cds.yaml:4: Cluster a: resources[0].lb_policy: found "RANDM", want one of `,
		`cds.yaml:7: Cluster b: resources[1].connect_timeout: found 1, want seconds, such as 1.5s; did you mean 1s?`,
		`cds.yaml:8: Cluster: resources[2]: type "type.googleapis.com/example.Cluster" is not supported`,
	} {
		if lines := strings.Split(err.Error(), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[i], want) {
			t.Errorf("got\n%v\nwant %s", err, want)
		}
	}
}

// What is wrong with a resource of a bootstrap is told by its path in the bootstrap.
func TestMistakesOfStatic(t *testing.T) {
	m, err := ParseBootstrap("b.yaml", []byte(`static_resources: {clusters: [{name: a, type: STATIC}, {name: b, type: STRICT_DNS, load_assignment: {cluster_name: b, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: x}}}}]}]}}]}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBootstrap("b.yaml", m)
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(testEnv(t), nil)
	defer s.Close()
	if err := s.Static(b); err == nil || !strings.HasPrefix(err.Error(), "Cluster b: static_resources.clusters[1].load_assignment.endpoints[0]") {
		t.Errorf("got %v", err)
	}
}
