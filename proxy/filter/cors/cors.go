// Package cors is the HTTP filter that answers questions of browsers about requests from
// other origins (the CORS protocol of the Fetch standard).
//
// What is allowed is said by routes, virtual hosts and route tables ([Policy]); what a route leaves
// open, the level above it says. Without a policy the filter does nothing. A request from an origin that is not
// allowed goes on without the fields that would let the browser show the answer.
package cors

import (
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// Old is the name under which routes and virtual hosts have what their own field cors says. It counts where nothing is said to the filter.
const Old = "\x00cors"

// A Policy says what one level allows. It must not change.
type Policy struct {
	Origins       []*route.Matcher
	Methods       []byte // access-control-allow-methods; "*" repeats what was asked for
	Headers       []byte
	Expose        []byte
	MaxAge        []byte
	Credentials   *bool
	Private       *bool // allow_private_network_access
	ForwardOthers *bool // forward_not_matching_preflights; nil: true

	Enabled route.Fraction // of the requests
	Shadow  route.Fraction // only counted
}

type factory struct {
	name  string
	stats *stats.Cors
}

// New returns the factory of filters with a name in the chain.
func New(name string, s *stats.Cors) stream.Factory { return factory{name, s} }

func (f factory) Name() string { return f.name }

func (f factory) New(*pool.Worker) any { return &filter{factory: f} }

// A filter handles one stream.
type filter struct {
	factory
	levels []*Policy // the most specific first
	origin []byte
	cross  bool // the request comes from another origin, and the filter is on
}

var (
	requestMethod  = []byte("access-control-request-method")
	requestHeaders = []byte("access-control-request-headers")
	requestPrivate = []byte("access-control-request-private-network")
	allowOrigin    = []byte("access-control-allow-origin")
	allowCreds     = []byte("access-control-allow-credentials")
	allowMethods   = []byte("access-control-allow-methods")
	allowHeaders   = []byte("access-control-allow-headers")
	allowPrivate   = []byte("access-control-allow-private-network")
	exposeHeaders  = []byte("access-control-expose-headers")
	maxAge         = []byte("access-control-max-age")
	yes            = []byte("true")
	star           = []byte("*")
)

// OnRequest notes where the request comes from and answers preflights.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	if s.Route == nil || s.Route.Forward == nil {
		return stream.Continue
	}
	if f.levels = stream.FilterConfigs(s, f.levels[:0], f.name); len(f.levels) == 0 {
		f.levels = stream.FilterConfigs(s, f.levels, Old)
	}
	if len(f.levels) == 0 {
		return stream.Continue
	}
	first := f.levels[0]
	on := first.Enabled.Hit(s.Worker.Random())
	if !on && !first.Shadow.Hit(s.Worker.Random()) {
		return stream.Continue
	}
	origin := m.Get(header.Origin)
	if len(origin) == 0 {
		return stream.Continue
	}
	allowed := f.allows(origin)
	if allowed {
		f.stats.OriginValid.Inc()
		f.origin = origin
	} else {
		f.stats.OriginInvalid.Inc()
	}
	if !on {
		return stream.Continue
	}
	f.cross = true
	if string(m.Get(header.Method)) != "OPTIONS" || len(m.Lookup(requestMethod)) == 0 || !allowed && f.flag(forwardOthers, true) {
		return stream.Continue
	}
	return s.ReplyBare(200, "cors_response", func(r *header.Map) { f.preflight(r, m) })
}

// preflight says what the browser may ask for.
func (f *filter) preflight(r, asked *header.Map) {
	if f.origin != nil {
		r.AddName(allowOrigin, f.origin)
	}
	if f.flag(credentials, false) {
		r.AddName(allowCreds, yes)
	}
	say(r, allowMethods, f.text(methods), asked.Lookup(requestMethod))
	say(r, allowHeaders, f.text(headers), asked.Lookup(requestHeaders))
	if v := f.text(age); len(v) > 0 {
		r.AddName(maxAge, v)
	}
	if f.flag(private, false) && string(asked.Lookup(requestPrivate)) == "true" {
		r.AddName(allowPrivate, yes)
	}
}

// say adds a field unless the policy is silent; a star repeats what was asked for, be it nothing.
func say(r *header.Map, name, v, asked []byte) {
	switch {
	case len(v) == 0:
	case string(v) == "*":
		r.AddName(name, asked)
	default:
		r.AddName(name, v)
	}
}

// OnResponse lets the browser show the answer.
func (f *filter) OnResponse(_ *stream.Stream, m *header.Map) stream.Verdict {
	if !f.cross || f.origin == nil {
		return stream.Continue
	}
	m.SetName(allowOrigin, f.origin)
	if f.flag(credentials, false) {
		m.SetName(allowCreds, yes)
	}
	if v := f.text(expose); len(v) > 0 {
		m.SetName(exposeHeaders, v)
	}
	return stream.Continue
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) {
	clear(f.levels)
	f.levels, f.origin, f.cross = f.levels[:0], nil, false
}

// allows asks the first level that names origins.
func (f *filter) allows(origin []byte) bool {
	for _, p := range f.levels {
		if len(p.Origins) == 0 {
			continue
		}
		for _, m := range p.Origins {
			if m.Match(star) || m.Match(origin) {
				return true
			}
		}
		return false
	}
	return false
}

// text asks the first level that says something.
func (f *filter) text(of func(*Policy) []byte) []byte {
	for _, l := range f.levels {
		if v := of(l); len(v) > 0 {
			return v
		}
	}
	return nil
}

func (f *filter) flag(of func(*Policy) *bool, byDefault bool) bool {
	for _, l := range f.levels {
		if v := of(l); v != nil {
			return *v
		}
	}
	return byDefault
}

func methods(p *Policy) []byte      { return p.Methods }
func headers(p *Policy) []byte      { return p.Headers }
func expose(p *Policy) []byte       { return p.Expose }
func age(p *Policy) []byte          { return p.MaxAge }
func credentials(p *Policy) *bool   { return p.Credentials }
func private(p *Policy) *bool       { return p.Private }
func forwardOthers(p *Policy) *bool { return p.ForwardOthers }
