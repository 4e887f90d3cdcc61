package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// fixture is one generation for tests: resource name -> version, for every type.
type fixture struct {
	generation uint64
	of         map[string]string
}

func (f fixture) Generation() uint64 { return f.generation }

func (f fixture) Names(string) []string {
	var names []string
	for n := range f.of {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (f fixture) Resource(typeURL, name string) (Resource, bool) {
	v, ok := f.of[name]
	return Resource{Version: v, Body: &anypb.Any{TypeUrl: typeURL, Value: []byte(v)}}, ok
}

// text shows a change as "a=1 b=2 -c".
func (c change) text() string {
	var parts []string
	for _, r := range c.resources {
		parts = append(parts, fmt.Sprintf("%s=%s", r.GetName(), r.GetVersion()))
	}
	for _, n := range c.removed {
		parts = append(parts, "-"+n)
	}
	return strings.Join(parts, " ")
}

func delta(names ...string) *discovery.DeltaDiscoveryRequest {
	return &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: names}
}

func one(of map[string]string) fixture { return fixture{1, of} }

func TestWildcardGetsChangesOnly(t *testing.T) {
	w := newWatch(ClusterType)
	if !w.subscribe(delta()) {
		t.Error("a first request must be answered, even with nothing")
	}
	for _, step := range []struct {
		resources map[string]string
		want      string
	}{
		{map[string]string{"a": "1", "b": "1"}, "a=1 b=1"},
		{map[string]string{"a": "1", "b": "1"}, ""}, // the same again is nothing
		{map[string]string{"a": "2", "b": "1"}, "a=2"},
		{map[string]string{"a": "2"}, "-b"},
		{map[string]string{"a": "2", "b": "1"}, "b=1"}, // and back
	} {
		if got := w.diff(one(step.resources)).text(); got != step.want {
			t.Errorf("%v: got %q, want %q", step.resources, got, step.want)
		}
	}
}

func TestByName(t *testing.T) {
	all := one(map[string]string{"a": "1", "b": "1", "c": "1"})
	w := newWatch(RouteType)
	w.subscribe(delta("a", "x"))
	if got := w.diff(all).text(); got != "a=1 -x" {
		t.Errorf("got %q: an unknown name must be answered as removed", got)
	}
	if got := w.diff(all).text(); got != "" {
		t.Errorf("got %q: an unknown name is answered once", got)
	}
	if got := w.diff(one(map[string]string{"a": "1", "x": "1"})).text(); got != "x=1" {
		t.Errorf("got %q: a name that appears later must come", got)
	}
	w.subscribe(delta("a"))
	if got := w.diff(one(map[string]string{"a": "1", "x": "1"})).text(); got != "a=1" {
		t.Errorf("got %q: what is asked for again must be sent again", got)
	}
	w.subscribe(&discovery.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"a"}})
	if got := w.diff(one(map[string]string{"a": "2", "x": "1"})).text(); got != "" {
		t.Errorf("got %q: nobody asks for a any more", got)
	}
}

func TestRoutesWithoutNamesAreNoWildcard(t *testing.T) {
	w := newWatch(RouteType)
	w.subscribe(delta())
	if got := w.diff(one(map[string]string{"a": "1"})).text(); got != "" {
		t.Errorf("got %q", got)
	}
	w.subscribe(delta("*")) // but it can be asked for, for every type
	if got := w.diff(one(map[string]string{"a": "1"})).text(); got != "a=1" {
		t.Errorf("got %q", got)
	}
}

func TestReconnectGetsOnlyWhatChanged(t *testing.T) {
	w := newWatch(ClusterType)
	w.subscribe(&discovery.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{"same": "1", "old": "1", "gone": "1"}})
	got := w.diff(one(map[string]string{"same": "1", "old": "2", "new": "1"})).text()
	if got != "new=1 old=2 -gone" {
		t.Errorf("got %q", got)
	}
	// A by-name client brings versions and names in one request.
	w = newWatch(EndpointType)
	w.subscribe(&discovery.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{"same": "1"}, ResourceNamesSubscribe: []string{"same"}})
	if got := w.diff(one(map[string]string{"same": "1"})).text(); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

