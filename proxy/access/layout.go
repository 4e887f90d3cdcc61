package access

import (
	"fmt"
	"strconv"
	"time"
)

// A layout writes a time by a strftime pattern, with Envoy's additions: %s seconds
// since 1970, %3f %6f %9f (%f is %9f) fractions of the second, %E3S seconds with as many
// digits after the point, %Ez the zone with a colon. An empty pattern is ISO 8601 in milliseconds.
type layout struct {
	steps []step
	local bool
	iso   bool // the default, written without a table
}

type step struct {
	text   string
	verb   byte
	digits int
}

func newLayout(pattern string, local bool) (*layout, error) {
	l := &layout{local: local}
	if pattern == "" {
		l.iso = true
		return l, nil
	}
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			l.steps = append(l.steps, step{text: pattern[i : i+1]})
			continue
		}
		if i++; i == len(pattern) {
			return nil, fmt.Errorf("time format %q ends with %%", pattern)
		}
		s := step{verb: pattern[i]}
		switch {
		case s.verb == 'E' && i+2 < len(pattern) && pattern[i+1] >= '0' && pattern[i+1] <= '9' && pattern[i+2] == 'S':
			s.verb, s.digits = 'S', int(pattern[i+1]-'0')
			i += 2
		case s.verb == 'E' && i+1 < len(pattern) && pattern[i+1] == 'z':
			s.verb = ':'
			i++
		case s.verb >= '1' && s.verb <= '9' && i+1 < len(pattern) && pattern[i+1] == 'f':
			s.verb, s.digits = 'f', int(pattern[i]-'0')
			i++
		case s.verb == 'f':
			s.digits = 9
		case !knownVerb(s.verb):
			return nil, fmt.Errorf("time format %q: %%%c is not supported", pattern, s.verb)
		}
		l.steps = append(l.steps, s)
	}
	return l, nil
}

func knownVerb(v byte) bool {
	switch v {
	case 'Y', 'y', 'C', 'm', 'd', 'e', 'H', 'I', 'M', 'S', 'p', 'j', 'a', 'A', 'b', 'B', 'h', 'Z', 'z', 's', 'F', 'T', 'D', 'R', 'n', 't', '%':
		return true
	}
	return false
}

func (l *layout) append(dst []byte, t time.Time) []byte {
	if l.local {
		t = t.Local()
	} else {
		t = t.UTC()
	}
	if l.iso {
		return appendISO(dst, t)
	}
	for i := range l.steps {
		if s := &l.steps[i]; s.verb == 0 {
			dst = append(dst, s.text...)
		} else {
			dst = s.append(dst, t)
		}
	}
	return dst
}

// appendISO writes 2026-11-21T06:43:34.123Z, or the offset in place of Z.
func appendISO(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(dst, time.RFC3339)
	}
	hour, minute, second := t.Clock()
	ms := t.Nanosecond() / 1e6
	b := [24]byte{4: '-', 7: '-', 10: 'T', 13: ':', 16: ':', 19: '.', 23: 'Z'}
	two(b[0:], year/100)
	two(b[2:], year%100)
	two(b[5:], int(month))
	two(b[8:], day)
	two(b[11:], hour)
	two(b[14:], minute)
	two(b[17:], second)
	b[20] = byte('0' + ms/100)
	two(b[21:], ms%100)
	if t.Location() == time.UTC {
		return append(dst, b[:]...)
	}
	return t.AppendFormat(append(dst, b[:23]...), "-07:00")
}

// two writes a number below 100 with two digits.
func two(b []byte, n int) {
	b[0], b[1] = byte('0'+n/10), byte('0'+n%10)
}

func (s *step) append(dst []byte, t time.Time) []byte {
	switch s.verb {
	case 'Y':
		return strconv.AppendInt(dst, int64(t.Year()), 10)
	case 'y':
		return pad(dst, t.Year()%100, 2)
	case 'C':
		return pad(dst, t.Year()/100, 2)
	case 'm':
		return pad(dst, int(t.Month()), 2)
	case 'd':
		return pad(dst, t.Day(), 2)
	case 'e':
		if t.Day() < 10 {
			dst = append(dst, ' ')
		}
		return strconv.AppendInt(dst, int64(t.Day()), 10)
	case 'H':
		return pad(dst, t.Hour(), 2)
	case 'I':
		return pad(dst, (t.Hour()+11)%12+1, 2)
	case 'M':
		return pad(dst, t.Minute(), 2)
	case 'S':
		dst = pad(dst, t.Second(), 2)
		if s.digits > 0 {
			dst = fraction(append(dst, '.'), t, s.digits)
		}
		return dst
	case 'f':
		return fraction(dst, t, s.digits)
	case 's':
		return strconv.AppendInt(dst, t.Unix(), 10)
	case 'j':
		return pad(dst, t.YearDay(), 3)
	case '%':
		return append(dst, '%')
	case 'n':
		return append(dst, '\n')
	case 't':
		return append(dst, '\t')
	}
	return t.AppendFormat(dst, goLayouts[s.verb])
}

// goLayouts are the verbs that the standard library spells the same.
var goLayouts = map[byte]string{
	'p': "PM", 'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'Z': "MST", 'z': "-0700", ':': "-07:00",
	'F': "2006-01-02", 'T': "15:04:05", 'D': "01/02/06", 'R': "15:04",
}

func pad(dst []byte, n, width int) []byte {
	for p := width - 1; p > 0; p-- {
		if n < pow10[p] {
			dst = append(dst, '0')
		}
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

func fraction(dst []byte, t time.Time, digits int) []byte {
	return pad(dst, t.Nanosecond()/pow10[9-digits], digits)
}

var pow10 = [...]int{1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000}
