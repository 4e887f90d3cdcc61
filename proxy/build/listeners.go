package build

import (
	"cmp"
	"math"
	"net/netip"
	"os"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	networkdirectv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/matcher"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tcp"
)

var listenerFields = []*Message{
	message((*listenerv3.Listener)(nil),
		reads("name", "address", "additional_addresses", "stat_prefix", "filter_chains", "use_original_dst", "default_filter_chain", "per_connection_buffer_limit_bytes",
			"listener_filters", "listener_filters_timeout", "continue_on_listener_filters_timeout", "transparent", "freebind", "traffic_direction", "access_log",
			"tcp_backlog_size", "bind_to_port", "deprecated_v1", "socket_options", "tcp_fast_open_queue_length", "tcp_keepalive", "ignore_global_conn_limit", "drain_type", "bypass_overload_manager", "metadata", "filter_chain_matcher", "internal_listener"),
		ignores("every worker has its own socket", "reuse_port", "enable_reuse_port", "connection_balance_config"),
		ignores("a turn of the loop accepts a bounded number", "max_connections_to_accept_per_socket_event")),
	message((*listenerv3.Listener_DeprecatedV1)(nil), reads("bind_to_port")),
	message((*listenerv3.Listener_InternalListenerConfig)(nil)),
	message((*listenerv3.AdditionalAddress)(nil), reads("address")),
	message((*listenerv3.FilterChain)(nil), reads("filter_chain_match", "filters", "transport_socket", "transport_socket_connect_timeout", "name", "metadata", "use_proxy_proto")),
	message((*listenerv3.FilterChainMatch)(nil),
		reads("destination_port", "prefix_ranges", "direct_source_prefix_ranges", "source_type", "source_prefix_ranges", "source_ports", "server_names", "transport_protocol", "application_protocols")),
	message((*listenerv3.Filter)(nil), reads("name", "typed_config", "config_discovery")),
	message((*listenerv3.ListenerFilter)(nil), reads("name", "typed_config", "config_discovery", "filter_disabled")),
	message((*listenerv3.ListenerFilterChainMatchPredicate)(nil), reads("or_match", "and_match", "not_match", "any_match", "destination_port_range")),
	message((*listenerv3.ListenerFilterChainMatchPredicate_MatchSet)(nil), reads("rules")),
	message((*corev3.SocketOption)(nil), reads("level", "name", "int_value", "buf_value", "state"),
		ignores(forPeople, "description"),
		only("ip_version", "a socket has the version of its address", "BOTH")),
}

// A Listener is a listener that has been read.
type Listener struct {
	Config   *listen.Config
	frame    uint64 // what it is of beside its chains; see frameSum
	InPlace  bool   // it takes its predecessor's place and leaves only chains that have changed behind
	chains   []*builtChain
	held             // needs of chains and their tables included
	own      []*slot // of listener filters
	message  *listenerv3.Listener
	sum      uint64 // of the message
	clusters func(name string) bool
}

// close gives the listener's metrics back.
func (l *Listener) close() {
	l.held.close()
	for _, b := range l.chains {
		b.release()
	}
}

