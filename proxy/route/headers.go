package route

import (
	"bytes"
	"fmt"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/uri"
)

// headerOps are the compiled header operations of one level.
type headerOps struct{ request, response mutation }

// A mutation removes fields, then adds some.
type mutation struct {
	remove [][]byte
	add    []addition
}

type addition struct {
	name   []byte
	value  []byte         // if the format is constant
	format *access.Format // otherwise
	action AppendAction
	empty  bool // added even if the value is empty
}

func newHeaderOps(c HeadersConfig) (h headerOps, err error) {
	if h.request, err = newMutation(c.RequestAdd, c.RequestRemove, "request"); err == nil {
		h.response, err = newMutation(c.ResponseAdd, c.ResponseRemove, "response")
	}
	return h, err
}

func newMutation(add []HeaderValue, remove []string, side string) (m mutation, err error) {
	for i, name := range remove {
		if !modifiable(name) {
			return m, fmt.Errorf("%s_headers_to_remove[%d]: %q, want a name other than host that does not begin with a colon", side, i, name)
		}
		m.remove = append(m.remove, []byte(lower(name)))
	}
	for i, v := range add {
		a, err := newAddition(&v)
		if err != nil {
			return m, fmt.Errorf("%s_headers_to_add[%d]: %w", side, i, err)
		}
		m.add = append(m.add, a)
	}
	return m, nil
}

func newAddition(v *HeaderValue) (addition, error) {
	if !modifiable(v.Name) {
		return addition{}, fmt.Errorf("header %q, want a name other than host that does not begin with a colon", v.Name)
	}
	f, err := access.CompileHeader(v.Value)
	if err != nil {
		return addition{}, fmt.Errorf("value of %q: %w", v.Name, err)
	}
	a := addition{name: []byte(lower(v.Name)), action: v.Action, empty: v.KeepEmpty}
	if text, ok := f.Constant(); ok {
		a.value = []byte(text)
	} else {
		a.format = f
	}
	return a, nil
}

// formatted returns the value to add, and whether there is something to add.
func (a *addition) formatted(m *header.Map, rec *access.Record) ([]byte, bool) {
	v := a.value
	if a.format != nil {
		rec.Scratch = a.format.Append(rec.Scratch[:0], rec)
		if !header.ValidValue(rec.Scratch) {
			return nil, false // parts of requests may be decoded to what would end the line
		}
		v = m.Copy(rec.Scratch)
	}
	if len(v) == 0 && !a.empty {
		return nil, false
	}
	has := false
	if a.action == AddIfAbsent || a.action == OverwriteIfExists {
		has = m.Lookup(a.name) != nil
	}
	return v, !(a.action == AddIfAbsent && has || a.action == OverwriteIfExists && !has)
}

func (a *addition) overwrites() bool {
	return a.action == OverwriteIfExists || a.action == OverwriteIfExistsOrAdd
}

// put writes the field.
func (a *addition) put(m *header.Map, v []byte) {
	if a.overwrites() {
		m.SetName(a.name, v)
	} else {
		m.AddName(a.name, v)
	}
}

// modifiable is Envoy's rule: routing has already looked at pseudo headers and host.
func modifiable(name string) bool {
	return name != "" && name[0] != ':' && lower(name) != "host"
}

// An evaluated addition waits until all values are known.
type evaluated struct {
	a     *addition
	value []byte
}

// apply performs the operations as Envoy does: removals; then all values are
// formatted, from the fields as they now are; then overwrites; then additions.
func (o *mutation) apply(m *header.Map, rec *access.Record) {
	for _, name := range o.remove {
		m.RemoveName(name)
	}
	if len(o.add) == 0 {
		return
	}
	var room [16]evaluated
	todo := room[:0]
	for i := range o.add {
		a := &o.add[i]
		if v, ok := a.formatted(m, rec); ok {
			todo = append(todo, evaluated{a, v})
		}
	}
	for _, e := range todo {
		if e.a.overwrites() {
			e.a.put(m, e.value)
		}
	}
	for _, e := range todo {
		if !e.a.overwrites() {
			e.a.put(m, e.value)
		}
	}
}

