package orca

import (
	"bytes"
	"math"
	"strconv"
)

// few is how many names of a report are looked at one by one for one that stands there twice.
const few = 16

// text reads name=value,name=value; a colon does for the sign.
func (r *Report) text(b []byte, wanted Metrics) error {
	var early [few][]byte
	names, more := early[:0], map[string]bool(nil)
	for len(b) > 0 {
		var one []byte
		one, b, _ = bytes.Cut(b, []byte{','})
		if one = bytes.Trim(one, " \t"); len(one) == 0 {
			continue
		}
		i := bytes.IndexAny(one, "=:")
		if i < 1 {
			return errText
		}
		name := one[:i]
		for _, n := range names {
			if bytes.Equal(n, name) {
				return errTwice
			}
		}
		switch {
		case len(names) < few:
			names = append(names, name)
		case more[string(name)]:
			return errTwice
		case more == nil:
			more = map[string]bool{string(name): true}
		default:
			more[string(name)] = true
		}
		value, err := number(bytes.Trim(one[i+1:], " \t"))
		if err != nil || value < 0 {
			return errNumber
		}
		if err := r.metric(name, value, wanted); err != nil {
			return err
		}
	}
	return nil
}

// metric takes a value by its name: that of a field, or of a map and a key.
func (r *Report) metric(name []byte, value float64, wanted Metrics) error {
	if f := r.field(name); f != nil {
		*f = value
		return nil
	}
	for _, in := range [...]string{inNamed, inUtilization} {
		if len(name) > len(in) && string(name[:len(in)]) == in {
			r.note(in, name[len(in):], value, wanted)
			return nil
		}
	}
	return errName
}

// number reads a finite number, as C does: a hexadecimal one needs no exponent, and nothing has underscores.
func number(b []byte) (float64, error) {
	if bytes.IndexByte(b, '_') >= 0 {
		return 0, errNumber
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil && bytes.ContainsAny(b, "xX") && !bytes.ContainsAny(b, "pP") {
		v, err = strconv.ParseFloat(string(b)+"p0", 64)
	}
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, errNumber
	}
	return v, nil
}
