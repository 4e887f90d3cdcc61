package build

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/custom_header/v3"
	xffv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/stream"
)

var detectorFields = []*Message{
	message((*customv3.CustomHeaderConfig)(nil), reads("header_name", "allow_extension_to_set_address_as_trusted", "reject_with_status")),
	message((*xffv3.XffConfig)(nil), reads("xff_num_trusted_hops", "xff_trusted_cidrs", "skip_xff_append")),
	message((*xffv3.XffTrustedCidrs)(nil), reads("cidrs")),
}

// detectors reads how a connection manager finds out who its clients are.
func (r *listenerReader) detectors(m *hcmv3.HttpConnectionManager, c *stream.Config, at *field.Path) {
	at = at.Child("original_ip_detection_extensions")
	list := m.GetOriginalIpDetectionExtensions()
	if len(list) > 0 && (c.UseRemoteAddress || c.TrustedHops > 0) {
		r.errs.Addf(at, "is set together with use_remote_address or xff_num_trusted_hops, want one of them")
	}
	for i, x := range list {
		c.Detectors = append(c.Detectors, r.detector(x, at.Index(i).Child("typed_config")))
	}
}

func (r *reader) detector(x *corev3.TypedExtensionConfig, at *field.Path) (d stream.Detector) {
	switch m := r.unpack(x.GetTypedConfig(), at).(type) {
	case *customv3.CustomHeaderConfig:
		d.SkipAppend = true
		d.Header, d.Trusted = []byte(strings.ToLower(m.GetHeaderName())), m.GetAllowExtensionToSetAddressAsTrusted()
		if len(d.Header) == 0 {
			r.errs.Addf(at.Child("header_name"), "is empty")
		}
		if s := m.GetRejectWithStatus(); s != nil {
			if d.Reject = int(s.GetCode()); d.Reject < 400 || d.Reject > 511 { // Envoy makes 403 of anything else
				d.Reject = 403
			}
		}
	case *xffv3.XffConfig:
		d.Hops = int(m.GetXffNumTrustedHops())
		d.SkipAppend = truth(m.GetSkipXffAppend(), true)
		if p := m.GetXffTrustedCidrs(); p != nil {
			d.Proxies = r.prefixes(p.GetCidrs(), at.Child("xff_trusted_cidrs").Child("cidrs"))
			if len(d.Proxies) == 0 {
				r.errs.Addf(at.Child("xff_trusted_cidrs").Child("cidrs"), "is empty")
			}
			if d.Hops > 0 {
				r.errs.Addf(at, "has both xff_num_trusted_hops and xff_trusted_cidrs, want one")
			}
		}
	default:
		r.errs.Addf(at, "found %s, want the type of envoy.http.original_ip_detection.xff or custom_header", x.GetTypedConfig().GetTypeUrl())
	}
	return d
}