func (r *listenerReader) listener(m *listenerv3.Listener) *listen.Config {
	c := &listen.Config{
		Name: m.GetName(), Metadata: metadataSet(m.GetMetadata()), Bind: truth(m.GetBindToPort(), true), UseOriginalDst: m.GetUseOriginalDst().GetValue(),
		FiltersTimeout: r.orDefault(m.GetListenerFiltersTimeout(), 15*time.Second, field.At("listener_filters_timeout")), ContinueOnTimeout: m.GetContinueOnListenerFiltersTimeout(),
		Transparent: m.GetTransparent().GetValue(), FreeBind: m.GetFreebind().GetValue(),
		Backlog:     int(m.GetTcpBacklogSize().GetValue()),
		BufferLimit: int(min(m.GetPerConnectionBufferLimitBytes().GetValue(), math.MaxInt32)),
	}
	if b := m.GetDeprecatedV1().GetBindToPort(); b != nil { //nolint:staticcheck // deprecated, still sent
		c.Bind = b.GetValue()
	}
	switch m.GetTrafficDirection() {
	case corev3.TrafficDirection_INBOUND:
		c.Direction = listen.Inbound
	case corev3.TrafficDirection_OUTBOUND:
		c.Direction = listen.Outbound
	}
	if m.GetInternalListener() != nil {
		r.inside(m, c)
	} else {
		r.listenAt(c, m.GetAddress(), field.At("address"))
		for i, a := range m.GetAdditionalAddresses() {
			r.listenAt(c, a.GetAddress(), field.At("additional_addresses").Index(i).Child("address"))
		}
	}
	if c.Name == "" {
		c.Name = pipe.String(c.Addrs[0])
	}
	r.statName = m.GetStatPrefix()
	if r.statName == "" {
		r.statName = statAddress(c.Addrs[0])
	}
	var scope *stats.Scope
	c.Stats, scope = r.env.Stats.Listener(r.statName)
	r.scopes = append(r.scopes, scope)
	c.Logs = r.logs(m.GetAccessLog(), field.At("access_log"))
	r.listenerFilters(m, c)
	c.SocketOptions = r.socketOptions(m)
	if !c.Inside { // whoever comes to it has been counted where it came from, as in Envoy
		c.MaxConnections = cmp.Or(r.env.Limits.Listeners[m.GetName()], r.env.Limits.Each)
	}
	c.ModifyOnly = m.GetDrainType() == listenerv3.Listener_MODIFY_ONLY
	c.Unshed = m.GetBypassOverloadManager() || c.Inside
	c.Global = r.env.Limits.global(m, c.Inside)
	for i, f := range m.GetFilterChains() {
		c.Chains = append(c.Chains, r.built(f, field.At("filter_chains").Index(i)))
	}
	if f := m.GetDefaultFilterChain(); f != nil {
		c.Default = r.built(f, field.At("default_filter_chain"))
	}
	for _, chain := range append(slices.Clone(c.Chains), c.Default) {
		if chain != nil && chain.TLS != nil {
			c.Stats.TLS.Show()
		}
	}
	if m := m.GetFilterChainMatcher(); m != nil {
		c.Tree = r.chainTree(m, field.At("filter_chain_matcher"))
	}
	if len(c.Chains) == 0 && c.Default == nil {
		r.errs.Addf(field.At("filter_chains"), "is empty, want at least one chain")
	}
	return c
}

// listenAt reads one address of a listener.
func (r *listenerReader) listenAt(c *listen.Config, a *corev3.Address, at *field.Path) {
	addr := r.anyAddress(a, at)
	c.Addrs = append(c.Addrs, addr)
	if mode := a.GetPipe().GetMode(); mode != 0 {
		if c.Modes == nil {
			c.Modes = map[netip.AddrPort]os.FileMode{}
		}
		c.Modes[addr] = os.FileMode(mode)
	}
}

// socketOptions reads what is set on the listener's sockets.
func (r *listenerReader) socketOptions(m *listenerv3.Listener) []drive.SocketOption {
	out := r.options(m.GetSocketOptions(), field.At("socket_options"))
	if n := m.GetTcpFastOpenQueueLength(); n != nil {
		out = append(out, drive.SocketOption{Level: ipprotoTCP, Name: tcpFastOpen, Value: int(n.GetValue()), When: drive.Listening})
	}
	if k := m.GetTcpKeepalive(); k != nil {
		out = append(out, keepAlive(k)...)
	}
	return out
}

// options reads what is set on sockets.
func (r *reader) options(list []*corev3.SocketOption, at *field.Path) (out []drive.SocketOption) {
	for i, o := range list {
		at := at.Index(i)
		set := drive.SocketOption{Level: int(o.GetLevel()), Name: int(o.GetName()), When: drive.SocketState(o.GetState())}
		switch o.GetValue().(type) {
		case *corev3.SocketOption_IntValue:
			set.Value = int(o.GetIntValue())
		case *corev3.SocketOption_BufValue:
			set.Bytes = append([]byte{}, o.GetBufValue()...)
		default:
			r.errs.Addf(at, "has no value, want int_value or buf_value")
		}
		if o.GetState() > corev3.SocketOption_STATE_LISTENING {
			r.errs.Addf(at.Child("state"), "found %v, want STATE_PREBIND, STATE_BOUND or STATE_LISTENING", o.GetState())
		}
		out = append(out, set)
	}
	return out
}

