package coding

import "slices"

// A shelf has what nobody uses, for the next body. Which kinds there are changes with the configuration, so
// what has lain there longest goes when it is full.
type shelf[K comparable, V any] struct {
	idle []idle[K, V] // those that came last are last
	size int          // their memory
}

type idle[K comparable, V any] struct {
	of     K
	it     V
	memory int
}

const (
	shelfSize = 32 << 20
	ofKind    = 2
)

func (s *shelf[K, V]) take(of K) (v V, ok bool) {
	for i, x := range slices.Backward(s.idle) {
		if x.of == of {
			s.remove(i)
			return x.it, true
		}
	}
	return v, false
}

func (s *shelf[K, V]) keep(of K, it V, memory int) {
	s.idle = append(s.idle, idle[K, V]{of, it, memory})
	s.size += memory
	n, first := 0, 0
	for i, x := range slices.Backward(s.idle) {
		if x.of == of {
			n, first = n+1, i
		}
	}
	if n > ofKind {
		s.remove(first)
	}
	for s.size > shelfSize && len(s.idle) > 1 {
		s.remove(0)
	}
}

func (s *shelf[K, V]) remove(i int) {
	s.size -= s.idle[i].memory
	s.idle = slices.Delete(s.idle, i, i+1)
}
