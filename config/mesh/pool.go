package mesh

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/model"
)

var upgrades = map[networking.ConnectionPoolSettings_HTTPSettings_H2UpgradePolicy]model.H2Upgrade{
	networking.ConnectionPoolSettings_HTTPSettings_UPGRADE:        model.H2Always,
	networking.ConnectionPoolSettings_HTTPSettings_DO_NOT_UPGRADE: model.H2Never,
}

// ConnectionPool returns what Istio's settings say, those of the mesh as well as those of
// a DestinationRule.
func ConnectionPool(c *networking.ConnectionPoolSettings) *model.ConnectionPool {
	tcp, http := c.GetTcp(), c.GetHttp()
	p := &model.ConnectionPool{
		MaxConnections: positive(tcp.GetMaxConnections()), ConnectTimeout: tcp.GetConnectTimeout().AsDuration(),
		MaxDuration: tcp.GetMaxConnectionDuration().AsDuration(), TCPIdleTimeout: tcp.GetIdleTimeout().AsDuration(),
		MaxPending: positive(http.GetHttp1MaxPendingRequests()), MaxRequests: positive(http.GetHttp2MaxRequests()),
		MaxPerConnection: positive(http.GetMaxRequestsPerConnection()), MaxRetries: positive(http.GetMaxRetries()),
		HTTPIdleTimeout: http.GetIdleTimeout().AsDuration(), Upgrade: upgrades[http.GetH2UpgradePolicy()],
		UseClientProtocol: http.GetUseClientProtocol(), MaxStreams: positive(http.GetMaxConcurrentStreams()),
	}
	if k := tcp.GetTcpKeepalive(); k != nil {
		p.Keepalive = keepalive(k)
	}
	if k := http.GetHttp2KeepAlive(); k != nil {
		p.Ping = &model.Ping{Interval: k.GetInterval().AsDuration(), Timeout: k.GetTimeout().AsDuration()}
	}
	return p
}
