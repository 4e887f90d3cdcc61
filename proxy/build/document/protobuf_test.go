package document

import (
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
)

// A file may be in one of protobuf's own forms, and its name says in which.
func TestProtobuf(t *testing.T) {
	want := &bootstrapv3.Bootstrap{Node: &corev3.Node{Id: "a", Cluster: "b"}}
	binary, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	text := "node { id: \"a\" # and a word\n cluster: \"b\" }\n"
	for _, test := range []struct {
		name, text string
		want       *bootstrapv3.Bootstrap
	}{
		{"envoy.pb", string(binary), want},
		{"ENVOY.PB", string(binary), want},
		{"envoy.pb_text", text, want},
		{"envoy.pb", "", &bootstrapv3.Bootstrap{}},
		{"envoy.pb_text", "", &bootstrapv3.Bootstrap{}},
	} {
		got := &bootstrapv3.Bootstrap{}
		if notes, err := Read(test.name, []byte(test.text), got); err != nil || len(notes) > 0 || !proto.Equal(got, test.want) {
			t.Errorf("%s, %q: got %v, %v, %v", test.name, test.text, got, notes, err)
		}
	}
}

// What is in neither form is told with its line, as far as there are lines.
func TestProtobufMistakes(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"envoy.pb", "\xff\xff", "envoy.pb: is no envoy.config.bootstrap.v3.Bootstrap in protobuf's binary form"},
		{"envoy.pb_text", "node {\n id: \"a\"\n bogus: 1 }", "envoy.pb_text:3: is not protobuf's text form: unknown field: bogus"},
		{"envoy.pb_text", "node: {id: a}", "envoy.pb_text:1: is not protobuf's text form: invalid value for string type: a"},
		{"envoy.textproto", "node { id: \"a\" }", "envoy.textproto"}, // a name that Envoy does not know either
	} {
		_, err := Read(test.name, []byte(test.text), &bootstrapv3.Bootstrap{})
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s, %q: got %v, want %s", test.name, test.text, err, test.want)
		}
	}
}