func TestRefusedResourceIsNotRepeated(t *testing.T) {
	w := newWatch(ClusterType)
	w.subscribe(delta())
	w.diff(fixture{1, map[string]string{"a": "1"}})
	w.sent("n1", []string{"a"})
	w.answered("n1", "", time.Time{})
	if w.acked != 1 {
		t.Fatalf("acknowledged generation %d, want 1", w.acked)
	}
	w.diff(fixture{2, map[string]string{"a": "bad"}})
	w.sent("n2", []string{"a"})
	if !w.answered("n2", "field x: no", time.Time{}) || w.nack == nil || w.nack.Names[0] != "a" {
		t.Fatalf("nack %+v", w.nack)
	}
	if w.acked != 1 {
		t.Errorf("a refusal acknowledges generation %d", w.acked)
	}
	if got := w.diff(fixture{2, map[string]string{"a": "bad"}}).text(); got != "" {
		t.Errorf("the refused bytes are sent again: %q", got)
	}
	if got := w.diff(fixture{3, map[string]string{"a": "good"}}).text(); got != "a=good" {
		t.Errorf("got %q", got)
	}
	w.sent("n3", []string{"a"})
	w.answered("n3", "", time.Time{})
	if w.nack != nil || w.acked != 3 {
		t.Errorf("after an ACK: nack %v, acknowledged %d", w.nack, w.acked)
	}
}

// Who refuses the first version of something has nothing in its place, however often it is mended in vain.
func TestWhatARefusalLeavesTheClientWithout(t *testing.T) {
	w := newWatch(ClusterType)
	w.subscribe(&discovery.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{"had": "1"}})
	n := 0
	send := func(detail string, resources map[string]string) string {
		t.Helper()
		n++
		names := w.diff(fixture{uint64(n), resources}).names()
		w.sent(fmt.Sprint(n), names)
		w.answered(fmt.Sprint(n), detail, time.Time{})
		if w.nack == nil {
			return ""
		}
		return strings.Join(w.nack.Lacking, " ")
	}
	all := map[string]string{"had": "2", "new": "1", "bad": "1"}
	if got := send("bad: no; had: no", all); got != "bad" {
		t.Errorf("at first without %q, want bad: new is not at fault, and of had there is a version", got)
	}
	all["bad"], all["new"] = "2", "2"
	if got := send("bad: no; new: no", all); got != "bad" {
		t.Errorf("then without %q, want bad: of new there is a version now", got)
	}
	all["bad"] = "3"
	send("", all)
	all["bad"] = "4"
	if got := send("bad: no", all); got != "" {
		t.Errorf("once it was taken, without %q", got)
	}
}

func TestForeignNonceIsIgnored(t *testing.T) {
	w := newWatch(ClusterType)
	w.subscribe(delta())
	if w.answered("from another stream", "boom", time.Time{}) || w.nack != nil {
		t.Error("a nonce that we never sent changed the state")
	}
}

func TestSilentClientStaysBounded(t *testing.T) {
	w := newWatch(ClusterType)
	w.subscribe(delta())
	for i := range 10 * maxUnanswered {
		w.sent(fmt.Sprint(i), nil)
	}
	if len(w.unanswered) > maxUnanswered {
		t.Errorf("%d responses are remembered", len(w.unanswered))
	}
}

func TestStateOfTheWorldNames(t *testing.T) {
	all := one(map[string]string{"a": "1", "b": "1"})
	w := newWatch(EndpointType)
	if !w.ask([]string{"a"}) {
		t.Error("a first request must be answered")
	}
	if got := w.diff(all).text(); got != "a=1" {
		t.Errorf("got %q", got)
	}
	if w.ask([]string{"a"}) {
		t.Error("the same names again are an acknowledgement, not a question")
	}
	if !w.ask([]string{"a", "b"}) {
		t.Error("a new name must be answered")
	}
	if got := w.diff(all).text(); got != "b=1" {
		t.Errorf("got %q", got)
	}
	w.ask([]string{"b"})
	if got := w.diff(one(map[string]string{"a": "2", "b": "1"})).text(); got != "" {
		t.Errorf("got %q: nobody asks for a any more", got)
	}
}
