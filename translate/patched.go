package translate

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate/patch"
)

// Own reports whether what the proxy gets may differ from what other replicas of its workload
// get: patches may ask for what a proxy says of itself alone, and a gateway's ports may be those
// that a service has for its address.
func Own(v *model.View) bool {
	if len(v.Mesh.NetworkGateways) > 0 && len(v.Mesh.Config.Networks.Ranges) > 0 {
		return true // its address may say of which network it is
	}
	if len(v.Mesh.Patches) == 0 && v.Proxy.Type == model.Sidecar {
		return false
	}
	type key struct{}
	return v.Memo(key{}, func() any { return patchedAlone(v) || servesByAddress(v) }).(bool)
}

func patchedAlone(v *model.View) bool {
	return slices.ContainsFunc(v.Mesh.Patches, func(p *model.Patches) bool {
		return slices.ContainsFunc(p.List, func(p *model.Patch) bool {
			_, name := p.Metadata["NAME"]
			_, addresses := p.Metadata["INSTANCE_IPS"]
			return name || addresses
		})
	})
}

// servesByAddress reports whether a gateway is of a service, or has a port for one, by its own address.
// Those of equal labels share the rest; what sidecars serve has names that are never shared.
func servesByAddress(v *model.View) bool {
	return v.Proxy.Type == model.Router && slices.ContainsFunc(v.ServicesOf(), func(s *model.Service) bool {
		return !s.Kubernetes || len(s.Selector) == 0
	})
}

// contexts are the parts of a proxy's configuration for which patches may add something.
func contexts(v *model.View) []model.PatchContext {
	if v.Proxy.Type != model.Sidecar {
		return []model.PatchContext{model.PatchGateway}
	}
	return []model.PatchContext{model.PatchInbound, model.PatchOutbound}
}

// contextOf is the part to which something belongs.
func contextOf(v *model.View, inbound bool) model.PatchContext {
	switch {
	case v.Proxy.Type != model.Sidecar:
		return model.PatchGateway
	case inbound:
		return model.PatchInbound
	}
	return model.PatchOutbound
}

// patchedCluster is what patches can ask for of a cluster, and its context.
func patchedCluster(v *model.View, name string) (model.PatchContext, patch.ClusterName) {
	c, _ := parseClusterName(name)
	inbound := c.inbound || name == inboundPassthroughCluster
	return contextOf(v, inbound), patch.ClusterName{Name: name, Port: c.port, Subset: c.subset, Hosts: func() []string {
		if !inbound {
			return []string{c.host}
		}
		var hosts []string
		for _, p := range inboundPorts(v) {
			if p.target == c.port {
				for _, s := range p.services {
					hosts = append(hosts, s.Host)
				}
			}
		}
		return hosts
	}}
}

// Cluster returns the cluster called name as v's proxy may see it, and whether
// there is one.
func Cluster(v *model.View, name string) (*clusterv3.Cluster, bool) {
	c, ok := cluster(v, name)
	if ok {
		setClusterBuffer(v, c)
		if restrictsTLS(v) {
			restrictCluster(v, c)
		}
	}
	set := patch.Of(v)
	if set == nil {
		return c, ok
	}
	if ok {
		c = proto.Clone(c).(*clusterv3.Cluster)
		if context, as := patchedCluster(v, name); set.Cluster(context, as, c) {
			return c, true
		}
	}
	return named(set.AddedClusters(contexts(v)...), name)
}

// ClusterNames lists, sorted, the clusters of all services that the proxy sees
// and of its own ports.
func ClusterNames(v *model.View) []string {
	names := clusterNames(v)
	set := patch.Of(v)
	if set == nil {
		return names
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		context, as := patchedCluster(v, name)
		return set.Removes(context, as)
	})
	return withNames(names, set.AddedClusters(contexts(v)...))
}

// Listener returns the listener called name as v's proxy needs it, and whether
// there is one.
func Listener(v *model.View, name string) (*listenerv3.Listener, bool) {
	l, ok := listener(v, name)
	if ok {
		setListenerBuffer(v, l)
		if restrictsTLS(v) {
			restrictListener(v, l)
		}
	}
	set := patch.Of(v)
	if !set.Changes() {
		return l, ok
	}
	if ok {
		l, ok = patchListener(v, set, proto.Clone(l).(*listenerv3.Listener))
	}
	if !ok {
		l, ok = named(set.AddedListeners(contexts(v)...), name)
	}
	if ok && !v.Proxy.Stock {
		set.Inline(l)
	}
	return l, ok
}

func patchListener(v *model.View, set *patch.Set, l *listenerv3.Listener) (*listenerv3.Listener, bool) {
	c := patch.Listener{Set: set, Context: contextOf(v, l.GetTrafficDirection() == corev3.TrafficDirection_INBOUND)}
	c.Virtual = c.Context != model.PatchGateway && (l.GetName() == virtualInbound || l.GetName() == virtualOutbound)
	return l, c.Apply(l)
}

// ListenerNames lists, sorted, the listeners that the proxy needs.
func ListenerNames(v *model.View) []string {
	names := listenerNames(v)
	set := patch.Of(v)
	if set == nil {
		return names
	}
	if set.RemovesListeners() {
		names = slices.DeleteFunc(names, func(name string) bool {
			_, ok := Listener(v, name)
			return !ok
		})
	}
	return withNames(names, set.AddedListeners(contexts(v)...))
}

// Routes returns the route table called name as v's proxy may see it, and
// whether there is one. A sidecar has one for each port of services that speak
// HTTP ("9080"), and one for each service's port that declares nothing
// ("reviews.prod.svc.cluster.local:9080").
func Routes(v *model.View, name string) (*routev3.RouteConfiguration, bool) {
	r, ok := routes(v, name)
	set := patch.Of(v)
	if set == nil || !ok {
		return r, ok
	}
	r = proto.Clone(r).(*routev3.RouteConfiguration)
	set.Routes(patch.Table{Context: contextOf(v, false), Ports: serverPorts(v, name)}, r)
	return r, true
}

// serverPorts are the ports of the servers behind a gateway's route table.
func serverPorts(v *model.View, table string) []uint16 {
	if v.Proxy.Type == model.Sidecar {
		return nil
	}
	var out []uint16
	for _, p := range gatewayPorts(v) {
		if p.route == table {
			for _, s := range p.servers {
				out = append(out, s.Port)
			}
		}
	}
	return out
}

// Extension returns the configuration of a filter that listeners ask for by name, and whether there
// is one. Only proxies that ask get any.
func Extension(v *model.View, name string) (*corev3.TypedExtensionConfig, bool) {
	if !v.Proxy.Stock {
		return nil, false
	}
	return named(patch.Of(v).Extensions(), name)
}

// ExtensionNames lists, sorted, the configurations of filters that listeners may ask for by name.
func ExtensionNames(v *model.View) []string {
	if !v.Proxy.Stock {
		return nil
	}
	return withNames(nil, patch.Of(v).Extensions())
}

// named returns a copy of the one of that name.
func named[M interface {
	proto.Message
	GetName() string
}](list []M, name string) (found M, ok bool) {
	for _, m := range list {
		if m.GetName() == name {
			return proto.Clone(m).(M), true
		}
	}
	return found, false
}

// withNames adds names to a sorted set.
func withNames[M interface{ GetName() string }](names []string, added []M) []string {
	for _, m := range added {
		if m.GetName() != "" {
			names = append(names, m.GetName())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
