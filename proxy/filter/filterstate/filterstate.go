// Package filterstate is the filter set_filter_state: it gives names to values of a request or a connection, for
// filters, routes, hash policies and access logs that come later, and for connections to hosts.
package filterstate

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config holds the values to set. It must not change.
type Config struct {
	Values  []Value
	Reroute bool // the route is picked once more afterwards
}

// A Value is one key with the format of its value.
type Value struct {
	Key         string
	Format      *access.Format
	SkipIfEmpty bool
	Is          func(string) bool // what makes a text such an object; others are not set. nil: anything is
	Share       access.Sharing
	Hashed      bool // see [access.State.Share]
}

// apply sets the value.
func (v *Value) apply(r *access.Record, s *access.State) {
	r.Scratch = v.Format.Append(r.Scratch[:0], r)
	if len(r.Scratch) == 0 && v.SkipIfEmpty || v.Is != nil && !v.Is(string(r.Scratch)) {
		return
	}
	s.Share(v.Key, r.Scratch, v.Share, v.Hashed)
}

// A Connection is the network filter of the same name: what it sets is there for all that comes by a connection.
type Connection struct {
	Values []Value // when it has come,
	TLS    []Value // after its handshake; without one when it has come,
	Data   []Value // and when the client has sent its first bytes
}

// Admit sets the values of a connection that has come.
func (c *Connection) Admit(_ *pool.Worker, conn *listen.Conn) bool {
	conn.Say(func(r *access.Record) {
		apply(c.Values, r)
		if conn.Chain.TLS == nil {
			apply(c.TLS, r)
		}
	})
	return true
}

// Secured sets the values of a connection whose handshake is done.
func (c *Connection) Secured(conn *listen.Conn) {
	if len(c.TLS) > 0 {
		conn.Say(func(r *access.Record) { apply(c.TLS, r) })
	}
}

// Heard sets the values of a connection whose client has sent something.
func (c *Connection) Heard(conn *listen.Conn) bool {
	if len(c.Data) == 0 {
		return false
	}
	conn.Say(func(r *access.Record) { apply(c.Data, r) })
	return true
}

func apply(list []Value, r *access.Record) {
	for i := range list {
		list[i].apply(r, &r.State)
	}
}

type factory struct {
	name   string
	config *Config
}

// New returns the factory of filters with a name in the chain. c is used by all requests; a route's own follows it.
func New(name string, c *Config) stream.Factory { return &factory{name, c} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{f} }

type filter struct{ *factory }

// OnRequest sets the values.
func (f *filter) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	f.config.set(s)
	if c, ok := s.FilterConfig(f.name).(*Config); ok {
		c.set(s)
	}
	return stream.Continue
}

func (c *Config) set(s *stream.Stream) {
	for i := range c.Values {
		c.Values[i].apply(&s.Rec, &s.Rec.State)
	}
	if c.Reroute {
		s.Reroute()
	}
}

// OnResponse has nothing to do.
func (f *filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }
