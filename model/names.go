package model

import (
	"net/netip"
	"slices"
	"time"
)

// A NamePolicy says what happens when workloads ask for names.
type NamePolicy struct {
	From     Ref
	Created  time.Time
	Selector map[string]string // empty: all of the namespace, in the root namespace of the mesh
	Rules    []NameRule
}

// A NameRule is about questions for some names.
type NameRule struct {
	Hosts   []string
	Rcode   int // of the answer; 0: what the name means
	Delay   time.Duration
	Percent float64
	Log     bool
}

// NamePolicies returns those that hold for the proxy, in the order in which their rules are tried: those
// of its namespace that select it before those for all, then the root namespace's, the oldest first.
func (v *View) NamePolicies() []*NamePolicy {
	rank := func(p *NamePolicy) int {
		r := 0
		if p.From.Namespace != v.Proxy.Namespace {
			r = 2
		}
		if len(p.Selector) == 0 {
			r++
		}
		return r
	}
	var out []*NamePolicy
	for _, p := range v.Mesh.Names { // oldest first
		if (p.From.Namespace == v.Proxy.Namespace || p.From.Namespace == v.Mesh.Config.RootNamespace) && Labels(v.Proxy.Labels).Matches(p.Selector) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b *NamePolicy) int { return rank(a) - rank(b) })
	return out
}

// CapturesDNS reports whether what the proxy's application asks name servers comes to the proxy
// (ISTIO_META_DNS_CAPTURE).
func (v *View) CapturesDNS() bool {
	return v.Proxy.Type == Sidecar && v.Proxy.Metadata["DNS_CAPTURE"] == "true"
}

// Addresses returns the addresses by which the proxy's application reaches a service: its own, else
// those that were allocated for it, if the application can learn of them (ISTIO_META_DNS_AUTO_ALLOCATE).
func (v *View) Addresses(s *Service) []netip.Addr {
	if len(s.VIPs)+len(s.CIDRs) > 0 || !v.CapturesDNS() || v.Proxy.Metadata["DNS_AUTO_ALLOCATE"] != "true" {
		return s.VIPs
	}
	return s.Auto
}
