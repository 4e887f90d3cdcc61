package istio

import (
	"strings"
	"time"

	mallav1 "github.com/mallamesh/malla/api/v1"
	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

// rcodes are the answers of name servers (RFC 1035, section 4.1.1).
var rcodes = map[string]int{"": 0, "NXDOMAIN": 3, "REFUSED": 5}

// dnsPolicy is malla's own kind.
func (c *compiler) dnsPolicy() {
	spec := &c.obj.Value.(*mallav1.DNSPolicy).Spec
	p := &model.NamePolicy{From: c.ref, Created: c.obj.Created}
	if spec.Selector != nil && len(spec.Selector.MatchLabels) > 0 {
		p.Selector = spec.Selector.MatchLabels
	}
	for i, r := range spec.Rules {
		at := field.At("spec").Child("rules").Index(i)
		rule := model.NameRule{Percent: 100, Log: r.Log}
		for _, h := range r.Hosts {
			rule.Hosts = append(rule.Hosts, strings.ToLower(strings.TrimSuffix(h, ".")))
		}
		code, ok := rcodes[r.Deny]
		if rule.Rcode = code; !ok {
			c.out.Errors.Addf(at.Child("deny"), "is %q, want NXDOMAIN or REFUSED", r.Deny)
		}
		if r.Delay != nil {
			rule.Delay = min(max(0, r.Delay.Duration), 10*time.Second)
		}
		if r.Percentage != nil {
			rule.Percent = *r.Percentage
			c.share(rule.Percent, at.Child("percentage"))
		}
		p.Rules = append(p.Rules, rule)
	}
	c.out.Names = p
}
