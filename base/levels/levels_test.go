package levels

import (
	"testing"
	"time"
)

type node interface{ isNode() }

type leaf struct{ N int }

type branch struct{ Kids []node }

func (*leaf) isNode()   {}
func (*branch) isNode() {}

func deep(n int) node {
	var out node = &leaf{}
	for range n - 1 {
		out = &branch{[]node{out}}
	}
	return out
}

// Depth counts, width does not, and a tree that is too deep is not walked to its end.
func TestExceed(t *testing.T) {
	wide := &branch{}
	for range 10_000 {
		wide.Kids = append(wide.Kids, &leaf{})
	}
	for _, test := range []struct {
		what string
		tree any
		want bool
	}{
		{"as deep as may be", deep(100), false}, {"deeper", deep(101), true}, {"of a list", []node{deep(3), deep(101)}, true},
		{"wide", wide, false}, {"nothing", node(nil), false}, {"a branch of nothing", &branch{[]node{nil}}, false},
	} {
		if got := Exceed(test.tree, 100); got != test.want {
			t.Errorf("%s: %v, want %v", test.what, got, test.want)
		}
	}
	began := time.Now()
	if !Exceed(deep(1_000_000), 100) || time.Since(began) > 5*time.Second {
		t.Errorf("%v for a tree of a million levels", time.Since(began))
	}
}
