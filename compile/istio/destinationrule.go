//lint:file-ignore SA1019 old manifests still use the fields that Istio deprecates, and they still work

package istio

import (
	"cmp"
	"math/big"
	"net"
	"sort"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/model"
)

func (c *compiler) destinationRule() {
	dr := &c.obj.Value.(*networkingv1.DestinationRule).Spec
	spec := field.At("spec")
	if dr.Host == "" {
		c.out.Errors.Addf(spec.Child("host"), "is empty, want the host of a service")
		return
	}
	d := &model.DestinationRule{
		From: c.ref, Created: c.obj.Created, Host: c.host(dr.Host), ExportTo: dr.ExportTo, Workload: selector(dr.WorkloadSelector),
		Policy: c.policy(dr.TrafficPolicy, spec.Child("trafficPolicy")), Merged: []model.Ref{c.ref},
	}
	for i, s := range dr.Subsets {
		if s.Name == "" || strings.ContainsAny(s.Name, "| \t\n") {
			c.out.Errors.Addf(spec.Child("subsets").Index(i).Child("name"), "is %q, want letters, digits and dashes", s.Name)
		}
		d.Subsets = append(d.Subsets, model.Subset{
			Name: s.Name, Labels: s.Labels, Policy: c.policy(s.TrafficPolicy, spec.Child("subsets").Index(i).Child("trafficPolicy")),
		})
	}
	c.out.Policy = d
}

func (c *compiler) policy(t *networking.TrafficPolicy, at *field.Path) model.TrafficPolicy {
	if t == nil {
		return model.TrafficPolicy{}
	}
	p := model.TrafficPolicy{
		LB:      c.loadBalancer(t.LoadBalancer, at.Child("loadBalancer")),
		Pool:    c.pool(t.ConnectionPool, at.Child("connectionPool")),
		Outlier: c.outlier(t.OutlierDetection, at.Child("outlierDetection")),
		TLS:     c.clientTLS(t.Tls, at.Child("tls")),
	}
	if x := t.Tunnel; x != nil {
		p.Tunnel = &model.Tunnel{Post: strings.EqualFold(x.Protocol, "POST"), Target: net.JoinHostPort(x.TargetHost, strconv.Itoa(int(x.TargetPort)))}
		if x.TargetHost == "" || x.TargetPort == 0 || x.TargetPort > 65535 {
			c.out.Errors.Addf(at.Child("tunnel"), "is for %s, want a host and a port from 1 to 65535", p.Tunnel.Target)
		}
	}
	if x := t.ProxyProtocol; x != nil {
		p.Proxy = model.ProxyHeaderV1
		if x.Version == networking.TrafficPolicy_ProxyProtocol_V2 {
			p.Proxy = model.ProxyHeaderV2
		}
	}
	if b := t.RetryBudget; b != nil {
		p.Budget = &model.RetryBudget{MinConcurrency: b.MinRetryConcurrency, Interval: c.duration(b.BudgetInterval, at.Child("retryBudget").Child("budgetInterval"))}
		if b.Percent != nil {
			c.share(b.Percent.Value, at.Child("retryBudget").Child("percent"))
			p.Budget.Percent = &b.Percent.Value
		}
	}
	for i, s := range t.PortLevelSettings {
		at := at.Child("portLevelSettings").Index(i)
		p.Ports = append(p.Ports, model.PortPolicy{
			Port: uint16(s.GetPort().GetNumber()),
			LB:   c.loadBalancer(s.LoadBalancer, at.Child("loadBalancer")), Pool: c.pool(s.ConnectionPool, at.Child("connectionPool")),
			Outlier: c.outlier(s.OutlierDetection, at.Child("outlierDetection")), TLS: c.clientTLS(s.Tls, at.Child("tls")),
		})
	}
	sort.SliceStable(p.Ports, func(i, j int) bool { return p.Ports[i].Port < p.Ports[j].Port })
	return p
}

func (c *compiler) loadBalancer(l *networking.LoadBalancerSettings, at *field.Path) *model.LoadBalancer {
	if l == nil {
		return nil
	}
	out := &model.LoadBalancer{Hash: c.hash(l.GetConsistentHash(), at.Child("consistentHash"))}
	if s := l.LocalityLbSetting; s != nil {
		out.Locality = mesh.Locality(s)
	}
	if z := l.ZoneAwareLbSetting; z != nil {
		out.Zone = mesh.Zone(z)
	}
	switch w := l.Warmup; {
	case w != nil:
		out.Warmup = &model.Warmup{Window: c.duration(w.Duration, at.Child("warmup").Child("duration"))}
		if w.MinimumPercent != nil {
			out.Warmup.MinimumPercent = &w.MinimumPercent.Value
		}
		if w.Aggression != nil {
			out.Warmup.Aggression = &w.Aggression.Value
		}
	case l.WarmupDurationSecs != nil:
		out.Warmup = &model.Warmup{Window: c.duration(l.WarmupDurationSecs, at.Child("warmupDurationSecs"))}
	}
	switch l.GetSimple() {
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		out.Balance = model.RoundRobin
	case networking.LoadBalancerSettings_RANDOM:
		out.Balance = model.Random
	case networking.LoadBalancerSettings_PASSTHROUGH:
		out.Balance = model.Direct
	}
	return out
}

