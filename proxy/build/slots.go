package build

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/filter/missing"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

var extensionFields = []*Message{
	message((*corev3.ExtensionConfigSource)(nil), reads("config_source", "default_config", "apply_default_config_without_warming", "type_urls")),
}

// Kinds of filters that come by themselves, as Envoy's statistics call them.
const (
	httpKind     = "http_filter"
	networkKind  = "network_filter"
	listenerKind = "tcp_listener_filter"
)

// A slot is the place of a filter whose configuration comes by itself (config_discovery).
type slot struct {
	Need
	kind     string
	types    map[string]bool // that the configuration may be of; all of them are known
	fallback proto.Message   // default_config; nil: none
	hurried  bool            // the listener does not wait for it
	use      *stats.ExtensionUse

	// read makes of a configuration what stands in the slot; nil for a listener filter, whose listener is read again.
	read func(m proto.Message) (*filled, error)
	// put puts it there, or nothing.
	put  func(*filled)
	live *filled
}

// filled is what stands in a slot, and what it holds.
type filled struct {
	factory stream.Factory
	content listen.Content
	held
}

// held is what a part of a listener holds as long as it is in use.
type held struct {
	needs   Needs
	scopes  []*stats.Scope
	closers []func()
	tables  map[string][]*stats.RDSUse
	slots   []*slot
	scoped  []*scopeUse
}

// close gives it back.
func (h *held) close() {
	for _, s := range h.scopes {
		s.Close()
	}
	for _, c := range h.closers {
		c()
	}
	for _, s := range h.slots {
		if s.live != nil {
			s.live.close()
		}
	}
}

// held returns what has been read.
func (r *listenerReader) held() held {
	return held{r.needs, r.scopes, r.closers, r.tables, r.slots, r.scoped}
}

// eachSlot yields slots, and those in what stands in them.
func eachSlot(slots []*slot, yield func(*slot) bool) bool {
	for _, s := range slots {
		if !yield(s) || s.live != nil && !eachSlot(s.live.slots, yield) {
			return false
		}
	}
	return true
}

// needsAll is what a listener cannot work without, together with what stands in its places.
func (l *Listener) needsAll() (n Needs) {
	n.add(l.needs)
	for p := range l.places() {
		if p.live != nil {
			n.add(p.live.needs)
		}
	}
	return n
}

// usesOf are where the subscription of its connection managers to a route table is counted.
func (l *Listener) usesOf(table string) []*stats.RDSUse {
	if l == nil {
		return nil
	}
	uses := slices.Clone(l.tables[table])
	for u := range l.scopeUses() {
		if use := u.tables[table]; use != nil {
			uses = append(uses, use)
		}
	}
	for p := range l.places() {
		if p.live != nil {
			uses = append(uses, p.live.tables[table]...)
		}
	}
	return uses
}

// places are those of a listener's filters that come by themselves.
func (l *Listener) places() iter.Seq[*slot] {
	return func(yield func(*slot) bool) {
		if l == nil || !eachSlot(l.own, yield) {
			return
		}
		for _, b := range l.chains {
			if !eachSlot(b.slots, yield) {
				return
			}
		}
	}
}

// slot reads where a filter's configuration comes from; nil if that is wrong.
func (r *listenerReader) slot(kind, name string, m *corev3.ExtensionConfigSource, at *field.Path) *slot {
	before := len(r.errs)
	at = at.Child("config_discovery")
	s := &slot{kind: kind, Need: Need{name, r.source(m.GetConfigSource(), at.Child("config_source"))}, types: map[string]bool{}, hurried: m.GetApplyDefaultConfigWithoutWarming()}
	if name == "" {
		r.errs.Addf(at, "is set for a filter without a name, by which its configuration would be asked for")
	}
	for i, url := range m.GetTypeUrls() {
		at := at.Child("type_urls").Index(i)
		switch typ := url[strings.LastIndexByte(url, '/')+1:]; {
		case Messages[protoreflect.FullName(typ)] == nil:
			r.errs.Addf(at, "type %q is not supported", url)
		case fixedFilters[typ]:
			r.errs.Addf(at, "found %q, which is supported among filters that stand in their listener only", url)
		default:
			s.types[typ] = true
		}
	}
	if d := m.GetDefaultConfig(); d != nil {
		at := at.Child("default_config")
		if s.fallback = r.unpack(d, at); s.fallback != nil {
			if err := s.fits(s.fallback); err != nil {
				r.errs.Addf(at, "%v", err)
			}
		}
	}
	if len(r.errs) > before {
		return nil
	}
	s.use = r.env.Stats.Extension(kind, name)
	r.slots = append(r.slots, s)
	return s
}

// fixedFilters are no places in a chain, or tell filters behind them what to do: they do not come by themselves.
var fixedFilters = map[string]bool{
	"io.istio.http.peer_metadata.Config": true, "stats.PluginConfig": true, "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig": true,
	"envoy.tcp.metadataexchange.config.MetadataExchange": true, "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig": true,
}

