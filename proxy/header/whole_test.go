package header

import "testing"

func TestLacks(t *testing.T) {
	for _, test := range []struct {
		what string
		has  []Token
		want string
	}{
		{"GET", []Token{Path}, ""},
		{"GET", nil, ":path"},
		{"", []Token{Path}, ":method"},
		{"CONNECT", []Token{Authority}, ""},
		{"CONNECT", nil, ":authority"},
		{"CONNECT", []Token{Authority, Path}, ":protocol"},
		{"CONNECT", []Token{Authority, Protocol}, ":path"},
		{"CONNECT", []Token{Authority, Protocol, Path}, ""},
	} {
		var m Map
		if test.what != "" {
			m.Add(Method, []byte(test.what))
		}
		for _, f := range test.has {
			m.Add(f, []byte("x"))
		}
		if got := m.Lacks(); got != test.want {
			t.Errorf("%q with %v lacks %q, want %q", test.what, test.has, got, test.want)
		}
	}
}
