package regex

import (
	"errors"
	"regexp"
	"runtime"
	"time"
)

// ErrSlow is what becomes of an expression that takes too long.
var ErrSlow = errors.New("the expression takes too long for so many names: a shorter one, or one with fewer repetitions, takes less")

// A Sieve tries a stranger's expression on many names. It ends when that has taken too long, and meanwhile lets others have the
// processor again and again: those who serve requests run on the same ones, and the runtime would give them their turn after ten
// milliseconds only. It is for one goroutine.
type Sieve struct {
	re      *regexp.Regexp
	limit   time.Duration
	spent   time.Duration // in the expression
	since   time.Duration // others had a turn
	refused bool
}

// breath is how long a sieve works before others have a turn.
const breath = 200 * time.Microsecond

// NewSieve returns a sieve that an expression may spend so long in.
func NewSieve(re *regexp.Regexp, limit time.Duration) *Sieve { return &Sieve{re: re, limit: limit} }

// MatchString reports whether a name matches. When it has taken too long nothing does.
func (s *Sieve) MatchString(name string) bool {
	if s.refused {
		return false
	}
	began := time.Now()
	ok := s.re.MatchString(name)
	s.spend(time.Since(began))
	return ok
}

// Match is MatchString for a name that is not a string.
func (s *Sieve) Match(name []byte) bool {
	if s.refused {
		return false
	}
	began := time.Now()
	ok := s.re.Match(name)
	s.spend(time.Since(began))
	return ok
}

func (s *Sieve) spend(d time.Duration) {
	s.spent += d
	s.refused = s.spent > s.limit
	if s.since += d; s.since > breath {
		s.since = 0
		runtime.Gosched()
	}
}

// Err is ErrSlow if what the sieve has said cannot be relied on, because it has taken too long.
func (s *Sieve) Err() error {
	if s.refused {
		return ErrSlow
	}
	return nil
}
