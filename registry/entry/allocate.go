package entry

import (
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/mallamesh/malla/model"
)

// Addresses for services that have none, out of Istio's ranges: 240.240.0.0/16, and of 2001:2::/48 as many. They exist
// only inside of a pod whose names its proxy answers.
const (
	allocatable   = 1<<16 - 2 // neither the first nor the last of the range
	autoLabel     = "networking.istio.io/enable-autoallocate-ip"
	prefix4       = 240
	prefix6, mid6 = 0x2001, 0xf0f0
)

// wantsAddress reports whether an address is allocated for a service: what its clients say must tell where they
// want, or the name that they asked for must.
func wantsAddress(s *model.Service) bool {
	return len(s.VIPs)+len(s.CIDRs) == 0 && s.Resolution != model.Passthrough && s.Labels[autoLabel] != "false" &&
		(!model.IsWildcard(s.Host) || s.Resolution == model.DynamicDNS)
}

// allocate gives services an address, or takes it from them, the oldest first. Which one follows from host and
// namespace, so that it is the same in every control plane and after each restart; of two that
// want the same the younger has the next that is free. Unchanged services are those of old.
func allocate(services []*model.Service, old map[*model.Service]*model.Service) map[*model.Service]*model.Service {
	taken := map[uint32]bool{}
	next := map[*model.Service]*model.Service{}
	for i, s := range services {
		if !wantsAddress(s) {
			continue
		}
		h := fnv.New32a()
		h.Write([]byte(s.Host + "\x00" + s.Namespace))
		n := h.Sum32() % allocatable
		for range allocatable { // after that many there is none, and the service has no address
			if !taken[n] {
				taken[n] = true
				with := old[s]
				if addrs := automatic(n + 1); with == nil || !slices.Equal(with.Auto, addrs) {
					full := *s
					full.Auto, with = addrs, &full
				}
				next[s], services[i] = with, with
				break
			}
			n = (n + 1) % allocatable
		}
	}
	return next
}

// automatic returns the addresses of a number.
func automatic(n uint32) []netip.Addr {
	a, b := byte(n>>8), byte(n)
	six := [16]byte{prefix6 >> 8, prefix6 & 0xff, 0, 2, 12: mid6 >> 8, 13: mid6 & 0xff, 14: a, 15: b}
	return []netip.Addr{netip.AddrFrom4([4]byte{prefix4, prefix4, a, b}), netip.AddrFrom16(six)}
}
