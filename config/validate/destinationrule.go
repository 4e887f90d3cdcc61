package validate

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
)

func (r *ruler) destinationRule(d *networkingv1.DestinationRule) {
	spec, at := &d.Spec, field.At("spec")
	r.host(at.Child("host"), spec.GetHost(), true)
	r.exportTo(at.Child("exportTo"), spec.GetExportTo())
	r.labels(at.Child("workloadSelector").Child("matchLabels"), spec.GetWorkloadSelector().GetMatchLabels())
	r.trafficPolicy(at.Child("trafficPolicy"), spec.GetTrafficPolicy())
	var names []string
	for i, s := range spec.GetSubsets() {
		p := at.Child("subsets").Index(i)
		switch {
		case s.GetName() == "":
			r.errorf(p.Child("name"), "missing; want the name by which routes choose the subset")
		case slices.Contains(names, s.GetName()):
			r.errorf(p.Child("name"), "found %q a second time", s.GetName())
		case len(validation.IsDNS1123Label(strings.ToLower(s.GetName()))) > 0:
			r.errorf(p.Child("name"), "found %q, want letters, digits and dashes", s.GetName())
		}
		names = append(names, s.GetName())
		r.labels(p.Child("labels"), s.GetLabels())
		r.trafficPolicy(p.Child("trafficPolicy"), s.GetTrafficPolicy())
	}
}

func (r *ruler) trafficPolicy(at *field.Path, p *networking.TrafficPolicy) {
	if t := p.GetTunnel(); t != nil {
		r.tunnel(at.Child("tunnel"), t)
	}
	if p == nil {
		return
	}
	r.connectionPool(at.Child("connectionPool"), p.GetConnectionPool())
	r.outlierDetection(at.Child("outlierDetection"), p.GetOutlierDetection())
	r.clientTLS(at.Child("tls"), p.GetTls())
	r.loadBalancer(at.Child("loadBalancer"), p.GetLoadBalancer())
	if b := p.GetRetryBudget(); b != nil {
		r.percent(at.Child("retryBudget").Child("percent"), b.GetPercent().GetValue())
		r.least(at.Child("retryBudget").Child("budgetInterval"), b.GetBudgetInterval(), time.Millisecond)
	}
	var ports []uint32
	for i, s := range p.GetPortLevelSettings() {
		q := at.Child("portLevelSettings").Index(i)
		switch n := s.GetPort().GetNumber(); {
		case s.GetPort() == nil:
			r.errorf(q.Child("port"), "missing; want {number: PORT}")
		case slices.Contains(ports, n):
			r.errorf(q.Child("port").Child("number"), "found %d a second time", n)
		default:
			ports = append(ports, n)
			r.port(q.Child("port").Child("number"), n)
		}
		r.connectionPool(q.Child("connectionPool"), s.GetConnectionPool())
		r.outlierDetection(q.Child("outlierDetection"), s.GetOutlierDetection())
		r.clientTLS(q.Child("tls"), s.GetTls())
		r.loadBalancer(q.Child("loadBalancer"), s.GetLoadBalancer())
	}
}

func (r *ruler) connectionPool(at *field.Path, c *networking.ConnectionPoolSettings) {
	if c == nil {
		return
	}
	tcp, http := c.GetTcp(), c.GetHttp()
	for _, limit := range []struct {
		at    *field.Path
		value int32
	}{
		{at.Child("tcp").Child("maxConnections"), tcp.GetMaxConnections()},
		{at.Child("http").Child("http1MaxPendingRequests"), http.GetHttp1MaxPendingRequests()},
		{at.Child("http").Child("http2MaxRequests"), http.GetHttp2MaxRequests()},
		{at.Child("http").Child("maxRequestsPerConnection"), http.GetMaxRequestsPerConnection()},
		{at.Child("http").Child("maxRetries"), http.GetMaxRetries()},
		{at.Child("http").Child("maxConcurrentStreams"), http.GetMaxConcurrentStreams()},
	} {
		if limit.value < 0 {
			r.errorf(limit.at, "found %d, want 0 (no limit) or more", limit.value)
		}
	}
	t := at.Child("tcp")
	r.least(t.Child("connectTimeout"), tcp.GetConnectTimeout(), time.Millisecond)
	r.least(t.Child("maxConnectionDuration"), tcp.GetMaxConnectionDuration(), time.Millisecond)
	r.least(t.Child("idleTimeout"), tcp.GetIdleTimeout(), time.Millisecond)
	r.least(t.Child("tcpKeepalive").Child("time"), tcp.GetTcpKeepalive().GetTime(), time.Second)
	r.least(t.Child("tcpKeepalive").Child("interval"), tcp.GetTcpKeepalive().GetInterval(), time.Second)
	r.least(at.Child("http").Child("idleTimeout"), http.GetIdleTimeout(), time.Millisecond)
	if k := http.GetHttp2KeepAlive(); k != nil { // Envoy asks for both, and for a millisecond
		ping := at.Child("http").Child("http2KeepAlive")
		for _, of := range []struct {
			name string
			time *durationpb.Duration
		}{{"interval", k.GetInterval()}, {"timeout", k.GetTimeout()}} {
			if of.time == nil {
				r.errorf(ping.Child(of.name), "is missing: PING frames need interval and timeout")
			}
			r.least(ping.Child(of.name), of.time, time.Millisecond)
		}
	}
}

