package document

import (
	"errors"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3" // is packed below
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/base/field"
)

// Every mistake of a text is told, all of them at once, each with its line and the path of its field.
func TestMistakes(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"b.yaml", `
node: {id: 5, metadata: [a]}
static_resources:
  clusters:
  - name: a
    lb_polcy: RANDOM
    lb_policy: RANDM
    connect_timeout: 5
    dns_refresh_rate: 250ms
    respect_dns_ttl: maybe
    alt_stat_name: on
    circuit_breakers: {thresholds: [{max_requests: -1}, {max_requests: many}]}
    type: STATIC
    cluster_type: {name: b}
    transport_socket: {name: t, typed_config: {"@type": type.googleapis.com/example.Socket}}
    metadata: {filter_metadata: {a: 5}}
  - transport_socket: {name: t, typed_config: {stat_prefix: x}}
  - [a]
`, `
b.yaml:2: node.id: found 5, want text: put it in quotes, "5"
b.yaml:2: node.metadata: found a list, want keys with values
b.yaml:6: static_resources.clusters[0].lb_polcy: envoy.config.cluster.v3.Cluster has no such field; did you mean lb_policy?
b.yaml:7: static_resources.clusters[0].lb_policy: found "RANDM", want one of ROUND_ROBIN, LEAST_REQUEST, RING_HASH, RANDOM, MAGLEV, CLUSTER_PROVIDED, LOAD_BALANCING_POLICY_CONFIG; did you mean RANDOM?
b.yaml:8: static_resources.clusters[0].connect_timeout: found 5, want seconds, such as 1.5s; did you mean 5s?
b.yaml:9: static_resources.clusters[0].dns_refresh_rate: found "250ms", want seconds, such as 1.5s; did you mean 0.25s?
b.yaml:10: static_resources.clusters[0].respect_dns_ttl: found "maybe", want true or false
b.yaml:11: static_resources.clusters[0].alt_stat_name: found on, which YAML takes for true, want text: put it in quotes, "on"
b.yaml:12: static_resources.clusters[0].circuit_breakers.thresholds[0].max_requests: found -1, want a whole number from 0 to 4294967295
b.yaml:12: static_resources.clusters[0].circuit_breakers.thresholds[1].max_requests: found "many", want a whole number from 0 to 4294967295
b.yaml:14: static_resources.clusters[0].cluster_type: is set beside type (line 13), want only one of type, cluster_type
b.yaml:15: static_resources.clusters[0].transport_socket.typed_config: type "type.googleapis.com/example.Socket" is not supported
b.yaml:16: static_resources.clusters[0].metadata.filter_metadata.a: found 5, want keys with values
b.yaml:17: static_resources.clusters[1].transport_socket.typed_config: has no "@type", want type.googleapis.com/ and the name of a message
b.yaml:18: static_resources.clusters[0]: found "a", want the fields of envoy.config.cluster.v3.Cluster`},
		// A field in a packed message is told with the way to it.
		{"b.yaml", `static_resources: {clusters: [{transport_socket: {typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer, a: 1}}}]}`,
			`b.yaml:1: static_resources.clusters[0].transport_socket.typed_config.a: envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer has no such field`},
		{"b.json", "{\"node\": {\n\"id\": 5,\n\"metadata\": {\"a\": 1, \"a\": 2}}}", `
b.json:2: node.id: found 5, want text: put it in quotes, "5"
b.json:3: node.metadata.a: stands there twice`},
		{"b.json", "{\"node\":\n {\"id\" 5}}", `b.json:2: is not JSON: found '5', want ':'`},
		{"b.json", "node: {}", `b.json:1: is not JSON: found 'n', want a value`},
		{"b.json", `{"node": {"id": "\ud83d"}}`, `b.json:1: is not JSON: found half a character, \ud83d`},
		{"b.yaml", "node:\n  id: [", `b.yaml:2: is not YAML: did not find expected node content`},
		{"b.yaml", "", "b.yaml: is empty"},
		{"b.yaml", "# nothing", "b.yaml: is empty"},
		{"b.yaml", "5", "b.yaml:1: found 5, want the fields of a message (envoy.config.bootstrap.v3.Bootstrap)"},
		{"b.yaml", "node: {id: *b}", "b.yaml: is not YAML: unknown anchor 'b' referenced"},
		{"b.yaml", "node: {? [a, b] : 1}", `b.yaml:1: node: found a list, want text as a key`},
		{"", "nodes: {}", `line 1: nodes: envoy.config.bootstrap.v3.Bootstrap has no such field; did you mean node?`},
	} {
		_, err := Read(test.name, []byte(test.text), &bootstrapv3.Bootstrap{})
		if err == nil || err.Error() != strings.TrimSpace(test.want) {
			t.Errorf("%s:\n got %v\nwant %s", test.text, err, strings.TrimSpace(test.want))
		}
	}
}

