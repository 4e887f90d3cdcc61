package h2

// A table finds streams by their identifiers, which all are odd here.
type table struct {
	buckets []*Stream // chains; a power of two
	n       int
}

func (t *table) bucket(id uint32) **Stream { return &t.buckets[(id>>1)&uint32(len(t.buckets)-1)] }

func (t *table) get(id uint32) *Stream {
	if t.n == 0 {
		return nil
	}
	s := *t.bucket(id)
	for s != nil && s.id != id {
		s = s.next
	}
	return s
}

func (t *table) put(s *Stream) {
	if t.n == len(t.buckets) {
		old := t.buckets
		t.buckets = make([]*Stream, max(8, 2*len(old)))
		for _, x := range old {
			for x != nil {
				next := x.next
				b := t.bucket(x.id)
				x.next, *b = *b, x
				x = next
			}
		}
	}
	b := t.bucket(s.id)
	s.next, *b = *b, s
	t.n++
}

func (t *table) remove(s *Stream) {
	p := t.bucket(s.id)
	for *p != s {
		p = &(*p).next
	}
	*p, s.next = s.next, nil
	t.n--
}

// above returns a stream whose identifier is above last, nil if there is none.
func (t *table) above(last uint32) *Stream {
	for _, s := range t.buckets {
		for ; s != nil; s = s.next {
			if s.id > last {
				return s
			}
		}
	}
	return nil
}

// What became of a stream.
type fate uint8

const (
	skipped fate = iota // never used: a later one was begun
	used
	abandoned // we have reset it: frames that were under way are not an error
)

// A history remembers the last streams, because what a late frame means depends on
// how its stream ended (section 5.1, "closed").
type history struct {
	last  uint32 // highest identifier so far
	fates [256]fate
}

// begin notes a new stream, which closes all below it that were not used.
func (h *history) begin(id uint32) {
	n := (id + 1 - h.last) / 2
	for i := range min(n, uint32(len(h.fates))) {
		h.fates[((id>>1)-i)%uint32(len(h.fates))] = skipped
	}
	h.last = id
	h.set(id, used)
}

func (h *history) set(id uint32, f fate) {
	if !h.old(id) {
		h.fates[(id>>1)%uint32(len(h.fates))] = f
	}
}

// old says that the stream is too long ago to be remembered.
func (h *history) old(id uint32) bool { return h.last-id >= 2*uint32(len(h.fates)) }

// of returns what became of a stream that is not above last. Of those long ago we know nothing,
// and excuse everything.
func (h *history) of(id uint32) fate {
	if h.old(id) {
		return abandoned
	}
	return h.fates[(id>>1)%uint32(len(h.fates))]
}

// A list is a ring of streams that wait for the same thing. A stream is in one at most.
type list struct{ first, last *Stream }

func (l *list) push(s *Stream) {
	s.list, s.prev, s.after = l, l.last, nil
	if l.last != nil {
		l.last.after = s
	} else {
		l.first = s
	}
	l.last = s
}

func (l *list) empty() bool { return l.first == nil }

// unlink takes a stream out of the list that it is in.
func (s *Stream) unlink() {
	l := s.list
	if l == nil {
		return
	}
	if s.prev != nil {
		s.prev.after = s.after
	} else {
		l.first = s.after
	}
	if s.after != nil {
		s.after.prev = s.prev
	} else {
		l.last = s.prev
	}
	s.list, s.prev, s.after = nil, nil, nil
}
