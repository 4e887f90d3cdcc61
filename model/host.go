package model

import "strings"

// ResolveHost returns the full form of a host name as the author of a rule in
// the namespace ns means it: a name without a dot is a service of that
// namespace, every other name is taken as it is written.
func ResolveHost(host, ns, domain string) string {
	if host == "*" || host == "" || strings.Contains(host, ".") {
		return host
	}
	return host + "." + ns + ".svc." + domain
}

// IsWildcard reports whether the name stands for several.
func IsWildcard(host string) bool { return strings.HasPrefix(host, "*") }

// HostMatches reports whether every host that b names is also named by a:
// reviews.prod matches *.prod, *.a.prod matches *.prod, "*" is matched by all.
func HostMatches(a, b string) bool {
	if a == b || a == "*" {
		return true
	}
	if !IsWildcard(a) {
		return false
	}
	return strings.HasSuffix(strings.TrimPrefix(b, "*"), a[1:]) && len(b) > len(a)-1
}

// HostsOverlap reports whether there is a host that both names name.
func HostsOverlap(a, b string) bool { return HostMatches(a, b) || HostMatches(b, a) }

// MoreSpecific reports whether the name a beats the name b where both match:
// exact before wildcard, longer before shorter.
func MoreSpecific(a, b string) bool {
	if wa, wb := IsWildcard(a), IsWildcard(b); wa != wb {
		return wb
	}
	return len(a) > len(b)
}
