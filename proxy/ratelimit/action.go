package ratelimit

import (
	"bytes"
	"net/netip"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/uri"
)

// An Action adds an entry to the descriptor of a request. If it reports false the request has no such
// descriptor.
type Action interface {
	add(d *Descriptors, q *route.Request, rec *access.Record) bool
}

func (d *Descriptors) put(key string, value []byte) bool {
	d.entries = append(d.entries, Entry{key, value})
	return true
}

// Constant is the same for every request.
type Constant struct {
	Key   string
	Value []byte
}

func (a *Constant) add(d *Descriptors, _ *route.Request, _ *access.Record) bool {
	return d.put(a.Key, a.Value)
}

// A Value is what an entry has for a value.
type Value struct {
	Text    []byte
	Format  *access.Format // in place of the text
	Default []byte         // where the format says nothing; empty too: the request has no such descriptor
}

func (v *Value) put(d *Descriptors, key string, rec *access.Record) bool {
	if v.Format == nil {
		return d.put(key, v.Text)
	}
	rec.Scratch = v.Format.Append(rec.Scratch[:0], rec)
	text := rec.Scratch
	if len(text) == 0 {
		text = v.Default
	}
	return len(text) > 0 && d.put(key, d.keep(text))
}

// Generic is what configuration says of every request.
type Generic struct {
	Key   string
	Value Value
}

func (a *Generic) add(d *Descriptors, _ *route.Request, rec *access.Record) bool {
	return a.Value.put(d, a.Key, rec)
}

// Destination is the cluster that the request goes to.
type Destination struct{}

func (Destination) add(d *Descriptors, _ *route.Request, rec *access.Record) bool {
	from := len(d.bytes)
	d.bytes = append(d.bytes, rec.ClusterRaw...)
	return d.put("destination_cluster", d.bytes[from:len(d.bytes):len(d.bytes)])
}

// Header is the first field of a name.
type Header struct {
	Key      string
	Name     []byte // lower case
	Optional bool   // without it the descriptor has one entry less
}

func (a *Header) add(d *Descriptors, q *route.Request, _ *access.Record) bool {
	v := q.Headers.Lookup(a.Name)
	if v == nil {
		return a.Optional
	}
	return d.put(a.Key, v)
}

// Query is the first query parameter of a name.
type Query struct {
	Key, Name string
	Optional  bool
}

func (a *Query) add(d *Descriptors, q *route.Request, _ *access.Record) bool {
	v, ok := d.parameter(q.Path, a.Name)
	if !ok {
		return a.Optional
	}
	return d.put(a.Key, v)
}

// parameter returns the first value of a query parameter, unescaped.
func (d *Descriptors) parameter(path []byte, name string) ([]byte, bool) {
	_, query := uri.Split(path)
	v, found := uri.Decoded(query, name)
	if bytes.IndexByte(v, '%') < 0 {
		return v, found
	}
	from := len(d.bytes)
	d.bytes = uri.AppendDecoded(d.bytes, v)
	return d.bytes[from:len(d.bytes):len(d.bytes)], found
}

// Address is the client's address.
type Address struct{}

func (Address) add(d *Descriptors, _ *route.Request, rec *access.Record) bool {
	ip := rec.DownstreamRemote.Addr()
	if !ip.IsValid() {
		return false
	}
	var text [46]byte
	return d.put("remote_address", d.keep(ip.Unmap().AppendTo(text[:0])))
}

// Network is the network of the client's address.
type Network struct{ V4, V6 int } // bits that are kept

func (a Network) add(d *Descriptors, _ *route.Request, rec *access.Record) bool {
	ip := rec.DownstreamRemote.Addr().Unmap()
	bits := a.V6
	if ip.Is4() {
		bits = a.V4
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return false
	}
	var text [50]byte
	return d.put("masked_remote_address", d.keep(p.AppendTo(text[:0])))
}

// HeaderMatch says that the fields of a request match, or that they do not.
type HeaderMatch struct {
	Key     string
	Value   Value
	Headers route.HeaderMatchers
	Expect  bool
}

func (a *HeaderMatch) add(d *Descriptors, q *route.Request, rec *access.Record) bool {
	return a.Headers.All(q) == a.Expect && a.Value.put(d, a.Key, rec)
}

// QueryMatch says that query parameters match, or that they do not.
type QueryMatch struct {
	Key    string
	Value  Value
	Params []Param
	Expect bool
}

// A Param is a condition on a query parameter.
type Param struct {
	Name string
	*route.Matcher
}

func (a *QueryMatch) add(d *Descriptors, q *route.Request, rec *access.Record) bool {
	return a.matches(d, q.Path) == a.Expect && a.Value.put(d, a.Key, rec)
}

func (a *QueryMatch) matches(d *Descriptors, path []byte) bool {
	for _, p := range a.Params {
		if v, ok := d.parameter(path, p.Name); !ok || !p.Match(v) {
			return false
		}
	}
	return true
}

// AddressMatch says that the client's address is in one of some networks, or in none.
type AddressMatch struct {
	Key      string
	Value    Value
	Networks []netip.Prefix
	Invert   bool
}

func (a *AddressMatch) add(d *Descriptors, _ *route.Request, rec *access.Record) bool {
	return a.within(rec.DownstreamRemote.Addr().Unmap()) != a.Invert && a.Value.put(d, a.Key, rec)
}

func (a *AddressMatch) within(ip netip.Addr) bool {
	for _, n := range a.Networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// A Source says whose metadata an action looks at.
type Source uint8

// The sources.
const (
	OfRequest Source = iota
	OfRoute
	OfCluster
	OfLocality // of the host that was picked; none before
)

// Metadata is a text of metadata.
type Metadata struct {
	Key       string
	Source    Source
	Namespace string
	Path      []string
	Default   []byte // if there is none, or it is no text; empty: see Optional
	Optional  bool   // without it the descriptor has one entry less
}

func (a *Metadata) add(d *Descriptors, _ *route.Request, rec *access.Record) bool {
	var fields metadata.Struct
	switch a.Source {
	case OfRequest:
		fields, _ = rec.Dynamic.Space(a.Namespace)
	case OfRoute:
		fields, _ = rec.Configured[metadata.Route].Space(a.Namespace)
	case OfCluster:
		fields, _ = rec.ClusterMetadata().Space(a.Namespace)
	case OfLocality:
		fields, _ = rec.Configured[metadata.Locality].Space(a.Namespace)
	}
	v, _ := metadata.Lookup(fields, a.Path)
	if text, _ := v.(string); text != "" {
		return d.put(a.Key, []byte(text))
	}
	if len(a.Default) > 0 {
		return d.put(a.Key, a.Default)
	}
	return a.Optional
}
