package route

import "github.com/mallamesh/malla/proxy/header"

// A Matcher is a compiled StringMatch, for filters.
type Matcher struct{ m matcher }

// NewMatcher compiles a comparison.
func NewMatcher(m StringMatch) (*Matcher, error) {
	c, err := newMatcher(m)
	if err != nil {
		return nil, err
	}
	return &Matcher{c}, nil
}

// Match compares a value.
func (m *Matcher) Match(v []byte) bool { return m.m.match(v) }

// HeaderMatchers are compiled HeaderMatches, for filters.
type HeaderMatchers []headerMatcher

// NewHeaderMatchers compiles conditions.
func NewHeaderMatchers(list []HeaderMatch) (HeaderMatchers, error) {
	var out HeaderMatchers
	for _, h := range list {
		m, err := newHeaderMatcher(h)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// All reports whether a request meets all conditions.
func (l HeaderMatchers) All(r *Request) bool {
	for i := range l {
		if !l[i].match(r) {
			return false
		}
	}
	return true
}

// OfResponse reports whether the header fields of a response fit all.
func (l HeaderMatchers) OfResponse(m *header.Map) bool { return l.All(&Request{Headers: m}) }

// OfRequest reports whether the header fields that a request has now fit all.
func (l HeaderMatchers) OfRequest(m *header.Map) bool {
	return l.All(&Request{Method: m.Get(header.Method), Scheme: m.Get(header.Scheme), Authority: m.Get(header.Authority), Path: m.Get(header.Path), Headers: m})
}

// A Rewriter is a compiled RegexMatchAndSubstitute, for filters.
type Rewriter struct{ s *substitution }

// NewRewriter compiles an expression and what every match of it becomes, with \0 to \9 for the match and its groups.
func NewRewriter(expr, replacement string) (*Rewriter, error) {
	s, err := newSubstitution(expr, replacement)
	if err != nil {
		return nil, err
	}
	return &Rewriter{s}, nil
}

// Replace returns a value with every match replaced.
func (r *Rewriter) Replace(v []byte) []byte { return r.s.replace(nil, v) }

// Hit reports whether a random number falls into the fraction.
func (f Fraction) Hit(random uint64) bool { return f.Denominator > 0 && f.hit(random) }
