package mesh

import (
	"strings"
	"testing"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

// Retries of the whole mesh that may have an application do something twice are in force as they are in Istio, and their author is told.
func TestRetriesThatRepeat(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"defaultHttpRetryPolicy: {attempts: 3, retryOn: '5xx,connect-failure, reset'}", "mesh.defaultHttpRetryPolicy.retryOn: 5xx, reset sends requests again"},
		{"defaultHttpRetryPolicy: {attempts: 1, retryOn: '503'}", "mesh.defaultHttpRetryPolicy.retryOn: 503 sends requests again"},
		{"defaultHttpRetryPolicy: {attempts: 3, retryOn: 'connect-failure,refused-stream,unavailable,cancelled'}", ""},
		{"defaultHttpRetryPolicy: {attempts: 3}", ""},
		{"defaultHttpRetryPolicy: {attempts: 0, retryOn: 5xx}", ""},
		{"connectTimeout: 1s", ""},
	} {
		_, errs, notices := Parse(test.text, model.DefaultMeshConfig(), field.At("mesh"))
		got := ""
		for _, n := range notices {
			got += n.String()
		}
		if len(errs) > 0 || !strings.HasPrefix(got, test.want) || (test.want == "") != (got == "") || got != "" && !strings.HasSuffix(got, "(MAL0003)") {
			t.Errorf("%s: %v, %q, want %q", test.text, errs, got, test.want)
		}
	}
}
