package xdsclient

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// show writes a request as one line.
func show(r *Request) string {
	if r == nil {
		return "-"
	}
	var b strings.Builder
	b.WriteString(r.GetTypeUrl()[strings.LastIndexByte(r.GetTypeUrl(), '.')+1:])
	if r.GetNode() != nil {
		b.WriteString(" node=" + r.GetNode().GetId())
	}
	list := func(sign string, names []string) {
		for _, n := range names {
			b.WriteString(" " + sign + n)
		}
	}
	list("+", r.GetResourceNamesSubscribe())
	list("-", r.GetResourceNamesUnsubscribe())
	for _, n := range slices.Sorted(maps.Keys(r.GetInitialResourceVersions())) {
		fmt.Fprintf(&b, " have:%s@%s", n, r.GetInitialResourceVersions()[n])
	}
	if n := r.GetResponseNonce(); n != "" {
		b.WriteString(" answers=" + n)
	}
	if d := r.GetErrorDetail(); d != nil {
		fmt.Fprintf(&b, " refused(%d): %s", d.GetCode(), d.GetMessage())
	}
	return b.String()
}

func respond(typeURL, nonce string, resources ...string) *Response {
	r := &Response{TypeUrl: typeURL, Nonce: nonce}
	for _, text := range resources {
		if name, gone := strings.CutPrefix(text, "-"); gone {
			r.RemovedResources = append(r.RemovedResources, name)
			continue
		}
		name, version, _ := strings.Cut(text, "@")
		r.Resources = append(r.Resources, &discovery.Resource{Name: name, Version: version, Resource: &anypb.Any{}})
	}
	return r
}

func names(u Update) string {
	var out []string
	for _, r := range u.Resources {
		out = append(out, r.Name+"@"+r.Version)
	}
	for _, n := range u.Removed {
		out = append(out, "-"+n)
	}
	return strings.Join(out, " ")
}

// A machine asks for what is wanted, once, and says on every new stream what it has.
func TestMachine(t *testing.T) {
	m := NewMachine(&corev3.Node{Id: "me"})
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	answer := func(r *Response, refused ...Refusal) string {
		t.Helper()
		u, err := m.Receive(r)
		if err != nil {
			t.Fatal(err)
		}
		return names(u) + " | " + show(m.Answer(r, u, refused))
	}
	m.Want(ClusterType, Interest{Wildcard: true})
	expect("nothing is sent without a stream", show(m.Want(RouteType, Interest{Names: []string{"80"}})), "-")

	first := m.Opened()
	if len(first) != 2 {
		t.Fatalf("%d first requests, want one for each type that is wanted", len(first))
	}
	expect("clusters come first, and with them the node", show(first[0]), "Cluster node=me")
	expect("the node is sent once", show(first[1]), "RouteConfiguration +80")

	expect("an answer is acknowledged", answer(respond(ClusterType, "1", "a@1", "b@1")), "a@1 b@1 | Cluster answers=1")
	expect("what has not changed is not asked for", show(m.Want(RouteType, Interest{Names: []string{"80"}})), "-")
	expect("a changed interest is a difference", show(m.Want(RouteType, Interest{Names: []string{"90", "http"}})), "RouteConfiguration +90 +http -80")
	expect("what is not wanted any more is not handed on", answer(respond(RouteType, "2", "80@1", "90@1")), "90@1 | RouteConfiguration answers=2")
	expect("a name that there is nothing of is told", answer(respond(RouteType, "3", "-http")), "-http | RouteConfiguration answers=3")

	bad := Refusal{"b", errors.New("connect_timeout: found -1s, want more")}
	expect("one bad resource is refused by name and reason", answer(respond(ClusterType, "4", "a@2", "b@2"), bad),
		"a@2 b@2 | Cluster answers=4 refused(3): b: connect_timeout: found -1s, want more")

	m.Closed()
	expect("nothing is sent while the stream is down", show(m.Want(EndpointType, Interest{Names: []string{"x"}})), "-")
	again := m.Opened()
	expect("a new stream names the versions that count: of b the last good one", show(again[0]), "Cluster node=me have:a@2 have:b@1")
	expect("what was wanted meanwhile is asked for", show(again[1]), "ClusterLoadAssignment +x")
	expect("names are asked for again, known or not", show(again[2]), "RouteConfiguration +90 +http have:90@1")
	expect("a removed resource is forgotten", answer(respond(ClusterType, "5", "-a")), "-a | Cluster answers=5")
	m.Closed()
	expect("and not named again", show(m.Opened()[0]), "Cluster node=me have:b@1")
}

// A wildcard is spelled out where names stand beside it, and for types that have
// no wildcard of old.
func TestWildcard(t *testing.T) {
	for _, test := range []struct {
		typeURL string
		want    Interest
		request string
	}{
		{ListenerType, Interest{Wildcard: true}, "Listener node=me"},
		{ListenerType, Interest{Wildcard: true, Names: []string{"x"}}, "Listener node=me +* +x"},
		{RouteType, Interest{Wildcard: true}, "RouteConfiguration node=me +*"},
		{RouteType, Interest{Names: []string{"b", "a"}}, "RouteConfiguration node=me +a +b"},
	} {
		m := NewMachine(&corev3.Node{Id: "me"})
		m.Want(test.typeURL, test.want)
		if got := show(m.Opened()[0]); got != test.request {
			t.Errorf("%v: got %s, want %s", test.want, got, test.request)
		}
	}
	m := NewMachine(&corev3.Node{Id: "me"})
	m.Want(ListenerType, Interest{Wildcard: true})
	m.Opened()
	if got := show(m.Want(ListenerType, Interest{Names: []string{"x"}})); got != "Listener +x -*" {
		t.Errorf("leaving the wildcard: got %s", got)
	}
}

// A server that sends what nobody asked for has lost its way.
func TestUnknownType(t *testing.T) {
	m := NewMachine(&corev3.Node{})
	m.Opened()
	if _, err := m.Receive(respond(SecretType, "1", "x@1")); err == nil {
		t.Error("taken")
	}
}

// A NACK stays within what a server takes in, however much is wrong.
func TestDetailIsBounded(t *testing.T) {
	var refused []Refusal
	for i := range 1000 {
		refused = append(refused, Refusal{fmt.Sprint(i), errors.New(strings.Repeat("x", 100))})
	}
	if got := detail(refused); len(got) > maxDetail+100 || !strings.Contains(got, "more") {
		t.Errorf("%d bytes, ends with %q", len(got), got[len(got)-20:])
	}
	if got := detail([]Refusal{{"a", errors.New("\xff")}}); got != "a: ?" {
		t.Errorf("got %q, which protobuf will not carry", got)
	}
}