// keepAlive reads TCP keep-alive; what is not set is left to the system.
func keepAlive(k *corev3.TcpKeepalive) []drive.SocketOption {
	out := []drive.SocketOption{{Level: solSocket, Name: soKeepAlive, Value: 1}}
	for _, v := range []struct {
		value *wrapperspb.UInt32Value
		name  int
	}{{k.GetKeepaliveProbes(), tcpKeepCount}, {k.GetKeepaliveTime(), tcpKeepIdle}, {k.GetKeepaliveInterval(), tcpKeepInterval}} {
		if v.value != nil {
			out = append(out, drive.SocketOption{Level: ipprotoTCP, Name: v.name, Value: int(v.value.GetValue())})
		}
	}
	return out
}

// Numbers of Linux, where the proxy runs.
const (
	ipprotoTCP, solSocket, soKeepAlive                      = 6, 1, 9
	tcpFastOpen, tcpKeepIdle, tcpKeepInterval, tcpKeepCount = 23, 4, 5, 6
)

// statAddress writes an address as the names of Envoy's statistics do.
func statAddress(a netip.AddrPort) string {
	if name, _, ok := pipe.Inside(a); ok {
		return "envoy_internal_" + name
	}
	text := []byte(pipe.String(a))
	for i, b := range text {
		if b == ':' {
			text[i] = '_'
		}
	}
	return string(text)
}

// ports reads a condition on the port that a client has dialed; nil if there is none.
func (r *listenerReader) ports(p *listenerv3.ListenerFilterChainMatchPredicate, at *field.Path) matcher.Predicate[uint16] {
	list := func(s *listenerv3.ListenerFilterChainMatchPredicate_MatchSet, at *field.Path) (out []matcher.Predicate[uint16]) {
		at = at.Child("rules")
		for i, rule := range s.GetRules() {
			out = append(out, r.ports(rule, at.Index(i)))
		}
		if len(out) < 2 {
			r.errs.Addf(at, "has %d conditions, want at least 2", len(out))
		}
		return out
	}
	switch p.GetRule().(type) {
	case nil:
		if p != nil {
			r.errs.Addf(at, "is no condition, want one")
		}
		return nil
	case *listenerv3.ListenerFilterChainMatchPredicate_AnyMatch:
		if !p.GetAnyMatch() {
			r.errs.Addf(at.Child("any_match"), "found false, want true")
		}
		return func(uint16) bool { return true }
	case *listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange:
		start, end := p.GetDestinationPortRange().GetStart(), p.GetDestinationPortRange().GetEnd()
		if start < 0 || end <= start || end > math.MaxUint16+1 {
			r.errs.Addf(at.Child("destination_port_range"), "found [%d, %d), want ports", start, end)
		}
		return func(port uint16) bool { return int32(port) >= start && int32(port) < end }
	case *listenerv3.ListenerFilterChainMatchPredicate_NotMatch:
		return matcher.Not(r.ports(p.GetNotMatch(), at.Child("not_match")))
	case *listenerv3.ListenerFilterChainMatchPredicate_OrMatch:
		return matcher.Any(list(p.GetOrMatch(), at.Child("or_match")))
	case *listenerv3.ListenerFilterChainMatchPredicate_AndMatch:
		return matcher.All(list(p.GetAndMatch(), at.Child("and_match")))
	}
	r.errs.Addf(at, "is not supported in this form")
	return nil
}

