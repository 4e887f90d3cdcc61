// Package share bounds what many may use of something together, and each of
// them alone: so one that uses much cannot keep the others out.
package share

import "sync"

// A Share counts what is in use. Its limits are set before use; it is safe for
// concurrent use.
type Share struct {
	All  int // by everybody
	Each int // by one

	mu   sync.Mutex
	used map[string]int // by who; guarded by mu
	sum  int            // guarded by mu
}

// Take reports whether who may have one more, and counts it if so.
func (s *Share) Take(who string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sum >= s.All || s.used[who] >= s.Each {
		return false
	}
	if s.used == nil {
		s.used = make(map[string]int)
	}
	s.sum++
	s.used[who]++
	return true
}

// Give takes back what Take counted.
func (s *Share) Give(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum--
	if s.used[who]--; s.used[who] == 0 {
		delete(s.used, who)
	}
}
