// Package csrf is the HTTP filter that refuses requests which another site has made a browser send (cross-site
// request forgery): a request that changes something must come from its own host, or from one that is allowed.
package csrf

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Policy says what one level allows. It must not change.
type Policy struct {
	Enabled route.Fraction // of the requests
	Shadow  route.Fraction // only counted
	Origins []*route.Matcher
}

type factory struct {
	name   string
	policy *Policy
	stats  *stats.CSRF
}

// New returns the factory of filters with a name in the chain. p is for routes without one of their own.
func New(name string, p *Policy, s *stats.CSRF) stream.Factory { return factory{name, p, s} }

func (f factory) Name() string { return f.name }

func (f factory) New(*pool.Worker) any { return &filter{f} }

type filter struct{ factory }

// OnRequest refuses a request that comes from elsewhere.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	p := f.policy
	if own, ok := s.FilterConfig(f.name).(*Policy); ok {
		p = own
	}
	on := p.Enabled.Hit(s.Worker.Random())
	if !on && !p.Shadow.Hit(s.Worker.Random()) || !changes(m.Get(header.Method)) {
		return stream.Continue
	}
	source := hostAndPort(m.Get(header.Origin))
	switch {
	case len(source) == 0:
		source = hostAndPort(m.Get(header.Referer))
	case string(source) == "null": // what a browser says that may not tell
		source = nil
	}
	switch {
	case len(source) == 0:
		f.stats.MissingSourceOrigin.Inc()
	case !p.allows(source, m.Get(header.Authority)):
		f.stats.RequestInvalid.Inc()
	default:
		f.stats.RequestValid.Inc()
		return stream.Continue
	}
	if !on {
		return stream.Continue
	}
	return s.Reply(403, "Invalid origin", "csrf_origin_mismatch")
}

func (p *Policy) allows(source, target []byte) bool {
	if bytes.Equal(source, target) {
		return true
	}
	for _, o := range p.Origins {
		if o.Match(source) {
			return true
		}
	}
	return false
}

// changes reports whether a method changes something.
func changes(method []byte) bool {
	switch string(method) {
	case "POST", "PUT", "DELETE", "PATCH":
		return true
	}
	return false
}

// hostAndPort is what stands between the scheme and the path of a URL; what is no URL stays as it is.
func hostAndPort(url []byte) []byte {
	_, rest, ok := bytes.Cut(url, []byte("://"))
	if !ok {
		return url
	}
	if i := bytes.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// OnResponse has nothing to do.
func (f *filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }
