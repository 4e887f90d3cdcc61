package gatewayapi

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/model"
)

// A listener is one of a Gateway or of a ListenerSet, and what is found about it.
type listener struct {
	gatewayv1.Listener
	of   *parent
	host string // "*": any
	is   *conditions

	kinds []string // of the routes that may attach
	tls   *model.ServerTLS

	attached map[model.Ref]bool    // routes
	http     map[string][]entry    // what they say, by host
	bytes    map[string]*bytesRule // of the oldest route, by the name that the client asks for
}

func (p *parent) add(l gatewayv1.Listener) {
	host := strings.ToLower(string(deref(l.Hostname, "")))
	p.listeners = append(p.listeners, &listener{
		Listener: l, of: p, host: cmp.Or(host, "*"), is: conditionsOf(p.object),
		attached: map[model.Ref]bool{}, http: map[string][]entry{}, bytes: map[string]*bytesRule{},
	})
}

// routeKinds are those that can attach to listeners of a protocol.
var routeKinds = map[gatewayv1.ProtocolType][]string{
	gatewayv1.HTTPProtocolType: {"HTTPRoute", "GRPCRoute"}, gatewayv1.HTTPSProtocolType: {"HTTPRoute", "GRPCRoute"},
	gatewayv1.TLSProtocolType: {"TLSRoute"}, gatewayv1.TCPProtocolType: {"TCPRoute"},
}

// ownPorts are those of the gateway's own proxy.
var ownPorts = []int32{15000, 15020, 15021, 15090}

// checkListeners looks at each by itself, then at those that share a port.
func (c *compiler) checkListeners(g *gateway) {
	all := g.served()
	for _, l := range all {
		c.checkListener(l)
	}
	for _, l := range all {
		if l.is.bad(accepted) {
			continue
		}
		if g.ports == nil {
			g.ports = map[int32]*sharedPort{}
		}
		p := g.ports[l.Port]
		if p == nil {
			p = &sharedPort{first: l, byHost: map[string]*listener{}}
			g.ports[l.Port] = p
		}
		if l.meet(p.first, "ProtocolConflict") || l.meet(p.byHost[l.host], "HostnameConflict") {
			continue
		}
		p.byHost[l.host] = l
	}
	for _, l := range all {
		if l.is.get(conflicted) == nil {
			l.is.set(conflicted, false, "NoConflicts", "nothing else is in its way")
		}
	}
}

func (c *compiler) checkListener(l *listener) {
	l.is.set(accepted, true, "Accepted", "it is well formed")
	l.is.set(resolved, true, "ResolvedRefs", "what it names is there")
	kinds := routeKinds[l.Protocol]
	if kinds == nil {
		l.is.fail(accepted, "UnsupportedProtocol", "protocol is %s, want HTTP, HTTPS, TLS or TCP", l.Protocol)
	}
	switch {
	case l.Port < 1 || l.Port > 65535:
		l.is.fail(accepted, "PortUnavailable", "port is %d, want 1 to 65535", l.Port)
	case slices.Contains(ownPorts, l.Port):
		l.is.fail(accepted, "PortUnavailable", "port %d is one of the proxy's own", l.Port)
	}
	switch {
	case l.Protocol == gatewayv1.TCPProtocolType && l.host != "*":
		l.is.fail(accepted, "UnsupportedValue", "hostname is %q: TCP does not tell one; want none", l.host)
	case !istio.IsHost(l.host):
		l.is.fail(accepted, "UnsupportedValue", "hostname is %q, want a host, maybe with *. in front", l.host)
	}
	if l.Protocol == gatewayv1.TLSProtocolType && l.TLS != nil && deref(l.TLS.Mode, gatewayv1.TLSModeTerminate) == gatewayv1.TLSModeTerminate {
		kinds = append(slices.Clone(kinds), "TCPRoute")
	}
	l.kinds = kinds
	if a := l.AllowedRoutes; a != nil && len(a.Kinds) > 0 {
		l.kinds = nil
		for _, k := range a.Kinds {
			if isGroup(k.Group) && slices.Contains(kinds, string(k.Kind)) {
				l.kinds = append(l.kinds, string(k.Kind))
			} else if kinds != nil {
				l.is.fail(resolved, "InvalidRouteKinds", "allowedRoutes.kinds has %s, which cannot attach to protocol %s; want %s", k.Kind, l.Protocol, strings.Join(kinds, ", "))
			}
		}
	}
	c.listenerTLS(l)
}

