package listen

import (
	"sync/atomic"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/pool"
)

// A Slot is the place of a network filter that comes and changes by itself (config_discovery), while its chain stays. Connections keep
// what they found in it. It stands for a [Gate] or for the [Filter] at the end of a chain.
type Slot struct{ content atomic.Pointer[Content] }

// Content is what stands in a slot: a gate, a filter, or neither, which is a gate that is switched off.
type Content struct {
	Gate   Gate
	Filter Filter
}

// Put puts something else into the slot; nil empties it.
func (s *Slot) Put(c *Content) { s.content.Store(c) }

// Now is what stands in the slot, nil if nothing has come.
func (s *Slot) Now() *Content { return s.content.Load() }

// Admit asks the gate.
func (s *Slot) Admit(w *pool.Worker, c *Conn) bool {
	now := s.Now()
	if now == nil { // it has gone since the chain was chosen
		c.unconfigured(c.HasInput())
		return false
	}
	return now.Gate == nil || now.Gate.Admit(w, c)
}

// Secured tells the gate, if it listens.
func (s *Slot) Secured(c *Conn) {
	if now := s.Now(); now != nil {
		if l, ok := now.Gate.(Listening); ok {
			l.Secured(c)
		}
	}
}

// Heard asks the gate, if it listens.
func (s *Slot) Heard(c *Conn) bool {
	if now := s.Now(); now != nil {
		if l, ok := now.Gate.(Listening); ok {
			return l.Heard(c)
		}
	}
	return false
}

// Serve hands a connection to the filter.
func (s *Slot) Serve(w *pool.Worker, c *Conn) {
	now := s.Now()
	if now == nil {
		c.Release()
		c.unconfigured(c.HasInput())
		return
	}
	now.Filter.Serve(w, c)
}

// SentAway tells the filter, if it counts.
func (s *Slot) SentAway(c *Conn) {
	if now := s.Now(); now != nil {
		if f, ok := now.Filter.(Counting); ok {
			f.SentAway(c)
		}
	}
}

// Gone tells the filter, if it counts.
func (s *Slot) Gone(c *Conn, byClient bool) {
	if now := s.Now(); now != nil {
		if f, ok := now.Filter.(Counting); ok {
			f.Gone(c, byClient)
		}
	}
}

// Reads asks the filter, if it counts.
func (s *Slot) Reads() bool {
	if now := s.Now(); now != nil {
		if f, ok := now.Filter.(Counting); ok {
			return f.Reads()
		}
	}
	return true
}

// Measure asks the filter, if it counts.
func (s *Slot) Measure(c *Conn) {
	if now := s.Now(); now != nil {
		if f, ok := now.Filter.(Counting); ok {
			f.Measure(c)
		}
	}
}

// Record tells the filter, if it records.
func (s *Slot) Record(shard int, r *access.Record) {
	if now := s.Now(); now != nil {
		if f, ok := now.Filter.(Recording); ok {
			f.Record(shard, r)
		}
	}
}

// complete reports whether all filters of a chain have come.
func (c *Chain) complete() bool {
	for _, s := range c.Slots {
		if s.Now() == nil {
			return false
		}
	}
	return true
}

// unconfigured ends a connection for which not all filters of its chain have come.
func (c *Conn) unconfigured(unread bool) {
	if st := c.Listener.Stats; st != nil {
		st.NetworkExtensionConfigMissing.Inc()
	}
	if unread {
		c.refuse()
	} else {
		c.close()
	}
}
