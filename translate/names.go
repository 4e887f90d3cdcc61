package translate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/model"
)

// Names of resources that stand for no service.
const (
	passthroughCluster        = "PassthroughCluster"
	blackHoleCluster          = "BlackHoleCluster"
	inboundPassthroughCluster = "InboundPassthroughCluster"
	virtualOutbound           = "virtualOutbound"
	virtualInbound            = "virtualInbound"
	secretsCluster            = "sds-grpc" // where a real Envoy's agent answers for certificates
)

// A clusterName is the parts of a cluster's name.
type clusterName struct {
	inbound bool
	port    uint16
	subset  string
	host    string
}

// String returns outbound|9080|v1|reviews.prod.svc.cluster.local.
func (c clusterName) String() string {
	direction := "outbound"
	if c.inbound {
		direction = "inbound"
	}
	return direction + "|" + strconv.Itoa(int(c.port)) + "|" + c.subset + "|" + c.host
}

// sni returns the name that clients ask for when they speak mutual TLS to the
// cluster: outbound_.9080_.v1_.reviews.prod.svc.cluster.local.
func (c clusterName) sni() string {
	return fmt.Sprintf("outbound_.%d_.%s_.%s", c.port, c.subset, c.host)
}

func parseClusterName(s string) (clusterName, bool) {
	parts := strings.Split(s, "|")
	if len(parts) != 4 {
		return clusterName{}, false
	}
	port, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != parts[1] {
		return clusterName{}, false
	}
	c := clusterName{port: uint16(port), subset: parts[2], host: parts[3]}
	switch parts[0] {
	case "outbound":
		return c, c.host != ""
	case "inbound":
		c.inbound = true
		return c, c.host == "" && c.subset == ""
	}
	return clusterName{}, false
}

// listenerName returns 10.96.3.4_9080, or 0.0.0.0_9080 for the zero address.
func listenerName(a netip.Addr, port uint16) string {
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	return a.String() + "_" + strconv.Itoa(int(port))
}

// carried returns what the proxy does with a port of that protocol: it reads
// HTTP, looks for it on sniffed ports, and carries the rest as bytes.
func carried(p model.Protocol) model.Protocol {
	switch p {
	case model.HTTP, model.HTTP2, model.GRPC, model.GRPCWeb:
		return model.HTTP
	case model.HTTPS, model.TLS:
		return model.TLS
	case model.Sniffed, model.UDP:
		return p
	}
	return model.TCP
}

// clusterOf returns the cluster of a destination as it is meant on a listener
// of the given port: the port that is named, else the only one of the service,
// else the listener's. Nothing asks whether the cluster exists; a proxy answers
// requests for one that does not by 503 (500 where the rule is strict) and the flag NC.
// That of a destination without a host, outbound|0||, is none for sure.
func clusterOf(v *model.View, d model.Destination, listener uint16) clusterName {
	if d.Host == "" {
		return clusterName{}
	}
	c := clusterName{port: d.Port, subset: d.Subset, host: d.Host}
	s, ok := v.Service(d.Host)
	if ok && s.Resolution == model.Alias {
		if target, found := v.Service(s.AliasOf); found {
			s, c.host = target, target.Host
		}
	}
	if c.port == 0 {
		c.port = listener
		if ok && len(s.Ports) == 1 {
			c.port = s.Ports[0].Number
		}
	}
	return c
}