// transport says what can share a port: plain HTTP, TLS of whatever is inside, or bytes.
func (l *listener) transport() gatewayv1.ProtocolType {
	if l.Protocol == gatewayv1.HTTPSProtocolType {
		return gatewayv1.TLSProtocolType
	}
	return l.Protocol
}

// A sharedPort is a port of a gateway's with the listeners that are accepted there: all of one transport, and each
// for a host of its own.
type sharedPort struct {
	first  *listener
	byHost map[string]*listener
}

// meet reports whether the listener cannot share a port with another, which has more right to it, and says so.
func (l *listener) meet(older *listener, reason string) bool {
	if older == nil || reason == "ProtocolConflict" && l.transport() == older.transport() {
		return false
	}
	text := "port " + string(older.Protocol) + " with hostname " + older.host + " belongs to listener " + string(older.Name) + " of " + older.of.String()
	l.is.set(accepted, false, reason, "%s", text)
	l.is.set(programmed, false, reason, "%s", text)
	l.is.set(conflicted, true, reason, "%s", text)
	return true
}

// takes reports whether routes of a namespace may attach.
func (c *compiler) takes(l *listener, namespace string) bool {
	var selector *metav1.LabelSelector
	if a := l.AllowedRoutes; a != nil && a.Namespaces != nil {
		selector = a.Namespaces.Selector
	}
	return c.allows(l.from(), selector, l.of.object.Namespace, namespace)
}

// from says which namespaces' routes may attach.
func (l *listener) from() gatewayv1.FromNamespaces {
	if a := l.AllowedRoutes; a != nil && a.Namespaces != nil {
		return deref(a.Namespaces.From, gatewayv1.NamespacesFromSame)
	}
	return gatewayv1.NamespacesFromSame
}

// allows reports whether objects of a namespace are among those that an object of another namespace takes.
func (c *compiler) allows(from gatewayv1.FromNamespaces, selector *metav1.LabelSelector, own, namespace string) bool {
	switch from {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSame:
		return own == namespace
	case gatewayv1.NamespacesFromSelector:
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return false
		}
		has := labels.Set{}
		maps.Copy(has, c.env.Namespace(namespace))
		has[corev1.LabelMetadataName] = namespace // whatever it says itself, as Kubernetes sees to
		return s.Matches(has)
	}
	return false
}

func (l *listener) supportedKinds() []gatewayv1.RouteGroupKind {
	out := []gatewayv1.RouteGroupKind{}
	group := gatewayv1.Group(gatewayv1.GroupName)
	for _, k := range l.kinds {
		out = append(out, gatewayv1.RouteGroupKind{Group: &group, Kind: gatewayv1.Kind(k)})
	}
	return out
}

// usable reports whether connections can be served as the listener says.
func (l *listener) usable() bool {
	return !l.is.bad(accepted) && len(l.kinds) > 0 && (l.tls == nil || !l.tls.Mode.Ends() || len(l.tls.Certs) > 0)
}

// finished returns the conditions of a listener whose Gateway has been looked at.
func (l *listener) finished(g *gateway) []metav1.Condition {
	switch {
	case l.is.get(programmed) != nil:
	case l.is.bad(accepted):
		l.is.set(programmed, false, "Invalid", "it is not accepted")
	case !l.usable():
		l.is.set(programmed, false, "Invalid", "it cannot be served without what it names")
	case g.is.bad(accepted):
		l.is.set(programmed, false, "Pending", "its Gateway is not accepted")
	default:
		l.is.set(programmed, true, "Programmed", "the proxies that serve it are told of it")
	}
	return l.is.list
}

// owner returns the listener of those on the same port that a host belongs to: the one with the
// most specific name that stands for it.
func (l *listener) owner(host string) *listener {
	p := l.of.gateway.ports[l.Port]
	if p == nil || p.first.transport() != l.transport() {
		return l
	}
	for name := range wider(host) {
		if o := p.byHost[name]; o != nil {
			if model.MoreSpecific(o.host, l.host) {
				return o
			}
			break
		}
	}
	return l
}

// wider yields the names that stand for a host, the most specific first: a.b.c, *.b.c, *.c, *.
func wider(host string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(host) {
			return
		}
		for i := 1; i < len(host); i++ {
			if host[i] == '.' && (i > 1 || host[0] != '*') && !yield("*"+host[i:]) {
				return
			}
		}
		yield("*")
	}
}

// unusable reports whether routes cannot attach to the listener: not if others keep it from its port. What it lacks else
// may come, and routes show that they are meant for it.
func (l *listener) unusable() bool {
	x := l.is.get(conflicted)
	return x != nil && x.Reason != "NoConflicts"
}
