package translate

import (
	"net/netip"
	"slices"
	"strconv"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/model"
)

// httpProxyRoute is the table of the port on which an application asks for hosts as of a proxy: with
// http_proxy=http://127.0.0.1:PORT in its environment, its requests say their whole URL.
const httpProxyRoute = "http_proxy"

// httpProxyPort is that port: the pod's (ISTIO_META_HTTP_PROXY_PORT), or the mesh's; 0 is none.
func httpProxyPort(v *model.View) uint16 {
	if v.Proxy.Type != model.Sidecar {
		return 0
	}
	if n, err := strconv.ParseUint(v.Proxy.Metadata["HTTP_PROXY_PORT"], 10, 16); err == nil {
		return uint16(n)
	}
	return v.Mesh.Config.HTTPProxyPort
}

// httpProxy adds its listener.
func (plan outPlan) httpProxy(v *model.View) {
	port := httpProxyPort(v)
	if port == 0 {
		return
	}
	d := &model.Door{Port: model.Port{Number: port, Protocol: model.HTTP}, Bind: localHost, Own: true}
	if name := doorName(d); plan[name] == nil {
		plan[name] = &outListener{name: name, port: port, addrs: []netip.Addr{localHost}, http: true, route: httpProxyRoute, door: d, bound: true}
	}
}

// httpProxyTable has every port of HTTP: here the host that a request names says which. Where it names none, it is
// 80, or the only one.
func httpProxyTable(v *model.View) []*routev3.VirtualHost {
	var out []*routev3.VirtualHost
	for _, s := range v.Services() {
		if s.Resolution == model.Alias {
			continue
		}
		var ports []uint16
		for _, p := range s.Ports {
			if k := carried(p.Protocol); k == model.HTTP || k == model.Sniffed {
				ports = append(ports, p.Number)
			}
		}
		slices.Sort(ports)
		for _, port := range slices.Compact(ports) {
			h := serviceHost(v, s, port)
			var domains []string
			for _, d := range h.Domains {
				domains = append(domains, d+":"+strconv.Itoa(int(port)))
				if port == 80 || len(ports) == 1 {
					domains = append(domains, d)
				}
			}
			h.Domains = domains
			out = append(out, h)
		}
	}
	other := unknownHost(v)
	if v.Outbound() != model.RegistryOnly && !forwardsAny(v) {
		other.Name = "allow_any_dynamic_dns" // a request to a proxy has no other destination than its host
		other.Routes[0].Name = other.Name
		other.Routes[0].GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: dynamicDNSCluster}
	}
	return append(out, other)
}
