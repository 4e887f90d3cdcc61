package route

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
	matching "github.com/mallamesh/malla/proxy/matcher"
)

// HeaderInput is what a matcher of routes sees of a request by a header field: its value, or with commas those of several. Only
// then is something copied.
func HeaderInput(name string) matching.Input[*Request] {
	field := headerMatcher{name: []byte(lower(name)), token: header.TokenOfString(name)}
	return func(r *Request) ([]byte, bool) {
		if v, ok := r.pseudo(field.token); ok {
			return v, v != nil
		}
		if r.Headers == nil {
			return nil, false
		}
		var one []byte
		n := 0
		fields := r.Headers.Fields()
		for i := range fields {
			if f := &fields[i]; field.is(f) {
				switch n++; n {
				case 1:
					one = f.Value
				case 2:
					one = bytes.Join([][]byte{one, f.Value}, []byte{','})
				default: // a client may send thousands
					one = append(append(one, ','), f.Value...)
				}
			}
		}
		return one, n > 0
	}
}

// StateInput is what a matcher of routes sees of what filters have said by a key: a text, or a field of an object.
func StateInput(key, field string) matching.Input[*Request] {
	return func(r *Request) ([]byte, bool) {
		switch {
		case r.State == nil:
			return nil, false
		case field != "":
			return r.State.Field(key, field)
		}
		return r.State.Get(key)
	}
}
