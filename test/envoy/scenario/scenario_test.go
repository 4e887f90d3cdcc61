package scenario

import (
	"strings"
	"testing"
)

// What is written is what goes over the wire.
func TestBytes(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},                           // lines end with CRLF
		{"POST / HTTP/1.1\n\nhello\n", "POST / HTTP/1.1\r\n\r\nhello"},                                 // a body has no line end of its own
		{"POST / HTTP/1.1\n\n0\n\n", "POST / HTTP/1.1\r\n\r\n0\r\n\r\n"},                               // unless an empty line ends it
		{`GET / HTTP/1.1` + "\n" + `A: b\nB: c\0\x7f\\`, "GET / HTTP/1.1\r\nA: b\nB: c\x00\x7f\\\r\n"}, // single bytes
		{"GET / \\\nHTTP/1.1\n\n", "GET / HTTP/1.1\r\n\r\n"},                                           // a line goes on
		{"A: {{repeat 3 xy}}\n", "A: xyxyxy\r\n"},
		{"", "\r\n"},
	} {
		if got, err := Bytes(test.text); err != nil || got != test.want {
			t.Errorf("Bytes(%q) = %q, %v, want %q", test.text, got, err, test.want)
		}
	}
	for _, text := range []string{`\q`, `\x1`, `\xzz`, "{{repeat x y}}", "{{repeat 99999999 abcdef}}"} {
		if got, err := Bytes(text); err == nil {
			t.Errorf("Bytes(%q) = %q, want an error", text, got)
		}
	}
}

// A difference that nobody meant fails, and so does one that is meant and gone.
func TestCompare(t *testing.T) {
	s, err := Parse("h1/x", []byte("A sentence.\n-- differs --\n# stricter\nanswer 1 status: 400\nanswer 1 header *\n"))
	if err != nil {
		t.Fatal(err)
	}
	envoy := Notes{{"answer 1 status", "200"}, {"answer 1 header date", "x"}}
	for _, test := range []struct {
		what  string
		malla Notes
		want  string // the only line that is told, "" for none
	}{
		{"as meant", Notes{{"answer 1 status", "400"}}, ""},
		{"another value than was meant", Notes{{"answer 1 status", "500"}}, "answer 1 status:\n malla 500\n Envoy 200"},
		{"one that is gone", Notes{{"answer 1 status", "400"}, {"answer 1 header date", "x"}}, "answer 1 header *: is meant to differ"},
		{"something else", Notes{{"answer 1 status", "400"}, {"log 1", "-"}}, "log 1:\n malla -\n Envoy (nothing)"},
	} {
		got := strings.Join(Compare(s, envoy, test.malla), "; ")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.what, got, test.want)
		}
	}
}

// A file that does not say what it is about, or why something differs, is refused.
func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"no sentence\n", "want a sentence"},
		{"A.\nguards: x.go\n", "want FILE func NAME"},
		{"A.\n-- nonsense --\n", "want one of"},
		{"A.\n-- differs --\nanswer 1 status\n", "without a reason"},
		{"A.\nworkers: 2\n", "needs alone"},
		{"A.\nunloged: x\n", "want a line guards"},
		{"A.\n-- request --\nGET / HTTP/1.1\nHost: a\n", "its head has no end"}, // both proxies would wait
		{"A.\n-- request exact --\nGET / HTTP/1.1\nHost: a\n\n", "its head has no end"},
		{"A.\n-- request --\nPOST / HTTP/1.1\nHost: a\nContent-Length: 1\n\nx\n\n", "an empty line behind its end"}, // Envoy would log half a request
		{"A.\n-- upstream --\n", "want the upstream's name"},
		{"A.\n-- upstream x --\nHTTP/1.1 200 OK\n\nok-- request --\n", "on a line of its own"},
	} {
		if _, err := Parse("x/y", []byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %q", test.text, err, test.want)
		}
	}
}

// A request that is to stay open says so, and those of HTTP/2 end otherwise.
func TestParseOpen(t *testing.T) {
	for _, text := range []string{
		"A.\n-- request open --\nGET / HTTP/1.1\nHost: a\n",
		"A.\n-- connect h2 --\n-- request --\nGET /\n",
		"A.\n-- connect tls alpn=h2,http/1.1 --\n-- request --\nGET /\n",
		"A.\n-- send --\nGET / HTTP/1.1\n",
	} {
		if _, err := Parse("x/y", []byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Names that all scenarios of a process share get the scenario's prefix, wherever
// they are written; others stay.
func TestConfig(t *testing.T) {
	s, err := Parse("h1/a_b", []byte(`A.
-- routes --
- {match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: other, weight: 1}]}, request_mirror_policies: [{cluster: backend}]}}
-- clusters --
- {name: other, type: EDS, eds_cluster_config: {eds_config: {path_config_source: {path: "{{dir}}/eds.yaml"}}}}
-- chain --
transport_socket:
  name: tls
  typed_config: {"@type": T, common_tls_context: {tls_certificate_sds_secret_configs: [{name: cert}]}}
-- secrets --
- {name: cert}
-- file eds.yaml --
resources: [{"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: other}]
`))
	if err != nil {
		t.Fatal(err)
	}
	v := &View{Scenario: s, IP: "127.9.1.1", Upstream: map[string]string{"backend": "127.9.1.1:1234"}, Workspace: "/work"}
	tree, err := v.Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, want string }{
		{"listeners.0.name", "h1-a-b--main"},
		{"listeners.0.address.socket_address.address", "127.9.1.1"},
		{"listeners.0.filter_chains.0.transport_socket.typed_config.common_tls_context.tls_certificate_sds_secret_configs.0.name", "h1-a-b--cert"},
		{"listeners.0.filter_chains.0.transport_socket.name", "tls"},
		{"listeners.0.filter_chains.0.filters.0.typed_config.stat_prefix", "h1-a-b--main"},
		{"listeners.0.filter_chains.0.filters.0.typed_config.route_config.virtual_hosts.0.routes.0.route.weighted_clusters.clusters.0.name", "h1-a-b--other"},
		{"listeners.0.filter_chains.0.filters.0.typed_config.route_config.virtual_hosts.0.routes.0.route.request_mirror_policies.0.cluster", "h1-a-b--backend"},
		{"clusters.0.name", "h1-a-b--backend"},
		{"clusters.0.load_assignment.cluster_name", "h1-a-b--backend"},
		{"clusters.1.eds_cluster_config.eds_config.path_config_source.path", "/work/eds.yaml"},
		{"secrets.0.name", "h1-a-b--cert"},
	} {
		if got, err := at(tree["static_resources"], strings.Split(test.path, ".")...); err != nil || got != test.want {
			t.Errorf("%s = %v, %v, want %s", test.path, got, err, test.want)
		}
	}
	files, err := v.Files()
	if err != nil || !strings.Contains(files["eds.yaml"], `"cluster_name": "h1-a-b--other"`) {
		t.Errorf("files %v, %v", files, err)
	}
	if address, err := v.Listener(""); err != nil || address != "127.9.1.1:10000" {
		t.Errorf("listener %s, %v", address, err)
	}
	if got := v.Normalize("h1-a-b--other 127.9.1.1:10000 /work/eds.yaml"); got != "other 127.0.0.1:(port) (dir)/eds.yaml" {
		t.Errorf("normalised %q", got)
	}
}