// levels returns the operations of a request in the order in which they apply. Each later one
// sees, and may undo, what the earlier did.
func (r *Route) levels(w *WeightedCluster) [4]*headerOps {
	var none headerOps
	cluster := &none
	if w != nil {
		cluster = &w.headers
	}
	if r.table.specific {
		return [4]*headerOps{&r.table.headers, &r.VHost.headers, &r.headers, cluster}
	}
	return [4]*headerOps{cluster, &r.headers, &r.VHost.headers, &r.table.headers}
}

// FinalizeRequest applies, in Envoy's order, the header operations of the route's
// levels, then the rewrites of host and path. w is what PickCluster chose. If
// original is set (Envoy: unless suppress_envoy_headers), what was rewritten is kept in
// x-envoy-original-path and x-envoy-original-host. Values are borrowed from the table or put into the map's memory.
func (r *Route) FinalizeRequest(m *header.Map, rec *access.Record, w *WeightedCluster, original bool) {
	for _, l := range r.levels(w) {
		l.request.apply(m, rec)
	}
	if r.Forward == nil {
		return
	}
	r.rewriteHost(m, rec, w, original)
	path := m.Get(header.Path)
	var changed bool
	if rec.Scratch, changed = r.AppendPath(rec.Scratch[:0], path, rec); changed {
		if original {
			m.Set(header.XEnvoyOriginalPath, path)
		}
		m.SetCopy(header.Path, rec.Scratch)
	}
}

// FinalizeResponse applies the header operations for responses, local replies included.
func (r *Route) FinalizeResponse(m *header.Map, rec *access.Record, w *WeightedCluster) {
	for _, l := range r.levels(w) {
		l.response.apply(m, rec)
	}
}

func (r *Route) rewriteHost(m *header.Map, rec *access.Record, w *WeightedCluster, original bool) {
	f := r.Forward
	if w != nil && len(w.hostRewrite) > 0 { // the route's own comes on top
		m.Set(header.Authority, w.hostRewrite)
	}
	switch {
	case len(f.host) > 0:
		f.SetHost(m, f.host, original)
	case f.hostHeader != nil:
		if v := m.Lookup(f.hostHeader); len(v) > 0 && header.ValidAuthority(v) {
			f.SetHost(m, v, original)
		}
	case f.hostFormat != nil:
		rec.Scratch = f.hostFormat.Append(rec.Scratch[:0], rec)
		if len(rec.Scratch) > 0 && header.ValidAuthority(rec.Scratch) {
			f.SetHost(m, m.Copy(rec.Scratch), original)
		}
	case f.hostPath != nil:
		path, _ := uri.Split(m.Get(header.Path))
		if rec.Scratch = f.hostPath.replace(rec.Scratch[:0], path); header.ValidAuthority(rec.Scratch) {
			f.SetHost(m, m.Copy(rec.Scratch), original)
		}
	}
}

// SetHost gives a request the host name of the chosen endpoint (AutoHost), for instance, and keeps its own if original is set.
// The bytes are borrowed.
func (f *Forward) SetHost(m *header.Map, host []byte, original bool) {
	old := m.Get(header.Authority)
	if original && len(old) > 0 {
		m.Set(header.XEnvoyOriginalHost, old)
	}
	if f.forwardedHost && len(old) > 0 {
		list := m.Get(header.XForwardedHost)
		last := list[bytes.LastIndexByte(list, ',')+1:]
		switch {
		case len(list) == 0:
			m.Set(header.XForwardedHost, old)
		case !bytes.Equal(bytes.TrimSpace(last), old):
			joined := m.Grow(len(list) + 1 + len(old))
			n := copy(joined, list)
			joined[n] = ','
			copy(joined[n+1:], old)
			m.Set(header.XForwardedHost, joined)
		}
	}
	m.Set(header.Authority, host)
}