func (r *listenerReader) chain(f *listenerv3.FilterChain, at *field.Path) *listen.Chain {
	out := &listen.Chain{
		Name: f.GetName(), Metadata: metadataSet(f.GetMetadata()), Match: r.chainMatch(f.GetFilterChainMatch(), at.Child("filter_chain_match")),
		TLS:              r.server(f.GetTransportSocket(), r.env.Secrets, at.Child("transport_socket")),
		HandshakeTimeout: r.duration(f.GetTransportSocketConnectTimeout(), at.Child("transport_socket_connect_timeout")),
	}
	r.exchange, r.tcpMetrics, r.forward = nil, nil, nil
	filters := f.GetFilters()
	for i, nf := range filters {
		at := at.Child("filters").Index(i)
		last := i == len(filters)-1
		if nf.GetConfigDiscovery() != nil {
			r.networkSlot(nf, out, last, at)
			continue
		}
		m := r.unpack(nf.GetTypedConfig(), at)
		if m == nil {
			continue
		}
		made := r.networkContent(m, last, at)
		if made.Filter != nil {
			out.Filter = made.Filter
		}
		if made.Gate != nil {
			out.Gates = append(out.Gates, made.Gate)
		}
	}
	if out.Filter == nil && len(filters) > 0 {
		r.errs.Addf(at.Child("filters"), "end with no filter that takes the connection, want http_connection_manager, tcp_proxy or direct_response")
	}
	return out
}

// networkContent reads a network filter.
func (r *listenerReader) networkContent(m proto.Message, last bool, at *field.Path) (out listen.Content) {
	config := at.Child("typed_config")
	switch m := m.(type) {
	case *hcmv3.HttpConnectionManager:
		r.terminal(last, at)
		out.Filter = r.manager(m, config)
	case *networkdirectv3.Config:
		r.terminal(last, at)
		out.Filter = &listen.Response{Body: r.data(m.GetResponse(), config.Child("response"))}
	case *tcpv3.TcpProxy:
		r.terminal(last, at)
		out.Filter = r.tcpProxy(m, config)
	default:
		var is bool
		if out.Gate, is = r.gate(m, config); !is {
			r.networkFilter(m, config)
		}
	}
	return out
}

func (r *listenerReader) terminal(last bool, at *field.Path) {
	if !last {
		r.errs.Addf(at, "must be the last filter of its chain")
	}
}

func (r *listenerReader) chainMatch(m *listenerv3.FilterChainMatch, at *field.Path) listen.Match {
	out := listen.Match{
		DestinationPort: r.port(m.GetDestinationPort().GetValue(), at.Child("destination_port")),
		Destinations:    r.prefixes(m.GetPrefixRanges(), at.Child("prefix_ranges")),
		DirectSources:   r.prefixes(m.GetDirectSourcePrefixRanges(), at.Child("direct_source_prefix_ranges")),
		Sources:         r.prefixes(m.GetSourcePrefixRanges(), at.Child("source_prefix_ranges")),
		ServerNames:     m.GetServerNames(), Transport: m.GetTransportProtocol(), ALPN: m.GetApplicationProtocols(),
	}
	switch m.GetSourceType() {
	case listenerv3.FilterChainMatch_SAME_IP_OR_LOOPBACK:
		out.SourceType = listen.SameIPOrLoopback
	case listenerv3.FilterChainMatch_EXTERNAL:
		out.SourceType = listen.ExternalSource
	}
	for i, p := range m.GetSourcePorts() {
		out.SourcePorts = append(out.SourcePorts, r.port(p, at.Child("source_ports").Index(i)))
	}
	return out
}

// listenerReader reads one listener, or one of its chains.
type listenerReader struct {
	reader
	before   *Listener // whose chains are taken over if they are the same; nil: none are
	chains   []*builtChain
	outbound bool
	statName string // of the listener, in names of statistics
	scopes   []*stats.Scope
	closers  []func()
	tables   map[string][]*stats.RDSUse
	slots    []*slot
	scoped   []*scopeUse
	clusters func(name string) bool // whether the bootstrap has one; nil: the listener is not in the bootstrap

	// What the network filters before the last one of a chain said.
	exchange   *tcp.Exchange
	forward    *tcp.Forward
	tcpMetrics *istioMetrics
}
