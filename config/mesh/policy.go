package mesh

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/types/known/wrapperspb"
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

// Retry returns what Istio's settings say, those of the mesh as well as those of a
// VirtualService.
func Retry(r *networking.HTTPRetry) *model.Retry {
	return &model.Retry{
		Attempts: positive(r.GetAttempts()), PerTry: r.GetPerTryTimeout().AsDuration(), On: r.GetRetryOn(),
		AvoidPrevious:   yesOrNo(r.GetRetryIgnorePreviousHosts()),
		OtherLocalities: r.GetRetryRemoteLocalities().GetValue(),
		Backoff:         r.GetBackoff().AsDuration(),
	}
}

// yesOrNo is nil where nothing is said.
func yesOrNo(v *wrapperspb.BoolValue) *bool {
	if v == nil {
		return nil
	}
	said := v.GetValue()
	return &said
}

// Locality returns what Istio's settings say, those of the mesh as well as those of a
// DestinationRule.
func Locality(l *networking.LocalityLoadBalancerSetting) *model.LocalityLB {
	out := &model.LocalityLB{Off: l.GetEnabled() != nil && !l.GetEnabled().GetValue(), Priority: l.GetFailoverPriority()}
	for _, d := range l.GetDistribute() {
		to := model.Distribution{From: d.GetFrom()}
		for locality, weight := range d.GetTo() {
			to.To = append(to.To, model.LocalityWeight{Locality: locality, Weight: weight})
		}
		slices.SortFunc(to.To, func(a, b model.LocalityWeight) int {
			return cmp.Or(cmp.Compare(len(b.Locality), len(a.Locality)), cmp.Compare(a.Locality, b.Locality))
		})
		out.Distribute = append(out.Distribute, to)
	}
	for _, f := range l.GetFailover() {
		out.Failover = append(out.Failover, model.Failover{From: f.GetFrom(), To: f.GetTo()})
	}
	return out
}

// Zone returns what Istio's settings say, those of the mesh as well as those of a DestinationRule.
func Zone(z *networking.ZoneAwareLoadBalancerSetting) *model.ZoneAware {
	out := &model.ZoneAware{Off: z.GetEnabled() != nil && !z.GetEnabled().GetValue(), Priority: z.GetFailoverPriority(), Least: uint64(z.GetMinClusterSize().GetValue())}
	for _, f := range z.GetFailover() {
		out.Failover = append(out.Failover, model.Failover{From: f.GetFrom(), To: f.GetTo()})
	}
	return out
}

// Outlier returns what Istio's settings say, those of the mesh as well as those of a
// DestinationRule.
func Outlier(o *networking.OutlierDetection) *model.OutlierDetection {
	out := &model.OutlierDetection{
		Consecutive5xx: value(o.GetConsecutive_5XxErrors()), ConsecutiveGateway: value(o.GetConsecutiveGatewayErrors()),
		SplitLocalOrigin: o.GetSplitExternalLocalOriginErrors(), ConsecutiveLocalOrigin: value(o.GetConsecutiveLocalOriginFailures()),
		Interval: o.GetInterval().AsDuration(), BaseEjection: o.GetBaseEjectionTime().AsDuration(),
		MinHealthPercent: positive(o.GetMinHealthPercent()), ErrorCodes: o.GetOutlierDetectionHttpErrorCodes(),
	}
	if n := positive(o.GetMaxEjectionPercent()); n > 0 {
		out.MaxEjectionPercent = &n
	}
	return out
}

func value(v *wrapperspb.UInt32Value) *uint32 {
	if v == nil {
		return nil
	}
	n := v.GetValue()
	return &n
}
