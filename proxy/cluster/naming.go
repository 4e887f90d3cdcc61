package cluster

import (
	"bytes"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
)

// A Naming says where requests name the hosts that they want (the policy override_host): whoever has chosen an
// endpoint before the proxy, such as an inference gateway's endpoint picker, writes it there.
type Naming struct {
	Sources  []NameSource  // all of them count, in this order
	Selected *metadata.Key // where it is told which host was chosen; nil: nowhere
}

// A NameSource is one place: a header, or a string in the request's metadata.
type NameSource struct {
	Header   string
	Metadata *metadata.Key
}

// Wanted are the hosts that one request names, in its order. Each is good for one try; that a host is not well does not
// matter, as in Envoy: whoever names it has looked.
type Wanted struct {
	text []byte // addresses, each with a comma behind it
	at   int
}

// Want reads what a request names. m may be nil.
func (n *Naming) Want(w *Wanted, m *header.Map, d *metadata.Dynamic) {
	w.text, w.at = w.text[:0], 0
	for i := range n.Sources {
		s := &n.Sources[i]
		switch {
		case s.Metadata != nil:
			v, _ := s.Metadata.Find(d)
			if text, ok := v.(string); ok {
				w.text = append(append(w.text, text...), ',')
			}
		case m != nil:
			w.text = append(append(w.text, m.LookupString(s.Header)...), ',')
		}
	}
}

// Forget has nothing named any more.
func (w *Wanted) Forget() {
	if w.text, w.at = w.text[:0], 0; cap(w.text) > 4<<10 {
		w.text = nil
	}
}

// take returns the next host that is there, nil if no more are named.
func (w *Wanted) take(set *HostSet) *Host {
	for w.at < len(w.text) {
		name, _, _ := bytes.Cut(w.text[w.at:], comma)
		w.at += len(name) + 1
		if name = bytes.TrimSpace(name); len(name) == 0 {
			continue
		}
		if a, ok := pipe.ParseAddrPort(string(name)); ok {
			if h := set.Find(a); h != nil {
				return h
			}
		}
	}
	return nil
}

var comma = []byte{','}

// Tell writes into a request's metadata which host was chosen.
func (n *Naming) Tell(d *metadata.Dynamic, h *Host) {
	if n.Selected == nil {
		return
	}
	path := n.Selected.Path
	var v any = pipe.String(h.Addr)
	for i := len(path) - 1; i > 0; i-- {
		v = metadata.Struct{path[i]: v}
	}
	d.Set(n.Selected.Namespace, path[0], v)
}
