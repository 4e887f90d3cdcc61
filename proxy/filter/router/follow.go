package router

import (
	"bytes"
	"slices"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stats"
)

// follow has a redirect of the host followed here, if the route's policy says so and it can be: the
// request comes once more, with the target as its address and the body that was kept. Otherwise the client gets the redirect.
func (r *Router) follow(a *attempt, m *header.Map, code int) bool {
	if !r.forward.Follow.Follows(code) {
		return false
	}
	if !r.ended || !r.keep || !r.follows || r.s.Upgrade || !r.redirectTo(m) {
		r.cluster.Stats.UpstreamInternalRedirectFailed.Inc()
		return false
	}
	r.cluster.Stats.UpstreamInternalRedirectSucceeded.Inc()
	var body []byte
	if q := &r.s.Request; code == 303 && !safe(q.Get(header.Method)) { // RFC 9110, section 15.4.4
		q.Set(header.Method, []byte("GET"))
		q.Remove(header.ContentLength)
	} else {
		body = slices.Clone(r.body)
	}
	for i := range r.timers {
		r.w.Loop.Cancel(&r.timers[i])
	}
	a.stop()
	r.s.Again(m, "internal_redirect", body)
	return true
}

func safe(method []byte) bool { return string(method) == "GET" || string(method) == "HEAD" }

// redirectTo makes the request one to the target of a redirect, or leaves it as it was.
func (r *Router) redirectTo(m *header.Map) bool {
	s, p := r.s, r.forward.Follow
	st, q := s.Config.Stats, &s.Request
	count := func(c func(*stats.HTTP) *stats.Counter) bool {
		if st != nil {
			c(st).Inc()
		}
		return false
	}
	if !m.Has(header.Location) {
		return false
	}
	scheme, host, path, ok := split(m.Get(header.Location))
	if !ok {
		return count(func(h *stats.HTTP) *stats.Counter { return &h.PassthroughInternalRedirectBadLocation })
	}
	wasTLS, willBeTLS := string(q.Get(header.Scheme)) == "https", string(scheme) == "https"
	if !p.CrossScheme && wasTLS != willBeTLS {
		return count(func(h *stats.HTTP) *stats.Counter { return &h.PassthroughInternalRedirectUnsafeScheme })
	}
	if s.Followed.Count >= p.Max {
		return count(func(h *stats.HTTP) *stats.Counter { return &h.PassthroughInternalRedirectTooManyRedirects })
	}
	original := slices.Concat(q.Get(header.Scheme), []byte("://"), q.Get(header.Authority), q.Get(header.Path))
	back := r.readdress(m, scheme, host, path)
	rt, cluster := s.RouteTo()
	if c := r.w.Source.Cluster(cluster); c != nil {
		s.Rec.Cluster, s.Rec.ClusterRaw = c.StatName, c.Name
	} else {
		s.Rec.Cluster, s.Rec.ClusterRaw = "", ""
	}
	if rt == nil {
		back()
		return count(func(h *stats.HTTP) *stats.Counter { return &h.PassthroughInternalRedirectNoRoute })
	}
	if !p.Allows(&s.Followed, s.Route.Name, rt.Name, wasTLS, willBeTLS) {
		back()
		return count(func(h *stats.HTTP) *stats.Counter { return &h.PassthroughInternalRedirectPredicate })
	}
	s.Followed.Count++
	q.SetNameCopy(originalURL, original)
	return true
}

// readdress gives the request another address, and what the redirect has for it. The function that it returns
// takes that back.
func (r *Router) readdress(m *header.Map, scheme, host, path []byte) (back func()) {
	q, names := &r.s.Request, r.forward.Follow.Copy
	var was header.Map
	if len(names) > 0 {
		was.CopyFrom(q)
		copyFields(q, m, names)
	}
	oldScheme, oldHost, oldPath := q.Get(header.Scheme), q.Get(header.Authority), q.Get(header.Path)
	q.SetCopy(header.Scheme, scheme)
	q.SetCopy(header.Authority, host)
	q.SetCopy(header.Path, path)
	return func() {
		copyFields(q, &was, names)
		q.Set(header.Scheme, oldScheme)
		q.Set(header.Authority, oldHost)
		q.Set(header.Path, oldPath)
	}
}

// copyFields makes fields in to what they are in from.
func copyFields(to, from *header.Map, names []string) {
	for _, name := range names {
		to.RemoveName([]byte(name))
		for _, v := range from.Values(nil, []byte(name)) {
			to.AddNameCopy([]byte(name), v)
		}
	}
}

var originalURL = []byte("x-envoy-original-url")

// split takes an absolute URL of HTTP apart; what follows a # is no part of a request.
func split(url []byte) (scheme, host, path []byte, ok bool) {
	scheme, rest, ok := bytes.Cut(url, []byte("://"))
	if !ok {
		return nil, nil, nil, false
	}
	scheme = bytes.ToLower(scheme)
	if string(scheme) != "http" && string(scheme) != "https" {
		return nil, nil, nil, false
	}
	rest, _, _ = bytes.Cut(rest, []byte("#"))
	host, path = rest, []byte("/")
	if i := bytes.IndexAny(rest, "/?"); i >= 0 {
		if host, path = rest[:i], rest[i:]; path[0] == '?' {
			path = append([]byte("/"), path...)
		}
	}
	return scheme, host, path, len(host) > 0 && header.ValidAuthority(host) && header.ValidTarget(path)
}
