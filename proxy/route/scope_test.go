package route

import (
	"testing"

	"github.com/mallamesh/malla/proxy/header"
)

func scopeRequest(fields ...string) *header.Map {
	m := &header.Map{}
	for i := 0; i < len(fields); i += 2 {
		m.AddName([]byte(fields[i]), []byte(fields[i+1]))
	}
	return m
}

// A request is in the scope whose key its fields make. Fragments that run together are not one another's, and what a request lacks
// makes no key.
func TestScopes(t *testing.T) {
	key := &ScopeKey{[]ScopeFragment{
		{Header: "x-a", Separator: []byte(","), Index: 1},
		{Header: "x-b", Separator: []byte(";"), Named: true, Name: []byte("t"), Equals: []byte("=")},
	}}
	of := func(parts ...string) string {
		var k []byte
		for _, p := range parts {
			k = AppendScope(k, []byte(p))
		}
		return string(k)
	}
	ab, empty := table(t), table(t)
	scopes := NewScopes(map[string]*Table{of("ab", "c"): ab, of("", ""): empty})
	for _, test := range []struct {
		a, b string
		want *Table
	}{
		{"z,ab", "t=c", ab},
		{"z,ab,y", "q;t=c;t=d", ab},
		{"z,a", "t=bc", nil},
		{"z,", "t", empty}, // no value is an empty one
		{"z,", "t=", empty},
		{"ab", "t=c", nil}, // there is no second element
		{"z,ab", "tt=c", nil},
	} {
		if got := scopes.Table(key, scopeRequest("x-a", test.a, "x-b", test.b), nil); got != test.want {
			t.Errorf("x-a %q, x-b %q: another table than wanted", test.a, test.b)
		}
	}
	if scopes.Table(key, scopeRequest("x-a", "z,ab"), nil) != nil {
		t.Error("a request without one of the fields has a scope")
	}
	var none *Scopes
	if none.Table(key, scopeRequest("x-a", "z,ab", "x-b", "t=c"), nil) != nil {
		t.Error("there are no scopes, and a request has one")
	}
}

func TestScopesDoNotAllocate(t *testing.T) {
	key := &ScopeKey{[]ScopeFragment{{Header: "x-a", Separator: []byte(","), Index: 1}}}
	scopes := NewScopes(map[string]*Table{string(AppendScope(nil, []byte("b"))): table(t)})
	m, scratch := scopeRequest("x-a", "a,b"), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		if scopes.Table(key, m, scratch) == nil {
			t.Fatal("no table")
		}
	}); n != 0 {
		t.Errorf("finding a scope allocates %v times, want 0", n)
	}
}
