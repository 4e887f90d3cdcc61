package model

import (
	"cmp"
	"regexp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
)

// A PatchTarget says of what sort of thing a patch changes one.
type PatchTarget uint8

// The targets, from the outside in.
const (
	PatchListener PatchTarget = iota
	PatchListenerFilter
	PatchFilterChain
	PatchNetworkFilter
	PatchHTTPFilter
	PatchRouteTable
	PatchVirtualHost
	PatchRoute
	PatchCluster
	PatchExtension // the configuration of a filter that is asked for by name
	PatchTargets   // how many there are
)

// A PatchOp says what a patch does to its target.
type PatchOp uint8

// The operations.
const (
	PatchMerge        PatchOp = iota
	PatchMergeReplace         // lists are replaced, not made longer
	PatchAdd
	PatchRemove
	PatchInsertFirst
	PatchInsertBefore
	PatchInsertAfter
	PatchReplace
)

// A PatchContext is the part of a proxy's configuration that a patch is for.
type PatchContext uint8

// The contexts.
const (
	PatchAnywhere PatchContext = iota
	PatchInbound               // what a sidecar receives for its application
	PatchOutbound              // what it sends for it
	PatchGateway
)

// A PatchClass says where an added filter stands among those of the mesh.
type PatchClass uint8

// The classes.
const (
	PatchLast PatchClass = iota
	PatchAuthentication
	PatchAuthorization
	PatchStatistics
)

// Patches are one object's (Istio's kind EnvoyFilter) changes to what proxies are
// sent, in Envoy's own words.
type Patches struct {
	From     Ref
	Created  time.Time
	Selector map[string]string // empty: every proxy of the namespace; in the root namespace of the mesh
	Gateways []string          // if not empty: only proxies of these Gateways of Gateway API in the namespace
	Classes  []string          // or of GatewayClasses
	Priority int32
	List     []*Patch
	Secrets  []NamedSecret // that the changes name
}

// A NamedSecret is an object that a patch names as a proxy asks for it.
type NamedSecret struct {
	Source SecretSource
	Roots  bool
}

// A Patch is one change.
type Patch struct {
	Index   int // among those of its object
	Target  PatchTarget
	Op      PatchOp
	Context PatchContext
	Class   PatchClass

	// Value is Envoy's message for the target, the one thing in the model that is of
	// Envoy: nobody between the author and the proxy knows better what it means. It
	// is nil for PatchRemove.
	Value proto.Message

	// Which proxies: nil and empty are all.
	Version  *regexp.Regexp
	Metadata map[string]string

	// Which listeners, route tables or clusters: nil is all.
	Listener *ListenerMatch
	Table    *TableMatch
	Cluster  *ClusterMatch
}

// A ListenerMatch selects listeners, and what is in them. What is empty is not asked for.
type ListenerMatch struct {
	Name      string
	Port      uint32
	Inspector string // a listener filter
	Chain     *ChainMatch
}

// A ChainMatch selects filter chains, and filters in them.
type ChainMatch struct {
	Name      string
	SNI       string
	Transport string
	ALPN      []string
	Port      uint32
	Filter    *string // by name; nil is not asked for
	Sub       *string // a filter within it
}

// A TableMatch selects route tables, and what is in them. What is empty is not asked for.
type TableMatch struct {
	Name     string
	Port     uint32
	PortName string // of a Gateway's server
	Gateway  string // namespace/name
	Host     *VirtualHostMatch
}

// A VirtualHostMatch selects virtual hosts, and routes in them.
type VirtualHostMatch struct {
	Name   string
	Domain string
	Route  *RouteMatch
}

// A RouteMatch selects routes.
type RouteMatch struct {
	Name   string
	Action RouteAction
}

// A RouteAction is what a route does with requests.
type RouteAction uint8

// The actions.
const (
	AnyAction RouteAction = iota
	ForwardAction
	RedirectAction
	AnswerAction
)

// A ClusterMatch selects clusters. What is empty is not asked for.
type ClusterMatch struct {
	Name    string // asks for nothing else
	Port    uint32 // inbound: the application's
	Service string
	Subset  string
}

