package build

import (
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/filter/headermutation"
	"github.com/mallamesh/malla/proxy/filter/upstream"
	"github.com/mallamesh/malla/proxy/stream"
)

var upstreamFilterFields = []*Message{
	message((*codecv3.UpstreamCodec)(nil)),
}

// upstreamFilters reads what requests pass on their way to hosts; nil if nothing is said.
func (r *reader) upstreamFilters(list []*hcmv3.HttpFilter, at *field.Path) *upstream.Chain {
	if len(list) == 0 {
		return nil
	}
	if len(list) > stream.MaxFilters {
		r.errs.Addf(at, "has %d filters, want at most %d", len(list), stream.MaxFilters)
		return nil
	}
	chain := &upstream.Chain{}
	for i, f := range list {
		at := at.Index(i)
		last := i == len(list)-1
		if f.GetIsOptional() && !known(f.GetTypedConfig()) && !last {
			continue
		}
		if f.GetConfigDiscovery() != nil {
			r.errs.Addf(at.Child("config_discovery"), "is supported for the filters of the connection manager only")
			continue
		}
		m := r.unpack(f.GetTypedConfig(), at)
		if m == nil {
			continue
		}
		if _, isCodec := m.(*codecv3.UpstreamCodec); isCodec != last {
			r.errs.Addf(at, "found %s, want the upstream codec as the last filter and nowhere else", anyName(m))
			continue
		}
		switch m := m.(type) {
		case *codecv3.UpstreamCodec:
			if f.GetDisabled() {
				r.errs.Addf(at.Child("disabled"), "is set for a filter that cannot be off")
			}
		case *headermutationv3.HeaderMutation:
			if f.GetDisabled() {
				chain.Off |= 1 << len(chain.Factories)
			}
			c := r.headerMutations(m.GetMutations(), at.Child("typed_config").Child("mutations"))
			chain.Factories = append(chain.Factories, headermutation.New(f.GetName(), c, m.GetMostSpecificHeaderMutationsWins()))
		case *luav3.Lua, *bufferv3.Buffer, *compressorv3.Compressor:
			r.errs.Addf(at, "found %s, which is supported among the filters of the connection manager only", anyName(m))
		default:
			r.errs.Addf(at, "found %s, which is no upstream HTTP filter", anyName(m))
		}
	}
	return chain
}
