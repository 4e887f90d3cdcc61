package route

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/proxyproto"
	"github.com/mallamesh/malla/proxy/uri"
)

// A Forward sends requests to a cluster.
type Forward struct {
	Cluster     string // the only one; empty if there are several or a header names it
	Weighted    []WeightedCluster
	NotFound    uint16         // status if the cluster does not exist
	Timeout     time.Duration  // of the whole response; 0: none
	IdleTimeout *time.Duration // nil: the connection manager's
	MaxStream   *MaxStream
	Follow      *FollowPolicy
	Policies    // those of clusters go before them

	// HedgeOnTimeout has a try whose time is up go on beside the next.
	HedgeOnTimeout bool

	WeightByHash  bool // Hash decides among Weighted, if a policy gives one
	HighPriority  bool
	AutoHost      bool            // the router sets the host to the endpoint's name, by SetHost
	Connect       *Connect        // nil: a CONNECT goes on as such
	Upgrades      map[string]bool // nil: the connection manager's
	MetadataMatch any
	RateLimits    any // opaque here

	clusterHeader []byte
	total         uint64
	weightHeader  []byte
	prefix        string // prefix_rewrite
	hasPrefix     bool
	path          *substitution
	template      *templateRewrite
	pathFormat    *access.Format
	host          []byte
	hostFormat    *access.Format
	hostHeader    []byte
	hostPath      *substitution
	forwardedHost bool
}

// A Connect says what becomes of a CONNECT that ends here: its bytes go to the host by TCP.
type Connect struct {
	Post  bool               // those of a POST do, too
	Proxy *proxyproto.Sender // of the PROXY protocol's header before the bytes; nil: none
}

// EndsHere reports whether the bytes of a request go to the host by TCP.
func (f *Forward) EndsHere(method []byte) bool {
	return f.Connect != nil && (string(method) == "CONNECT" || f.Connect.Post && string(method) == "POST")
}

// A WeightedCluster is one destination of several.
type WeightedCluster struct {
	Cluster       string // empty if a header names it
	Weight        uint32
	MetadataMatch any

	clusterHeader []byte
	headers       headerOps
	hostRewrite   []byte
	filters       map[string]any
	merged        map[string]any
}

// A Mirror sends copies of requests to a cluster.
type Mirror struct {
	Cluster      string
	Fraction     Fraction
	ShadowSuffix bool // "-shadow" is appended to the copy's host
	Host         []byte
	Headers      *Mutations // nil: none

	clusterHeader []byte
}

func newForward(c *ForwardConfig, v *VirtualHostConfig, t *Config) (*Forward, error) {
	f := &Forward{
		Cluster: c.Cluster, NotFound: c.NotFound, Timeout: 15 * time.Second, IdleTimeout: c.IdleTimeout, MaxStream: c.MaxStream,
		Policies: Policies{Retry: c.Retry}, Follow: c.Follow, HighPriority: c.HighPriority, AutoHost: c.Rewrite.AutoHost,
		Connect: c.Connect, Upgrades: c.Upgrades, MetadataMatch: c.MetadataMatch, RateLimits: c.RateLimits, clusterHeader: []byte(lower(c.ClusterHeader)),
		weightHeader: []byte(lower(c.WeightHeader)), WeightByHash: c.WeightByHash,
	}
	if c.Timeout != nil {
		f.Timeout = *c.Timeout
	}
	if f.NotFound == 0 {
		f.NotFound = 503
	}
	if f.Retry == nil {
		f.Retry = v.Retry
	}
	if hedge := c.Hedge; hedge != nil {
		f.HedgeOnTimeout = *hedge
	} else if v.Hedge != nil {
		f.HedgeOnTimeout = *v.Hedge
	}
	if destinations := count(c.Cluster != "", len(c.Weighted) > 0, c.ClusterHeader != ""); destinations != 1 {
		return nil, fmt.Errorf("%d destinations, want one of cluster, weighted_clusters and cluster_header", destinations)
	}
	if err := f.addWeighted(c.Weighted); err != nil {
		return nil, err
	}
	mirrors := c.Mirrors
	if len(mirrors) == 0 {
		mirrors = v.Mirrors
	}
	if len(mirrors) == 0 {
		mirrors = t.Mirrors
	}
	if err := f.compile(mirrors, c.HashPolicies); err != nil {
		return nil, err
	}
	return f, f.setRewrite(&c.Rewrite)
}

