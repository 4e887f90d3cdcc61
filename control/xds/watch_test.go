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
	if !w.answered("n2", "field x: no", time.Time{}) || w.refusals.newest() == nil || w.refusals.newest().Names[0] != "a" {
		t.Fatalf("nack %+v", w.refusals.newest())
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
	if w.refusals.newest() != nil || w.acked != 3 {
		t.Errorf("after an ACK: nack %v, acknowledged %d", w.refusals.newest(), w.acked)
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
		if w.refusals.newest() == nil {
			return ""
		}
		return strings.Join(w.refusals.newest().Lacking, " ")
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
	if w.answered("from another stream", "boom", time.Time{}) || w.refusals.newest() != nil {
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

// A refusal stands until what was refused is taken, goes, or is no longer wanted: an answer to something else says nothing of it.
func TestARefusalStandsUntilItsResourceIsTaken(t *testing.T) {
	for _, test := range []struct {
		what  string
		after func(w *watch)
		want  string // what is refused then
	}{
		{"something else is taken", func(w *watch) {}, "http.80: no"},
		{"it is taken", func(w *watch) { answer(w, 4, "", map[string]string{"http.8080": "2", "http.80": "3"}) }, ""},
		{"it is refused again", func(w *watch) { answer(w, 4, "http.80: not yet", map[string]string{"http.8080": "2", "http.80": "3"}) }, "http.80: not yet"},
		{"another is refused, too", func(w *watch) { answer(w, 4, "http.8080: dry", map[string]string{"http.8080": "3", "http.80": "2"}) }, "http.80: no; http.8080: dry"},
		{"it goes", func(w *watch) { answer(w, 4, "", map[string]string{"http.8080": "2"}) }, ""},
		{"it is sent anew, and not answered yet", func(w *watch) {
			w.sent("5", w.diff(fixture{5, map[string]string{"http.8080": "2", "http.80": "3"}}).names())
		}, "http.80: no"},
		{"it is not wanted any more", func(w *watch) {
			w.subscribe(&discovery.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"http.80"}})
		}, ""},
		{"all there is, is taken", func(w *watch) { w.sentAll("5", nil); w.answered("5", "", time.Time{}) }, ""},
	} {
		w := newWatch(RouteType)
		w.subscribe(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"http.80", "http.8080"}})
		answer(w, 1, "", map[string]string{"http.8080": "1", "http.80": "1"})
		answer(w, 2, "http.80: no", map[string]string{"http.8080": "1", "http.80": "2"})
		answer(w, 3, "", map[string]string{"http.8080": "2", "http.80": "2"})
		test.after(w)
		var got []string
		for _, n := range w.refusals.standing() {
			if len(n.Names) != 1 {
				t.Errorf("%s: %v is refused, want one name", test.what, n.Names)
			}
			got = append(got, n.Detail)
		}
		if strings.Join(got, "; ") != test.want {
			t.Errorf("%s: refused is %q, want %q", test.what, got, test.want)
		}
	}
}

// answer sends what a client lacks of the resources, and has it answer.
func answer(w *watch, generation int, detail string, resources map[string]string) {
	w.sent(fmt.Sprint(generation), w.diff(fixture{uint64(generation), resources}).names())
	w.answered(fmt.Sprint(generation), detail, time.Time{})
}

// Of one refusal of several things, what is mended is no longer told, nor why it was refused.
func TestWhatIsMendedOfARefusalIsNotTold(t *testing.T) {
	w := newWatch(ClusterType)
	w.subscribe(delta())
	all := map[string]string{"a": "1", "b": "1", "c": "1"}
	answer(w, 1, "a: one\nmore\nc: three", all)
	all["a"] = "2"
	answer(w, 2, "", all)
	if n := w.refusals.newest(); n == nil || n.Detail != "c: three" || len(n.Names) != 1 || len(n.Lacking) != 1 {
		t.Errorf("got %+v, want c alone, of which there is no version", n)
	}
	all["c"] = "2"
	answer(w, 3, "", all)
	if n := w.refusals.newest(); n != nil {
		t.Errorf("%+v stands, though all is taken", n)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	w := newWatch(ClusterType)
	w.subscribe(delta())
	all := map[string]string{}
	for i := range 3 * maxNacks {
		all[fmt.Sprint(i)] = "1"
		answer(w, i, "no", all)
	}
	if n := len(w.refusals.standing()); n != maxNacks {
		t.Errorf("%d refusals are kept, want %d", n, maxNacks)
	}
}

func TestMentions(t *testing.T) {
	for _, test := range []struct {
		text, name string
		want       bool
	}{
		{"http.8080: no", "http.80", false},
		{"http.80: no", "http.80", true},
		{"Error adding listener(s) 0.0.0.0_80: no chain", "0.0.0.0_80", true},
		{"Error adding listener(s) 10.0.0.0_80: no chain", "0.0.0.0_80", false},
		{"see outbound|80||a.b.", "outbound|80||a.b", true},
		{"outbound|80||a.b.c", "outbound|80||a.b", false},
		{"bad 'a', b", "a", true},
		{"", "a", false},
		{"x", "", false},
	} {
		if got := mentions(test.text, test.name); got != test.want {
			t.Errorf("mentions(%q, %q) = %v", test.text, test.name, got)
		}
	}
}

// Whoever may ask for many names may refuse them all at once, and give them up again: neither may keep the server from others.
func TestManyRefusedNamesAreForgottenInLinearTime(t *testing.T) {
	const many = 100_000
	var names []string
	for i := range many {
		names = append(names, fmt.Sprintf("outbound|%06d||a.b", i))
	}
	for give, up := range map[string]func(w *watch){
		"unsubscribed": func(w *watch) {
			w.subscribe(&discovery.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: names})
		},
		"asked for others": func(w *watch) { w.ask([]string{"other"}) },
		"taken":            func(w *watch) { w.sent("2", names); w.answered("2", "", time.Time{}) },
		"refused again":    func(w *watch) { w.sent("2", names); w.answered("2", names[0]+": no", time.Time{}) },
	} {
		w := newWatch(EndpointType)
		w.subscribe(delta(names...))
		w.diff(one(nil))
		w.sent("1", names)
		w.answered("1", strings.Repeat("no: ", maxDetail/4), time.Time{})
		if n := w.refusals.newest(); n == nil || len(n.Names) != many {
			t.Fatalf("%s: the refusal is not kept", give)
		}
		start := time.Now()
		up(w)
		if n := w.refusals.newest(); n != nil && len(n.Names) != 1 {
			t.Errorf("%s: %d names still count as refused", give, len(n.Names))
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %s", give, took)
		}
	}
}
