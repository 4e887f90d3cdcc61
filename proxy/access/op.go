package access

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/header"
)

// An op is a compiled operator: append writes its value and reports whether there was one.
type op struct {
	write  func(o *op, dst []byte, r *Record) ([]byte, bool)
	number bool                                              // JSON writes it bare
	typed  func(o *op, dst []byte, r *Record) ([]byte, bool) // writes JSON itself; nil: text, in quotes

	name, alt []byte       // header names, lower case
	token     header.Token // of name
	length    int          // -1: no limit
	layout    *layout
	from, to  func(*Record) Mark
	unit      time.Duration
	text      string
	strict    bool
}

func (o *op) append(dst []byte, r *Record) ([]byte, bool) { return o.write(o, dst, r) }

type argument uint8

// Whether an operator has an argument in parentheses.
const (
	noArgument argument = iota
	mayArgument
	mustArgument
)

// An operator is one entry of the table of what we can write.
type operator struct {
	argument argument
	length   bool // a length may follow
	compile  func(c command) (*op, error)
}

func (c command) compile() (*op, error) {
	if c.name == "COALESCE" && c.hasArg { // made of others of the table, which cannot name it
		return coalesce(c)
	}
	def, ok := operators[c.name]
	switch {
	case !ok:
		return nil, fmt.Errorf("unknown command operator %%%s%%", c.name)
	case def.argument == mustArgument && !c.hasArg:
		return nil, fmt.Errorf("command operator %%%s%% has no argument, want %%%s(...)%%", c.name, c.name)
	case def.argument == noArgument && c.hasArg:
		return nil, fmt.Errorf("command operator %%%s%% has an argument (%s), want none", c.name, c.arg)
	case !def.length && c.length >= 0:
		return nil, fmt.Errorf("command operator %%%s%% has a length, want none", c.name)
	}
	o, err := def.compile(c)
	if err != nil {
		return nil, fmt.Errorf("command operator %%%s%%: %w", c.name, err)
	}
	return o, nil
}

// header.Map lookups: REQ, RESP, TRAILER with "NAME?ALTERNATIVE".
func headerOp(of func(*Record) *header.Map) func(command) (*op, error) {
	return func(c command) (*op, error) {
		name, alt, found := strings.Cut(c.arg, "?")
		if name == "" || found && alt == "" || strings.Contains(alt, "?") {
			return nil, fmt.Errorf("argument %q, want NAME or NAME?ALTERNATIVE", c.arg)
		}
		o := &op{name: []byte(strings.ToLower(name)), alt: []byte(strings.ToLower(alt)), length: c.length, token: header.TokenOfString(name)}
		o.write = func(o *op, dst []byte, r *Record) ([]byte, bool) {
			v, ok := o.lookup(of(r))
			return append(dst, o.cut(v)...), ok
		}
		return o, nil
	}
}

// lookup finds the first field of the name, or of the alternative. An empty value is a value.
func (o *op) lookup(m *header.Map) ([]byte, bool) {
	if m == nil {
		return nil, false
	}
	if o.token != header.None {
		if m.Has(o.token) {
			return m.Get(o.token), true
		}
	} else if v := m.Lookup(o.name); v != nil {
		return v, true
	}
	if len(o.alt) > 0 {
		if v := m.Lookup(o.alt); v != nil {
			return v, true
		}
	}
	return nil, false
}

func (o *op) cut(v []byte) []byte {
	if o.length >= 0 && len(v) > o.length {
		return v[:o.length]
	}
	return v
}

func request(r *Record) *header.Map  { return r.Request }
func response(r *Record) *header.Map { return r.Response }
func trailers(r *Record) *header.Map { return r.Trailers }

// textOp writes a string of the record; an empty one is missing.
func textOp(of func(*Record) string) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			v := of(r)
			return append(dst, v...), v != ""
		}}, nil
	}
}

// emptyOp is textOp for a text that may be empty without being missing.
func emptyOp(of func(*Record) string) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) { return append(dst, of(r)...), true }}, nil
	}
}

// bytesOp is textOp for bytes.
func bytesOp(of func(*Record) []byte) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			v := of(r)
			return append(dst, v...), len(v) > 0
		}}, nil
	}
}

// numberOp writes a number, which is never missing.
func numberOp(of func(*Record) uint64) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{number: true, write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			return strconv.AppendUint(dst, of(r), 10), true
		}}, nil
	}
}

// durationOp writes the milliseconds between two marks; it is missing until both have come.
func durationOp(from, to func(*Record) Mark) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{number: true, from: from, to: to, unit: time.Millisecond, write: writeDuration}, nil
	}
}

func writeDuration(o *op, dst []byte, r *Record) ([]byte, bool) {
	d, ok := o.to(r).Sub(o.from(r))
	if !ok {
		return dst, false
	}
	return strconv.AppendInt(dst, int64(d/o.unit), 10), true
}

// The three ways to write an address.
type addressForm uint8

const (
	withPort addressForm = iota
	withoutPort
	justPort
)

