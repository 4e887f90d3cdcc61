package route

import "slices"

// A FollowPolicy says which redirects of hosts are followed here, in place of the client
// (internal_redirect_policy).
type FollowPolicy struct {
	Max         uint32   // how many redirects of one request
	Codes       []int    // statuses that are redirects here
	CrossScheme bool     // the target may have another scheme than the request
	Copy        []string // fields of the redirect that go into the request; lower case
	Predicates  []FollowPredicate
}

// A FollowPredicate decides by the target's route.
type FollowPredicate struct {
	Kind   FollowKind
	Routes []string // of Listed: the names that are allowed
}

// A FollowKind is a kind of predicate.
type FollowKind uint8

// The kinds.
const (
	PreviousRoutes  FollowKind = iota // this route has not led there before, for this request
	Listed                            // the target is listed
	SafeCrossScheme                   // not from plain text to TLS
)

// Follows reports whether a status is a redirect that may be followed.
func (p *FollowPolicy) Follows(status int) bool { return p != nil && slices.Contains(p.Codes, status) }

// A Followed is what is known of the redirects of a request.
type Followed struct {
	Count uint32
	steps [][2]string // from which route to which, where a predicate asks
}

// Reset forgets them.
func (f *Followed) Reset() {
	clear(f.steps)
	f.Count, f.steps = 0, f.steps[:0]
}

// Allows asks the predicates about a redirect from one route to another. It notes the step.
func (p *FollowPolicy) Allows(f *Followed, from, to string, wasTLS, willBeTLS bool) bool {
	for i := range p.Predicates {
		switch k := &p.Predicates[i]; k.Kind {
		case PreviousRoutes:
			step := [2]string{from, to}
			if slices.Contains(f.steps, step) {
				return false
			}
			f.steps = append(f.steps, step)
		case Listed:
			if !slices.Contains(k.Routes, to) {
				return false
			}
		case SafeCrossScheme:
			if !wasTLS && willBeTLS {
				return false
			}
		}
	}
	return true
}
