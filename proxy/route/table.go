package route

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	matching "github.com/mallamesh/malla/proxy/matcher"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/uri"
)

// A Request is what matching looks at. Authority and Path are as received; the path
// may carry a query. A shard uses one Request again and again.
type Request struct {
	Method, Scheme, Authority, Path []byte
	Headers                         *header.Map
	SNI                             string
	TLS                             TLS
	State                           *access.State     // what filters have said; nil: nothing
	Metadata                        *metadata.Dynamic // what they have said otherwise; nil: nothing
	Random                          uint64            // decides fractions, weights and mirrors of this request
	Peer                            Peer
	NewCookies                      [][]byte // set-cookie fields for the response; see Forward.Hash

	scratch []byte
	path    []byte // without parameters
}

// TLS is what routes may ask about the client's certificate.
type TLS struct{ Presented, Validated bool }

// A Table picks routes. It is immutable and shared by all shards.
type Table struct {
	Name     string
	OnDemand bool // there may be virtual hosts that have to be asked for

	hosts      hosts
	hostHeader []byte // in place of the host
	parameters bool   // path parameters are not matched
	headers    headerOps
	specific   bool     // most specific header mutations win
	internal   [][]byte // names of fields that only clients inside of the mesh may send
	filters    map[string]any
	off        bool // some level has a filter off
	toHTTPS    *Route
}

// A VirtualHost is a set of domains with their routes.
type VirtualHost struct {
	Name                   string
	TLS                    TLSRequirement
	AttemptCountInRequest  bool
	AttemptCountInResponse bool
	TimeoutRetryInRequest  bool
	RateLimits             any // opaque here
	Metadata               *metadata.Set

	clusters []VirtualCluster
	routes   list
	matcher  matching.Tree[*Request, int] // of choices, in place of routes; nil: there is none
	choices  []list
	headers  headerOps
	filters  map[string]any
}

// A list of routes is tried in its order.
type list struct {
	routes []*Route
	index  *index
}

// A Route says what happens to the requests it matches. Exactly one of Forward,
// Redirect and Direct is set.
type Route struct {
	Name      string
	VHost     *VirtualHost
	Forward   *Forward
	Redirect  *Redirect
	Direct    *Direct
	Decorator string
	Metadata  *metadata.Set
	Stats     *stats.RouteUse // nil: none of its own
	Buffer    Buffer

	table   *Table
	order   uint64
	match   match
	headers headerOps
	filters map[string]any // of this level
	merged  map[string]any // of this level and those above, the most specific
}

// A match is a compiled Match.
type match struct {
	kind    PathKind
	path    string // lower case if fold
	fold    bool
	re      matcher
	prefix  string // what every path that an expression or a template matches begins with
	headers []headerMatcher
	query   []queryMatcher
	cookies []cookieMatcher
	state   []stateMatcher
	meta    []*MetadataMatcher
	share   *Fraction
	grpc    bool

	presented, validated *bool
}

// NewTable compiles a configuration. The error names the path of the field that is wrong.
func NewTable(c Config) (*Table, error) {
	t := &Table{
		Name: c.Name, specific: c.MostSpecificWins, filters: c.PerFilter, hostHeader: []byte(lower(c.HostHeader)),
		OnDemand: c.OnDemand, parameters: c.IgnorePathParameters, off: hasOff(c.PerFilter),
	}
	t.hosts.ignorePort = c.IgnorePort
	for _, name := range c.InternalOnly {
		t.internal = append(t.internal, []byte(lower(name)))
	}
	var err error
	if t.headers, err = newHeaderOps(c.Headers); err != nil {
		return nil, fmt.Errorf("route configuration %s: %w", c.Name, err)
	}
	for i := range c.VirtualHosts {
		if err := t.addVirtualHost(&c.VirtualHosts[i], &c); err != nil {
			return nil, fmt.Errorf("route configuration %s: virtual_hosts[%d] (%s): %w", c.Name, i, c.VirtualHosts[i].Name, err)
		}
	}
	t.hosts.done()
	t.toHTTPS = &Route{table: t, VHost: &VirtualHost{}, Redirect: &Redirect{Code: 301, scheme: "https", keepHost: true}}
	return t, nil
}

