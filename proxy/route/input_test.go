package route

import (
	"testing"

	"github.com/mallamesh/malla/proxy/access"
	matching "github.com/mallamesh/malla/proxy/matcher"
)

// A matcher leads to a list of routes, and what it finds is the end: a route there that does not match is a request without one.
func TestMatcherOfRoutes(t *testing.T) {
	leaf := func(i int) *matching.Then[*Request, int] { return &matching.Then[*Request, int]{Action: i} }
	tab, err := NewTable(Config{Name: "t", VirtualHosts: []VirtualHostConfig{{
		Name: "all", Domains: []string{"*"},
		Choices: [][]RouteConfig{
			{to("a", Match{Kind: PrefixPath, Path: "/a"}), to("b", Match{Kind: PrefixPath, Path: "/b"})},
			{to("rest", Match{Kind: PrefixPath, Path: "/"})},
		},
		Matcher: &matching.Exact[*Request, int]{Input: HeaderInput("X-Kind"), Map: map[string]*matching.Then[*Request, int]{"1": leaf(0), "1,2": leaf(1)},
			Else: &matching.Then[*Request, int]{Tree: &matching.Exact[*Request, int]{Input: StateInput("key", ""), Map: map[string]*matching.Then[*Request, int]{"said": leaf(1)},
				Else: &matching.Then[*Request, int]{Tree: &matching.Exact[*Request, int]{Input: StateInput("object", "field"), Map: map[string]*matching.Then[*Request, int]{"value": leaf(0)}}}}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	said := &access.State{}
	said.Set("key", []byte("said"), false)
	object := &access.State{}
	access.NewObject("object", "field").Set(object, []byte("whole"), []byte("{}"), []byte("value"))
	for _, test := range []struct {
		path, want string
		state      *access.State
		headers    []string
	}{
		{"/a", "a", nil, []string{"x-kind", "1"}},
		{"/b", "b", nil, []string{"x-kind", "1"}},
		{"/c", "", nil, []string{"x-kind", "1"}},
		{"/c", "rest", nil, []string{"x-kind", "1", "x-kind", "2"}},
		{"/a", "", nil, nil},
		{"/a", "rest", said, nil},
		{"/a", "a", object, nil},
	} {
		r := get("h", test.path, test.headers...)
		r.State = test.state
		if got := nameOf(tab.Match(r)); got != test.want {
			t.Errorf("%s %v takes route %q, want %q", test.path, test.headers, got, test.want)
		}
	}
	r := get("h", "/a", "x-kind", "1")
	if n := testing.AllocsPerRun(100, func() { tab.Match(r) }); n != 0 {
		t.Errorf("matching allocates %v times, want 0", n)
	}
}

// Many fields of one name are joined in one go: how many there are is a client's choice.
func TestManyFieldsAreJoinedOnce(t *testing.T) {
	var headers []string
	for range 10000 {
		headers = append(headers, "x-kind", "0123456789")
	}
	r, in := get("h", "/", headers...), HeaderInput("x-kind")
	v, ok := in(r)
	if want := 10000*11 - 1; !ok || len(v) != want {
		t.Fatalf("has %d bytes, want %d", len(v), want)
	}
	if n := testing.AllocsPerRun(1, func() { in(r) }); n > 40 {
		t.Errorf("joining allocates %v times, want as often as a slice grows", n)
	}
}
