package admin

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/mallamesh/malla/proxy/stats"
)

// What is asked of histograms is shown or refused, never passed over.
func TestHistogramBuckets(t *testing.T) {
	for value, want := range map[string]stats.Buckets{"": stats.Summary, "summary": stats.Summary, "cumulative": stats.Cumulative, "disjoint": stats.Disjoint} {
		o, err := options(&http.Request{URL: &url.URL{RawQuery: "histogram_buckets=" + value}})
		if err != nil || o.Buckets != want {
			t.Errorf("%q: %v, %v", value, o.Buckets, err)
		}
	}
	for _, value := range []string{"detailed", "prometheusnative", "x"} {
		if _, err := options(&http.Request{URL: &url.URL{RawQuery: "histogram_buckets=" + value}}); err == nil {
			t.Errorf("%q is passed over", value)
		}
	}
}
