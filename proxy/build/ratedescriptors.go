package build

import (
	exprv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rate_limit_descriptors/expr/v3"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	sslv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cel"
	"github.com/mallamesh/malla/proxy/cel/typed"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/route"
)

var rateDescriptorFields = []*Message{
	message((*exprv3.Descriptor)(nil), reads("descriptor_key", "skip_if_error", "text"), holds("parsed")),
	message((*matcherv3.HttpRequestQueryParamMatchInput)(nil), reads("query_param")),
	message((*sslv3.UriSanInput)(nil)),
	message((*sslv3.DnsSanInput)(nil)),
	message((*sslv3.SubjectInput)(nil)),
}

// rateExtension reads an action that is an extension: an expression, or an input of matchers, whose key is the extension's name.
func (r *reader) rateExtension(m *corev3.TypedExtensionConfig, at *field.Path) ratelimit.Action {
	out := &ratelimit.Input{Key: m.GetName()}
	switch in := r.unpack(m.GetTypedConfig(), at.Child("typed_config")).(type) {
	case nil:
	case *exprv3.Descriptor:
		if in.GetDescriptorKey() == "" {
			r.errs.Addf(at.Child("typed_config").Child("descriptor_key"), "is empty")
		}
		text, what, err := in.GetText(), "text", error(nil)
		if p := in.GetParsed(); p != nil {
			what = "parsed"
			text, err = typed.Unparse(p)
		}
		var e *access.Expression
		if err == nil {
			e, err = access.CompileExpression(text, cel.Options{})
		}
		if err != nil {
			r.errs.Addf(at.Child("typed_config").Child(what), "%v", err)
		}
		return &ratelimit.Expression{Key: in.GetDescriptorKey(), Value: e, Optional: in.GetSkipIfError()}
	case *matcherv3.HttpRequestHeaderMatchInput:
		out.Value = ratelimit.FromRequest(route.HeaderInput(in.GetHeaderName()))
	case *networkv3.FilterStateInput:
		out.Value = ratelimit.FromRequest(route.StateInput(in.GetKey(), in.GetField()))
	case *matcherv3.HttpRequestQueryParamMatchInput:
		out.Value = ratelimit.Parameter(in.GetQueryParam())
	case *networkv3.SourceTypeInput:
		out.Value = ratelimit.FromHere
	default:
		format := recordInput(in)
		if format == "" {
			r.errs.Addf(at.Child("typed_config"), "found %s, want envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor or an input of what is known when a request begins", anyName(in))
			break
		}
		out.Value = ratelimit.FromRecord(r.valueFormat(format, at))
	}
	return out
}

// recordInput is the format that says what an input does, nothing if there is none.
func recordInput(m any) string {
	switch m.(type) {
	case *networkv3.DestinationIPInput:
		return "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"
	case *networkv3.DestinationPortInput:
		return "%DOWNSTREAM_LOCAL_PORT%"
	case *networkv3.SourceIPInput:
		return "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
	case *networkv3.SourcePortInput:
		return "%DOWNSTREAM_REMOTE_PORT%"
	case *networkv3.DirectSourceIPInput:
		return "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
	case *networkv3.ServerNameInput:
		return "%REQUESTED_SERVER_NAME%"
	case *sslv3.SubjectInput:
		return "%DOWNSTREAM_PEER_SUBJECT%"
	case *sslv3.UriSanInput:
		return "%DOWNSTREAM_PEER_URI_SAN%"
	case *sslv3.DnsSanInput:
		return "%DOWNSTREAM_PEER_DNS_SAN%"
	}
	return ""
}
