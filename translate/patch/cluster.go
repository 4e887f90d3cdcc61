package patch

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/model"
)

// A ClusterName is what patches can ask for of a cluster. What is empty or 0, the cluster does not have.
type ClusterName struct {
	Name   string
	Port   uint16
	Subset string
	Hosts  func() []string // of its services
}

func (n ClusterName) matches(m *model.ClusterMatch) bool {
	switch {
	case m == nil:
		return true
	case m.Name != "":
		return m.Name == n.Name
	case m.Subset != "" && m.Subset != n.Subset, m.Port != 0 && m.Port != uint32(n.Port):
		return false
	}
	return m.Service == "" || slices.Contains(n.Hosts(), m.Service)
}

// Cluster changes a cluster. It reports whether it is still there.
func (s *Set) Cluster(context model.PatchContext, name ClusterName, c *clusterv3.Cluster) bool {
	if s == nil {
		return true
	}
	for _, p := range s.in(context, model.PatchCluster) {
		switch {
		case p.Op != model.PatchRemove && !isMerge(p), !name.matches(p.Cluster):
		case p.Op == model.PatchRemove:
			return false
		default:
			mergeCluster(c, p)
		}
	}
	return true
}

// Removes reports whether a cluster is taken away.
func (s *Set) Removes(context model.PatchContext, name ClusterName) bool {
	return s != nil && slices.ContainsFunc(s.in(context, model.PatchCluster), func(p *model.Patch) bool {
		return p.Op == model.PatchRemove && name.matches(p.Cluster)
	})
}

// mergeCluster merges into a cluster. Transport security of the same sort is merged where
// it stands, also if it is one of several that endpoints choose from; of another sort it
// is replaced, but never put beside several: Envoy refuses both at once.
func mergeCluster(c *clusterv3.Cluster, p *model.Patch) {
	value := p.Value.(*clusterv3.Cluster)
	socket := value.GetTransportSocket()
	if socket == nil {
		merge(c, p)
		return
	}
	value = proto.Clone(value).(*clusterv3.Cluster)
	value.TransportSocket = nil
	mergeOver(c, value, p)
	var into *corev3.TransportSocket
	for _, m := range c.GetTransportSocketMatches() {
		if m.GetTransportSocket().GetName() == socket.GetName() {
			into = m.GetTransportSocket()
			break
		}
	}
	switch {
	case into == nil && len(c.GetTransportSocketMatches()) > 0:
		return
	case into == nil && c.GetTransportSocket().GetName() == socket.GetName():
		into = c.GetTransportSocket()
	}
	if into == nil {
		c.TransportSocket = proto.Clone(socket).(*corev3.TransportSocket)
		return
	}
	mergeSocket(into, socket, p)
}

// mergeSocket merges transport security of one sort.
func mergeSocket(into, socket *corev3.TransportSocket, p *model.Patch) {
	if config := mergeAny(into.GetTypedConfig(), socket.GetTypedConfig(), p); config != nil {
		into.ConfigType = &corev3.TransportSocket_TypedConfig{TypedConfig: config}
	}
}

// AddedClusters are those that patches add, by the contexts of a proxy.
func (s *Set) AddedClusters(contexts ...model.PatchContext) []*clusterv3.Cluster {
	return added[*clusterv3.Cluster](s, model.PatchCluster, contexts)
}

// added returns what patches add in the contexts. One that is for all of them adds once.
func added[M interface {
	proto.Message
	GetName() string
}](s *Set, target model.PatchTarget, contexts []model.PatchContext) []M {
	if s == nil {
		return nil
	}
	var out []M
	for _, p := range s.by[target] {
		if p.Op != model.PatchAdd || p.Context != model.PatchAnywhere && !slices.Contains(contexts, p.Context) {
			continue
		}
		value := p.Value.(M)
		if !slices.ContainsFunc(out, func(m M) bool { return m.GetName() == value.GetName() }) {
			out = append(out, value)
		}
	}
	return out
}

// Extensions are the configurations of filters that patches add to be asked for by name.
func (s *Set) Extensions() []*corev3.TypedExtensionConfig {
	return added[*corev3.TypedExtensionConfig](s, model.PatchExtension, []model.PatchContext{model.PatchInbound, model.PatchOutbound, model.PatchGateway})
}
