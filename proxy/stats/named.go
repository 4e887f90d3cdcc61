package stats

import (
	"slices"
	"strings"
	"sync/atomic"
)

// Named counts by a name out of a small set that is not known beforehand ("<name>.<key>"), such as the
// ciphers that were agreed on. A name is there from its first count.
type Named struct {
	list atomic.Pointer[[]namedCounter]
}

type namedCounter struct {
	name string
	n    *Counter
}

// Inc adds one to the count of a name.
func (n *Named) Inc(name string) {
	for {
		old := n.list.Load()
		var list []namedCounter
		if old != nil {
			list = *old
		}
		i, found := slices.BinarySearchFunc(list, name, func(c namedCounter, name string) int { return strings.Compare(c.name, name) })
		if found {
			list[i].n.Inc()
			return
		}
		list = slices.Insert(slices.Clone(list), i, namedCounter{name, new(Counter)})
		n.list.CompareAndSwap(old, &list) // who loses looks again
	}
}

// each calls f for every name, sorted.
func (n *Named) each(f func(name string, count uint64)) {
	if list := n.list.Load(); list != nil {
		for _, c := range *list {
			f(c.name, c.n.Value())
		}
	}
}
