package build

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	internallistenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	internalupstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
)

// Listeners inside of the proxy, and the way to them.

var insideFields = []*Message{
	message((*internallistenerv3.InternalListener)(nil),
		ignores("the kernel's buffers hold what is on its way inside (net.core.wmem_default), and each end stops reading at its own limit", "buffer_size_kb")),
	message((*internalupstreamv3.InternalUpstreamTransport)(nil), reads("passthrough_metadata", "transport_socket")),
	message((*internalupstreamv3.InternalUpstreamTransport_MetadataValueSource)(nil), reads("kind", "name")),
	message((*metadatav3.MetadataKind)(nil), reads("host", "cluster")),
	message((*metadatav3.MetadataKind_Host)(nil)),
	message((*metadatav3.MetadataKind_Cluster)(nil)),
	message((*corev3.EnvoyInternalAddress)(nil), reads("server_listener_name", "endpoint_id")),
}

// bootstrapExtensions reads what the bootstrap adds to the proxy: that there may be listeners inside.
func (r *reader) bootstrapExtensions(list []*corev3.TypedExtensionConfig, b *Bootstrap, at *field.Path) {
	for i, e := range list {
		at := at.Index(i)
		switch m := r.unpack(e.GetTypedConfig(), at).(type) {
		case nil:
		case *internallistenerv3.InternalListener:
			b.Inside = true
		default:
			r.errs.Addf(at.Child("typed_config"), "found %s, want an InternalListener", anyName(m))
		}
	}
}

// inside reads a listener that has no socket.
func (r *listenerReader) inside(m *listenerv3.Listener, c *listen.Config) {
	r.mayBeInside(m)
	c.Inside, c.Bind = true, false
	c.Addrs = append(c.Addrs, pipe.Internal(m.GetName(), ""))
}

// mayBeInside refuses what makes no sense without a socket, and all of it where the bootstrap has not asked for such listeners.
func (r *listenerReader) mayBeInside(m *listenerv3.Listener) {
	at := field.At("internal_listener")
	if !r.env.Inside {
		r.errs.Addf(at, "is set without envoy.bootstrap.internal_listener in the bootstrap's bootstrap_extensions, want it there")
	}
	if m.GetName() == "" {
		r.errs.Addf(field.At("name"), "is empty, want the name by which an internal listener is found")
	}
	for _, no := range []struct {
		name string
		set  bool
	}{
		{"address", m.GetAddress() != nil}, {"additional_addresses", len(m.GetAdditionalAddresses()) > 0},
		{"transparent", m.GetTransparent() != nil}, {"freebind", m.GetFreebind() != nil}, {"tcp_backlog_size", m.GetTcpBacklogSize() != nil},
		{"tcp_fast_open_queue_length", m.GetTcpFastOpenQueueLength() != nil}, {"connection_balance_config", m.GetConnectionBalanceConfig() != nil},
		{"enable_reuse_port", m.GetEnableReusePort() != nil}, {"socket_options", len(m.GetSocketOptions()) > 0},
	} {
		if no.set {
			r.errs.Addf(field.At(no.name), "is set beside internal_listener, which has no socket")
		}
	}
}

// passed reads what listeners inside of the proxy are told.
func (r *reader) passed(m *internalupstreamv3.InternalUpstreamTransport, at *field.Path) *cluster.Passed {
	out := cluster.Passed{}
	for i, v := range m.GetPassthroughMetadata() {
		switch v.GetKind().GetKind().(type) {
		case *metadatav3.MetadataKind_Host_:
			out = append(out, cluster.PassedMetadata{Namespace: v.GetName()})
		case *metadatav3.MetadataKind_Cluster_:
			out = append(out, cluster.PassedMetadata{Namespace: v.GetName(), OfCluster: true})
		default:
			r.errs.Addf(at.Index(i).Child("kind"), "is neither host nor cluster")
		}
	}
	return &out
}