func (r *ruler) outlierDetection(at *field.Path, o *networking.OutlierDetection) {
	if o == nil {
		return
	}
	r.above(at.Child("interval"), o.GetInterval(), time.Millisecond)
	r.above(at.Child("baseEjectionTime"), o.GetBaseEjectionTime(), time.Millisecond)
	r.percent(at.Child("maxEjectionPercent"), float64(o.GetMaxEjectionPercent()))
	r.percent(at.Child("minHealthPercent"), float64(o.GetMinHealthPercent()))
	for i, code := range o.GetOutlierDetectionHttpErrorCodes() {
		if code < 100 || code > 599 {
			r.errorf(at.Child("outlierDetectionHttpErrorCodes").Index(i), "found %d, want a status from 100 to 599", code)
		}
	}
	if o.GetConsecutiveLocalOriginFailures() != nil && !o.GetSplitExternalLocalOriginErrors() {
		r.errorf(at.Child("consecutiveLocalOriginFailures"), "counts only with splitExternalLocalOriginErrors: true")
	}
}

func (r *ruler) clientTLS(at *field.Path, t *networking.ClientTLSSettings) {
	if t == nil {
		return
	}
	if t.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL || t.GetMode() == networking.ClientTLSSettings_DISABLE {
		for _, name := range oneSet([]string{"caCertificates", "insecureSkipVerify"}, t.GetCaCertificates() != "", t.GetInsecureSkipVerify() != nil) {
			r.errorf(at.Child(name), "makes no sense with mode %s", t.GetMode())
		}
	}
	cert, key := t.GetClientCertificate() != "", t.GetPrivateKey() != ""
	if mode := t.GetMode(); mode != networking.ClientTLSSettings_MUTUAL {
		for _, name := range oneSet([]string{"clientCertificate", "privateKey"}, cert, key) {
			r.errorf(at.Child(name), "makes no sense with mode %s; want MUTUAL", mode)
		}
	} else if t.GetCredentialName() != "" {
		for _, name := range oneSet([]string{"clientCertificate", "privateKey", "caCertificates", "caCrl"}, cert, key, t.GetCaCertificates() != "", t.GetCaCrl() != "") {
			r.errorf(at.Child(name), "stands beside credentialName, which has it; keep one")
		}
	} else if !r.bad(at.Child("credentialName")) && (!cert || !key) {
		r.errorf(at, "mode MUTUAL needs clientCertificate and privateKey, or credentialName")
	}
	for _, f := range []struct{ name, file string }{{"clientCertificate", t.GetClientCertificate()}, {"privateKey", t.GetPrivateKey()}, {"caCrl", t.GetCaCrl()}} {
		if f.file != "" && !strings.HasPrefix(f.file, "/") {
			r.errorf(at.Child(f.name), "found %q, want the absolute path of a file in the pod of the proxy", f.file)
		}
	}
	if t.GetCaCrl() != "" && t.GetCaCertificates() == "" && t.GetCredentialName() == "" {
		r.errorf(at.Child("caCrl"), "says what of caCertificates is revoked; want both")
	}
	if name := t.GetCredentialName(); name != "" {
		r.credential(at.Child("credentialName"), name, false)
	}
	if f := t.GetCaCertificates(); f != "" && !strings.HasPrefix(f, "/") && f != "system" {
		r.errorf(at.Child("caCertificates"), "found %q, want the absolute path of a file in the pod of the proxy", f)
	}
	if s := t.GetSni(); s != "" && !validHost(s) {
		r.errorf(at.Child("sni"), "found %q, want a host name", s)
	}
}

func (r *ruler) tunnel(at *field.Path, t *networking.TrafficPolicy_TunnelSettings) {
	if p := t.GetProtocol(); p != "" && !strings.EqualFold(p, "CONNECT") && !strings.EqualFold(p, "POST") {
		r.errorf(at.Child("protocol"), "found %q, want CONNECT or POST", p)
	}
	if t.GetTargetHost() == "" {
		r.errorf(at.Child("targetHost"), "missing; want the host to which the proxy carries on")
	} else if _, err := netip.ParseAddr(t.GetTargetHost()); err != nil {
		r.host(at.Child("targetHost"), t.GetTargetHost(), false)
	}
	r.port(at.Child("targetPort"), t.GetTargetPort())
}
