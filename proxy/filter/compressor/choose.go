package compressor

import (
	"bytes"
	"strconv"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stream"
)

// A decision is which coding a response gets. The first filter that asks makes it for all in the chain.
type decision struct {
	made bool
	name string // of the coding; "": none
	why  reason
}

type reason uint8

const (
	notValid reason = iota
	identity
	wildcard
	valid
)

// A candidate is a coding that some filter of the chain has.
type candidate struct {
	name  string
	first bool // it is preferred to others that the client likes as much
	off   bool // the client does not want it
}

// maxCandidates is how many codings there can be.
const maxCandidates = 8

// chosen reports whether this filter compresses the response, as far as the client has a say.
func (f *filter) chosen(s *stream.Stream, m *header.Map) bool {
	count := f.config.Headers
	if !f.accepts {
		count.NoAcceptHeader.Inc()
		return false
	}
	d := f.decide(s, m)
	mine := d.name == f.encoding().Name
	switch d.why {
	case valid:
		if mine {
			count.CompressorUsed.Inc()
		} else {
			count.Overshadowed.Inc()
		}
	case identity:
		count.Identity.Inc()
	case wildcard:
		count.Wildcard.Inc()
	default:
		count.NotValid.Inc()
	}
	return mine
}

// decide returns the decision of another filter, or makes one.
func (f *filter) decide(s *stream.Stream, m *header.Map) decision {
	var all [maxCandidates]candidate
	n := 0
	for i := 0; ; i++ {
		other, ok := s.Active(i)
		if !ok {
			break
		}
		c, ok := other.(*filter)
		if !ok {
			continue
		}
		if c.decision.made {
			return c.decision
		}
		if c.config.Response.Types.has(m) && n < len(all) && find(all[:n], []byte(c.encoding().Name)) == nil {
			all[n] = candidate{name: c.encoding().Name, first: c.config.ChooseFirst}
			n++
		}
	}
	f.decision = choose(f.accept, all[:n])
	f.decision.made = true
	return f.decision
}

func find(list []candidate, name []byte) *candidate {
	for i := range list {
		if list[i].name == string(name) {
			return &list[i]
		}
	}
	return nil
}

// choose picks the coding with the highest weight of those that the client accepts (RFC 9110, section 12.5.3).
func choose(accept []byte, all []candidate) decision {
	some := false
	for rest := accept; len(rest) > 0; {
		var name []byte
		var q float32
		var ok bool
		if name, q, rest, ok = nextCoding(rest); !ok {
			continue
		}
		some = true
		if q == 0 {
			if c := find(all, name); c != nil {
				c.off = true
			}
		}
	}
	left := 0
	for i := range all {
		if !all[i].off {
			left++
		}
	}
	if !some || left == 0 {
		return decision{}
	}
	best, bestQ := []byte("identity"), float32(0)
	for rest := accept; len(rest) > 0; {
		var name []byte
		var q float32
		var ok bool
		if name, q, rest, ok = nextCoding(rest); !ok {
			continue
		}
		c := find(all, name)
		if c != nil && c.off {
			c = nil
		}
		if c == nil && string(name) != "identity" && string(name) != "*" {
			continue
		}
		if q > bestQ || q == bestQ && c != nil && c.first {
			best, bestQ = name, q
		}
	}
	switch {
	case bestQ == 0:
		return decision{}
	case string(best) == "identity":
		return decision{why: identity}
	case string(best) == "*":
		for i := range all {
			if !all[i].off {
				return decision{name: all[i].name, why: wildcard}
			}
		}
	}
	return decision{name: find(all, best).name, why: valid}
}

// nextCoding takes one coding with its weight from the front of an accept-encoding. ok is false for what is none.
func nextCoding(list []byte) (name []byte, q float32, rest []byte, ok bool) {
	item, rest, _ := bytes.Cut(list, []byte{','})
	if len(item) == 0 {
		return nil, 0, rest, false
	}
	name, params, has := bytes.Cut(item, []byte{';'})
	name = bytes.TrimSpace(name)
	if !has {
		return name, 1, rest, true
	}
	key, value, has := bytes.Cut(params, []byte{'='})
	if !has || !bytes.EqualFold(bytes.TrimSpace(key), []byte{'q'}) {
		return name, 1, rest, true
	}
	f, err := strconv.ParseFloat(string(bytes.TrimSpace(value)), 32)
	return name, float32(f), rest, err == nil
}
