package matcher

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func action(name string) *Then[string, string] { return &Then[string, string]{Action: name} }

func whole(s string) ([]byte, bool) { return []byte(s), s != "" }

// Whatever the kind of a tree, a branch that leads nowhere makes room for the next that fits.
func TestBranchesThatLeadNowhere(t *testing.T) {
	nowhere := &Then[string, string]{Tree: &List[string, string]{}}
	rest := action("rest")
	yes := func(string) bool { return true }
	for _, test := range []struct {
		name, in, want string
		tree           Tree[string, string]
	}{
		{"list", "a", "second", &List[string, string]{Rules: []Rule[string, string]{{yes, nowhere}, {yes, action("second")}}, Else: rest}},
		{"list", "a", "rest", &List[string, string]{Rules: []Rule[string, string]{{Not(yes), action("first")}}, Else: rest}},
		{"exact", "a", "rest", &Exact[string, string]{Input: whole, Map: map[string]*Then[string, string]{"a": nowhere}, Else: rest}},
		{"exact", "", "rest", &Exact[string, string]{Input: whole, Map: map[string]*Then[string, string]{"": action("empty")}, Else: rest}},
		{"prefix", "abc", "short", NewPrefix(whole, map[string]*Then[string, string]{"ab": nowhere, "a": action("short")}, rest)},
		{"networks", "10.1.1.1", "wide", NewNetworks(whole, []Range[string, string]{
			{netip.MustParsePrefix("10.0.0.0/8"), action("wide"), false},
			{netip.MustParsePrefix("10.1.0.0/16"), action("alone"), true},
			{netip.MustParsePrefix("10.1.1.1/32"), nowhere, false}}, rest)},
		{"networks", "no address", "rest", NewNetworks(whole, []Range[string, string]{{netip.MustParsePrefix("0.0.0.0/0"), action("all"), false}}, rest)},
		{"names", "A.b.example", "wild", NewNames(whole, map[string]*Then[string, string]{"a.b.example": nowhere, "*.b.example": nowhere, "*.example": action("wild")}, rest)},
		{"names", "example", "any", NewNames(whole, map[string]*Then[string, string]{"*.example": action("wild"), "*": action("any")}, rest)},
	} {
		if got, ok := test.tree.Match(test.in); !ok || got != test.want {
			t.Errorf("%s of %q leads to %q, want %q", test.name, test.in, got, test.want)
		}
	}
}

// A text costs no more to look up for being long: clients choose its length.
func TestLongTextIsCheap(t *testing.T) {
	prefixes, names := map[string]*Then[string, int]{}, map[string]*Then[string, int]{}
	for i := range 20 {
		prefixes[fmt.Sprintf("/v%d", i)] = &Then[string, int]{Action: i}
		names[fmt.Sprintf("*.v%d.example", i)] = &Then[string, int]{Action: i}
	}
	text := func(of string) Input[string] {
		b := []byte(strings.Repeat(of, 1<<20))
		return func(string) ([]byte, bool) { return b, true }
	}
	for kind, tree := range map[string]Tree[string, int]{"prefix": NewPrefix(text("x"), prefixes, nil), "names": NewNames(text("."), names, nil)} {
		start := time.Now()
		if _, ok := tree.Match(""); ok {
			t.Errorf("%s: a text that begins, or ends, with none of them was found", kind)
		}
		if took := time.Since(start); took > 2*time.Second { // all of its prefixes: 20 s; all of its domains: minutes
			t.Errorf("%s: looking up 1 MiB took %v", kind, took)
		}
	}
}
