package mesh

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

func (r *reader) read(m *meshv1alpha1.MeshConfig, out model.MeshConfig) model.MeshConfig {
	r.name(m.GetRootNamespace(), &out.RootNamespace, "rootNamespace")
	if r.has("trustDomain") {
		out.TrustDomain = m.GetTrustDomain()
		if problems := validation.IsDNS1123Subdomain(out.TrustDomain); len(problems) > 0 {
			r.errorf("found %q, want a domain name in lower case", []any{out.TrustDomain}, "trustDomain")
			out.TrustDomain = model.DefaultMeshConfig().TrustDomain
		}
	}
	if r.has("trustDomainAliases") {
		out.TrustDomainAliases = sortedClone(m.GetTrustDomainAliases())
	}
	for i, c := range m.GetCaCertificates() {
		at := r.path("caCertificates").Index(i)
		if c.GetPem() == "" && r.wrongBelow(at) {
			continue // it says something else, which is refused
		}
		out.TrustAnchors = append(out.TrustAnchors, r.anchors(c.GetPem(), at.Child("pem"))...)
	}
	size := 0
	for _, pem := range out.TrustAnchors {
		size += len(pem)
	}
	if size > maxAnchors {
		r.errorf("found %d bytes of certificates, want at most %d: every namespace has a ConfigMap with all of them", []any{size, maxAnchors}, "caCertificates")
		out.TrustAnchors = nil
	}
	r.duration(m.GetConnectTimeout(), &out.ConnectTimeout, time.Millisecond, time.Hour, "connectTimeout")
	r.duration(m.GetProtocolDetectionTimeout(), &out.DetectionTimeout, 0, time.Hour, "protocolDetectionTimeout")
	r.duration(m.GetDnsRefreshRate(), &out.DNSRefresh, time.Second, 24*time.Hour, "dnsRefreshRate")
	if k := m.GetTcpKeepalive(); k != nil {
		out.Keepalive = keepalive(k)
	}
	switch {
	case !r.has("outboundTrafficPolicy"):
	case m.GetOutboundTrafficPolicy().GetMode() == meshv1alpha1.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY:
		out.Outbound = model.RegistryOnly
	case m.GetOutboundTrafficPolicy().GetMode() == meshv1alpha1.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY_DYNAMIC_DNS:
		out.Outbound, out.OutboundTLS = model.AllowAnyDynamicDNS, r.outboundTLS(m.GetOutboundTrafficPolicy().GetTls())
	default:
		out.Outbound = model.AllowAny
	}
	if r.has("inboundTrafficPolicy") {
		out.Inbound = model.InboundPassthrough
		if m.GetInboundTrafficPolicy().GetMode() == meshv1alpha1.MeshConfig_InboundTrafficPolicy_LOCALHOST {
			out.Inbound = model.InboundLocalhost
		}
	}
	boolean(m.GetEnableAutoMtls(), &out.AutoMTLS)
	if r.has("h2UpgradePolicy") {
		out.H2Upgrade = m.GetH2UpgradePolicy() == meshv1alpha1.MeshConfig_UPGRADE
	}
	boolean(m.GetEnablePrometheusMerge(), &out.EnablePrometheusMerge)
	r.accessLog(m, &out)
	r.exportTo(m.GetDefaultServiceExportTo(), &out.ServiceExportTo, "defaultServiceExportTo")
	r.exportTo(m.GetDefaultVirtualServiceExportTo(), &out.RulesExportTo, "defaultVirtualServiceExportTo")
	r.exportTo(m.GetDefaultDestinationRuleExportTo(), &out.DestinationExportTo, "defaultDestinationRuleExportTo")
	if p := m.GetDefaultHttpRetryPolicy(); p != nil {
		if p.GetAttempts() < 0 {
			r.errorf("found %d, want 0 (never) or more", []any{p.GetAttempts()}, "defaultHttpRetryPolicy", "attempts")
		} else {
			out.Retry = Retry(p)
		}
	}
	if p := m.GetDefaultTrafficPolicy(); p != nil {
		if c := p.GetConnectionPool(); c != nil {
			out.Pool = ConnectionPool(c)
		}
		if o := p.GetOutlierDetection(); o != nil {
			out.Outlier = Outlier(o)
		}
	}
	if l := m.GetLocalityLbSetting(); l != nil {
		out.Locality = Locality(l)
	}
	if z := m.GetZoneAwareLbSetting(); z != nil {
		out.Zone = Zone(z)
	}
	r.traffic(m, &out)
	r.proxy(m.GetDefaultConfig(), &out, "defaultConfig")
	return out
}

func (r *reader) accessLog(m *meshv1alpha1.MeshConfig, out *model.MeshConfig) {
	if r.has("accessLogFile") {
		out.AccessLogFile = m.GetAccessLogFile()
	}
	if r.has("accessLogEncoding") {
		out.AccessLogEncoding = model.LogText
		if m.GetAccessLogEncoding() == meshv1alpha1.MeshConfig_JSON {
			out.AccessLogEncoding = model.LogJSON
		}
	}
	if r.has("accessLogFormat") {
		if err := checkLogFormat(m.GetAccessLogFormat(), out.AccessLogEncoding); err != nil {
			r.errorf("%v", []any{err}, "accessLogFormat")
		} else {
			out.AccessLogFormat = m.GetAccessLogFormat()
		}
	}
}