func newMirror(m *MirrorConfig) (mirror Mirror, err error) {
	mirror = Mirror{Cluster: m.Cluster, Fraction: Fraction{1, 1}, ShadowSuffix: !m.HostSuffixOff && m.HostRewrite == "", Host: []byte(m.HostRewrite), clusterHeader: []byte(lower(m.ClusterHeader))}
	if m.Fraction != nil {
		mirror.Fraction = *m.Fraction
	}
	if (m.Cluster == "") == (m.ClusterHeader == "") || mirror.Fraction.Denominator == 0 {
		return mirror, fmt.Errorf("want one of cluster and cluster_header, and a denominator above 0")
	}
	if len(m.Headers) > 0 {
		if mirror.Headers, err = NewMutations(m.Headers); err != nil {
			return mirror, fmt.Errorf("request_headers_mutations%w", err)
		}
	}
	return mirror, nil
}

func (f *Forward) addWeighted(list []WeightedConfig) error {
	for i, w := range list {
		ops, err := newHeaderOps(w.Headers)
		if err != nil {
			return fmt.Errorf("weighted_clusters.clusters[%d]: %w", i, err)
		}
		if (w.Cluster == "") == (w.ClusterHeader == "") {
			return fmt.Errorf("weighted_clusters.clusters[%d]: want one of name and cluster_header", i)
		}
		f.total += uint64(w.Weight)
		f.Weighted = append(f.Weighted, WeightedCluster{
			Cluster: w.Cluster, Weight: w.Weight, MetadataMatch: w.MetadataMatch,
			clusterHeader: []byte(lower(w.ClusterHeader)), headers: ops, hostRewrite: []byte(w.HostRewrite), filters: w.PerFilter,
		})
	}
	if len(list) > 0 && f.total == 0 {
		return fmt.Errorf("weighted_clusters: all %d weights are 0, want at least one above 0", len(list))
	}
	return nil
}

func (f *Forward) setRewrite(c *RewriteConfig) (err error) {
	if count(c.Prefix != "", c.Regex != "", c.Template != "", c.PathFormat != "") > 1 {
		return fmt.Errorf("several ways to rewrite the path, want one of prefix_rewrite, regex_rewrite, path_rewrite_policy and path_rewrite")
	}
	f.prefix, f.hasPrefix = c.Prefix, c.Prefix != ""
	if c.Regex != "" {
		if f.path, err = newSubstitution(c.Regex, c.Substitution); err != nil {
			return fmt.Errorf("regex_rewrite: %w", err)
		}
	}
	if f.pathFormat, err = format(c.PathFormat); err != nil {
		return fmt.Errorf("path_rewrite: %w", err)
	}
	if c.HostFormat != "" { // what is missing is "-" there, but nothing in a path
		if f.hostFormat, err = access.Compile(c.HostFormat); err != nil {
			return fmt.Errorf("host_rewrite: %w", err)
		}
	}
	if hosts := count(c.Host != "", c.AutoHost, c.HostHeader != "", c.HostPathRegex != "", c.HostFormat != ""); hosts > 1 {
		return fmt.Errorf("%d ways to rewrite the host, want at most one", hosts)
	}
	f.host, f.forwardedHost = []byte(c.Host), c.AppendForwardedHost
	if c.HostHeader != "" {
		f.hostHeader = []byte(lower(c.HostHeader))
	}
	if c.HostPathRegex != "" {
		if f.hostPath, err = newSubstitution(c.HostPathRegex, c.HostPathSubstitution); err != nil {
			return fmt.Errorf("host_rewrite_path_regex: %w", err)
		}
	}
	return nil
}

// count is how many of several are set.
func count(set ...bool) (n int) {
	for _, is := range set {
		if is {
			n++
		}
	}
	return n
}

// format compiles a format with command operators, nil if there is none.
func format(text string) (*access.Format, error) {
	if text == "" {
		return nil, nil
	}
	return access.CompileHeader(text)
}

// PickCluster returns the name of the cluster for a request and, if there are several, the
// one that its random number fell on. An empty name means that the header which should name it is
// missing.
func (f *Forward) PickCluster(r *Request) (string, *WeightedCluster) {
	switch {
	case len(f.Weighted) > 0:
		n := f.number(r) % f.total
		for i := range f.Weighted {
			w := &f.Weighted[i]
			if n < uint64(w.Weight) {
				if w.Cluster == "" {
					return string(r.Headers.Lookup(w.clusterHeader)), w
				}
				return w.Cluster, w
			}
			n -= uint64(w.Weight)
		}
		panic("route: a random number below the sum of the weights falls on none of them")
	case len(f.clusterHeader) > 0:
		return string(r.Headers.Lookup(f.clusterHeader)), nil
	}
	return f.Cluster, nil
}

