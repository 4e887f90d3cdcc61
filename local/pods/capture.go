package pods

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/node/capture"
)

// capturesDNS reports whether the sidecar answers what the pod asks name servers: by a variable of its
// container's, else by proxyMetadata in the settings that were injected.
func capturesDNS(p *corev1.Pod) bool {
	const name = "ISTIO_META_DNS_CAPTURE"
	for _, c := range p.Spec.Containers {
		if c.Name != inject.Container {
			continue
		}
		var settings struct {
			ProxyMetadata map[string]string `json:"proxyMetadata"`
		}
		for _, e := range c.Env {
			if e.Name == name {
				return e.Value == "true"
			}
			if e.Name == "PROXY_CONFIG" {
				_ = json.Unmarshal([]byte(e.Value), &settings) // the proxy itself says what is wrong with it
			}
		}
		return settings.ProxyMetadata[name] == "true"
	}
	return false
}

// captureOf reads Istio's annotations about which traffic the sidecar takes.
func captureOf(annotations map[string]string) *capture.Config {
	c := &capture.Config{}
	const prefix = "traffic.sidecar.istio.io/"
	if ports := portList(annotations[prefix+"excludeInboundPorts"]); len(ports) > 0 {
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
