package tap

import (
	"slices"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
)

// A keeper is a sink that keeps what it gets but for one, the full-th.
type keeper struct {
	traces     []*Trace
	came, full int
}

func (k *keeper) Submit(t *Trace) bool {
	if k.came++; k.came == k.full {
		return false
	}
	k.traces = append(k.traces, t)
	return true
}

func fields(list ...string) *header.Map {
	m := &header.Map{}
	for i := 0; i < len(list); i += 2 {
		m.AddName([]byte(list[i]), []byte(list[i+1]))
	}
	return m
}

func has(t *testing.T, name, value string) *Fields {
	t.Helper()
	c, err := route.NewHeaderMatchers([]route.HeaderMatch{{Name: name, StringMatch: route.StringMatch{Kind: route.Exact, Value: value}}})
	if err != nil {
		t.Fatal(err)
	}
	return &Fields{c}
}

// What a predicate is open about can still change; what came before it was settled is not lost.
func TestPiecesWaitForTheMatch(t *testing.T) {
	k := &keeper{}
	c := &Config{Streaming: true, MaxRx: 4, MaxTx: 4, Sink: k, Predicate: &Predicate{And: []*Predicate{
		{RequestHeaders: has(t, ":method", "POST")}, {ResponseHeaders: has(t, "x-a", "b")},
	}}}
	var r Recorder
	r.Start(c, 1, false)
	request := fields(":method", "POST")
	r.RequestHeaders(request, time.Time{})
	r.RequestBody([]byte("abc"))
	r.RequestBody([]byte("def"))
	if len(k.traces) > 0 {
		t.Fatalf("%d pieces are out before the stream matches", len(k.traces))
	}
	request.AddName([]byte("x-late"), []byte("1")) // by a filter behind
	r.ResponseHeaders(fields("x-a", "b"), time.Time{})
	r.ResponseBody([]byte("response"))
	if !r.End(nil) {
		t.Error("the stream does not match")
	}
	var got []Piece
	for _, p := range k.traces {
		got = append(got, p.Piece)
	}
	if want := []Piece{RequestHeaders, RequestBody, ResponseHeaders, ResponseBody}; !slices.Equal(got, want) {
		t.Fatalf("pieces %v, want %v", got, want)
	}
	if n := len(k.traces[0].Request.Headers); n != 2 {
		t.Errorf("the request has %d fields, want those that it had when the stream matched, 2", n)
	}
	if b := k.traces[1].Request; string(b.Body) != "abcd" || !b.Truncated {
		t.Errorf("the request's body is %q, truncated %v, want abcd and what is beyond the limit cut off", b.Body, b.Truncated)
	}
	if b := k.traces[3].Response; string(b.Body) != "resp" || !b.Truncated {
		t.Errorf("the response's body is %q, truncated %v, want resp and the rest cut off", b.Body, b.Truncated)
	}
}

// A pattern is found wherever pieces of a body are split, and only within the limit.
func TestSearch(t *testing.T) {
	const body = "the quick brown fox"
	for _, test := range []struct {
		name     string
		patterns []string
		limit    int
		want     bool
	}{
		{"all of them", []string{"quick", "fox"}, 0, true},
		{"not all of them", []string{"quick", "wolf"}, 0, false},
		{"within the limit", []string{"quick"}, 9, true},
		{"beyond the limit", []string{"quick"}, 8, false},
	} {
		s := &Search{Limit: test.limit}
		for _, p := range test.patterns {
			s.Patterns = append(s.Patterns, []byte(p))
		}
		for size := 1; size <= len(body); size++ {
			var m Match
			m.Start(&Predicate{RequestBody: s})
			for piece := range slices.Chunk([]byte(body), size) {
				m.body(requestBody, piece)
			}
			if m.Matches() != test.want {
				t.Errorf("%s, in pieces of %d: %v, want %v", test.name, size, m.Matches(), test.want)
			}
		}
	}
}

// One tap at a time is attached, points that come later have it, and none has it when it has gone.
func TestRegistry(t *testing.T) {
	var r Registry
	var a, b, d Point
	r.Add("one", &a)
	c := &Config{}
	if _, err := r.Attach("two", c); err == nil {
		t.Error("a tap of a name that no point has was taken")
	}
	detach, err := r.Attach("one", c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Attach("one", c); err == nil {
		t.Error("a second tap was taken")
	}
	remove := r.Add("one", &b)
	if a.Current() != c || b.Current() != c {
		t.Error("a point does not have the tap")
	}
	if gone := r.Add("one", &d); d.Current() != c {
		t.Error("a third point does not have the tap")
	} else if gone(); d.Current() != c {
		t.Error("what is still on its way to a point that has gone is not recorded")
	}
	detach()
	if a.Current() != nil || b.Current() != nil || d.Current() != nil {
		t.Error("a point still has the tap")
	}
	remove()
	if detach, err = r.Attach("one", c); err != nil || b.Current() != nil {
		t.Errorf("a point that has gone was given a tap, or %v", err)
	}
	detach()
}

// A stream that is not meant costs no memory.
func TestStreamsThatDoNotMatchAllocateNothing(t *testing.T) {
	c := &Config{MaxRx: 100, MaxTx: 100, Sink: &keeper{}, Predicate: &Predicate{RequestHeaders: has(t, "x-tap", "1")}}
	request, response, body := fields(":method", "POST"), fields(":status", "200"), []byte("body")
	var r Recorder
	if n := testing.AllocsPerRun(100, func() {
		r.Start(c, 1, false)
		r.RequestHeaders(request, time.Time{})
		r.RequestBody(body)
		r.ResponseHeaders(response, time.Time{})
		r.ResponseBody(body)
		if r.End(nil) {
			t.Fatal("the stream matches")
		}
		r.Stop()
	}); n != 0 {
		t.Errorf("allocates %v times, want 0", n)
	}
}

// What a sink does not take is counted, whole streams and pieces alike, and what comes after it goes on.
func TestWhatASinkDoesNotTakeIsCounted(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		k := &keeper{full: 2}
		c := &Config{Streaming: streaming, MaxRx: 4, MaxTx: 4, Sink: k, Predicate: &Predicate{}}
		var r Recorder
		dropped := uint64(0)
		for i := range 3 {
			r.Start(c, uint64(i), false)
			r.RequestHeaders(fields(":method", "POST"), time.Time{})
			r.RequestBody([]byte("longer than four"))
			r.End(func(*Trace) {})
			dropped += r.Dropped
			r.Stop()
		}
		if dropped != 1 || len(k.traces) < 2 {
			t.Errorf("streaming %v: %d traces were dropped and %d taken, want 1 and the others", streaming, dropped, len(k.traces))
		}
		for _, trace := range k.traces {
			if n := len(trace.Request.Body); n > 4 {
				t.Errorf("streaming %v: a trace holds %d bytes of a body, want at most 4", streaming, n)
			}
		}
	}
}
