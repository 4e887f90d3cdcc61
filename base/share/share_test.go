package share

import "testing"

func TestShare(t *testing.T) {
	s := Share{All: 5, Each: 3}
	take := func(who string, want bool) {
		t.Helper()
		if got := s.Take(who); got != want {
			t.Errorf("%s may have one more: %v, want %v", who, got, want)
		}
	}
	for range 3 {
		take("greedy", true)
	}
	take("greedy", false) // what is left is for others
	take("a", true)
	take("b", true)
	take("c", false) // and that is all there is
	s.Give("greedy")
	take("c", true)
	take("greedy", false)
	s.Give("c")
	take("greedy", true)
	for _, who := range []string{"greedy", "greedy", "greedy", "a", "b"} {
		s.Give(who)
	}
	if s.sum != 0 || len(s.used) != 0 {
		t.Errorf("%d are in use by %v, want nothing", s.sum, s.used)
	}
}