// proxy reads settings of proxies, which stand below the names in.
func (r *reader) proxy(p *meshv1alpha1.ProxyConfig, out *model.MeshConfig, in ...string) {
	if p == nil {
		return
	}
	at := func(name string) []string { return append(slices.Clip(in), name) }
	r.starts(p, at)
	if r.has(at("proxyMetadata")...) {
		out.ProxyMetadata = cloneMap(p.GetProxyMetadata())
	}
	r.settings(p, &out.Proxies, at)
}

// starts judges what proxies go by from their start: injection hands it on as it was written.
func (r *reader) starts(p *meshv1alpha1.ProxyConfig, at func(string) []string) {
	var ignored time.Duration
	r.duration(p.GetDrainDuration(), &ignored, 0, time.Hour, at("drainDuration")...)
	r.duration(p.GetTerminationDrainDuration(), &ignored, 0, time.Hour, at("terminationDrainDuration")...)
	if c := p.GetConcurrency(); c != nil && (c.GetValue() < 0 || c.GetValue() > 256) {
		r.errorf("found %d, want 0 (as many as the machine has processors) to 256", []any{c.GetValue()}, at("concurrency")...)
	}
	for i, text := range p.GetProxyStatsMatcher().GetInclusionRegexps() {
		if _, err := regexp.Compile(text); err != nil {
			r.errs.Addf(r.path(at("proxyStatsMatcher")...).Child("inclusionRegexps").Index(i), "%v", err)
		}
	}
	for i, text := range p.GetCaCertificatesPem() {
		r.anchors(text, r.path(at("caCertificatesPem")...).Index(i))
	}
	CheckProbe(p.GetReadinessProbe(), r.path(at("readinessProbe")...), r.errs)
	admin, status := r.ownPort(p.GetProxyAdminPort(), adminPort, at("proxyAdminPort")), r.ownPort(p.GetStatusPort(), statusPort, at("statusPort"))
	if admin == status {
		r.errorf("found %d, which is proxyAdminPort; want another port", []any{status}, at("statusPort")...)
	}
}

func (r *reader) wrongBelow(at *field.Path) bool {
	return slices.ContainsFunc(*r.errs, func(e *field.Error) bool { return strings.HasPrefix(e.At.String(), at.String()+".") })
}

// maxAnchors is how much PEM of other authorities there may be: it goes, with the mesh's own roots, into ConfigMaps,
// which hold a mebibyte.
const maxAnchors = 512 << 10

// anchors reads certificates of authorities, each in PEM.
func (r *reader) anchors(text string, at *field.Path) (out []string) {
	certs, err := pki.DecodeCertificates([]byte(text))
	if err != nil {
		r.errs.Addf(at, "%v; want certificates of authorities, in PEM", err)
		return nil
	}
	for _, c := range certs {
		if !c.IsCA {
			r.errs.Addf(at, "found the certificate of %q, which is no authority's (CA:TRUE)", c.Subject)
			return nil
		}
		out = append(out, string(pki.EncodeCertificates(c)))
	}
	return out
}

// Ports of proxies, if nobody says otherwise.
const (
	adminPort  = 15000
	statusPort = 15020
)

// ownPort reads a port that is usually this one, and else none of the proxies' own.
func (r *reader) ownPort(n int32, usual uint16, at []string) uint16 {
	switch {
	case !r.has(at...) || n == int32(usual):
		return usual
	case n < 1 || n > 65535 || slices.Contains(model.ProxyPorts, uint16(n)) || uint16(n) == model.DefaultMeshConfig().OutboundPort || uint16(n) == model.DefaultMeshConfig().InboundPort:
		r.errorf("found %d, want %d, or a port that is none of the proxies' own (%v)", []any{n, usual, model.ProxyPorts}, at...)
		return usual
	}
	return uint16(n)
}

func boolean(v *wrapperspb.BoolValue, to *bool) {
	if v != nil {
		*to = v.GetValue()
	}
}

func (r *reader) duration(d *durationpb.Duration, to *time.Duration, least, most time.Duration, names ...string) {
	if d == nil {
		return
	}
	if v := d.AsDuration(); v < least || v > most {
		r.errorf("found %s, want %s to %s", []any{v, least, most}, names...)
		return
	}
	*to = d.AsDuration()
}

func (r *reader) name(v string, to *string, names ...string) {
	if v == "" {
		return
	}
	if problems := validation.IsDNS1123Label(v); len(problems) > 0 {
		r.errorf("found %q, want a namespace: small letters, digits and dashes", []any{v}, names...)
		return
	}
	*to = v
}

func (r *reader) exportTo(v []string, to *model.ExportTo, names ...string) {
	if len(v) == 0 {
		return
	}
	for _, ns := range v {
		if ns != "*" && ns != "." && (ns == "~" || len(validation.IsDNS1123Label(ns)) > 0) {
			r.errorf("found %q, want \"*\", \".\" or a namespace", []any{ns}, names...)
			return
		}
	}
	*to = sortedClone(v)
}

func keepalive(k *networking.ConnectionPoolSettings_TCPSettings_TcpKeepalive) *model.Keepalive {
	return &model.Keepalive{Probes: k.GetProbes(), Time: k.GetTime().AsDuration(), Interval: k.GetInterval().AsDuration()}
}

// positive is n, or 0 for what means the default.
func positive(n int32) uint32 { return uint32(max(n, 0)) }
