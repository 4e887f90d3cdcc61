package envoyfilter

import (
	"strings"
	"testing"
)

// A script that is all depth is refused before the compiler, which takes minutes for it, sees it.
func TestDepthOfScripts(t *testing.T) {
	for _, source := range []string{"x = " + strings.Repeat("a..", 100_000) + "a", strings.Repeat("do ", 100_000) + strings.Repeat("end ", 100_000)} {
		if err := compiles(source); err == nil || !strings.Contains(err.Error(), "too many syntax levels") {
			t.Errorf("%.20q: %v", source, err)
		}
	}
	if err := compiles("function envoy_on_request(h)\n  if a then b() elseif c then d() end\nend"); err != nil {
		t.Error(err)
	}
}
