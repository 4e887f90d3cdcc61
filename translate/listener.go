package translate

import (
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	originalsrcv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_src/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/model"
)

// unspecified is the address of listeners that take every destination.
var unspecified = netip.Addr{}

// listener returns the listener called name as v's proxy needs it, and whether
// there is one.
func listener(v *model.View, name string) (*listenerv3.Listener, bool) {
	if v.Proxy.Type != model.Sidecar {
		return gatewayListener(v, name)
	}
	if v.Interception() != model.Uncaptured {
		switch name {
		case virtualOutbound:
			return outboundCatcher(v), true
		case virtualInbound:
			return inboundListener(v), true
		}
	}
	if p, ok := ownPort(v, name); ok {
		return ownListener(v, p), true
	}
	return outboundListener(v, name)
}

// listenerNames lists, sorted, the listeners that the proxy needs.
func listenerNames(v *model.View) []string {
	if v.Proxy.Type != model.Sidecar {
		return gatewayListenerNames(v)
	}
	names := outboundListenerNames(v)
	if v.Interception() != model.Uncaptured {
		names = append(names, virtualInbound, virtualOutbound)
	}
	for _, p := range inboundPorts(v) {
		if p.ingress != nil && p.ingress.Own {
			names = append(names, ownName(v, p))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// at gives a listener its address, and the IPv6 twin where the proxy has one.
// The zero address is every address.
func at(v *model.View, l *listenerv3.Listener, addrs []netip.Addr, port uint16) {
	if len(addrs) == 0 || !addrs[0].IsValid() {
		addrs = []netip.Addr{netip.IPv4Unspecified()}
		if v.Has6() {
			addrs = append(addrs, netip.IPv6Unspecified())
		}
	}
	l.Address = address(addrs[0], port)
	for _, a := range addrs[1:] {
		l.AdditionalAddresses = append(l.AdditionalAddresses, &listenerv3.AdditionalAddress{Address: address(a, port)})
	}
}

// captured is a listener that gets its connections from interception.
func captured(v *model.View, name string, port uint16, addrs ...netip.Addr) *listenerv3.Listener {
	l := &listenerv3.Listener{
		Name: name, TrafficDirection: corev3.TrafficDirection_OUTBOUND, BindToPort: boolean(false),
		ListenerFiltersTimeout: span(v.Mesh.Config.DetectionTimeout), ContinueOnListenerFiltersTimeout: true,
		AccessLog: listenerLog(v),
	}
	if name == virtualInbound {
		l.TrafficDirection = corev3.TrafficDirection_INBOUND
	}
	at(v, l, addrs, port)
	return l
}

// outboundCatcher takes every connection that leaves the application, gives it
// to the listener of its destination, and keeps what has none.
func outboundCatcher(v *model.View) *listenerv3.Listener {
	port := v.OutboundPort()
	l := captured(v, virtualOutbound, port)
	l.BindToPort, l.UseOriginalDst, l.Transparent = nil, boolean(true), transparent(v)
	l.FilterChains = []*listenerv3.FilterChain{
		{
			Name: "virtualOutbound-blackhole", FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: u32(uint32(port))},
			Filters: list1(tcpProxy(v, blackHoleCluster)),
		},
		{Name: "virtualOutbound-catchall-tcp", Filters: tcpFilters(v, unknownDestination(v))},
	}
	return l
}

// unknownDestination carries connections to where they wanted, or nowhere.
func unknownDestination(v *model.View) *listenerv3.Filter {
	if v.Outbound() == model.RegistryOnly {
		return tcpProxy(v, blackHoleCluster)
	}
	return tcpProxy(v, unknownCluster(v))
}

func listenerFilter(name string, config proto.Message, except []uint16) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(config)}, FilterDisabled: onPorts(except),
	}
}

func originalDstFilter() *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.original_dst", &originaldstv3.OriginalDst{}, nil)
}

// sourceMark is on connections to the application that come from a client's address (Istio's).
const sourceMark = 1337

func originalSrcFilter() *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.original_src", &originalsrcv3.OriginalSrc{Mark: sourceMark}, nil)
}

// transparent has a listener take connections by TPROXY, if the pod gives it some in that way.
func transparent(v *model.View) *wrapperspb.BoolValue {
	if v.Interception() == model.Transparent {
		return boolean(true)
	}
	return nil
}

func tlsInspector(except []uint16) *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{}, except)
}

func httpInspector(except []uint16) *listenerv3.ListenerFilter {
	return listenerFilter("envoy.filters.listener.http_inspector", &httpinspectorv3.HttpInspector{}, except)
}

// onPorts is true for connections to one of the ports, nil if there are none.
func onPorts(ports []uint16) *listenerv3.ListenerFilterChainMatchPredicate {
	var rules []*listenerv3.ListenerFilterChainMatchPredicate
	for _, p := range ports {
		rules = append(rules, &listenerv3.ListenerFilterChainMatchPredicate{
			Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
				DestinationPortRange: &typev3.Int32Range{Start: int32(p), End: int32(p) + 1}, // the end is not in it
			},
		})
	}
	switch len(rules) {
	case 0:
		return nil
	case 1:
		return rules[0] // Envoy wants at least two in an or
	}
	return &listenerv3.ListenerFilterChainMatchPredicate{Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
		OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: rules},
	}}
}