func (t *Table) addVirtualHost(c *VirtualHostConfig, of *Config) (err error) {
	v := &VirtualHost{
		Name: c.Name, TLS: c.TLS, filters: c.PerFilter,
		AttemptCountInRequest: c.AttemptCountInRequest, AttemptCountInResponse: c.AttemptCountInResponse, TimeoutRetryInRequest: c.TimeoutRetryInRequest,
		RateLimits: c.RateLimits, Metadata: c.Metadata,
	}
	if v.headers, err = newHeaderOps(c.Headers); err != nil {
		return err
	}
	if v.clusters, err = newVirtualClusters(c.Clusters); err != nil {
		return err
	}
	if len(c.Domains) == 0 {
		return fmt.Errorf("no domains, want at least one")
	}
	for _, d := range c.Domains {
		if err := t.hosts.add(d, v); err != nil {
			return err
		}
	}
	if v.routes, err = t.newList(c.Routes, v, c, of); err != nil {
		return err
	}
	v.matcher = c.Matcher
	for i, routes := range c.Choices {
		l, err := t.newList(routes, v, c, of)
		if err != nil {
			return fmt.Errorf("matcher: action %d: %w", i+1, err)
		}
		v.choices = append(v.choices, l)
	}
	return nil
}

func (t *Table) newList(routes []RouteConfig, v *VirtualHost, c *VirtualHostConfig, of *Config) (l list, err error) {
	for i := range routes {
		r, err := newRoute(&routes[i], c, of)
		if err != nil {
			return l, fmt.Errorf("routes[%d] (%s): %w", i, routes[i].Name, err)
		}
		r.table, r.VHost, r.order = t, v, uint64(i)
		r.inherit()
		l.routes = append(l.routes, r)
	}
	l.index = newIndex(l.routes)
	return l, nil
}

func newRoute(c *RouteConfig, v *VirtualHostConfig, t *Config) (*Route, error) {
	r := &Route{
		Name: c.Name, Direct: c.Direct, Decorator: c.Decorator, Metadata: c.Metadata, Stats: c.Stats, filters: c.PerFilter,
		Buffer: c.Buffer,
	}
	if r.Buffer.Body == nil {
		r.Buffer.Body = v.Buffer.Body
	}
	if r.Buffer.AtMost == nil {
		r.Buffer.AtMost = v.Buffer.AtMost
	}
	var err error
	if r.match, err = newMatch(c.Match); err != nil {
		return nil, fmt.Errorf("match: %w", err)
	}
	if r.headers, err = newHeaderOps(c.Headers); err != nil {
		return nil, err
	}
	if c.Forward != nil {
		if r.Forward, err = newForward(c.Forward, v, t); err != nil {
			return nil, fmt.Errorf("route: %w", err)
		}
		if text := c.Forward.Rewrite.Template; text != "" {
			if c.Match.Kind != TemplatePath {
				return nil, fmt.Errorf("route: path_rewrite_policy needs a path_match_policy of the same kind")
			}
			t, err := newTemplate(c.Match.Path)
			if err == nil {
				r.Forward.template, err = t.newRewrite(text)
			}
			if err != nil {
				return nil, fmt.Errorf("route: %w", err)
			}
		}
	}
	if c.Redirect != nil {
		if r.Redirect, err = newRedirect(c.Redirect); err != nil {
			return nil, fmt.Errorf("redirect: %w", err)
		}
		r.Redirect.match = r.match
	}
	if c.Direct != nil {
		if s := c.Direct.Status; s < 200 || s > 599 {
			return nil, fmt.Errorf("direct_response: status %d, want 200 to 599", s)
		}
	}
	if actions := count(c.Forward != nil, c.Redirect != nil, c.Direct != nil); actions != 1 {
		return nil, fmt.Errorf("%d actions, want one of route, redirect and direct_response", actions)
	}
	return r, nil
}