// fits reports why a configuration is not of a type that the slot is for.
func (s *slot) fits(m proto.Message) error {
	if typ := string(m.ProtoReflect().Descriptor().FullName()); !s.types[typ] {
		return fmt.Errorf("found type %s, want %s", typ, strings.Join(slices.Sorted(maps.Keys(s.types)), " or "))
	}
	return nil
}

// build makes of a configuration what the slot is to hold.
func (s *slot) build(m proto.Message) (*filled, error) {
	if err := s.fits(m); err != nil {
		return nil, field.List{{At: field.At("typed_config"), Msg: err.Error()}}
	}
	return s.read(m)
}

// begin fills a place with what has come already, or with the default. A default is read in any case: a mistake in it is to be found now.
func (r *listenerReader) begin(s *slot, at *field.Path) {
	if s == nil {
		return
	}
	var first *filled
	if s.fallback != nil {
		var err error
		if first, err = s.build(s.fallback); err != nil {
			r.errs = append(r.errs, moved(err, at.Child("config_discovery").Child("default_config"))...)
			return
		}
	}
	if m := r.env.extensionFor(s); m != nil {
		if come, err := s.build(m); err == nil {
			if first != nil {
				first.close()
			}
			first = come
		} else {
			s.use.ConfigConflict.Inc()
		}
	}
	if first != nil {
		s.live = first
		s.put(first)
	}
}

// moved tells mistakes of a typed_config by their paths below another place.
func moved(err error, at *field.Path) field.List {
	list := below(nil, err)
	for _, e := range list {
		e.Msg = fmt.Sprintf("%v: %s", e.At, e.Msg)
		e.At = at
	}
	return list
}

// extensionFor returns the configuration that has come for a slot, nil if none has, and has it asked for.
func (e *Env) extensionFor(s *slot) proto.Message {
	if e.extensions == nil {
		return nil
	}
	x := entry(e.extensions, s.Name)
	if !x.asked && s.Place.Path == "" {
		x.asked = true
		s.use.UpdateAttempt.Inc()
	}
	return x.message
}

// httpSlot makes the place of an HTTP filter.
func (r *listenerReader) httpSlot(f *hcmv3.HttpFilter, c *stream.Config, last bool, at *field.Path) {
	i := len(c.Filters)
	c.Filters = append(c.Filters, missing.New(f.GetName(), last))
	s := r.slot(httpKind, f.GetName(), f.GetConfigDiscovery(), at)
	if s == nil {
		return
	}
	s.read = func(m proto.Message) (*filled, error) {
		own := &listenerReader{reader: reader{env: r.env}, outbound: r.outbound, statName: r.statName}
		made := &stream.Config{StatPrefix: c.StatPrefix, Stats: c.Stats}
		at := field.At("typed_config")
		if own.atEnd(m, last, at) {
			own.httpFilter(f, m, made, at)
		}
		out := &filled{held: own.held()}
		if err := own.errs.Err(); err != nil {
			out.close()
			return nil, err
		}
		out.factory = made.Filters[0]
		return out, nil
	}
	s.put = func(now *filled) {
		made := missing.New(f.GetName(), last)
		if now != nil {
			made = now.factory
		}
		if c.Live == nil { // the chain is still being read
			c.Filters[i] = made
			return
		}
		c.Live.Replace(i, made)
	}
	r.begin(s, at)
}

// networkSlot makes the place of a network filter.
func (r *listenerReader) networkSlot(f *listenerv3.Filter, out *listen.Chain, last bool, at *field.Path) {
	s := r.slot(networkKind, f.GetName(), f.GetConfigDiscovery(), at)
	if s == nil {
		return
	}
	place := &listen.Slot{}
	out.Slots = append(out.Slots, place)
	if last {
		out.Filter = place
	} else {
		out.Gates = append(out.Gates, place)
	}
	exchange, metrics, forward := r.exchange, r.tcpMetrics, r.forward
	s.read = func(m proto.Message) (*filled, error) {
		own := &listenerReader{reader: reader{env: r.env}, outbound: r.outbound, statName: r.statName, exchange: exchange, tcpMetrics: metrics, forward: forward}
		content := own.networkContent(m, last, nil)
		if content.Filter == nil && last && len(own.errs) == 0 {
			own.errs.Addf(field.At("typed_config"), "found %s, want a filter that takes the connection: http_connection_manager, tcp_proxy or direct_response", anyName(m))
		}
		made := &filled{content: content, held: own.held()}
		if err := own.errs.Err(); err != nil {
			made.close()
			return nil, err
		}
		return made, nil
	}
	s.put = func(now *filled) {
		if now == nil {
			place.Put(nil)
			return
		}
		place.Put(&now.content)
	}
	r.begin(s, at)
}

// listenerSlot returns the configuration of a listener filter that comes by itself; nil if there is none yet.
func (r *listenerReader) listenerSlot(f *listenerv3.ListenerFilter, at *field.Path) proto.Message {
	s := r.slot(listenerKind, f.GetName(), f.GetConfigDiscovery(), at)
	if s == nil {
		return nil
	}
	m := r.env.extensionFor(s)
	if m != nil && s.fits(m) != nil {
		s.use.ConfigConflict.Inc()
		m = nil
	}
	if m == nil {
		return s.fallback
	}
	return m
}
