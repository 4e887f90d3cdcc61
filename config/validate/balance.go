package validate

import (
	"math/big"
	"slices"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

func (r *ruler) loadBalancer(at *field.Path, l *networking.LoadBalancerSettings) {
	if l == nil {
		return
	}
	r.consistentHash(at.Child("consistentHash"), l.GetConsistentHash())
	r.locality(at.Child("localityLbSetting"), l.GetLocalityLbSetting())
	if z := l.GetZoneAwareLbSetting(); z != nil {
		r.zoneAware(at.Child("zoneAwareLbSetting"), z)
		if l.GetLocalityLbSetting() != nil {
			r.errorf(at, "zoneAwareLbSetting and localityLbSetting exclude each other; keep one")
		}
		if l.GetConsistentHash() != nil {
			r.errorf(at.Child("zoneAwareLbSetting"), "zones do not count where a hash chooses; leave it out, or consistentHash")
		}
	}
	p := at.Child("warmup")
	//lint:ignore SA1019 old manifests have it
	old := l.GetWarmupDurationSecs()
	if old != nil {
		r.above(at.Child("warmupDurationSecs"), old, time.Millisecond)
		if l.GetWarmup() != nil {
			r.errorf(at, "warmup and warmupDurationSecs exclude each other; keep warmup")
		}
	}
	if w := l.GetWarmup(); w != nil {
		if w.GetDuration() == nil {
			r.errorf(p.Child("duration"), "missing; want how long a new endpoint gets less")
		}
		r.above(p.Child("duration"), w.GetDuration(), time.Millisecond)
		if w.GetMinimumPercent() != nil {
			r.percent(p.Child("minimumPercent"), w.GetMinimumPercent().GetValue())
		}
		if a := w.GetAggression(); a != nil && !(a.GetValue() >= 1) {
			r.errorf(p.Child("aggression"), "found %v, want 1 or more", a.GetValue())
		}
	}
	if old == nil && l.GetWarmup() == nil {
		return
	}
	kinds := []networking.LoadBalancerSettings_SimpleLB{networking.LoadBalancerSettings_UNSPECIFIED, networking.LoadBalancerSettings_ROUND_ROBIN, networking.LoadBalancerSettings_LEAST_REQUEST,
		//lint:ignore SA1019 old manifests have it
		networking.LoadBalancerSettings_LEAST_CONN}
	if l.GetConsistentHash() != nil || !slices.Contains(kinds, l.GetSimple()) {
		r.errorf(p, "works with simple: ROUND_ROBIN or LEAST_REQUEST only")
	}
}

func (r *ruler) consistentHash(at *field.Path, h *networking.LoadBalancerSettings_ConsistentHashLB) {
	if h == nil {
		return
	}
	switch k := h.GetHashKey().(type) {
	case nil:
		r.errorf(at, "names no key; want httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName")
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		if !headerName.MatchString(k.HttpHeaderName) {
			r.errorf(at.Child("httpHeaderName"), "found %q, want the name of a header", k.HttpHeaderName)
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		if k.HttpQueryParameterName == "" {
			r.errorf(at.Child("httpQueryParameterName"), "empty; want the name of a query parameter")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		if !k.UseSourceIp {
			r.errorf(at.Child("useSourceIp"), "found false, want true, or another key")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		r.cookie(at.Child("httpCookie"), k.HttpCookie)
	}
	const least = 1 << 23 // Envoy's largest ring
	ring := h.GetRingHash().GetMinimumRingSize()
	//lint:ignore SA1019 old manifests have it
	old := h.GetMinimumRingSize()
	for _, size := range []struct {
		at    *field.Path
		value uint64
	}{{at.Child("ringHash").Child("minimumRingSize"), ring}, {at.Child("minimumRingSize"), old}} {
		if size.value > least {
			r.errorf(size.at, "found %d, want at most %d", size.value, least)
		}
	}
	if old != 0 && h.GetHashAlgorithm() != nil {
		r.errorf(at.Child("minimumRingSize"), "stands beside ringHash or maglev, which have sizes of their own; leave it out")
	}
	if n := h.GetMaglev().GetTableSize(); n != 0 && (n > 5000011 || !big.NewInt(int64(n)).ProbablyPrime(0)) {
		r.errorf(at.Child("maglev").Child("tableSize"), "found %d, want a prime up to 5000011", n)
	}
}

func (r *ruler) cookie(at *field.Path, c *networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie) {
	if !headerName.MatchString(c.GetName()) {
		r.errorf(at.Child("name"), "found %q, want the name of a cookie", c.GetName())
	}
	if strings.ContainsAny(c.GetPath(), "; \r\n") {
		r.errorf(at.Child("path"), "found %q, want a path such as /", c.GetPath())
	}
	if t := c.GetTtl(); t != nil && t.AsDuration() < 0 {
		r.errorf(at.Child("ttl"), "found %s, want 0s (until the browser ends) or more", t.AsDuration())
	}
	for i, a := range c.GetAttributes() {
		if p := at.Child("attributes").Index(i); !headerName.MatchString(a.GetName()) {
			r.errorf(p.Child("name"), "found %q, want the name of an attribute, such as SameSite", a.GetName())
		} else if strings.ContainsAny(a.GetValue(), ";\r\n") {
			r.errorf(p.Child("value"), "found %q, want a value without semicolon", a.GetValue())
		}
	}
}

func (r *ruler) locality(at *field.Path, l *networking.LocalityLoadBalancerSetting) {
	if l == nil {
		return
	}
	if len(l.GetDistribute()) > 0 && len(l.GetFailover())+len(l.GetFailoverPriority()) > 0 {
		r.errorf(at, "distribute excludes failover and failoverPriority; keep one")
	}
	for i, d := range l.GetDistribute() {
		p := at.Child("distribute").Index(i)
		r.localityName(p.Child("from"), d.GetFrom())
		total := uint64(0)
		for _, to := range sortedKeys(d.GetTo()) {
			r.localityName(p.Child("to").Child(to), to)
			if d.GetTo()[to] == 0 {
				r.errorf(p.Child("to").Child(to), "found 0, want 1 to 100; what is not listed gets nothing")
			}
			total += uint64(d.GetTo()[to])
		}
		if total != 100 {
			r.errorf(p.Child("to"), "the shares add up to %d, want 100", total)
		}
	}
	for i, f := range l.GetFailover() {
		r.failover(at.Child("failover").Index(i), f.GetFrom(), f.GetTo())
	}
	r.priority(at.Child("failoverPriority"), l.GetFailoverPriority())
}

func (r *ruler) failover(at *field.Path, from, to string) {
	for _, side := range []struct{ name, region string }{{"from", from}, {"to", to}} {
		if side.region == "" || strings.ContainsAny(side.region, "/*") {
			r.errorf(at.Child(side.name), "found %q, want a region alone", side.region)
		}
	}
	if from == to {
		r.errorf(at, "%s fails over to itself; want another region", from)
	}
}

func (r *ruler) priority(at *field.Path, labels []string) {
	for i, label := range labels {
		if name, _, _ := strings.Cut(label, "="); name == "" {
			r.errorf(at.Index(i), "found %q, want a label, or label=value", label)
		}
	}
}

func (r *ruler) zoneAware(at *field.Path, z *networking.ZoneAwareLoadBalancerSetting) {
	for i, f := range z.GetFailover() {
		r.failover(at.Child("failover").Index(i), f.GetFrom(), f.GetTo())
	}
	r.priority(at.Child("failoverPriority"), z.GetFailoverPriority())
	for i, label := range z.GetFailoverPriority() {
		if name, _, _ := strings.Cut(label, "="); slices.Contains([]string{model.RegionLabel, model.ZoneLabel, model.SubzoneLabel}, name) {
			r.errorf(at.Child("failoverPriority").Index(i), "found %q, which counts here by itself; leave it out", label)
		}
	}
}

// localityName checks region/zone/subzone, where * may end it.
func (r *ruler) localityName(at *field.Path, name string) {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if p == "" || strings.Contains(p, "*") && (p != "*" || i != len(parts)-1) || i > 2 {
			r.errorf(at, "found %q, want region, region/zone or region/zone/subzone, where the last may be *", name)
			return
		}
	}
}
