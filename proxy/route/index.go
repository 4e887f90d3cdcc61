package route

import "slices"

// An index finds, for a path, the routes of a virtual host that can match it, in
// declared order.
//
// Every route is in one of three places: under its exact path, under its prefix in a
// trie (an expression under the text that it begins with), or among those that no index
// can leave out (no path condition, case-insensitive paths, expressions that begin with anything). A request's candidates are the union of a few
// ascending lists, which are walked together, lowest number first.
type index struct {
	exact  map[string][]uint32
	trie   trie
	always []uint32
}

// small is the number of routes up to which trying one after the other is cheaper than looking up.
const small = 8

func newIndex(routes []*Route) *index {
	if len(routes) <= small {
		return nil
	}
	x := &index{exact: map[string][]uint32{}}
	for i, r := range routes {
		n := uint32(i)
		switch m := &r.match; {
		case m.fold:
			x.always = append(x.always, n)
		case m.kind == ExactPath:
			x.exact[m.path] = append(x.exact[m.path], n)
		case m.kind == PrefixPath || m.kind == SeparatedPath:
			x.trie.add(m.path, n)
		case m.prefix != "":
			x.trie.add(m.prefix, n)
		default:
			x.always = append(x.always, n)
		}
	}
	return x
}

// maxLists bounds the lists of one walk. Prefixes nested deeper than that in one
// virtual host fall back to trying every route.
const maxLists = 24

// A walk yields candidates in ascending order.
type walk struct {
	lists [maxLists][]uint32
	n     int
}

// start collects the lists for a path, and reports whether they all found room.
func (x *index) start(w *walk, path []byte) bool {
	w.n = 0
	w.add(x.always)
	w.add(x.exact[string(path)])
	return x.trie.collect(w, path)
}

func (w *walk) add(list []uint32) bool {
	if len(list) == 0 {
		return true
	}
	if w.n == maxLists {
		return false
	}
	w.lists[w.n] = list
	w.n++
	return true
}

// next returns the lowest candidate that is left.
func (w *walk) next() (uint32, bool) {
	best := -1
	for i := 0; i < w.n; i++ {
		if best < 0 || w.lists[i][0] < w.lists[best][0] {
			best = i
		}
	}
	if best < 0 {
		return 0, false
	}
	n := w.lists[best][0]
	if w.lists[best] = w.lists[best][1:]; len(w.lists[best]) == 0 {
		w.n--
		w.lists[best] = w.lists[w.n]
	}
	return n, true
}

// A trie holds prefixes, with edges of several bytes.
type trie struct {
	routes []uint32 // whose prefix ends here, ascending
	keys   []byte   // first bytes of the edges, sorted
	edges  []edge
}

type edge struct {
	label string
	to    *trie
}

func (t *trie) add(prefix string, n uint32) {
	if prefix == "" {
		t.routes = append(t.routes, n)
		return
	}
	i, found := slices.BinarySearch(t.keys, prefix[0])
	if !found {
		t.keys = slices.Insert(t.keys, i, prefix[0])
		t.edges = slices.Insert(t.edges, i, edge{prefix, &trie{routes: []uint32{n}}})
		return
	}
	e := &t.edges[i]
	common := 0
	for common < len(prefix) && common < len(e.label) && prefix[common] == e.label[common] {
		common++
	}
	if common < len(e.label) {
		rest := e.label[common:]
		e.to = &trie{keys: []byte{rest[0]}, edges: []edge{{rest, e.to}}}
		e.label = e.label[:common]
	}
	e.to.add(prefix[common:], n)
}

// collect adds the lists of all prefixes of path.
func (t *trie) collect(w *walk, path []byte) bool {
	for {
		if !w.add(t.routes) {
			return false
		}
		if len(path) == 0 {
			return true
		}
		e := t.edge(path[0])
		if e == nil || len(path) < len(e.label) || string(path[:len(e.label)]) != e.label {
			return true
		}
		t, path = e.to, path[len(e.label):]
	}
}

func (t *trie) edge(c byte) *edge {
	lo, hi := 0, len(t.keys)
	for lo < hi {
		mid := (lo + hi) / 2
		if t.keys[mid] < c {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(t.keys) && t.keys[lo] == c {
		return &t.edges[lo]
	}
	return nil
}
