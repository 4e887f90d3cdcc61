package matcher

import (
	"net/netip"
	"strings"
	"testing"
)

// FuzzTrees looks for texts of clients (server names, addresses, paths) of which an index thinks otherwise than
// somebody who tries its entries one after the other.
func FuzzTrees(f *testing.F) {
	for _, s := range []string{"", "a.b.example", "A.Example", ".example", "..", "10.1.2.3", "::ffff:10.1.2.3", "fe80::1%eth0", "/api/v1", "10.1.2.3.", "\xff.example"} {
		f.Add(s)
	}
	prefixes := []string{"", "/", "/api", "/api/", "/api/v1", "a"}
	names := []string{"example", "a.example", "*.example", "*.b.example", "*"}
	networks := []string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "fe80::/10"}
	byPrefix, byName := map[string]*Then[string, string]{}, map[string]*Then[string, string]{}
	for _, p := range prefixes {
		byPrefix[p] = action(p)
	}
	for _, n := range names {
		byName[n] = action(n)
	}
	var ranges []Range[string, string]
	for _, n := range networks {
		ranges = append(ranges, Range[string, string]{Network: netip.MustParsePrefix(n), Then: action(n)})
	}
	rest := action("rest")
	f.Fuzz(func(t *testing.T, in string) {
		check := func(kind string, tree Tree[string, string], fits func(string) int) {
			want, best := "rest", -1
			for _, entry := range map[string][]string{"prefix": prefixes, "names": names, "networks": networks}[kind] {
				if n := fits(entry); n > best {
					want, best = entry, n
				}
			}
			if in == "" { // whole has no text then
				want = "rest"
			}
			if got, ok := tree.Match(in); !ok || got != want {
				t.Errorf("%s: %q leads to %q, want %q", kind, in, got, want)
			}
		}
		check("prefix", NewPrefix(whole, byPrefix, rest), func(p string) int {
			if strings.HasPrefix(in, p) {
				return len(p)
			}
			return -1
		})
		check("names", NewNames(whole, byName, rest), func(n string) int {
			lower := strings.ToLower(in)
			suffix, wild := strings.CutPrefix(n, "*")
			switch {
			case !wild && lower == n:
				return 1 << 20 // before every wildcard
			case wild && strings.HasSuffix(lower, suffix):
				return len(suffix)
			}
			return -1
		})
		check("networks", NewNetworks(whole, ranges, rest), func(n string) int {
			addr, err := netip.ParseAddr(in)
			if p := netip.MustParsePrefix(n); err == nil && p.Contains(addr.Unmap()) {
				return p.Bits()
			}
			return -1
		})
	})
}
