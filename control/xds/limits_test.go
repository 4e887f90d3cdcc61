package xds

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

func TestStreamsAreBounded(t *testing.T) {
	l := DefaultLimits()
	l.Streams, l.IdentityStreams = 3, 2
	g := newGate(l)
	a, b := pki.ID{TrustDomain: "t", Namespace: "n", Account: "a"}, pki.ID{TrustDomain: "t", Namespace: "n", Account: "b"}
	enter := func(who pki.ID) (func(), error) {
		v, err := g.enter(t.Context(), who)
		return v.leave, err
	}
	leave, err := enter(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enter(a); err != nil {
		t.Fatal(err)
	}
	if _, err := enter(a); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "spiffe://t/ns/n/sa/a") {
		t.Errorf("a third stream of one identity: %v", err)
	}
	if _, err := enter(b); err != nil {
		t.Errorf("another identity suffers: %v", err)
	}
	if _, err := enter(b); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "3 streams are open") {
		t.Errorf("a fourth stream: %v", err)
	}
	leave()
	if _, err := enter(a); err != nil {
		t.Errorf("after one left: %v", err)
	}
}

// A thousand proxies that come back together wait their turn; who would wait too
// long is told to come again.
func TestStreamsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := DefaultLimits()
		l.Opens, l.OpenBurst, l.OpenWait = 10, 5, 2*time.Second
		g := newGate(l)
		began := time.Now()
		for range 15 {
			if _, err := g.enter(t.Context(), pki.ID{}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("15 streams took %v, want the ten after the first five to take a second", took)
		}
		refused := 0
		done := make(chan error)
		for range 50 {
			go func() {
				_, err := g.enter(t.Context(), pki.ID{})
				done <- err
			}()
		}
		for range 50 {
			if status.Code(<-done) == codes.ResourceExhausted {
				refused++
			}
		}
		if refused < 25 || refused > 35 || g.all != 15+50-refused {
			t.Errorf("%d of 50 refused, %d counted; want those that would wait longer than 2 s to be refused and not counted", refused, g.all)
		}
	})
}

// A client that asks in a hurry is read slower, and nothing it asked gets lost.
func TestRequestsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := DefaultLimits()
		l.Requests, l.RequestBurst = 10, 10
		n := 0
		recv := func() (int, error) {
			if n++; n > 30 {
				return 0, errors.New("end")
			}
			return n, nil
		}
		began := time.Now()
		requests, received := receive(t.Context(), recv, l)
		for want := 1; want <= 30; want++ {
			if got := <-requests; got != want {
				t.Fatalf("request %d, want %d", got, want)
			}
		}
		<-received
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("30 requests took %v", took)
		}
	})
}

func TestStreamWithoutRequestsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := firstOf(t.Context(), make(chan int), make(chan error))
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
	})
}

func TestNamesAreBounded(t *testing.T) {
	for name, test := range map[string]struct {
		ask  []string
		want codes.Code
	}{
		"few":      {[]string{"a", "b", "c"}, codes.OK},
		"too many": {[]string{"a", "b", "c", "d"}, codes.ResourceExhausted},
		"long":     {[]string{strings.Repeat("x", maxName+1)}, codes.InvalidArgument},
	} {
		s, _, client := start(t, fixture{1, nil})
		s.Limits.Names = 3
		stream, err := client.DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: EndpointType, ResourceNamesSubscribe: test.ask}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// slow is a source whose translation waits.
type slow struct {
	fixture
	entered, release chan struct{}
	once             atomic.Bool
}

func (s *slow) Resource(typeURL, name string) (Resource, bool) {
	if s.once.CompareAndSwap(false, true) {
		close(s.entered)
		<-s.release
	}
	return s.fixture.Resource(typeURL, name)
}

// While one client's resources are translated, changes are told and reports are made.
func TestSlowTranslationHoldsUpNobody(t *testing.T) {
	s, _, client := start(t, fixture{})
	src := &slow{fixture: fixture{1, map[string]string{"a": "1"}}, entered: make(chan struct{}), release: make(chan struct{})}
	s.Source = always{src}
	stream, err := client.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: ClusterType}); err != nil {
		t.Fatal(err)
	}
	<-src.entered
	done := make(chan struct{})
	go func() {
		s.Changed()
		s.Clients()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("a change waits for a translation")
	}
	close(src.release)
	if _, err := stream.Recv(); err != nil {
		t.Error(err)
	}
}

// always serves one set of resources.
type always struct{ r Resources }

func (a always) Open(*corev3.Node, pki.ID) (Proxy, error) { return a, nil }
func (a always) Resources() Resources                     { return a.r }

