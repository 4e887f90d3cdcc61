package tap

import (
	"bytes"
	"testing"
)

// FuzzSearch looks for a body in which a pattern is found or not found because of where its pieces end.
func FuzzSearch(f *testing.F) {
	f.Add([]byte("the quick brown fox"), []byte("quick"), []byte("brown"), uint8(0), uint8(6), uint8(3))
	f.Add([]byte("aaaaab"), []byte("aab"), []byte(""), uint8(5), uint8(1), uint8(1))
	f.Add([]byte("abcabd"), []byte("abd"), []byte("abc"), uint8(6), uint8(4), uint8(0))
	f.Fuzz(func(t *testing.T, body, first, second []byte, limit, one, two uint8) {
		p := &Predicate{RequestBody: &Search{Patterns: [][]byte{first, second}, Limit: int(limit)}}
		var m Match
		m.Start(p)
		rest := body
		for _, n := range []uint8{one, two} {
			n := min(int(n), len(rest))
			m.body(requestBody, rest[:n])
			rest = rest[n:]
		}
		m.body(requestBody, rest)
		seen := body
		if limit > 0 {
			seen = body[:min(len(body), int(limit))]
		}
		want := bytes.Contains(seen, first) && bytes.Contains(seen, second)
		if m.Matches() != want {
			t.Errorf("%q in pieces of %d, %d and the rest, limit %d: matches %v, want %v for %q and %q", body, one, two, limit, m.Matches(), want, first, second)
		}
		if m.Matches() && m.Open() {
			t.Errorf("%q: what has been found can still be lost", body)
		}
	})
}
