package translate

import (
	"slices"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/model"
)

// setErrors has a cluster count responses with these codes as errors, in place of 5xx.
func setErrors(v *model.View, c *clusterv3.Cluster, as version, o *model.OutlierDetection) {
	if o == nil || len(o.ErrorCodes) == 0 {
		return
	}
	var any []*matcherv3.MatchPredicate
	for _, code := range slices.Compact(slices.Sorted(slices.Values(o.ErrorCodes))) {
		any = append(any, &matcherv3.MatchPredicate{Rule: &matcherv3.MatchPredicate_HttpResponseHeadersMatch{HttpResponseHeadersMatch: &matcherv3.HttpHeadersMatch{
			Headers: []*routev3.HeaderMatcher{headerMatch(":status", model.StringMatch{Kind: model.Exact, Value: strconv.Itoa(int(code))})},
		}}})
	}
	errors := any[0]
	if len(any) > 1 { // of which there are at least two, for Envoy
		errors = &matcherv3.MatchPredicate{Rule: &matcherv3.MatchPredicate_OrMatch{OrMatch: &matcherv3.MatchPredicate_MatchSet{Rules: any}}}
	}
	options := httpProtocol(v, as, nil)
	if packed := c.TypedExtensionProtocolOptions[httpOptions]; packed != nil {
		options = new(httpv3.HttpProtocolOptions)
		if packed.UnmarshalTo(options) != nil {
			panic("translate: HTTP options that we made do not parse")
		}
	}
	options.OutlierDetection = &httpv3.HttpProtocolOptions_OutlierDetection{ErrorMatcher: errors}
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: pack(options)}
}
