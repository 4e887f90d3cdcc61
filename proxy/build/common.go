package build

import (
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/base/regex"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// commonFields are messages that occur in many places.
var commonFields = []*Message{
	message((*corev3.Address)(nil), reads("socket_address", "pipe", "envoy_internal_address")),
	message((*corev3.Pipe)(nil), reads("path", "mode")),
	message((*corev3.SocketAddress)(nil),
		only("protocol", "there are no UDP listeners or hosts", "TCP"),
		reads("address", "port_value"),
		ignores("a v6 socket of ours takes v4 connections where the address is [::]", "ipv4_compat")),
	message((*corev3.CidrRange)(nil), reads("address_prefix", "prefix_len")),
	message((*corev3.Metadata)(nil), reads("filter_metadata"), holds("typed_filter_metadata")),
	message((*corev3.TransportSocket)(nil), reads("name", "typed_config")),
	message((*corev3.TypedExtensionConfig)(nil), reads("name", "typed_config")),
	message((*corev3.RuntimeFractionalPercent)(nil), reads("default_value", "runtime_key")),
	message((*corev3.RuntimeDouble)(nil), reads("default_value", "runtime_key")),
	message((*corev3.RuntimeUInt32)(nil), reads("default_value", "runtime_key")),
	message((*typev3.FractionalPercent)(nil), reads("numerator", "denominator")),
	message((*typev3.Percent)(nil), reads("value")),
	message((*typev3.Int64Range)(nil), reads("start", "end")),
	message((*typev3.Int32Range)(nil), reads("start", "end")),
	message((*matcherv3.StringMatcher)(nil), reads("exact", "prefix", "suffix", "safe_regex", "contains", "ignore_case")),
	message((*matcherv3.RegexMatcher)(nil), reads("regex"), ignores("there is one engine, RE2's syntax in linear time", "google_re2")),
	message((*matcherv3.RegexMatchAndSubstitute)(nil), reads("pattern", "substitution")),
	message((*corev3.HeaderValue)(nil), reads("key", "value")),
	message((*corev3.HeaderValueOption)(nil), reads("header", "append", "append_action", "keep_empty_value")),
	message((*corev3.DataSource)(nil), reads("filename", "inline_bytes", "inline_string", "environment_variable")),
	message((*corev3.ConfigSource)(nil), reads("ads", "api_config_source", "path_config_source", "path", "initial_fetch_timeout"),
		only("resource_api_version", "version 2 has been gone for years", "AUTO", "V3")),
	message((*corev3.AggregatedConfigSource)(nil)),
	message((*corev3.PathConfigSource)(nil), reads("path", "watched_directory")),
	message((*corev3.WatchedDirectory)(nil), reads("path")),
	message((*corev3.Locality)(nil), reads("region", "zone", "sub_zone")),
	message((*corev3.TcpKeepalive)(nil), reads("keepalive_probes", "keepalive_time", "keepalive_interval")),
}

// A reader turns one resource into plain structs and collects its mistakes.
type reader struct {
	env   *Env
	errs  field.List
	needs Needs
	files []string // that were read as a part of the configuration

	autoSNI, autoSANs bool   // of the cluster whose transports are read
	sniHeader         string // likewise
}

// A Needs is what a resource cannot work without.
type Needs struct {
	Routes    []Need // route tables
	Endpoints []Need // of EDS clusters
	Secrets   []Need
	Clusters  []string // named by routes and TCP proxies; one that is missing is an answer of its own (NC)
}

// A Need names a resource that has to arrive, and where from.
type Need struct {
	Name string
	Source
}

// A Source says where resources come from, and how long they may take.
type Source struct {
	Timeout time.Duration   // initial_fetch_timeout; 0: forever
	Place   xdsclient.Place // a file; without a path: the control plane
}

// initialFetch is Envoy's default of initial_fetch_timeout.
const initialFetch = 15 * time.Second

func (r *reader) source(s *corev3.ConfigSource, at *field.Path) Source {
	out := Source{Timeout: r.orDefault(s.GetInitialFetchTimeout(), initialFetch, at.Child("initial_fetch_timeout"))}
	switch s.GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads:
	case *corev3.ConfigSource_PathConfigSource:
		p := s.GetPathConfigSource()
		out.Place = xdsclient.Place{Path: p.GetPath(), Directory: p.GetWatchedDirectory().GetPath()}
		r.exists(out.Place.Path, at.Child("path_config_source").Child("path"))
		if p.GetWatchedDirectory() != nil {
			r.exists(out.Place.Directory, at.Child("path_config_source").Child("watched_directory").Child("path"))
		}
	case *corev3.ConfigSource_Path:
		out.Place.Path = s.GetPath() //nolint:staticcheck // deprecated for path_config_source, and everywhere in examples
		r.exists(out.Place.Path, at.Child("path"))
	default:
		r.errs.Addf(at, "says not where from, want ads or path_config_source")
	}
	return out
}

