//lint:file-ignore SA1019 old manifests still use the fields that Istio deprecates, and they still work

package istio

import (
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

func (c *compiler) cors(p *networking.CorsPolicy, at *field.Path) *model.CORS {
	if p == nil {
		return nil
	}
	out := &model.CORS{
		Methods: p.AllowMethods, Headers: p.AllowHeaders, Expose: p.ExposeHeaders, MaxAge: -1,
		IgnoreUnmatched: p.UnmatchedPreflights == networking.CorsPolicy_IGNORE,
	}
	for i, o := range p.AllowOrigins {
		m := c.text(stringMatch(o), at.Child("allowOrigins").Index(i))
		if m.Kind == model.Present { // an empty prefix, or nothing said
			m = &model.StringMatch{Kind: model.Prefix}
		}
		out.Origins = append(out.Origins, *m)
	}
	if len(p.AllowOrigins) == 0 {
		for _, o := range p.AllowOrigin {
			out.Origins = append(out.Origins, model.StringMatch{Kind: model.Exact, Value: o})
		}
	}
	if p.MaxAge != nil {
		out.MaxAge = duration(p.MaxAge).Truncate(time.Second)
		if out.MaxAge < 0 {
			c.out.Errors.Addf(at.Child("maxAge"), "is %s, want 0s or more", out.MaxAge)
		}
	}
	if p.AllowCredentials != nil {
		out.Credentials = &p.AllowCredentials.Value
	}
	return out
}
