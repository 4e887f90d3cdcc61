package translate

import (
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/model"
)

func u32(n uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(n) }

func boolean(b bool) *wrapperspb.BoolValue { return wrapperspb.Bool(b) }

func span(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

// spanIf returns nil for zero, which means that nothing was said.
func spanIf(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// u32If returns nil for zero, which means that nothing was said.
func u32If(n uint32) *wrapperspb.UInt32Value {
	if n == 0 {
		return nil
	}
	return wrapperspb.UInt32(n)
}

func address(a netip.Addr, port uint16) *corev3.Address {
	return hostAddress(a.String(), port)
}

func hostAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func cidr(p netip.Prefix) *corev3.CidrRange {
	return &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: u32(uint32(p.Bits()))}
}

// ads is the source of everything that comes over the stream on which the
// resource that asks for it came.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   span(0),
	}
}

// agent is the source of certificates: the proxy's own agent, never the control
// plane. Our proxy has it within and looks for the name only; a real Envoy asks
// the agent beside it.
func agent() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3, SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: secretsCluster},
			}}},
		}},
		ResourceApiVersion:  corev3.ApiVersion_V3,
		InitialFetchTimeout: span(0),
	}
}

// percent returns a share with the precision that fractions of a percent need.
func percent(p float64) *typev3.FractionalPercent {
	p = min(max(p, 0), 100)
	return &typev3.FractionalPercent{Numerator: uint32(p*10000 + 0.5), Denominator: typev3.FractionalPercent_MILLION}
}

func str(s string) *structpb.Value { return structpb.NewStringValue(s) }

func object(fields map[string]*structpb.Value) *structpb.Struct {
	return &structpb.Struct{Fields: fields}
}

// metadata returns the namespace `istio` of a resource's metadata: where it was
// configured, and what else is given.
func metadata(from model.Ref, more map[string]*structpb.Value) *corev3.Metadata {
	fields := make(map[string]*structpb.Value, len(more)+1)
	for k, f := range more {
		fields[k] = f
	}
	if path := configPath(from); path != "" {
		fields["config"] = str(path)
	}
	if len(fields) == 0 {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"istio": object(fields)}}
}

var kindPaths = map[string]string{
	"VirtualService":  "networking.istio.io/v1/namespaces/%/virtual-service/",
	"DestinationRule": "networking.istio.io/v1/namespaces/%/destination-rule/",
	"Gateway":         "networking.istio.io/v1/namespaces/%/gateway/",
	"Ingress":         "networking.k8s.io/v1/namespaces/%/ingress/",
}

// configPath names a resource as Istio does in metadata:
// /apis/networking.istio.io/v1/namespaces/prod/virtual-service/reviews.
func configPath(r model.Ref) string {
	const mark = '%'
	path, ok := kindPaths[r.Kind]
	if !ok {
		return ""
	}
	for i := range path {
		if path[i] == mark {
			return "/apis/" + path[:i] + r.Namespace + path[i+1:] + r.Name
		}
	}
	return ""
}
