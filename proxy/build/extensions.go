package build

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// An extensionEntry is the configuration of a filter that comes by itself.
type extensionEntry struct {
	Record
	message proto.Message // accepted last; nil: none
	asked   bool          // the control plane
	told    bool          // there was an answer, or it is waited for no more
}

// slotsOf are the places, of what is in force, about to be and retired, for the filter of a name.
func (s *Store) slotsOf(name string) (out []*slot) {
	seen := map[*slot]bool{}
	s.holders(func(l *Listener) {
		for p := range l.places() {
			if p.Name == name && !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	})
	return out
}

// holders calls f for all listeners that connections have, or may come to have.
func (s *Store) holders(f func(*Listener)) {
	for _, e := range s.listeners {
		for _, l := range []*Listener{e.next, e.live} {
			if l != nil {
				f(l)
			}
		}
	}
	for _, r := range s.retired {
		f(r.Listener)
	}
}

// readExtension reads the configuration of a filter. Either all places take it, or none does.
func (s *Store) readExtension(r xdsclient.Resource) error {
	e := s.extensions[r.Name]
	e.told = true
	m := &corev3.TypedExtensionConfig{}
	if err := decode(r, m); err != nil {
		return err
	}
	reader := &reader{env: s.env}
	if m.GetName() != r.Name {
		reader.errs.Addf(field.At("name"), "found %q, want %q, which was asked for", m.GetName(), r.Name)
	}
	config := reader.unpack(m.GetTypedConfig(), nil)
	if err := reader.errs.Err(); err != nil {
		return err
	}
	return s.replace(e, r.Name, config)
}

// replace puts a configuration, or the defaults if it is nil, into all places that it is for.
func (s *Store) replace(e *extensionEntry, name string, config proto.Message) error {
	places := s.slotsOf(name)
	made := make([]*filled, len(places))
	undo := func(err error) error {
		for _, f := range made {
			if f != nil {
				f.close()
			}
		}
		return err
	}
	for i, p := range places {
		m := config
		if m == nil {
			m = p.fallback
		}
		if m == nil {
			continue
		}
		var err error
		if p.read == nil {
			err = p.mismatch(m)
		} else {
			made[i], err = p.build(m)
		}
		if err != nil {
			return undo(err)
		}
	}
	before := e.message
	e.message = config
	again, err := s.reread(name)
	if err != nil {
		e.message = before
		return undo(err)
	}
	for i, p := range places {
		if p.read != nil {
			s.refill(p, made[i])
		}
	}
	again()
	s.reloaded(places)
	s.stale = true
	return nil
}

// mismatch is why a listener filter's configuration is not of a type that the place is for.
func (s *slot) mismatch(m proto.Message) error {
	if err := s.fits(m); err != nil {
		return field.List{{At: field.At("typed_config"), Msg: err.Error()}}
	}
	return nil
}

// reloaded counts a change once for each subscription.
func (s *Store) reloaded(places []*slot) {
	seen := map[any]bool{}
	for _, p := range places {
		if !seen[p.use.Extension] {
			seen[p.use.Extension] = true
			p.use.ConfigReload.Inc()
		}
	}
}

// refill puts something else into a place. What stood there is in use by those who have it, for as long as connections of a
// retired listener are served.
func (s *Store) refill(p *slot, now *filled) {
	old := p.live
	p.live = now
	p.put(now)
	if old == nil {
		return
	}
	if s.env.Drain <= 0 {
		old.close()
		return
	}
	s.retired = append(s.retired, retired{Listener: &Listener{held: old.held}, since: s.env.Now()})
}

// reread reads the listeners again that have a listener filter of a name, each in its own place: their chains, and the connections in
// them, stay. What it returns puts them in force.
func (s *Store) reread(name string) (func(), error) {
	var puts []func()
	var fresh []*Listener
	for _, e := range s.listeners {
		for _, where := range []**Listener{&e.live, &e.next} {
			l := *where
			if l == nil || !l.hasFilter(name) {
				continue
			}
			again, err := s.again(l, where == &e.live)
			if err != nil {
				for _, f := range fresh {
					f.close()
				}
				return nil, err
			}
			fresh = append(fresh, again)
			puts = append(puts, func() {
				*where = again
				l.close()
			})
		}
	}
	return func() {
		for _, put := range puts {
			put()
		}
	}, nil
}

// again reads a listener once more, as it came. One in force is followed in its place; one that waits is to what is in force
// what it was.
func (s *Store) again(l *Listener, live bool) (*Listener, error) {
	again, err := readListener(l.message, s.env, l, l.clusters)
	if err != nil {
		return nil, err
	}
	again.InPlace = live || l.InPlace
	again.Config.InPlace = again.InPlace
	s.generation++
	again.named(l.Config.Name, l.sum, s.generation)
	return again, nil
}

// hasFilter reports whether a listener has a listener filter of a name that comes by itself.
func (l *Listener) hasFilter(name string) bool {
	for _, p := range l.own {
		if p.Name == name {
			return true
		}
	}
	return false
}

// removeExtension takes a filter's configuration away: defaults take its place.
func (s *Store) removeExtension(name string) {
	e := entry(s.extensions, name)
	e.told, e.Body, e.Version = true, nil, ""
	if err := s.replace(e, name, nil); err != nil { // defaults have been read before
		s.env.Log.Warn("filter without configuration", "filter", name, "reason", err)
	}
}

// extensionsWait reports whether a listener waits for filters, and counts those that it waits for no longer.
func (s *Store) extensionsWait(l *Listener, since time.Time, w *waiting) bool {
	waits := false
	for p := range l.places() {
		e := entry(s.extensions, p.Name)
		switch {
		case p.hurried || e.told:
		case w.until(since, p.Timeout):
			waits = true
		default:
			e.told = true
			for _, l := range s.ledgers(xdsclient.ExtensionType, p.Name) {
				l.attempt.Inc()
				l.timeout.Inc()
				l.failed()
			}
		}
	}
	return waits
}
