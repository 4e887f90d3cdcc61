package route

import "testing"

func TestRedirectsAreFollowedWherePredicatesAllow(t *testing.T) {
	previous, safe := FollowPredicate{Kind: PreviousRoutes}, FollowPredicate{Kind: SafeCrossScheme}
	listed := FollowPredicate{Kind: Listed, Routes: []string{"b"}}
	type step struct {
		from, to string
		was, is  bool
		want     bool
	}
	for _, test := range []struct {
		what       string
		predicates []FollowPredicate
		steps      []step
	}{
		{"without predicates anything goes", nil, []step{{"a", "b", false, true, true}}},
		{"a route leads nowhere twice", []FollowPredicate{previous}, []step{{"a", "b", false, false, true}, {"b", "a", false, false, true}, {"a", "b", false, false, false}, {"a", "c", false, false, true}}},
		{"only routes that are listed", []FollowPredicate{listed}, []step{{"a", "b", false, false, true}, {"a", "c", false, false, false}}},
		{"not up to TLS, but down", []FollowPredicate{safe}, []step{{"a", "b", false, true, false}, {"a", "b", true, false, true}, {"a", "b", true, true, true}}},
		{"each has a veto", []FollowPredicate{previous, listed}, []step{{"a", "c", false, false, false}, {"a", "b", false, false, true}, {"a", "b", false, false, false}}},
	} {
		var f Followed
		p := &FollowPolicy{Predicates: test.predicates}
		for i, s := range test.steps {
			if got := p.Allows(&f, s.from, s.to, s.was, s.is); got != s.want {
				t.Errorf("%s: step %d, %s to %s: %v, want %v", test.what, i, s.from, s.to, got, s.want)
			}
		}
	}
}
