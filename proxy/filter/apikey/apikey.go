// Package apikey is the HTTP filter api_key_auth: a request must bring a key that is known, in a field, a query
// parameter or a cookie. A route may have keys and places of its own, and let only some clients in.
package apikey

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/filter/headermutation"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/uri"
)

// A Source is a place where a key may be. One of the fields is set.
type Source struct {
	Header        []byte // lower case
	Query, Cookie string
}

// A Config is what one level says. A route without keys or sources has those of the filter; what the upstream gets to know, and who
// is let in, is always the route's own. It must not change.
type Config struct {
	Keys    map[string]string // client by key
	Sources []Source
	Forward *Forward
	Clients map[string]bool // of a route: who may use it; empty: all
}

// A Forward says what the upstream gets to know.
type Forward struct {
	Header []byte // that tells it the client's name, lower case; empty: none
	Hide   bool   // it does not get the key
}

type factory struct {
	name   string
	config *Config
	stats  *stats.APIKeyAuth
}

// New returns the factory of filters with a name in the chain.
func New(name string, c *Config, s *stats.APIKeyAuth) stream.Factory { return &factory{name, c, s} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{f} }

type filter struct{ *factory }

// OnRequest lets clients pass whose key is known.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	c := *f.config
	if w, ok := s.FilterConfig(f.name).(*Config); ok {
		if len(w.Keys) > 0 {
			c.Keys = w.Keys
		}
		if len(w.Sources) > 0 {
			c.Sources = w.Sources
		}
		c.Forward, c.Clients = w.Forward, w.Clients
	}
	switch {
	case len(c.Sources) == 0:
		return f.deny(s, "missing_key_sources")
	case len(c.Keys) == 0:
		return f.deny(s, "missing_credentials")
	}
	key := c.key(m)
	if len(key) == 0 {
		return f.deny(s, "missing_api_key")
	}
	client, known := c.Keys[string(key)]
	if !known {
		return f.deny(s, "unknown_api_key")
	}
	if len(c.Clients) > 0 && !c.Clients[client] {
		f.stats.Forbidden.Inc()
		return s.Reply(403, "Client is forbidden.", "client_not_allowed")
	}
	if c.Forward != nil {
		c.forward(m, client)
	}
	f.stats.Allowed.Inc()
	return stream.Continue
}

func (f *filter) deny(s *stream.Stream, details string) stream.Verdict {
	f.stats.Unauthorized.Inc()
	return s.Reply(401, "Client authentication failed.", details)
}

// key is what the first source that has one holds.
func (c *Config) key(m *header.Map) []byte {
	for i := range c.Sources {
		if v := c.Sources[i].key(m); len(v) > 0 {
			return v
		}
	}
	return nil
}

func (s *Source) key(m *header.Map) []byte {
	switch {
	case len(s.Header) > 0:
		v, _ := bytes.CutPrefix(m.Lookup(s.Header), []byte("Bearer "))
		return v
	case s.Query != "":
		_, query := uri.Split(m.Get(header.Path))
		v, _ := uri.Decoded(query, s.Query)
		if bytes.IndexByte(v, '%') >= 0 {
			return uri.AppendDecoded(nil, v)
		}
		return v
	}
	v, _ := route.Cookie(m, s.Cookie)
	return v
}

// forward tells the upstream who asks, and keeps the key to itself.
func (c *Config) forward(m *header.Map, client string) {
	if len(c.Forward.Header) > 0 {
		m.SetNameCopy(c.Forward.Header, []byte(client))
	}
	if !c.Forward.Hide {
		return
	}
	for _, s := range c.Sources {
		switch {
		case len(s.Header) > 0:
			m.RemoveName(s.Header)
		case s.Query != "":
			if bytes.IndexByte(m.Get(header.Path), '?') < 0 {
				continue
			}
			headermutation.RemoveParameter(m, s.Query)
		default:
			removeCookie(m, s.Cookie)
		}
	}
}

// removeCookie takes a cookie out of the fields that hold them.
func removeCookie(m *header.Map, name string) {
	var kept []byte
	for _, f := range m.Fields() {
		if f.Token != header.Cookie {
			continue
		}
		for _, pair := range bytes.Split(f.Value, []byte{';'}) {
			pair = bytes.TrimSpace(pair)
			if k, _, _ := bytes.Cut(pair, []byte{'='}); string(k) == name || len(pair) == 0 {
				continue
			}
			if len(kept) > 0 {
				kept = append(kept, "; "...)
			}
			kept = append(kept, pair...)
		}
	}
	if len(kept) == 0 {
		m.Remove(header.Cookie)
		return
	}
	m.SetCopy(header.Cookie, kept)
}

// OnResponse has nothing to do.
func (f *filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }
