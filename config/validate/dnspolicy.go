package validate

import (
	"slices"
	"time"

	mallav1 "github.com/mallamesh/malla/api/v1"
	"github.com/mallamesh/malla/base/field"
)

// maxDelay is more than resolvers wait.
const maxDelay = 10 * time.Second

func (r *ruler) dnsPolicy(p *mallav1.DNSPolicy) {
	at := field.At("spec")
	if s := p.Spec.Selector; s != nil {
		r.labels(at.Child("selector").Child("matchLabels"), s.MatchLabels)
		if len(s.MatchLabels) == 0 {
			r.notice(at.Child("selector"), "without labels it selects everything, as if it were not there")
		}
	}
	if len(p.Spec.Rules) == 0 {
		r.errorf(at.Child("rules"), "missing; want at least one rule with hosts")
	}
	for i, rule := range p.Spec.Rules {
		at := at.Child("rules").Index(i)
		if len(rule.Hosts) == 0 {
			r.errorf(at.Child("hosts"), "missing; want names such as *.example.com, or \"*\" for all")
		}
		for j, h := range rule.Hosts {
			r.host(at.Child("hosts").Index(j), h, true)
			if slices.Contains(rule.Hosts[:j], h) {
				r.errorf(at.Child("hosts").Index(j), "found %q a second time", h)
			}
		}
		r.choice(at.Child("deny"), rule.Deny, "NXDOMAIN", "REFUSED")
		if d := rule.Delay; d != nil && (d.Duration < time.Millisecond || d.Duration > maxDelay) {
			r.errorf(at.Child("delay"), "found %s, want 1ms to %s", d.Duration, maxDelay)
		}
		if n := rule.Percentage; n != nil {
			r.percent(at.Child("percentage"), *n)
			if rule.Deny == "" && rule.Delay == nil {
				r.errorf(at.Child("percentage"), "makes no sense without deny or delay")
			}
		}
		if rule.Deny == "" && rule.Delay == nil && !rule.Log {
			r.notice(at, "neither deny, delay nor log: names that it has are left to no other rule")
		}
	}
}
