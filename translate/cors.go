package translate

import (
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/model"
)

// cors translates what browsers are told about other origins; nil if nothing is.
func cors(p *model.CORS) *corsv3.CorsPolicy {
	if p == nil {
		return nil
	}
	out := &corsv3.CorsPolicy{
		AllowMethods: strings.Join(p.Methods, ","), AllowHeaders: strings.Join(p.Headers, ","), ExposeHeaders: strings.Join(p.Expose, ","),
		FilterEnabled:                &corev3.RuntimeFractionalPercent{DefaultValue: percent(100)},
		ForwardNotMatchingPreflights: boolean(!p.IgnoreUnmatched),
	}
	for _, o := range p.Origins {
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, stringMatch(o))
	}
	if p.MaxAge >= 0 {
		out.MaxAge = strconv.Itoa(int(p.MaxAge / time.Second))
	}
	if p.Credentials != nil {
		out.AllowCredentials = wrapperspb.Bool(*p.Credentials)
	}
	return out
}
