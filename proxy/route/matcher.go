package route

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

// Hit reports whether a random number falls into the fraction.
func (f Fraction) Hit(random uint64) bool { return f.Denominator > 0 && f.hit(random) }