// The labels of a gateway that was deployed for a Gateway of Gateway API.
const (
	GatewayNameLabel  = "gateway.networking.k8s.io/gateway-name"
	GatewayClassLabel = "gateway.networking.k8s.io/gateway-class-name"
)

// SortPatches brings the objects, which come oldest first, into the order in which they act.
func SortPatches(all []*Patches) {
	slices.SortStableFunc(all, func(a, b *Patches) int { return cmp.Compare(a.Priority, b.Priority) })
}

// Patches returns the changes to what the proxy is sent, in the order in which they
// act: those of the root namespace, then those of its own.
func (v *View) Patches() []*Patch {
	if len(v.Mesh.Patches) == 0 {
		return nil
	}
	type key struct{}
	return v.Memo(key{}, func() any {
		var out []*Patch
		root := v.Mesh.Config.RootNamespace
		for _, ns := range slices.Compact([]string{root, v.Proxy.Namespace}) {
			for _, p := range v.Mesh.Patches {
				if p.From.Namespace != ns || !p.selects(v.Proxy, root) {
					continue
				}
				for _, patch := range p.List {
					if patch.isFor(v.Proxy) {
						out = append(out, patch)
					}
				}
			}
		}
		return out
	}).([]*Patch)
}

// PatchSecrets calls add for every object that a change to what the proxy is sent names, if who wrote the change has
// a say in what the proxy holds: those for gateways, and those that select the proxy.
func (v *View) PatchSecrets(add func(s NamedSecret, by *Patches)) {
	root := v.Mesh.Config.RootNamespace
	for _, p := range v.Mesh.Patches {
		if p.From.Namespace != v.Proxy.Namespace && p.From.Namespace != root || !p.selects(v.Proxy, root) || v.Proxy.Type != Router && len(p.Selector) == 0 {
			continue
		}
		for _, s := range p.Secrets {
			add(s, p)
		}
	}
}

// Patchers names the objects that have patches of one of the targets for the proxy.
func (v *View) Patchers(targets ...PatchTarget) []Ref {
	var out []Ref
	for _, p := range v.Mesh.Patches {
		if v.PatchedBy(p) && slices.ContainsFunc(p.List, func(x *Patch) bool { return slices.Contains(targets, x.Target) && x.isFor(v.Proxy) }) {
			out = append(out, p.From)
		}
	}
	return out
}

// PatchedBy reports whether an object's patches are for the proxy.
func (v *View) PatchedBy(p *Patches) bool {
	root := v.Mesh.Config.RootNamespace
	return (p.From.Namespace == root || p.From.Namespace == v.Proxy.Namespace) && p.selects(v.Proxy, root)
}

func (p *Patches) selects(proxy *Proxy, root string) bool {
	if len(p.Gateways)+len(p.Classes) == 0 {
		return Labels(proxy.Labels).Matches(p.Selector)
	}
	if proxy.Type != Router {
		return false
	}
	return p.From.Namespace == proxy.Namespace && slices.Contains(p.Gateways, proxy.Labels[GatewayNameLabel]) ||
		p.From.Namespace == root && slices.Contains(p.Classes, proxy.Labels[GatewayClassLabel])
}

func (p *Patch) isFor(proxy *Proxy) bool {
	if p.Version != nil && (proxy.Metadata["ISTIO_VERSION"] == "" || !p.Version.MatchString(proxy.Metadata["ISTIO_VERSION"])) {
		return false
	}
	for k, v := range p.Metadata {
		if got, ok := proxy.Metadata[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Selects reports whether the patch names what it changes among things of its sort.
func (p *Patch) Selects() bool {
	switch p.Target {
	case PatchListenerFilter:
		return p.Listener != nil && p.Listener.Inspector != ""
	case PatchNetworkFilter:
		return p.Listener != nil && p.Listener.Chain != nil && p.Listener.Chain.Filter != nil
	case PatchHTTPFilter:
		return p.Listener != nil && p.Listener.Chain != nil && p.Listener.Chain.Filter != nil && p.Listener.Chain.Sub != nil
	case PatchRoute:
		return p.Table != nil && p.Table.Host != nil && p.Table.Host.Route != nil
	}
	return false
}