func addressOp(of func(*Record) netip.AddrPort, form addressForm) operator {
	return operator{compile: func(command) (*op, error) {
		return &op{number: form == justPort, write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			a := of(r)
			if !a.IsValid() {
				return dst, false
			}
			return appendAddress(dst, a, form), true
		}}, nil
	}}
}

func appendAddress(dst []byte, a netip.AddrPort, form addressForm) []byte {
	path, isPath := pipe.Path(a)
	switch {
	case isPath && form == justPort:
		return dst // it has none
	case isPath:
		return append(dst, path...)
	case form == justPort:
		return strconv.AppendUint(dst, uint64(a.Port()), 10)
	case form == withoutPort:
		return a.Addr().Unmap().AppendTo(dst)
	case a.Addr().Is4In6():
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).AppendTo(dst)
	}
	return a.AppendTo(dst)
}

// marks are the moments of COMMON_DURATION.
var marks = map[string]func(*Record) Mark{
	"DS_RX_BEG": func(r *Record) Mark { return r.Began },
	"DS_RX_END": func(r *Record) Mark { return r.RequestEnd },
	"US_TX_BEG": func(r *Record) Mark { return r.UpstreamBegin },
	"US_TX_END": func(r *Record) Mark { return r.UpstreamSent },
	"US_RX_BEG": func(r *Record) Mark { return r.ResponseBegin },
	"US_RX_END": func(r *Record) Mark { return r.ResponseEnd },
	"DS_TX_BEG": func(r *Record) Mark { return r.DownstreamSend },
	"DS_TX_END": func(r *Record) Mark { return r.DownstreamSent },

	"US_RX_BODY_BEG": func(r *Record) Mark { return r.BodyBegin },
	"DS_CX_BEG":      func(r *Record) Mark { return r.Opened },
	"DS_CX_END":      func(r *Record) Mark { return r.Closed },
	"US_CX_BEG":      func(r *Record) Mark { return r.Dial.Begun },
	"US_CX_END":      func(r *Record) Mark { return r.Dial.Connected },
	"US_HS_END":      func(r *Record) Mark { return r.Dial.Secured },
}

// commonDuration compiles COMMON_DURATION(start:end:precision).
func commonDuration(c command) (*op, error) {
	f := strings.Split(c.arg, ":")
	if len(f) != 2 && len(f) != 3 {
		return nil, fmt.Errorf("argument %q, want START:END:PRECISION", c.arg)
	}
	o := &op{number: true, from: marks[f[0]], to: marks[f[1]], unit: time.Millisecond, write: writeDuration}
	if o.from == nil || o.to == nil {
		return nil, fmt.Errorf("argument %q names a moment that is not known, want one of %s", c.arg, strings.Join(slices.Sorted(maps.Keys(marks)), ", "))
	}
	if len(f) == 3 {
		units := map[string]time.Duration{"ms": time.Millisecond, "us": time.Microsecond, "ns": 1}
		if o.unit = units[f[2]]; o.unit == 0 {
			return nil, fmt.Errorf("precision %q, want ms, us or ns", f[2])
		}
	}
	return o, nil
}

// requestPath compiles PATH(options:header): which header, and with the query or without.
func requestPath(c command) (*op, error) {
	query, which, _ := strings.Cut(c.arg, ":")
	o := &op{length: c.length, name: []byte("x-envoy-original-path"), token: header.XEnvoyOriginalPath, alt: []byte(":path")}
	switch which {
	case "", "ORIG_OR_PATH":
	case "PATH":
		o.name, o.token, o.alt = o.alt, header.Path, nil
	case "ORIG":
		o.alt = nil
	default:
		return nil, fmt.Errorf("argument %q, want PATH, ORIG or ORIG_OR_PATH after the colon", c.arg)
	}
	switch query {
	case "", "WQ":
	case "NQ":
		o.strict = true
	default:
		return nil, fmt.Errorf("argument %q, want WQ (with query) or NQ (without) first", c.arg)
	}
	o.write = writePath
	return o, nil
}

// withoutQuery compiles REQ_WITHOUT_QUERY(NAME?ALTERNATIVE).
func withoutQuery(c command) (*op, error) {
	o, err := headerOp(request)(c)
	if err == nil {
		o.strict, o.write = true, writePath
	}
	return o, err
}

func writePath(o *op, dst []byte, r *Record) ([]byte, bool) {
	v, ok := o.lookup(r.Request)
	if i := slices.Index(v, '?'); o.strict && i >= 0 {
		v = v[:i]
	}
	return append(dst, o.cut(v)...), ok
}

func startTime(c command) (*op, error) {
	l, err := newLayout(c.arg, c.name == "START_TIME_LOCAL")
	if err != nil {
		return nil, err
	}
	return &op{layout: l, write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
		return o.layout.append(dst, r.Start), !r.Start.IsZero()
	}}, nil
}

// constant compiles an operator that the process answers once and for all.
func constant(value string) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{text: value, write: func(o *op, dst []byte, _ *Record) ([]byte, bool) {
			return append(dst, o.text...), o.text != ""
		}}, nil
	}
}

func flagsOp(long bool) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			if long {
				return r.Flags.AppendLong(dst), true
			}
			return r.Flags.Append(dst), true
		}}, nil
	}
}
