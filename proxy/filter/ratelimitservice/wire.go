package ratelimitservice

import (
	"encoding/binary"
	"errors"

	"github.com/mallamesh/malla/proxy/ratelimit"
)

// Fields of envoy.service.ratelimit.v3.RateLimitRequest and what is in it.
const (
	requestDomain      = 1
	requestDescriptors = 2
	requestHits        = 3
	descriptorEntries  = 1
	descriptorLimit    = 2
	descriptorHits     = 3
	descriptorNegative = 4
)

// appendRequest appends the question about a request. (No field here has a number above 15, so a tag is one byte.)
func appendRequest(dst []byte, domain string, list []ratelimit.Descriptor, hits uint64) []byte {
	dst = appendText(dst, requestDomain, domain)
	for i := range list {
		d := &list[i]
		dst = appendSize(dst, requestDescriptors, sizeDescriptor(d))
		for _, e := range d.Entries {
			dst = appendSize(dst, descriptorEntries, sizeEntry(e))
			dst = appendText(dst, 1, e.Key)
			if len(e.Value) > 0 {
				dst = append(appendSize(dst, 2, len(e.Value)), e.Value...)
			}
		}
		if l := d.Limit; l != nil {
			dst = appendSize(dst, descriptorLimit, sizeLimit(l))
			dst = appendNumber(appendNumber(dst, 1, uint64(l.Requests)), 2, uint64(l.Unit))
		}
		if d.HasHits {
			dst = appendSize(dst, descriptorHits, sizeNumber(d.Hits))
			dst = appendNumber(dst, 1, d.Hits)
		}
		if d.Refill {
			dst = appendNumber(dst, descriptorNegative, 1)
		}
	}
	return appendNumber(dst, requestHits, hits)
}

// Kinds of fields on the wire.
const (
	kindNumber = 0
	kindFixed8 = 1
	kindBytes  = 2
	kindFixed4 = 5
)

// appendNumber appends a number, unless it is 0, which is what one that is not there means.
func appendNumber(dst []byte, field byte, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, field<<3|kindNumber), n)
}

func appendSize(dst []byte, field byte, n int) []byte {
	return binary.AppendUvarint(append(dst, field<<3|kindBytes), uint64(n))
}

func appendText(dst []byte, field byte, v string) []byte {
	return append(appendSize(dst, field, len(v)), v...)
}

func sizeUvarint(n uint64) (size int) {
	for size = 1; n >= 0x80; size++ {
		n >>= 7
	}
	return size
}

// sizeBytes is the size of a field that holds n bytes.
func sizeBytes(n int) int { return 1 + sizeUvarint(uint64(n)) + n }

func sizeEntry(e ratelimit.Entry) (n int) {
	if n = sizeBytes(len(e.Key)); len(e.Value) > 0 {
		n += sizeBytes(len(e.Value))
	}
	return n
}

func sizeNumber(n uint64) int {
	if n == 0 {
		return 0
	}
	return 1 + sizeUvarint(n)
}

func sizeLimit(l *ratelimit.Own) int {
	return sizeNumber(uint64(l.Requests)) + sizeNumber(uint64(l.Unit))
}

func sizeDescriptor(d *ratelimit.Descriptor) (n int) {
	for _, e := range d.Entries {
		n += sizeBytes(sizeEntry(e))
	}
	if d.Limit != nil {
		n += sizeBytes(sizeLimit(d.Limit))
	}
	if d.HasHits {
		n += sizeBytes(sizeNumber(d.Hits))
	}
	if d.Refill {
		n += 2
	}
	return n
}

// codeOverLimit is the one code of answers that is no yes.
const codeOverLimit = 2

// An answer is what of envoy.service.ratelimit.v3.RateLimitResponse matters here.
type answer struct {
	code              uint64
	statuses          []status
	response, request []pair // fields to add
	body              []byte
	metadata          []byte // a Struct
}

// A status is the state of one limit.
type status struct {
	code      uint64
	limited   bool // it has a limit
	name      []byte
	perUnit   uint64
	unit      uint64
	remaining uint64
	reset     int64 // seconds
}

type pair struct{ name, value []byte }

func (a *answer) forget() {
	*a = answer{statuses: a.statuses[:0], response: a.response[:0], request: a.request[:0]}
}

var errTruncated = errors.New("ratelimitservice: an answer does not parse")

// parse reads an answer, whose bytes it keeps.
func (a *answer) parse(b []byte) error {
	a.forget()
	return each(b, func(number, n uint64, v []byte) error {
		switch {
		case number == 1 && v == nil:
			a.code = n
		case v == nil: // a field of another kind, or none of ours
		case number == 2:
			s := status{}
			err := s.parse(v)
			a.statuses = append(a.statuses, s)
			return err
		case number == 3 || number == 4:
			p := pair{}
			err := each(v, func(number, _ uint64, v []byte) error {
				switch {
				case v == nil:
				case number == 1:
					p.name = v
				case number == 2 || number == 3 && len(v) > 0: // value, or raw_value
					p.value = v
				}
				return nil
			})
			if number == 3 {
				a.response = append(a.response, p)
			} else {
				a.request = append(a.request, p)
			}
			return err
		case number == 5:
			a.body = v
		case number == 6:
			a.metadata = v
		}
		return nil
	})
}

func (s *status) parse(b []byte) error {
	return each(b, func(number, n uint64, v []byte) error {
		switch {
		case number == 1 && v == nil:
			s.code = n
		case number == 2 && v != nil:
			s.limited = true
			return each(v, func(number, n uint64, v []byte) error {
				switch {
				case number == 1 && v == nil:
					s.perUnit = n
				case number == 2 && v == nil:
					s.unit = n
				case number == 3 && v != nil:
					s.name = v
				}
				return nil
			})
		case number == 3 && v == nil:
			s.remaining = n
		case number == 4 && v != nil:
			return each(v, func(number, n uint64, v []byte) error {
				if number == 1 && v == nil {
					s.reset = int64(n)
				}
				return nil
			})
		}
		return nil
	})
}

// each calls f for every field of a message: with n of a number, or v of bytes, which is then not nil.
func each(b []byte, f func(field, n uint64, v []byte) error) error {
	for len(b) > 0 {
		tag, size := binary.Uvarint(b)
		if size <= 0 || tag>>3 == 0 {
			return errTruncated
		}
		b = b[size:]
		var n uint64
		var v []byte
		size = 0
		switch tag & 7 {
		case kindNumber, kindBytes:
			if n, size = binary.Uvarint(b); size <= 0 {
				return errTruncated
			}
			if tag&7 == kindBytes {
				if n > uint64(len(b)-size) {
					return errTruncated
				}
				v = b[size : size+int(n)]
				size += int(n)
			}
		case kindFixed4:
			size = 4
		case kindFixed8:
			size = 8
		default:
			return errTruncated
		}
		if size > len(b) {
			return errTruncated
		}
		if kind := tag & 7; kind == kindNumber || kind == kindBytes {
			if err := f(tag>>3, n, v); err != nil {
				return err
			}
		}
		b = b[size:]
	}
	return nil
}

// window is how many seconds a unit of RateLimitResponse.RateLimit has, 0 if it is not known.
func window(unit uint64) int64 {
	windows := [...]int64{0, 1, 60, 3600, 86400, 30 * 86400, 365 * 86400, 7 * 86400}
	if unit >= uint64(len(windows)) {
		return 0
	}
	return windows[unit]
}