// exists refuses a place that is not there, as Envoy does: nobody would see it come.
func (r *reader) exists(path string, at *field.Path) {
	if _, err := os.Stat(path); err != nil {
		r.errs.Addf(at, "paths must refer to an existing path in the system: '%s' does not exist", path)
	}
}

// agentCluster is the name under which configuration refers to the proxy's own
// agent, the source of its identity (Istio's bootstrap).
const agentCluster = "sds-grpc"

// secretSource reads where a secret comes from: the control plane, or the proxy's
// own agent, which here is in this process and needs no connection.
func (r *reader) secretSource(s *corev3.ConfigSource, at *field.Path) Source {
	c := s.GetApiConfigSource()
	if c == nil {
		return r.source(s, at)
	}
	services := c.GetGrpcServices()
	if len(services) != 1 || services[0].GetEnvoyGrpc().GetClusterName() != agentCluster {
		r.errs.Addf(at.Child("api_config_source").Child("grpc_services"), "only envoy_grpc with cluster_name %q, the proxy's own agent, is supported", agentCluster)
	}
	return r.source(&corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{}, InitialFetchTimeout: s.GetInitialFetchTimeout()}, at)
}

// duration refuses what cannot be meant.
func (r *reader) duration(d *durationpb.Duration, at *field.Path) time.Duration {
	if d == nil {
		return 0
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() < 0 {
		r.errs.Addf(at, "found %ds, want a time span of 0 or more", d.GetSeconds())
		return 0
	}
	return d.AsDuration()
}

// optional returns nil where nothing is set.
func (r *reader) optional(d *durationpb.Duration, at *field.Path) *time.Duration {
	if d == nil {
		return nil
	}
	v := r.duration(d, at)
	return &v
}

// orDefault returns Envoy's default where nothing is set.
func (r *reader) orDefault(d *durationpb.Duration, byDefault time.Duration, at *field.Path) time.Duration {
	if d == nil {
		return byDefault
	}
	return r.duration(d, at)
}

func number(v *wrapperspb.UInt32Value) *uint32 {
	if v == nil {
		return nil
	}
	n := v.GetValue()
	return &n
}

func truth(v *wrapperspb.BoolValue, byDefault bool) bool {
	if v == nil {
		return byDefault
	}
	return v.GetValue()
}

// address reads an IP address with port.
func (r *reader) address(a *corev3.Address, at *field.Path) netip.AddrPort {
	if a.GetSocketAddress() == nil {
		r.errs.Addf(at.Child("socket_address"), "is not set, want an address")
		return netip.AddrPort{}
	}
	return r.socketAddress(a.GetSocketAddress(), at.Child("socket_address"))
}

// anyAddress reads an address that may be a Unix socket's.
func (r *reader) anyAddress(a *corev3.Address, at *field.Path) netip.AddrPort {
	p := a.GetPipe()
	if p == nil {
		return r.address(a, at)
	}
	at = at.Child("pipe")
	if p.GetMode() > 0o777 {
		r.errs.Addf(at.Child("mode"), "found %#o, want at most 0777", p.GetMode())
	}
	path := p.GetPath()
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") || len(path) >= maxPath {
		r.errs.Addf(at.Child("path"), "found %q, want the absolute path of a socket, or @ and a name, of at most %d bytes", path, maxPath-1)
		return netip.AddrPort{}
	}
	return pipe.Addr(path)
}

// maxPath is what the system has room for (sun_path), the zero at the end included.
const maxPath = 108

