//go:build linux

package envoy_test

import (
	"flag"
	"testing"

	"github.com/mallamesh/malla/test/envoy/scenario"
)

// vary is what all scenarios start from, where somebody looks for what no scenario is about.
var vary = func() *scenario.Variation {
	v := new(scenario.Variation)
	flag.Var(v, "vary", "play the scenarios with this `change` of what they start from, such as \"hcm {normalize_path: false}\", \"client h2\", \"upstream tls\" or \"workers 2\"; may be given several times")
	return v
}()

// varied applies the variation and leaves out those that it does not fit. Nothing is expected to be as the sentences
// say then, but for that both proxies do the same.
func varied(t *testing.T, all []*scenario.Scenario) []*scenario.Scenario {
	t.Helper()
	if !vary.Varies() {
		return all
	}
	var out []*scenario.Scenario
	for _, s := range all {
		if err := vary.Apply(s); err != nil {
			t.Logf("%s is left out: %v", s.Name, err)
			continue
		}
		out = append(out, s)
	}
	t.Logf("%d of %d scenarios are varied", len(out), len(all))
	return out
}
