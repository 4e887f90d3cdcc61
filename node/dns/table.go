// Package dns answers the names of a mesh and forwards the rest.
//
// A [Table] is built once and never changes; [Server.SetTable] swaps it while
// questions are answered. A name that the table knows but without a record of
// the type asked for is an empty answer, so that a resolver does not go on
// searching; an unknown name inside the table's zones does not exist; anything
// else is forwarded. That is what CoreDNS and Istio's agent do.
//
// Forwarding is a function of the caller's: this package opens no socket
// towards other servers.
package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// A Record is what a name stands for.
type Record struct {
	Addrs []netip.Addr // both families
	// CNAME is another name, in the table or outside; Addrs are unused then.
	CNAME string
	SRV   []SRV
	// Tiers divide the addresses by how far they are, the nearest first: so many in each. They are
	// shuffled inside of a tier. None: all are alike.
	Tiers []int
}

// An SRV is one target of a service name like _http._tcp.web.default.svc.cluster.local.
type SRV struct {
	Target string
	Port   uint16
}

// A Table maps names to records.
type Table struct {
	zones   []string
	names   map[string]Record
	parents map[string]bool // names that only exist because something is below them
	reverse map[netip.Addr]string
}

// NewTable builds a table that is the authority for zones ("cluster.local") and
// for each of names, whose keys are full names. Case and a trailing dot do not
// matter; "*.example.com" stands for every name below example.com that is not
// listed itself. The maps and slices belong to the table afterwards.
func NewTable(zones []string, names map[string]Record) *Table {
	t := &Table{
		names:   make(map[string]Record, len(names)),
		parents: make(map[string]bool),
		reverse: make(map[netip.Addr]string),
	}
	for _, z := range zones {
		t.zones = append(t.zones, canonical(z))
	}
	for name, r := range names {
		name = canonical(name)
		r.CNAME = canonicalOrEmpty(r.CNAME)
		t.names[name] = r
		for p, ok := parent(name); ok && !t.parents[p]; p, ok = parent(p) {
			t.parents[p] = true
		}
		if strings.HasPrefix(name, "*.") || strings.HasPrefix(name, "_") {
			continue
		}
		for _, a := range r.Addrs {
			// Of several names the shortest wins, then the first: a service's own name
			// before those of its pods.
			if old, ok := t.reverse[a]; !ok || len(name) < len(old) || len(name) == len(old) && name < old {
				t.reverse[a] = name
			}
		}
	}
	return t
}

// Lookup returns the record of a name, and whether it has one: its own, or the
// longest wildcard's above it. Unlike in RFC 4592 a listed name does not take
// those below it out of a wildcard, because that is what hosts mean in a mesh.
func (t *Table) Lookup(name string) (Record, bool) {
	if t == nil {
		return Record{}, false
	}
	name = canonical(name)
	if r, ok := t.names[name]; ok {
		return r, true
	}
	for p, ok := parent(name); ok; p, ok = parent(p) {
		if r, ok := t.names["*."+p]; ok {
			return r, true
		}
	}
	return Record{}, false
}

// inZone reports whether the table is the authority for a name.
func (t *Table) inZone(name string) bool {
	if t == nil {
		return false
	}
	return slices.ContainsFunc(t.zones, func(z string) bool {
		return name == z || strings.HasSuffix(name, "."+z)
	})
}

func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

func canonicalOrEmpty(name string) string {
	if name == "" {
		return ""
	}
	return canonical(name)
}

// parent cuts the first label.
func parent(name string) (string, bool) {
	_, p, ok := strings.Cut(name, ".")
	return p, ok && p != ""
}

// address returns the address that a name below in-addr.arpa or ip6.arpa means.
func address(name string) (netip.Addr, bool) {
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(labels, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	labels, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(labels) != 63 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := 62; i >= 0; i -= 2 {
		b.WriteByte(labels[i])
		if n := (62 - i) / 2; n%4 == 3 && n < 31 {
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}

// fqdn is the form of a name on the wire.
func fqdn(name string) string { return dns.Fqdn(name) }

// With returns a table that also knows name.
func (t *Table) With(name string, r Record) *Table {
	names := map[string]Record{name: r}
	var zones []string
	if t != nil {
		zones = t.zones
		for n, r := range t.names {
			names[n] = r
		}
	}
	return NewTable(zones, names)
}