// number decides among several clusters: the header's, the hash's, or a random one. A header that holds
// no number counts as one that is missing.
func (f *Forward) number(r *Request) uint64 {
	if len(f.weightHeader) > 0 {
		if n, err := strconv.ParseUint(string(r.Headers.Lookup(f.weightHeader)), 10, 64); err == nil {
			return n
		}
	}
	if f.WeightByHash {
		if h, ok := f.Hash(r, false); ok {
			return h
		}
	}
	return r.Random
}

// Target returns the name of the mirror's cluster for a request, empty if the header that
// should name it is missing.
func (m *Mirror) Target(r *Request) string {
	if len(m.clusterHeader) > 0 {
		return string(r.Headers.Lookup(m.clusterHeader))
	}
	return m.Cluster
}

// Hit decides whether a request is mirrored. i is the mirror's place in its route, so that several
// mirrors decide independently, of each other and of the choice of the cluster.
func (m *Mirror) Hit(random uint64, i int) bool {
	return m.Fraction.hit(mix(random, 1<<32+uint64(i)))
}

// AppendPath appends the path that goes upstream (with its query), and reports
// whether it differs from the one given.
func (r *Route) AppendPath(dst, path []byte, rec *access.Record) ([]byte, bool) {
	f := r.Forward
	switch {
	case f == nil || !f.hasPrefix && f.path == nil && f.template == nil && f.pathFormat == nil:
		return append(dst, path...), false
	case f.pathFormat != nil:
		if out := f.pathFormat.Append(dst, rec); len(out) > len(dst) && header.ValidTarget(out[len(dst):]) {
			p, _ := uri.Split(path)
			return append(out, path[len(p):]...), true
		}
		return append(dst, path...), false
	case f.template != nil:
		p, _ := uri.Split(path)
		return append(f.template.replace(dst, p), path[len(p):]...), true
	case f.hasPrefix:
		dst = append(dst, f.prefix...)
		return append(dst, path[r.match.length(path):]...), true
	}
	p, _ := uri.Split(path)
	out := f.path.replace(dst, p)
	if len(out) == len(dst) { // a path of nothing is none; Envoy keeps the old one
		return append(dst, path...), false
	}
	return append(out, path[len(p):]...), true
}

// length is how much of the path a prefix rewrite replaces: the prefix that was matched, or all of an
// exact or regex match. The query stays.
func (m *match) length(path []byte) int {
	p, _ := uri.Split(path)
	switch m.kind {
	case PrefixPath, SeparatedPath:
		return min(len(m.path), len(p))
	case AnyPath:
		return 0
	}
	return len(p)
}

// A substitution is a compiled regex_rewrite.
type substitution struct {
	re    *regexp.Regexp
	parts []subpart
}

type subpart struct {
	text  string
	group int // -1: text
}

// newSubstitution compiles an expression and its replacement, in which \0 is the match
// and \1 to \9 are its groups (RE2's form; \\ is a backslash).
func newSubstitution(expr, replacement string) (*substitution, error) {
	re, err := compile(expr)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", expr, err)
	}
	s := &substitution{re: re}
	text := ""
	for i := 0; i < len(replacement); i++ {
		c := replacement[i]
		if c != '\\' {
			text += replacement[i : i+1]
			continue
		}
		if i++; i == len(replacement) {
			return nil, fmt.Errorf("substitution %q ends with a backslash", replacement)
		}
		switch c := replacement[i]; {
		case c == '\\':
			text += `\`
		case c >= '0' && c <= '9':
			group := int(c - '0')
			if group > re.NumSubexp() {
				return nil, fmt.Errorf("substitution %q names group %d, the expression has %d", replacement, group, re.NumSubexp())
			}
			s.parts = append(s.parts, subpart{text, -1}, subpart{"", group})
			text = ""
		default:
			return nil, fmt.Errorf(`substitution %q: \%c, want \0 to \9 or \\`, replacement, c)
		}
	}
	s.parts = append(s.parts, subpart{text, -1})
	return s, nil
}

// replace appends path with every match replaced. It allocates: the standard library's
// regexp returns its positions in a slice.
func (s *substitution) replace(dst, path []byte) []byte {
	last := 0
	for _, m := range s.re.FindAllSubmatchIndex(path, -1) {
		dst = append(dst, path[last:m[0]]...)
		dst = appendParts(dst, path, s.parts, m)
		last = m[1]
	}
	return append(dst, path[last:]...)
}

// appendParts appends text and the groups of a match.
func appendParts(dst, path []byte, parts []subpart, m []int) []byte {
	for _, p := range parts {
		if p.group < 0 {
			dst = append(dst, p.text...)
		} else if from := m[2*p.group]; from >= 0 {
			dst = append(dst, path[from:m[2*p.group+1]]...)
		}
	}
	return dst
}
