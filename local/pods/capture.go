package pods

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/router"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/node/capture"
)

// captureOf says which traffic the sidecar takes, and how: by Istio's annotations, and as the injector has written
// down. Nil is none.
func captureOf(annotations map[string]string, how inject.Capture) *capture.Config {
	if how.Mode == model.Uncaptured {
		return nil
	}
	c := &capture.Config{OutboundPort: how.OutboundPort, InboundPort: how.InboundPort, Transparent: how.Mode == model.Transparent}
	if how.DNS {
		c.DNSServers = router.DNSIPs
	}
	const prefix = "traffic.sidecar.istio.io/"
	ports := portList(annotations[prefix+"excludeInboundPorts"])
	if how.StatusPort != 0 && !slices.Contains(capture.DefaultExcludeInbound, how.StatusPort) {
		ports = append(ports, how.StatusPort)
	}
	if len(ports) > 0 {
		c.ExcludeInbound = append(slices.Clone(capture.DefaultExcludeInbound), ports...)
	}
	if v, ok := annotations[prefix+"includeInboundPorts"]; ok && v != "*" {
		c.IncludeInbound = portList(v)
	}
	c.ExcludeOutbound = portList(annotations[prefix+"excludeOutboundPorts"])
	c.IncludeOutbound = portList(annotations[prefix+"includeOutboundPorts"])
	c.ExcludeOutboundCIDRs = prefixList(annotations[prefix+"excludeOutboundIPRanges"])
	if v, ok := annotations[prefix+"includeOutboundIPRanges"]; ok && v != "*" {
		c.IncludeOutboundCIDRs = prefixList(v)
		c.NoOutbound = len(c.IncludeOutboundCIDRs) == 0
	}
	return c
}

func portList(s string) []uint16 {
	var out []uint16
	for f := range strings.SplitSeq(s, ",") {
		if n, err := strconv.ParseUint(strings.TrimSpace(f), 10, 16); err == nil && n != 0 {
			out = append(out, uint16(n))
		}
	}
	return out
}

func prefixList(s string) []netip.Prefix {
	var out []netip.Prefix
	for f := range strings.SplitSeq(s, ",") {
		if p, err := netip.ParsePrefix(strings.TrimSpace(f)); err == nil {
			out = append(out, p.Masked())
		} else if a, err := netip.ParseAddr(strings.TrimSpace(f)); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}
