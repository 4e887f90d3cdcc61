package build

import (
	"runtime"
	"strings"
	"sync"
	"weak"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	setmetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_metadata/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/filter/headertometadata"
	"github.com/mallamesh/malla/proxy/filter/setmetadata"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// metadataFields are of those that write metadata and of those that read it.
var metadataFields = []*Message{
	message((*setmetadatav3.Config)(nil), reads("metadata_namespace", "value", "metadata")),
	message((*setmetadatav3.Metadata)(nil), reads("metadata_namespace", "allow_overwrite", "value"), holds("typed_value")),
	message((*headermetadatav3.Config)(nil), reads("request_rules", "response_rules", "stat_prefix")),
	message((*headermetadatav3.Config_Rule)(nil), reads("header", "cookie", "on_header_present", "on_header_missing", "remove")),
	message((*headermetadatav3.Config_KeyValuePair)(nil), reads("metadata_namespace", "key", "value", "regex_value_rewrite", "type", "encode")),

	message((*matcherv3.MetadataMatcher)(nil), reads("filter", "path", "value", "invert")),
	message((*matcherv3.MetadataMatcher_PathSegment)(nil), reads("key")),
	message((*matcherv3.ValueMatcher)(nil), reads("null_match", "double_match", "string_match", "bool_match", "present_match", "list_match", "or_match")),
	message((*matcherv3.ValueMatcher_NullMatch)(nil)),
	message((*matcherv3.DoubleMatcher)(nil), reads("range", "exact")),
	message((*typev3.DoubleRange)(nil), reads("start", "end")),
	message((*matcherv3.ListMatcher)(nil), reads("one_of")),
	message((*matcherv3.OrMatcher)(nil), reads("value_matchers")),
	message((*metadatav3.MetadataKey)(nil), reads("key", "path")),
	message((*metadatav3.MetadataKey_PathSegment)(nil), reads("key"),
		refuses("items of lists are not looked at", "index")),
	message((*accesslogv3.MetadataFilter)(nil), reads("matcher", "match_if_key_not_found")),
	message((*routev3.RateLimit_Action_MetaData)(nil), reads("descriptor_key", "metadata_key", "default_value", "skip_if_absent", "source")),
}

// sets are the metadata in use, by their text: what many endpoints, or the versions of one, have alike is
// there once. The memory goes when nobody uses it.
var sets sync.Map // string -> weak.Pointer[metadata.Set]

// whoWeAre is a node as expressions see it.
func whoWeAre(m *corev3.Node) *access.Node {
	n := &access.Node{ID: m.GetId(), Cluster: m.GetCluster(), Agent: m.GetUserAgentName(), Metadata: m.GetMetadata().AsMap()}
	if l := m.GetLocality(); l != nil {
		n.Locality = &access.Locality{Region: l.GetRegion(), Zone: l.GetZone(), SubZone: l.GetSubZone()}
	}
	return n
}

// metadataSet reads metadata, nil if there is none.
func metadataSet(m *corev3.Metadata) *metadata.Set {
	if len(m.GetFilterMetadata())+len(m.GetTypedFilterMetadata()) == 0 {
		return nil
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("build: metadata that was read cannot be written: " + err.Error())
	}
	key := string(text)
	if v, ok := sets.Load(key); ok {
		if set := v.(weak.Pointer[metadata.Set]).Value(); set != nil {
			return set
		}
	}
	spaces := make(map[string]metadata.Struct, len(m.GetFilterMetadata()))
	for name, s := range m.GetFilterMetadata() {
		spaces[name] = s.AsMap()
	}
	set := metadata.NewSet(spaces, messages(m.GetTypedFilterMetadata()))
	w := weak.Make(set)
	sets.Store(key, w)
	runtime.AddCleanup(set, func(key string) { sets.CompareAndDelete(key, w) }, key)
	return set
}

func (r *reader) metadataMatch(m *matcherv3.MetadataMatcher, at *field.Path) route.MetadataMatch {
	out := route.MetadataMatch{Namespace: m.GetFilter(), Invert: m.GetInvert(), Value: r.valueMatch(m.GetValue(), at.Child("value"))}
	if out.Namespace == "" {
		r.errs.Addf(at.Child("filter"), "is empty")
	}
	for i, s := range m.GetPath() {
		if s.GetKey() == "" {
			r.errs.Addf(at.Child("path").Index(i).Child("key"), "is empty")
		}
		out.Path = append(out.Path, s.GetKey())
	}
	if len(out.Path) == 0 {
		r.errs.Addf(at.Child("path"), "is empty, want at least one")
	}
	return out
}

// metadataMatcher is metadataMatch, compiled; nil if it is wrong.
func (r *reader) metadataMatcher(m *matcherv3.MetadataMatcher, at *field.Path) *route.MetadataMatcher {
	before := len(r.errs)
	match := r.metadataMatch(m, at)
	if len(r.errs) > before {
		return nil
	}
	out, err := route.NewMetadataMatcher(match)
	if err != nil {
		r.errs.Addf(at, "%v", err)
	}
	return out
}

func (r *reader) valueMatch(m *matcherv3.ValueMatcher, at *field.Path) (out route.ValueMatch) {
	switch m.GetMatchPattern().(type) {
	case *matcherv3.ValueMatcher_NullMatch_:
		_ = m.GetNullMatch()
		out.Kind = route.NullValue
	case *matcherv3.ValueMatcher_DoubleMatch:
		switch d := m.GetDoubleMatch(); d.GetMatchPattern().(type) {
		case *matcherv3.DoubleMatcher_Exact:
			out.Kind, out.Number = route.EqualNumber, d.GetExact()
		case *matcherv3.DoubleMatcher_Range:
			out.Kind, out.Start, out.End = route.NumberWithin, d.GetRange().GetStart(), d.GetRange().GetEnd()
		default:
			r.errs.Addf(at.Child("double_match"), "wants one of range and exact")
		}
	case *matcherv3.ValueMatcher_StringMatch:
		out.Kind, out.Text = route.TextValue, r.stringMatch(m.GetStringMatch(), at.Child("string_match"))
	case *matcherv3.ValueMatcher_BoolMatch:
		if out.Kind = route.FalseValue; m.GetBoolMatch() {
			out.Kind = route.TrueValue
		}
	case *matcherv3.ValueMatcher_PresentMatch:
		if out.Kind = route.NoValue; m.GetPresentMatch() {
			out.Kind = route.AnyValue
		}
	case *matcherv3.ValueMatcher_ListMatch:
		out.Kind, out.Of = route.ListValue, []route.ValueMatch{r.valueMatch(m.GetListMatch().GetOneOf(), at.Child("list_match").Child("one_of"))}
	case *matcherv3.ValueMatcher_OrMatch:
		out.Kind = route.OneOf
		at := at.Child("or_match").Child("value_matchers")
		for i, v := range m.GetOrMatch().GetValueMatchers() {
			out.Of = append(out.Of, r.valueMatch(v, at.Index(i)))
		}
		if len(out.Of) < 2 {
			r.errs.Addf(at, "has %d, want at least 2", len(out.Of))
		}
	default:
		r.errs.Addf(at, "says not what to compare with")
	}
	return out
}

// metadataFilter reads which records of a log are written by their stream's metadata.
func (r *reader) metadataFilter(m *accesslogv3.MetadataFilter, at *field.Path) filter {
	missing := truth(m.GetMatchIfKeyNotFound(), true)
	if m.GetMatcher() == nil {
		return func(*access.Record) bool { return missing }
	}
	c := r.metadataMatcher(m.GetMatcher(), at.Child("matcher"))
	return func(rec *access.Record) bool {
		v, ok := c.Find(&rec.Dynamic)
		if !ok {
			return missing
		}
		return c.MatchValue(v)
	}
}

// rateMetadata reads an action that counts requests by a text of metadata.
func (r *reader) rateMetadata(key, value string, of *metadatav3.MetadataKey, at *field.Path) *ratelimit.Metadata {
	if key == "" {
		r.errs.Addf(at.Child("descriptor_key"), "is empty")
	}
	k := r.metadataKey(of, at.Child("metadata_key"))
	return &ratelimit.Metadata{Key: key, Default: []byte(value), Namespace: k.Namespace, Path: k.Path}
}

// metadataKey reads a place in metadata.
func (r *reader) metadataKey(of *metadatav3.MetadataKey, at *field.Path) metadata.Key {
	out := metadata.Key{Namespace: of.GetKey()}
	if out.Namespace == "" {
		r.errs.Addf(at.Child("key"), "is empty")
	}
	for i, s := range of.GetPath() {
		at := at.Child("path").Index(i)
		if s.GetKey() == "" {
			r.errs.Addf(at.Child("key"), "is empty")
		}
		out.Path = append(out.Path, s.GetKey())
	}
	if len(out.Path) == 0 {
		r.errs.Addf(at.Child("path"), "is empty, want at least one")
	}
	return out
}

var metadataSources = map[routev3.RateLimit_Action_MetaData_Source]ratelimit.Source{
	routev3.RateLimit_Action_MetaData_DYNAMIC:                ratelimit.OfRequest,
	routev3.RateLimit_Action_MetaData_ROUTE_ENTRY:            ratelimit.OfRoute,
	routev3.RateLimit_Action_MetaData_CLUSTER_ENTRY:          ratelimit.OfCluster,
	routev3.RateLimit_Action_MetaData_CLUSTER_LOCALITY_ENTRY: ratelimit.OfLocality,
}

// setMetadata reads the filter of that name.
func (r *listenerReader) setMetadata(name string, m *setmetadatav3.Config, c *stream.Config, at *field.Path) stream.Factory {
	var entries []setmetadata.Entry
	if ns := m.GetMetadataNamespace(); ns != "" { //nolint:staticcheck // deprecated, still in use
		entries = append(entries, setmetadata.Entry{Namespace: ns, Values: m.GetValue().AsMap(), Overwrite: true}) //nolint:staticcheck
	}
	for i, e := range m.GetMetadata() {
		at := at.Child("metadata").Index(i)
		if e.GetMetadataNamespace() == "" {
			r.errs.Addf(at.Child("metadata_namespace"), "is empty")
		}
		if e.GetValue() == nil {
			if e.GetTypedValue() != nil { // else there is nothing to set; of both the value counts, as in Envoy
				entries = append(entries, setmetadata.Entry{Namespace: e.GetMetadataNamespace(), Message: r.message(e.GetTypedValue(), at.Child("typed_value")), Overwrite: e.GetAllowOverwrite()})
			}
			continue
		}
		entries = append(entries, setmetadata.Entry{Namespace: e.GetMetadataNamespace(), Values: e.GetValue().AsMap(), Overwrite: e.GetAllowOverwrite()})
	}
	set, scope := r.env.Stats.SetMetadata(c.StatPrefix)
	r.scopes = append(r.scopes, scope)
	return setmetadata.New(name, entries, set)
}

// headerToMetadata reads the rules of the filter of that name.
func (r *reader) headerToMetadata(m *headermetadatav3.Config, at *field.Path) *headertometadata.Config {
	c := &headertometadata.Config{
		Request:  r.headerRules(m.GetRequestRules(), true, at.Child("request_rules")),
		Response: r.headerRules(m.GetResponseRules(), false, at.Child("response_rules")),
	}
	return c
}

// headerToMetadataWord reads what a route says to the filter.
func (r *reader) headerToMetadataWord(m *headermetadatav3.Config, at *field.Path) *headertometadata.Config {
	if len(m.GetRequestRules())+len(m.GetResponseRules()) == 0 {
		r.errs.Addf(at, "has no rules, want request_rules or response_rules")
	}
	if m.GetStatPrefix() != "" {
		r.errs.Addf(at.Child("stat_prefix"), "is for the filter, not for routes")
	}
	return r.headerToMetadata(m, at)
}

// newHeaderToMetadata makes the filter.
func (r *listenerReader) newHeaderToMetadata(name string, m *headermetadatav3.Config, at *field.Path) stream.Factory {
	var set *stats.HeaderToMetadata
	if p := m.GetStatPrefix(); p != "" {
		var scope *stats.Scope
		set, scope = r.env.Stats.HeaderToMetadata(p)
		r.scopes = append(r.scopes, scope)
	}
	return headertometadata.New(name, r.headerToMetadata(m, at), set)
}

// decodeStruct reads a google.protobuf.Struct.
func decodeStruct(b []byte) (metadata.Struct, error) {
	s := &structpb.Struct{}
	if err := proto.Unmarshal(b, s); err != nil {
		return nil, err
	}
	return s.AsMap(), nil
}

// decodeValue reads a google.protobuf.Value.
func decodeValue(b []byte) (any, error) {
	v := &structpb.Value{}
	if err := proto.Unmarshal(b, v); err != nil {
		return nil, err
	}
	return v.AsInterface(), nil
}

func (r *reader) headerRules(list []*headermetadatav3.Config_Rule, cookies bool, at *field.Path) (out []headertometadata.Rule) {
	for i, m := range list {
		at := at.Index(i)
		rule := headertometadata.Rule{Header: []byte(strings.ToLower(m.GetHeader())), Cookie: m.GetCookie(), Remove: m.GetRemove()}
		switch {
		case (m.GetHeader() == "") == (m.GetCookie() == ""):
			r.errs.Addf(at, "wants one of header and cookie")
		case m.GetCookie() != "" && !cookies:
			r.errs.Addf(at.Child("cookie"), "is set for a response, want header")
		case m.GetCookie() != "" && m.GetRemove():
			r.errs.Addf(at.Child("remove"), "is set with cookie: a single cookie cannot be removed")
		case m.GetOnHeaderPresent() == nil && m.GetOnHeaderMissing() == nil:
			r.errs.Addf(at, "wants on_header_present or on_header_missing")
		}
		rule.Present = r.headerPair(m.GetOnHeaderPresent(), at.Child("on_header_present"))
		rule.Missing = r.headerPair(m.GetOnHeaderMissing(), at.Child("on_header_missing"))
		if rule.Missing != nil && rule.Missing.Value == "" {
			r.errs.Addf(at.Child("on_header_missing").Child("value"), "is empty, want what is there in place of the header")
		}
		out = append(out, rule)
	}
	return out
}

func (r *reader) headerPair(m *headermetadatav3.Config_KeyValuePair, at *field.Path) *headertometadata.Pair {
	if m == nil {
		return nil
	}
	out := &headertometadata.Pair{Namespace: m.GetMetadataNamespace(), Key: m.GetKey(), Value: m.GetValue(), Base64: m.GetEncode() == headermetadatav3.Config_BASE64}
	if out.Key == "" {
		r.errs.Addf(at.Child("key"), "is empty")
	}
	switch m.GetType() {
	case headermetadatav3.Config_NUMBER:
		out.Type = headertometadata.Number
	case headermetadatav3.Config_PROTOBUF_VALUE:
		out.Type, out.Decode = headertometadata.Message, decodeValue
	}
	if s := m.GetRegexValueRewrite(); s != nil {
		at := at.Child("regex_value_rewrite")
		if out.Value != "" {
			r.errs.Addf(at, "is set with value, want one of them")
		}
		rewrite, err := route.NewRewriter(r.regex(s.GetPattern(), at.Child("pattern")), s.GetSubstitution())
		if err != nil {
			r.errs.Addf(at, "%v", err)
		}
		out.Rewrite = rewrite
	}
	return out
}
