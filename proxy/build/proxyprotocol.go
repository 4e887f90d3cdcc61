package build

import (
	"cmp"
	"math"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	internalupstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/proxyproto"
)

var proxyProtocolFields = []*Message{
	message((*upstreamv3.ProxyProtocolUpstreamTransport)(nil), reads("config", "transport_socket"),
		refuses("is not built yet", "allow_unspecified_address"),
		ignores("connections are shared only by clients whose headers are equal", "tlv_as_pool_key")),
	message((*corev3.ProxyProtocolConfig)(nil), reads("version", "pass_through_tlvs", "added_tlvs")),
	message((*corev3.TlvEntry)(nil), reads("type", "value", "format_string")),
}

// socket reads how a cluster talks to hosts: perhaps inside of the proxy, perhaps with a PROXY header first, then perhaps by TLS.
func (r *reader) socket(s *corev3.TransportSocket, secrets *Secrets, at *field.Path) (t cluster.Transport) {
	if s.GetTypedConfig() != nil && s.GetTypedConfig().MessageName() == "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport" {
		m, ok := r.unpack(s.GetTypedConfig(), at).(*internalupstreamv3.InternalUpstreamTransport)
		if !ok {
			return t
		}
		at = at.Child("typed_config")
		t.Passed = r.passed(m, at.Child("passthrough_metadata"))
		s, at = m.GetTransportSocket(), at.Child("transport_socket")
	}
	if s.GetTypedConfig() != nil && s.GetTypedConfig().MessageName() == "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport" {
		m, ok := r.unpack(s.GetTypedConfig(), at).(*upstreamv3.ProxyProtocolUpstreamTransport)
		if !ok {
			return t
		}
		at = at.Child("typed_config")
		t.Proxy = r.proxySender(m.GetConfig(), at.Child("config"))
		if m.GetTransportSocket() == nil {
			r.errs.Addf(at.Child("transport_socket"), "is not set, want the socket that carries the bytes after the header")
		}
		s, at = m.GetTransportSocket(), at.Child("transport_socket")
	}
	t.Socket = r.client(s, secrets, at)
	return t
}

// connectSender reads the header before the bytes of a CONNECT that ends here, which tells nothing but addresses, as in Envoy.
func (r *reader) connectSender(m *corev3.ProxyProtocolConfig, at *field.Path) *proxyproto.Sender {
	for _, no := range []struct {
		name string
		set  bool
	}{{"pass_through_tlvs", m.GetPassThroughTlvs() != nil}, {"added_tlvs", len(m.GetAddedTlvs()) > 0}} {
		if no.set {
			r.errs.Addf(at.Child(no.name), "is set for a CONNECT, whose header has no extensions")
		}
	}
	return r.proxySender(m, at)
}

func (r *reader) proxySender(m *corev3.ProxyProtocolConfig, at *field.Path) *proxyproto.Sender {
	s := &proxyproto.Sender{Version: proxyproto.V1}
	if m.GetVersion() == corev3.ProxyProtocolConfig_V2 {
		s.Version = proxyproto.V2
	}
	s.All, s.Passed = r.passedTLVs(m.GetPassThroughTlvs(), at.Child("pass_through_tlvs"))
	s.Added = r.addedTLVs(m.GetAddedTlvs(), at.Child("added_tlvs"))
	return s
}

// addedTLVs reads extensions of the PROXY protocol's header.
func (r *reader) addedTLVs(list []*corev3.TlvEntry, at *field.Path) (out []proxyproto.Added) {
	for i, t := range list {
		at := at.Index(i)
		if t.GetType() > math.MaxUint8 {
			r.errs.Addf(at.Child("type"), "found %d, want a number below 256", t.GetType())
		}
		added := proxyproto.Added{TLV: proxyproto.TLV{Type: byte(t.GetType()), Value: t.GetValue()}}
		switch said := len(t.GetValue()) > 0; {
		case said && t.GetFormatString() != nil:
			r.errs.Addf(at.Child("format_string"), "is set beside value, want one of them")
		case t.GetFormatString() != nil:
			added.Format = r.substitution(t.GetFormatString(), at.Child("format_string"))
		case !said || len(t.GetValue()) > math.MaxUint16:
			r.errs.Addf(at.Child("value"), "has %d bytes, want at least 1 and less than 64 KiB", len(t.GetValue()))
		}
		out = append(out, added)
	}
	return out
}

// tlvRules reads where extensions of a client's header are kept. Of several rules for a type the last one counts.
func (r *reader) tlvRules(list []*proxyprotocolv3.ProxyProtocol_Rule, at *field.Path) map[byte]listen.TLVRule {
	out := map[byte]listen.TLVRule{}
	for i, rule := range list {
		at, to := at.Index(i), rule.GetOnTlvPresent()
		if rule.GetTlvType() > math.MaxUint8 {
			r.errs.Addf(at.Child("tlv_type"), "found %d, want a number below 256", rule.GetTlvType())
		}
		if to.GetKey() == "" {
			r.errs.Addf(at.Child("on_tlv_present").Child("key"), "is empty")
		}
		out[byte(rule.GetTlvType())] = listen.TLVRule{
			Namespace: cmp.Or(to.GetMetadataNamespace(), "envoy.filters.listener.proxy_protocol"), Key: to.GetKey(),
			Base64: to.GetValueStringEncoding() == proxyprotocolv3.ProxyProtocol_KeyValuePair_BASE64,
		}
	}
	return out
}

// tlvMessage is how scripts and expressions see extensions of a client's header: as the bytes that they are.
func tlvMessage(values map[string][]byte) *metadata.Message {
	held := &anypb.Any{}
	err := anypb.MarshalFrom(held, &datav3.TlvsMetadata{TypedMetadata: values}, proto.MarshalOptions{Deterministic: true})
	if err == nil {
		var m *metadata.Message
		if m, err = newMessage(held); err == nil {
			return m
		}
	}
	panic("build: extensions of a header are no message: " + err.Error()) // whatever their bytes are
}

// hostTLVs reads what one host is told in the PROXY protocol's header beside what all of its cluster are.
func (r *reader) hostTLVs(m *corev3.Metadata, at *field.Path) (out []proxyproto.TLV) {
	const key = "envoy.transport_sockets.proxy_protocol"
	typed := m.GetTypedFilterMetadata()[key]
	if typed == nil {
		return nil
	}
	of := &corev3.PerHostConfig{}
	at = at.Child(key)
	if err := typed.UnmarshalTo(of); err != nil {
		r.errs.Addf(at, "%v", err)
		return nil
	}
	for i, t := range r.addedTLVs(of.GetAddedTlvs(), at.Child("added_tlvs")) {
		if t.Format != nil {
			r.errs.Addf(at.Child("added_tlvs").Index(i).Child("format_string"), "is set for a host, want a value")
		}
		out = append(out, t.TLV)
	}
	return out
}
