package ratelimit

import (
	"encoding/binary"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/route"
)

// An Entry is a part of a descriptor.
type Entry struct {
	Key   string
	Value []byte // valid as long as the request
}

// A Descriptor is what a request is counted by.
type Descriptor struct {
	Entries []Entry
	Hits    uint64 // what the request counts for, if HasHits
	HasHits bool
	Refill  bool // the hits are given back
	Headers Headers
	Limit   *Own // nil: the service's own
}

// Headers says whether a response tells the state of the limit.
type Headers uint8

// The ways.
const (
	ByFilter Headers = iota // as the filter says
	NoHeaders
	Draft03 // x-ratelimit-limit, -remaining and -reset
)

// Descriptors are those of one request. They are used again for the next one.
type Descriptors struct {
	List  []Descriptor
	AtEnd bool // those of limits that count when the stream is over; otherwise these are left out, and
	Later bool // there are some
	AnyAt bool // whenever limits count, for a filter that does not ask routes about that

	entries []Entry
	bytes   []byte
}

// Reset forgets the request.
func (d *Descriptors) Reset() {
	d.List, d.entries, d.bytes, d.AtEnd, d.Later, d.AnyAt = d.List[:0], d.entries[:0], d.bytes[:0], false, false, false
}

// keep copies a value that would not last.
func (d *Descriptors) keep(v []byte) []byte {
	from := len(d.bytes)
	d.bytes = append(d.bytes, v...)
	return d.bytes[from:len(d.bytes):len(d.bytes)]
}

// AppendKey appends a descriptor's entries so that equal ones, and no others, give equal bytes.
func AppendKey(dst []byte, entries []Entry) []byte {
	for _, e := range entries {
		dst = binary.AppendUvarint(dst, uint64(len(e.Key)))
		dst = append(dst, e.Key...)
		dst = binary.AppendUvarint(dst, uint64(len(e.Value)))
		dst = append(dst, e.Value...)
	}
	return dst
}

// A Limit makes one descriptor of a request, or none. It must not change.
type Limit struct {
	Stage   uint32
	Keyed   *route.Fraction // it has a key in the runtime, which says for how many requests it counts; nil: for all
	Actions []Action
	Headers Headers

	Hits      *uint64        // nil: by HitsFormat, or the filter's
	HitsField *access.Format // a number of the request
	Refill    bool
	AtEnd     bool // it counts when the stream is over, by what is known then

	Own   *Own          // nil: none, or
	OwnIn *metadata.Key // where the metadata of a request may have one
}

// maxHits is the most that a request may count for.
const maxHits = 1_000_000_000

// Add adds the descriptor of a request, unless an action finds nothing.
func (l *Limit) Add(d *Descriptors, q *route.Request, rec *access.Record) {
	if l.AtEnd != d.AtEnd && !d.AnyAt {
		d.Later = true
		return
	}
	from := len(d.entries)
	for _, a := range l.Actions {
		if !a.add(d, q, rec) {
			d.entries = d.entries[:from]
			return
		}
	}
	out := Descriptor{Entries: d.entries[from:len(d.entries):len(d.entries)], Headers: l.Headers, Refill: l.Refill, Limit: l.Own}
	if l.OwnIn != nil {
		out.Limit = ownIn(&rec.Dynamic, l.OwnIn)
	}
	switch {
	case l.Hits != nil:
		out.Hits, out.HasHits = *l.Hits, true
	case l.HitsField != nil:
		rec.Scratch = l.HitsField.Append(rec.Scratch[:0], rec)
		n, ok := number(rec.Scratch)
		if !ok {
			d.entries = d.entries[:from]
			return
		}
		out.Hits, out.HasHits = n, true
	}
	d.List = append(d.List, out)
}

func number(b []byte) (n uint64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' || n > maxHits {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n <= maxHits
}

// A Selection says which limits of a route and its virtual host count.
type Selection uint8

// The selections, as a filter's vh_rate_limits has them.
const (
	Override Selection = iota // the virtual host's, if the route has none
	Include                   // both
	Ignore                    // the route's
)

// A Policy holds the limits of a route or a virtual host.
type Policy struct {
	Limits  []*Limit
	Include bool // of a route: its virtual host's count too
}

// Of adds the descriptors of a request that the limits of its route make at a stage. keyed says whether one counts that has a key in the
// runtime.
func Of(d *Descriptors, stage uint32, s Selection, r *route.Route, q *route.Request, rec *access.Record, keyed func(route.Fraction) bool) {
	if r == nil || r.Forward == nil {
		return
	}
	own, _ := r.Forward.RateLimits.(*Policy)
	above, _ := r.VHost.RateLimits.(*Policy)
	own.add(d, stage, q, rec, keyed)
	switch {
	case above == nil:
	case own != nil && own.Include, s == Include, s == Override && (own == nil || len(own.Limits) == 0):
		above.add(d, stage, q, rec, keyed)
	}
}

func (p *Policy) add(d *Descriptors, stage uint32, q *route.Request, rec *access.Record, keyed func(route.Fraction) bool) {
	if p == nil {
		return
	}
	for _, l := range p.Limits {
		if l.Stage == stage && (l.Keyed == nil || keyed(*l.Keyed)) {
			l.Add(d, q, rec)
		}
	}
}

// Tokens is how many tokens a request takes by a descriptor; below zero, how many it gives back.
func (d *Descriptor) Tokens() float64 {
	switch {
	case !d.HasHits:
		return 1
	case d.Refill:
		return -float64(d.Hits)
	}
	return float64(d.Hits)
}