func newMatch(c Match) (m match, err error) {
	m = match{kind: c.Kind, path: c.Path, share: c.Fraction, grpc: c.GRPC}
	switch c.Kind {
	case RegexPath:
		m.re, err = newRegex(c.Path)
		m.prefix = literalPrefix(c.Path)
	case TemplatePath:
		var t *template
		if t, err = newTemplate(c.Path); err == nil {
			m.re, m.prefix = matcher{kind: Regex, re: t.re}, t.prefix
		}
	case SeparatedPath:
		if !strings.HasPrefix(c.Path, "/") || strings.HasSuffix(c.Path, "/") || strings.ContainsAny(c.Path, "?#") {
			err = fmt.Errorf("path_separated_prefix %q, want a path that begins and does not end with /, without ? and #", c.Path)
		}
	}
	if err != nil {
		return m, err
	}
	if c.IgnoreCase && c.Kind != RegexPath && c.Kind != TemplatePath {
		m.fold, m.path = true, lower(c.Path)
		m.re = matcher{value: m.path, fold: true}
	}
	if f := c.Fraction; f != nil && f.Denominator == 0 {
		return m, fmt.Errorf("runtime_fraction: denominator 0, want 100, 10000 or 1000000")
	}
	for i, h := range c.Headers {
		hm, err := newHeaderMatcher(h)
		if err != nil {
			return m, fmt.Errorf("headers[%d]: %w", i, err)
		}
		m.headers = append(m.headers, hm)
	}
	for i, q := range c.Query {
		qm, err := newMatcher(q.StringMatch)
		if err != nil {
			return m, fmt.Errorf("query_parameters[%d]: %w", i, err)
		}
		m.query = append(m.query, queryMatcher{q.Name, qm})
	}
	for i, k := range c.Cookies {
		cm, err := newMatcher(k.StringMatch)
		if err != nil {
			return m, fmt.Errorf("cookies[%d]: %w", i, err)
		}
		m.cookies = append(m.cookies, cookieMatcher{k.Name, cm, k.Invert})
	}
	for i, f := range c.State {
		fm, err := newMatcher(f.StringMatch)
		if err != nil {
			return m, fmt.Errorf("filter_state[%d]: %w", i, err)
		}
		m.state = append(m.state, stateMatcher{f.Key, fm})
	}
	for i, f := range c.Metadata {
		fm, err := NewMetadataMatcher(f)
		if err != nil {
			return m, fmt.Errorf("dynamic_metadata[%d]: %w", i, err)
		}
		m.meta = append(m.meta, fm)
	}
	m.presented, m.validated = c.Presented, c.Validated
	return m, nil
}

// VirtualHost returns the virtual host of a request, or nil if there is none.
func (t *Table) VirtualHost(r *Request) *VirtualHost {
	if len(t.hostHeader) > 0 {
		if r.Headers == nil {
			return nil
		}
		name := r.Headers.Lookup(t.hostHeader)
		if name == nil {
			return nil
		}
		return t.hosts.find(r.lowered(name))
	}
	return t.hosts.find(r.lowered(r.Authority))
}

// HasHost reports whether there is a virtual host for a host in lower case.
func (t *Table) HasHost(host string) bool { return t.hosts.find([]byte(host)) != nil }

// Host returns the host of a request in lower case, and whether there is a virtual host for it.
func (t *Table) Host(r *Request) (host []byte, known bool) {
	host = r.lowered(r.Authority)
	return host, t.hosts.find(host) != nil
}