func (r *reader) socketAddress(s *corev3.SocketAddress, at *field.Path) netip.AddrPort {
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil {
		r.errs.Addf(at.Child("address"), "found %q, want an IP address", s.GetAddress())
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, r.port(s.GetPortValue(), at.Child("port_value")))
}

func (r *reader) port(n uint32, at *field.Path) uint16 {
	if n > math.MaxUint16 {
		r.errs.Addf(at, "found %d, want a port up to 65535", n)
	}
	return uint16(n)
}

func (r *reader) prefixes(list []*corev3.CidrRange, at *field.Path) []netip.Prefix {
	var out []netip.Prefix
	for i, c := range list {
		ip, err := netip.ParseAddr(c.GetAddressPrefix())
		bits := int(c.GetPrefixLen().GetValue()) // unset is 0: everything
		if err != nil || bits > ip.BitLen() {
			r.errs.Addf(at.Index(i), "found %s/%d, want an address and a prefix length", c.GetAddressPrefix(), bits)
			continue
		}
		out = append(out, netip.PrefixFrom(ip, bits).Masked())
	}
	return out
}

func (r *reader) regex(m *matcherv3.RegexMatcher, at *field.Path) string {
	if _, err := regex.Compile(m.GetRegex()); err != nil {
		r.errs.Addf(at.Child("regex"), "found %q: %v", m.GetRegex(), err)
	}
	return m.GetRegex()
}

func (r *reader) stringMatch(m *matcherv3.StringMatcher, at *field.Path) route.StringMatch {
	out := route.StringMatch{IgnoreCase: m.GetIgnoreCase()}
	switch m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		out.Kind, out.Value = route.Exact, m.GetExact()
	case *matcherv3.StringMatcher_Prefix:
		out.Kind, out.Value = route.Prefix, m.GetPrefix()
	case *matcherv3.StringMatcher_Suffix:
		out.Kind, out.Value = route.Suffix, m.GetSuffix()
	case *matcherv3.StringMatcher_Contains:
		out.Kind, out.Value = route.Contains, m.GetContains()
	case *matcherv3.StringMatcher_SafeRegex:
		out.Kind, out.Value = route.Regex, r.regex(m.GetSafeRegex(), at.Child("safe_regex"))
		if out.IgnoreCase {
			r.errs.Addf(at.Child("ignore_case"), "has no meaning with safe_regex: write (?i)")
		}
	default:
		r.errs.Addf(at, "says not what to compare with")
	}
	if out.Value == "" && (out.Kind == route.Prefix || out.Kind == route.Suffix || out.Kind == route.Contains) {
		r.errs.Addf(at, "compares with an empty text, which everything has, want at least one character")
	}
	return out
}

var denominators = map[typev3.FractionalPercent_DenominatorType]uint32{
	typev3.FractionalPercent_HUNDRED:      100,
	typev3.FractionalPercent_TEN_THOUSAND: 10_000,
	typev3.FractionalPercent_MILLION:      1_000_000,
}

func (r *reader) fraction(p *typev3.FractionalPercent, at *field.Path) route.Fraction {
	d, ok := denominators[p.GetDenominator()]
	if !ok {
		r.errs.Addf(at.Child("denominator"), "found %v, want HUNDRED, TEN_THOUSAND or MILLION", p.GetDenominator())
		d = 100
	}
	return route.Fraction{Numerator: p.GetNumerator(), Denominator: d}
}

// spaceOf returns one namespace of metadata as plain values.
func spaceOf(m *corev3.Metadata, namespace string) map[string]any {
	s := m.GetFilterMetadata()[namespace]
	if s == nil {
		return nil
	}
	return s.AsMap()
}

// texts keeps the strings of a map.
func texts(m map[string]any) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if s, ok := v.(string); ok {
			out[k] = s
		}
	}
	return out
}

// matchable writes what transport sockets are chosen by as text that is the same only
// for the same value: {secure: true} and {secure: "true"} are two things.
func matchable(m map[string]any) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		if s, ok := v.(string); ok {
			out[k] = s
			continue
		}
		text, _ := json.Marshal(v) // of a protobuf value: it always works
		out[k] = "\x00" + string(text)
	}
	return out
}

// wholeRegex compiles an expression that has been checked.
func wholeRegex(expression string) *regexp.Regexp {
	re, err := regex.Compile(expression)
	if err != nil {
		return nil // reported where it was read
	}
	return re
}