func (c *compiler) hash(h *networking.LoadBalancerSettings_ConsistentHashLB, at *field.Path) *model.ConsistentHash {
	if h == nil {
		return nil
	}
	out := &model.ConsistentHash{Size: h.MinimumRingSize}
	switch k := h.HashKey.(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		out.Of, out.Name = model.HashHeader, k.HttpHeaderName
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		out.Of, out.Name = model.HashQuery, k.HttpQueryParameterName
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		out.Of = model.HashSourceIP
		if !k.UseSourceIp {
			c.out.Errors.Addf(at.Child("useSourceIp"), "is false, want true, or another key")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		cookie := k.HttpCookie
		out.Of, out.Name, out.Path = model.HashCookie, cookie.GetName(), cookie.GetPath()
		if cookie.GetTtl() != nil {
			ttl := c.duration(cookie.GetTtl(), at.Child("httpCookie").Child("ttl"))
			out.TTL = &ttl
		}
		for _, a := range cookie.GetAttributes() {
			out.Attributes = append(out.Attributes, model.Header{Name: a.GetName(), Value: a.GetValue()})
		}
	}
	if out.Of != model.HashSourceIP && out.Name == "" {
		c.out.Errors.Addf(at, "names no key, want httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName")
	}
	switch a := h.HashAlgorithm.(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_RingHash_:
		out.Size = cmp.Or(a.RingHash.GetMinimumRingSize(), out.Size)
	case *networking.LoadBalancerSettings_ConsistentHashLB_Maglev:
		out.Maglev, out.Size = true, a.Maglev.GetTableSize()
		if !GoodTable(out.Size) {
			c.out.Errors.Addf(at.Child("maglev").Child("tableSize"), "is %d, want a prime up to 5000011", out.Size)
		}
	}
	return out
}

// GoodTable reports whether Maglev's table may have that size: 0 for the default, or a
// prime that Envoy takes.
func GoodTable(n uint64) bool {
	return n == 0 || n <= 5000011 && big.NewInt(int64(n)).ProbablyPrime(0)
}

func (c *compiler) pool(p *networking.ConnectionPoolSettings, at *field.Path) *model.ConnectionPool {
	if p == nil {
		return nil
	}
	tcp, http := p.Tcp, p.Http
	c.duration(tcp.GetConnectTimeout(), at.Child("tcp").Child("connectTimeout"))
	c.duration(tcp.GetMaxConnectionDuration(), at.Child("tcp").Child("maxConnectionDuration"))
	c.duration(tcp.GetIdleTimeout(), at.Child("tcp").Child("idleTimeout"))
	c.duration(tcp.GetTcpKeepalive().GetTime(), at.Child("tcp").Child("tcpKeepalive").Child("time"))
	c.duration(tcp.GetTcpKeepalive().GetInterval(), at.Child("tcp").Child("tcpKeepalive").Child("interval"))
	c.duration(http.GetIdleTimeout(), at.Child("http").Child("idleTimeout"))
	c.duration(http.GetHttp2KeepAlive().GetInterval(), at.Child("http").Child("http2KeepAlive").Child("interval"))
	c.duration(http.GetHttp2KeepAlive().GetTimeout(), at.Child("http").Child("http2KeepAlive").Child("timeout"))
	return mesh.ConnectionPool(p)
}

func (c *compiler) outlier(o *networking.OutlierDetection, at *field.Path) *model.OutlierDetection {
	if o == nil {
		return nil
	}
	c.duration(o.Interval, at.Child("interval"))
	c.duration(o.BaseEjectionTime, at.Child("baseEjectionTime"))
	c.share(float64(o.MaxEjectionPercent), at.Child("maxEjectionPercent"))
	c.share(float64(o.MinHealthPercent), at.Child("minHealthPercent"))
	for i, code := range o.OutlierDetectionHttpErrorCodes {
		if code < 100 || code > 599 {
			c.out.Errors.Addf(at.Child("outlierDetectionHttpErrorCodes").Index(i), "is %d, want a status from 100 to 599", code)
		}
	}
	return mesh.Outlier(o)
}

func (c *compiler) clientTLS(t *networking.ClientTLSSettings, at *field.Path) *model.ClientTLS {
	if t == nil {
		return nil
	}
	out := &model.ClientTLS{
		ClientCert: t.ClientCertificate, Key: t.PrivateKey, CA: t.CaCertificates, CRL: t.CaCrl, SANs: t.SubjectAltNames, SNI: t.Sni,
		SkipVerify: t.InsecureSkipVerify.GetValue(),
	}
	if t.Mode == networking.ClientTLSSettings_MUTUAL && t.CredentialName == "" && (t.ClientCertificate == "" || t.PrivateKey == "") {
		c.out.Errors.Addf(at, "has mode MUTUAL, which needs credentialName, or clientCertificate and privateKey")
	}
	if t.CredentialName != "" {
		ref := c.secret(t.CredentialName, false, at.Child("credentialName"))
		out.Credential = &ref
	}
	switch t.Mode {
	case networking.ClientTLSSettings_SIMPLE:
		out.Mode = model.TLSSimple
	case networking.ClientTLSSettings_MUTUAL:
		out.Mode = model.TLSMutual
	case networking.ClientTLSSettings_ISTIO_MUTUAL:
		out.Mode = model.TLSIstioMutual
	}
	return out
}