// Match returns the route of a request, or nil if there is none. If the virtual host demands
// TLS and the request came without, the answer is a redirect.
func (t *Table) Match(r *Request) *Route {
	if r.Headers != nil && r.Headers.Has(header.XForwardedProto) && len(r.Headers.Get(header.XForwardedProto)) == 0 {
		return nil // whoever sent it knows of no protocol, and Envoy of no route then
	}
	v := t.VirtualHost(r)
	if v == nil {
		return nil
	}
	if v.TLS != TLSNone && t.redirects(v, r) {
		return t.toHTTPS
	}
	path, query := uri.Split(r.Path)
	if t.parameters {
		path = r.withoutParameters(path)
	}
	l := &v.routes
	if v.matcher != nil {
		i, ok := v.matcher.Match(r)
		if !ok {
			return nil
		}
		l = &v.choices[i]
	}
	if l.index != nil {
		return l.matchIndexed(r, path, query)
	}
	return l.matchAll(r, path, query)
}

func (l *list) matchAll(r *Request, path, query []byte) *Route {
	for _, route := range l.routes {
		if route.matches(r, path, query) {
			return route
		}
	}
	return nil
}

func (l *list) matchIndexed(r *Request, path, query []byte) *Route {
	var w walk
	if !l.index.start(&w, path) {
		return l.matchAll(r, path, query)
	}
	for {
		i, ok := w.next()
		if !ok {
			return nil
		}
		if route := l.routes[i]; route.matches(r, path, query) {
			return route
		}
	}
}

// redirects reports whether a virtual host's demand for TLS is not met. What x-forwarded-proto says counts,
// for the connection may have been encrypted up to a proxy before us.
func (t *Table) redirects(v *VirtualHost, r *Request) bool {
	scheme := r.Scheme
	internal := false
	if r.Headers != nil {
		if p := r.Headers.Get(header.XForwardedProto); len(p) > 0 {
			scheme = p
		}
		internal = string(r.Headers.Get(header.XEnvoyInternal)) == "true"
	}
	if string(scheme) == "https" {
		return false
	}
	return v.TLS == TLSAll || !internal
}

func (r *Route) matches(q *Request, path, query []byte) bool {
	m := &r.match
	if !m.pathMatches(q, path) {
		return false
	}
	for i := range m.headers {
		if !m.headers[i].match(q) {
			return false
		}
	}
	for i := range m.query {
		if !m.query[i].match(query) {
			return false
		}
	}
	if m.grpc && !isGRPC(q.Headers) || !m.moreMatches(q) {
		return false
	}
	return m.share == nil || m.share.hit(mix(q.Random, r.order))
}

func (m *match) pathMatches(q *Request, path []byte) bool {
	if m.kind == ConnectPath {
		return string(q.Method) == "CONNECT"
	}
	if q.Path == nil {
		return false // CONNECT without a path is only for ConnectPath
	}
	switch m.kind {
	case AnyPath:
		return true
	case PrefixPath:
		return m.prefixed(path)
	case ExactPath:
		return len(path) == len(m.path) && m.prefixed(path)
	case SeparatedPath:
		return m.prefixed(path) && (len(path) == len(m.path) || path[len(m.path)] == '/')
	case RegexPath, TemplatePath:
		return m.re.match(path)
	}
	return false
}

func (m *match) prefixed(path []byte) bool {
	if len(path) < len(m.path) {
		return false
	}
	if m.fold {
		return m.re.equal(path[:len(m.path)])
	}
	return string(path[:len(m.path)]) == m.path
}

func isGRPC(m *header.Map) bool {
	if m == nil {
		return false
	}
	const grpc = "application/grpc"
	v := m.Get(header.ContentType)
	return bytes.HasPrefix(v, []byte(grpc)) && (len(v) == len(grpc) || v[len(grpc)] == '+' || v[len(grpc)] == ';')
}

func (f Fraction) hit(random uint64) bool { return random%uint64(f.Denominator) < uint64(f.Numerator) }

// mix derives an independent random number: without it the requests that one fraction
// lets pass would all fall on one side of the next.
func mix(random, salt uint64) uint64 {
	random += (salt + 1) * 0x9e3779b97f4a7c15
	random = (random ^ random>>30) * 0xbf58476d1ce4e5b9
	random = (random ^ random>>27) * 0x94d049bb133111eb
	return random ^ random>>31
}