// Proxies are of one class only if everything that translation may look at is equal,
// also where somebody writes our separators into a label.
func TestClassesAreDistinct(t *testing.T) {
	seen := map[string]string{}
	for i, p := range []*model.Proxy{
		{Labels: map[string]string{"a": "1", "b": "2"}},
		{Labels: map[string]string{"a": "1,b=2"}},
		{Labels: map[string]string{"a=1,b": "2"}},
		{Labels: map[string]string{"a": "1"}, Metadata: map[string]string{"b": "2"}},
		{Labels: map[string]string{"a": "1|b=2"}},
		{Namespace: "a|b"},
		{Namespace: "a", ServiceAccount: "b"},
		{Namespace: "a", ServiceAccount: "", TrustDomain: "b"},
	} {
		key := class(p)
		if other, ok := seen[key]; ok {
			t.Errorf("proxy %d is of the class of %s", i, other)
		}
		seen[key] = fmt.Sprint("proxy ", i)
	}
	if a, b := class(&model.Proxy{Metadata: map[string]string{"NAME": "x-1"}}), class(&model.Proxy{Metadata: map[string]string{"NAME": "x-2"}}); a != b {
		t.Error("replicas are of different classes")
	}
}

// A workload that says of itself what it likes, and asks for what is not there, fills so much memory and no
// more; it is answered all the same, and others notice nothing.
func TestWhatIsKeptForAnIdentityIsBounded(t *testing.T) {
	body := &wrapperspb.BytesValue{Value: make([]byte, 1<<20)}
	s := NewMesh(Translation{Resource: func(_ *model.View, _, name string) (proto.Message, bool) { return body, name == "there" }},
		&model.Mesh{}, time.Now())
	of := func(account, label string) Resources {
		return s.For(&model.Proxy{Namespace: "n", ServiceAccount: account, Labels: map[string]string{"x": label}}).Resources()
	}
	s.now.Load().keep("n/bad", maxKept-10<<20) // of which there is much already
	for i := range 50 {
		if _, ok := of("bad", fmt.Sprint(i)).Resource(ClusterType, "there"); !ok {
			t.Fatal("not answered")
		}
	}
	for i := range 100_000 {
		if _, ok := of("bad", "").Resource(ClusterType, fmt.Sprint("not there ", i)); ok {
			t.Fatal("what is not there is")
		}
	}
	of("good", "").Resource(ClusterType, "there")
	entries, good := 0, false
	theirs := class(&model.Proxy{Namespace: "n", ServiceAccount: "good", Labels: map[string]string{"x": ""}})
	s.now.Load().made.Range(func(k, v any) bool {
		entries++
		good = good || k.(key).class == theirs
		return true
	})
	if most := 10<<20/keptCost + 50; entries > most || !good {
		t.Errorf("%d entries are kept, want at most %d; that of another identity %v, want true", entries, most, good)
	}
}

// What a proxy says of itself is as long as it likes; the class that each of its resources
// is kept by is not.
func TestClassesAreShort(t *testing.T) {
	s := NewMesh(Translation{Resource: func(*model.View, string, string) (proto.Message, bool) { return nil, false }}, &model.Mesh{}, time.Now())
	long := strings.Repeat("x", maxNode)
	r := s.For(&model.Proxy{ID: long, Labels: map[string]string{"x": long}}).Resources()
	for _, name := range []string{"there", "virtualInbound"} {
		r.Resource(ClusterType, name)
	}
	n := 0
	s.now.Load().made.Range(func(k, _ any) bool {
		if n++; len(k.(key).class) > keptCost {
			t.Errorf("a class of %d bytes is kept for %s, and not counted", len(k.(key).class), k.(key).name)
		}
		return true
	})
	if n != 2 {
		t.Errorf("%d resources are kept, want 2", n)
	}
}

// Streams of one identity may say of themselves, and ask for, so much together; what they
// no longer ask for, and what a stream that ended had, no longer counts.
func TestWhatStreamsKeepIsBounded(t *testing.T) {
	s, _, client := start(t, fixture{1, nil})
	const names = 10
	s.Limits.IdentityBytes = nodeCost*2*proto.Size(node) + names*(nameCost+1) + 50
	stream := func(subscribe ...string) (discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, error) {
		t.Helper()
		stream, err := client.DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: EndpointType, ResourceNamesSubscribe: subscribe}); err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		return stream, err
	}
	all := strings.Split("abcdefghijk", "")
	first, err := stream(all[:names]...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream("k"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a name too many: %v, want ResourceExhausted", err)
	}
	if err := first.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: EndpointType, ResourceNamesUnsubscribe: all[1:names], ResourceNamesSubscribe: all[:1]}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream("k"); err != nil {
		t.Errorf("there is room again, but: %v", err)
	}
}

func TestHugeNodesAndRefusals(t *testing.T) {
	_, _, client := start(t, fixture{1, nil})
	stream, err := client.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	huge, _ := structpb.NewStruct(map[string]any{"X": strings.Repeat("x", maxNode)})
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: ClusterType, Node: &corev3.Node{Id: "n", Metadata: huge}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a huge node: %v, want InvalidArgument", err)
	}
	w := newWatch(ClusterType)
	w.sent("1", nil)
	if w.answered("1", strings.Repeat("ü", maxDetail), time.Now()); len(w.refusals.newest().Detail) > maxDetail+3 || !utf8.ValidString(w.refusals.newest().Detail) {
		t.Errorf("%d bytes of a refusal are kept", len(w.refusals.newest().Detail))
	}
}
