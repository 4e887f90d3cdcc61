package route

import (
	"fmt"

	"github.com/mallamesh/malla/proxy/metadata"
)

// A MetadataMatch is a condition on a value of metadata.
type MetadataMatch struct {
	Namespace string
	Path      []string // of names; at least one
	Value     ValueMatch
	Invert    bool
}

// A ValueKind says how a ValueMatch compares.
type ValueKind uint8

// The kinds.
const (
	NullValue    ValueKind = iota // the value is null
	EqualNumber                   // a number
	NumberWithin                  // a number of a range
	TextValue                     // a text that Text matches
	TrueValue                     // true
	FalseValue                    // false
	AnyValue                      // there is one
	NoValue                       // matches nothing: present_match: false
	ListValue                     // a list with an item that the first of Of matches
	OneOf                         // one of Of matches
)

// A ValueMatch compares a value of metadata.
type ValueMatch struct {
	Kind       ValueKind
	Number     float64
	Start, End float64 // of NumberWithin: from Start to below End
	Text       StringMatch
	Of         []ValueMatch
}

// A MetadataMatcher is a compiled MetadataMatch.
type MetadataMatcher struct {
	namespace string
	path      []string
	value     ValueMatcher
	invert    bool
}

// NewMetadataMatcher compiles a condition.
func NewMetadataMatcher(m MetadataMatch) (*MetadataMatcher, error) {
	if len(m.Path) == 0 {
		return nil, fmt.Errorf("a metadata matcher has no path")
	}
	v, err := newValueMatcher(m.Value)
	if err != nil {
		return nil, err
	}
	return &MetadataMatcher{m.Namespace, m.Path, v, m.Invert}, nil
}

// Spaces is metadata of any kind.
type Spaces interface {
	Space(name string) (metadata.Struct, bool)
}

// Find returns the value that the condition is about, and whether there is one.
func (m *MetadataMatcher) Find(in Spaces) (any, bool) {
	fields, _ := in.Space(m.namespace)
	return metadata.Lookup(fields, m.path)
}

// Match reports whether metadata meets the condition.
func (m *MetadataMatcher) Match(in Spaces) bool {
	v, ok := m.Find(in)
	return (ok && m.value.match(v)) != m.invert
}

// MatchValue compares a value that is there, without regard to Invert.
func (m *MetadataMatcher) MatchValue(v any) bool { return m.value.match(v) }

// A ValueMatcher is a compiled ValueMatch.
type ValueMatcher struct {
	ValueMatch
	text matcher
	of   []ValueMatcher
}

func newValueMatcher(m ValueMatch) (out ValueMatcher, err error) {
	out.ValueMatch = m
	if m.Kind == TextValue {
		if out.text, err = newMatcher(m.Text); err != nil {
			return out, err
		}
	}
	for _, o := range m.Of {
		c, err := newValueMatcher(o)
		if err != nil {
			return out, err
		}
		out.of = append(out.of, c)
	}
	return out, nil
}

func (m *ValueMatcher) match(v any) bool {
	switch m.Kind {
	case NullValue:
		return v == nil
	case EqualNumber:
		n, ok := v.(float64)
		return ok && n == m.Number
	case NumberWithin:
		n, ok := v.(float64)
		return ok && n >= m.Start && n < m.End
	case TextValue:
		s, ok := v.(string)
		return ok && m.text.match([]byte(s))
	case TrueValue, FalseValue:
		b, ok := v.(bool)
		return ok && b == (m.Kind == TrueValue)
	case AnyValue:
		return true
	case ListValue:
		list, _ := v.([]any)
		for _, item := range list {
			if m.of[0].match(item) {
				return true
			}
		}
	case OneOf:
		for i := range m.of {
			if m.of[i].match(v) {
				return true
			}
		}
	}
	return false
}
