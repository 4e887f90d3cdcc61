package access

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mallamesh/malla/proxy/cel"
)

// coalesce compiles COALESCE({"operators": [...]}): the first of some operators that has a value. Each is a name, or {"command": NAME, "param": ARGUMENT, "max_length": LENGTH}.
func coalesce(c command) (*op, error) {
	var config struct {
		Operators []json.RawMessage `json:"operators"`
	}
	if err := json.Unmarshal([]byte(c.arg), &config); err != nil {
		return nil, fmt.Errorf("argument %q, want JSON: %w", c.arg, err)
	}
	if len(config.Operators) == 0 {
		return nil, errors.New(`argument has no "operators", want at least one`)
	}
	var all []*op
	for i, text := range config.Operators {
		o, err := choice(text, c.expressions)
		if err != nil {
			return nil, fmt.Errorf("operators[%d]: %w", i, err)
		}
		all = append(all, o)
	}
	return &op{length: c.length, write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
		n := len(dst)
		for _, one := range all {
			var ok bool
			if dst, ok = one.append(dst, r); ok {
				return dst[:n+len(o.cut(dst[n:]))], true
			}
			dst = dst[:n]
		}
		return dst, false
	}}, nil
}

// choice compiles one operator of a COALESCE.
func choice(text json.RawMessage, o cel.Options) (*op, error) {
	c := command{length: -1, expressions: o}
	if json.Unmarshal(text, &c.name) == nil {
		return c.compile()
	}
	var object struct {
		Command string  `json:"command"`
		Param   *string `json:"param"`
		Length  *int    `json:"max_length"`
	}
	if err := json.Unmarshal(text, &object); err != nil || object.Command == "" {
		return nil, fmt.Errorf(`found %s, want a name or {"command": NAME, "param": ARGUMENT, "max_length": LENGTH}`, text)
	}
	c.name = object.Command
	if object.Param != nil {
		c.arg, c.hasArg = *object.Param, true
	}
	if object.Length == nil {
		return c.compile()
	}
	if *object.Length < 0 {
		return nil, fmt.Errorf("max_length %d, want 0 or more", *object.Length)
	}
	inner, err := c.compile()
	if err != nil {
		return nil, err
	}
	limit := *object.Length // which any operator may have here
	return &op{number: inner.number, write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
		n := len(dst)
		dst, ok := inner.append(dst, r)
		return dst[:min(len(dst), n+limit)], ok
	}}, nil
}
