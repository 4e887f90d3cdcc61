package peer

import (
	"net"
	"strings"
	"testing"

	"github.com/mallamesh/malla/test/envoy/scenario"
)

// talk has the client of a scenario talk to its upstream without a proxy between.
func talk(t *testing.T, text string) string {
	t.Helper()
	s, err := scenario.Parse("x/direct", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pki, err := NewPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	u, err := Serve("127.0.0.1", t.TempDir(), s.Upstreams[0], pki)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	host, port, _ := net.SplitHostPort(u.Addr())
	v := &scenario.View{Scenario: s, IP: "127.0.0.1", Upstream: map[string]string{"backend": u.Addr()}, Workspace: t.TempDir(), PKI: pki.Dir}
	listen, err := scenario.Parse("x/listen", []byte("A.\n-- listener --\naddress: {socket_address: {address: "+host+", port_value: "+port+"}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	v.Scenario = listen
	if _, err := v.Config(); err != nil {
		t.Fatal(err)
	}
	v.Scenario = s
	c := &Client{View: v, PKI: pki}
	if err := c.Play(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range append(c.Notes, u.Notes(v)...) {
		b.WriteString(n.Key + " = " + strings.ReplaceAll(n.Value, "\r\n", "|") + "\n")
	}
	return b.String()
}

// A client and an upstream that stand face to face see each other's bytes.
func TestFaceToFace(t *testing.T) {
	for _, test := range []struct {
		what, text string
		want       []string
	}{
		{"HTTP/1.1", "A.\n-- request --\nGET /x HTTP/1.1\nHost: a\n\n-- upstream backend close --\nHTTP/1.1 200 OK\nX-A: b\ntransfer-encoding: chunked\n\n2\nhi\n0\nx-end: yes\n\n",
			[]string{"answer 1 status = 200", "answer 1 header x-a = b (written X-A)", "answer 1 body = hi", "answer 1 trailer x-end = yes", "connection = closed", "upstream backend 1 = GET /x HTTP/1.1|Host: a||"}},
		{"an interim answer, and nothing after it", "A.\n-- request --\nGET / HTTP/1.1\n\n-- upstream backend close --\nHTTP/1.1 103 Early Hints\n\n",
			[]string{"answer 1 interim 1 = HTTP/1.1 103 Early Hints||", "answer 1 error = no answer: closed"}},
		{"HTTP/2", "A.\n-- connect h2 --\n-- request --\nPOST /x\nx-a: b\n\nhello\n(trailers)\nx-end: yes\n-- upstream backend proto=h2 --\n200\nx-b: c\n\nhi\n(trailers)\ngrpc-status: 0\n",
			[]string{"answer 1 status = 200", "answer 1 header x-b = c", "answer 1 body = hi", "answer 1 trailer grpc-status = 0", "connection = open",
				"upstream backend 1 = HTTP/2 request|:authority: test.example|:method: POST|:path: /x|:scheme: http|x-a: b||hello"}},
		{"a stream that is reset", "A.\n-- connect h2 --\n-- request --\nGET /\n-- upstream backend proto=h2 reset code=7 --\n200\n", []string{"answer 1 status = 200", "answer 1 reset = REFUSED_STREAM"}},
		{"TLS", "A.\n-- connect tls sni=server.example alpn=h2 cert=client --\n-- request --\nGET /\n-- upstream backend proto=h2 tls=server alpn=h2 verify=ca --\n200\n",
			[]string{`connection tls = TLS 1.3, protocol "h2", certificate server`, `upstream backend 1 = TLS server name "server.example", protocols "h2", client certificate client`, "answer 1 status = 200"}},
		{"bytes", "A.\n-- send exact --\nping\n-- close half --\n-- read --\n-- upstream backend proto=tcp echo --\n", []string{"answer 1 bytes = ping", "upstream backend 1 = tunnel ping (end)"}},
	} {
		got := talk(t, test.text)
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: want %q in\n%s", test.what, want, got)
			}
		}
	}
}

// An answer that never comes is a failure of the scenario, unless the step says that none is to come.
func TestSilence(t *testing.T) {
	for _, test := range []struct {
		words       []string
		key, value  string
		wantSilence bool
	}{
		{nil, "error", "no answer: " + late, true},
		{nil, "error", "body: " + late, true},
		{[]string{"silent"}, "error", "no answer: " + late, false},
		{nil, "error", "no answer: closed", false},
		{nil, "body", late, false}, // an answer that says so
	} {
		here, there := net.Pipe()
		cl := &Client{View: &scenario.View{Scenario: &scenario.Scenario{Name: "x/y"}}}
		cl.waits(&conn{Conn: here, protocol: h1{}}, scenario.Step{Do: "request", Words: test.words})(test.key, test.value)
		if got := len(cl.silences) > 0; got != test.wantSilence {
			t.Errorf("%q %s %q: silence %v, want %v", test.words, test.key, test.value, got, test.wantSilence)
		}
		here.Close()
		there.Close()
	}
}