// What stands in a text without effect is told, and is no mistake.
func TestNotes(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"b.yaml", "node: {id: a}\nnode:\n  id: b\n  metadata: {x: 1, x: 2}", `
b.yaml:1: node: stands there again in line 2, which is what counts
b.yaml:4: node.metadata.x: stands there again in line 4, which is what counts`},
		{"b.yaml", "node: {id: b, userAgentName: x, user_agent_name: z}", `b.yaml:1: node.user_agent_name: stands there twice; what comes last counts, and lists grow`},
		{"b.json", `{"node": {"id": "a"}, "node": {"id": "b"}}`, "b.json:1: node: stands there twice; what comes last counts, and lists grow\nb.json:1: node.id: stands there twice; what comes last counts, and lists grow"},
		{"b.yaml", "node: {id: b}\n---\nnode: {id: c}", "b.yaml:2: a second document begins here, of which nothing is read"},
	} {
		m := &bootstrapv3.Bootstrap{}
		notes, err := Read(test.name, []byte(test.text), m)
		if err != nil || notes.Error() != strings.TrimSpace(test.want) || m.GetNode().GetId() != "b" {
			t.Errorf("%s:\n got %v, %v, %v\nwant %s", test.text, m, notes, err, strings.TrimSpace(test.want))
		}
	}
}

// A text that would be larger than it looks is refused, and so is what is nested without end.
func TestBounds(t *testing.T) {
	bomb := "node:\n  metadata:\n    a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += strings.ReplaceAll("    C: &C [*P,*P,*P,*P,*P,*P,*P,*P,*P,*P]\n", "P", string(c-1))
		bomb = strings.ReplaceAll(bomb, "C", string(c))
	}
	nested := func(n int) string { // as deep as Envoy reads, with the two messages around
		return "node: {metadata: {a: " + strings.Repeat("[", n) + strings.Repeat("]", n) + "}}"
	}
	for _, test := range []struct{ name, text, want string }{
		{"b.yaml", bomb, "aliases make more of the text than is read"},
		{"b.yaml", "node: &n {metadata: {a: *n}}", "is nested more than 100 deep"},
		{"b.yaml", nested(97), ""},
		{"b.yaml", nested(98), "is nested more than 100 deep"},
		{"b.json", `{"node": {"metadata": {"a": ` + strings.Repeat("[", 100000), "is nested more than 100 deep"},
	} {
		_, err := Read(test.name, []byte(test.text), &bootstrapv3.Bootstrap{})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%.60s: %.200v, want %q", test.text, err, test.want)
		}
	}
	many := "{" + strings.Repeat("x: 1, ", 10000) + "y: 1}"
	var s structpb.Struct
	if _, err := Read("s.yaml", []byte(many), &s); err != nil || len(s.Fields) != 2 {
		t.Errorf("many equal keys: %d, %v", len(s.Fields), err)
	}
	_, err := Read("b.yaml", []byte("{node: {client_features: ["+strings.Repeat("5, ", 10000)+"]}}"), &bootstrapv3.Bootstrap{})
	if errs, _ := errors.AsType[field.List](err); len(errs) != maxMistakes {
		t.Errorf("%d mistakes are told, want %d", len(errs), maxMistakes)
	}
}

// Mistakes that are found later get the line of their field, or of what is nearest to it.
func TestLocate(t *testing.T) {
	text := "static_resources:\n  clusters:\n  - &a\n    name: a\n    lbPolicy: RANDOM\n  - *a\n  listeners:\n    name: one\n"
	for _, test := range []struct {
		at   *field.Path
		want string
	}{
		{field.At("static_resources", "clusters").Index(0).Child("lb_policy"), "b.yaml:5"},
		{field.At("static_resources", "clusters").Index(0).Child("connect_timeout"), "b.yaml:3"}, // is not there
		{field.At("static_resources", "clusters").Index(1).Child("name"), "b.yaml:4"},            // by an alias
		{field.At("static_resources", "listeners").Index(0).Child("name"), "b.yaml:8"},           // one stands for a list
		{field.At("admin"), "b.yaml"},
		{nil, "b.yaml"},
	} {
		errs := field.List{{At: test.at, In: "b.yaml", Msg: "is wrong"}}
		if Locate("b.yaml", []byte(text), errs); errs[0].Pos != test.want || errs[0].In != "" {
			t.Errorf("%v is at %q in %q, want %q", test.at, errs[0].Pos, errs[0].In, test.want)
		}
	}
}
