package healthcheck

import (
	"testing"

	"github.com/mallamesh/malla/proxy/cluster"
)

// What a host is after results one behind the other: h healthy, u unhealthy, in capitals where the edge
// intervals count.
func TestWhenAHostChangesSides(t *testing.T) {
	ok, bad, retriable, broken := result{}, result{failure: Active}, result{failure: Active, retriable: true}, result{failure: Network}
	for _, c := range []struct {
		name    string
		results []result
		want    string
	}{
		{"the first check decides if it passes", []result{ok}, "h"},
		{"and if it fails the thresholds count", []result{bad, ok, ok, ok}, "uUUh"},
		{"a failure in between begins the count anew", []result{bad, ok, ok, bad, ok, ok, ok}, "uUUuUUh"},
		{"an answer that is bad counts at once", []result{ok, bad}, "hu"},
		{"a retriable one by the threshold", []result{ok, retriable, retriable}, "hHu"},
		{"the network by the threshold", []result{ok, broken, ok, broken, broken}, "hHhHu"},
	} {
		config := &Config{UnhealthyThreshold: 2, HealthyThreshold: 3}
		var v verdict
		flags, got := cluster.CheckFailed, ""
		for _, r := range c.results {
			note := v.pass
			if r.failure != None {
				note = v.fail
			}
			o := note(config, r, flags)
			flags = flags&^o.unset | o.set
			now := "h"
			if flags&cluster.CheckFailed != 0 {
				now = "u"
			}
			if o.pending {
				now = string(now[0] - 'a' + 'A')
			}
			got += now
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
