package headermutation

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/uri"
)

// A Parameter is one change of query parameters.
type Parameter struct {
	Name   string
	Value  *access.Format // nil: removes the parameter
	Action route.AppendAction
}

// A query is parameters by name, unescaped. Each stays as it came, escapes included: what an escape stands for may be the end of a
// parameter, or of the request's line.
type query map[string][]pair

type pair struct{ name, value string } // escaped

// query changes parameters. As in Envoy, all are written anew, sorted by name.
func (c *Config) query(m *header.Map, rec *access.Record) {
	path, text, _ := bytes.Cut(m.Get(header.Path), []byte{'?'})
	q := parse(text)
	for i := range c.Query {
		c.Query[i].apply(q, rec)
	}
	m.Set(header.Path, q.append(path))
}

// RemoveParameter takes a query parameter out of a request's path.
func RemoveParameter(m *header.Map, name string) {
	c := Config{Query: []Parameter{{Name: name}}}
	c.query(m, nil)
}

func (p *Parameter) apply(q query, rec *access.Record) {
	if p.Value == nil {
		delete(q, p.Name)
		return
	}
	made := pair{escapedName(p.Name), escaped(string(p.Value.Append(nil, rec)))}
	has := len(q[p.Name]) > 0
	switch p.Action {
	case route.AppendIfExistsOrAdd:
		q[p.Name] = append(q[p.Name], made)
	case route.AddIfAbsent:
		if !has {
			q[p.Name] = []pair{made}
		}
	case route.OverwriteIfExists:
		if has {
			q[p.Name] = []pair{made}
		}
	case route.OverwriteIfExistsOrAdd:
		q[p.Name] = []pair{made}
	}
}

func parse(text []byte) query {
	q := query{}
	for len(text) > 0 {
		one := text
		var name, value []byte
		if name, value, text = uri.Next(text); one[0] == '&' {
			continue // between two ampersands is nothing
		}
		key := string(uri.AppendDecoded(nil, name))
		q[key] = append(q[key], pair{string(name), string(value)})
	}
	return q
}

// append appends the parameters to a path, in a copy.
func (q query) append(path []byte) []byte {
	out, sep := bytes.Clone(path), byte('?')
	for _, name := range slices.Sorted(maps.Keys(q)) {
		for _, p := range q[name] {
			out = append(append(out, sep), p.name...)
			out = append(append(out, '='), p.value...)
			sep = '&'
		}
	}
	return out
}

// escapedName escapes a name only if it could not be one.
func escapedName(s string) string {
	if header.ValidTarget([]byte(s)) && !strings.ContainsAny(s, "&=#") {
		return s
	}
	return escaped(s)
}

// escaped escapes what Envoy escapes in a value: all but letters, digits and some signs.
func escaped(s string) string {
	const hex = "0123456789ABCDEF"
	var out []byte
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._*", c) >= 0:
			out = append(out, c)
		default:
			out = append(out, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}
