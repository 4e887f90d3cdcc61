package compile

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/mesh"
)

// repeatable are methods that change nothing, or as much when they are carried out again (RFC 9110, section 9.2).
var repeatable = []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}

// repeats tells of retries that may have an application do twice what it is to do once. They are in force as they are
// in Istio; without retryOn only what never arrived is sent again.
func (f *finder) repeats(vs *networking.VirtualService) {
	for i, h := range vs.Http {
		r := h.Retries
		if r.GetAttempts() <= 0 || onlyRepeatable(h.Match) {
			continue
		}
		found := mesh.Repeating(r.GetRetryOn())
		if len(found) > 0 {
			f.add(Repeats, 0, field.At("spec").Child("http").Index(i).Child("retries").Child("retryOn"),
				"%s sends requests again that the application may have carried out, a POST too; if it must not do so twice, leave retryOn out, or have a route of its own with match: [{method: {exact: GET}}] for what may be repeated",
				strings.Join(found, ", "))
		}
	}
}

// onlyRepeatable reports whether a route takes nothing but methods that may be repeated.
func onlyRepeatable(matches []*networking.HTTPMatchRequest) bool {
	for _, m := range matches {
		if !slices.Contains(repeatable, m.GetMethod().GetExact()) {
			return false
		}
	}
	return len(matches) > 0
}
