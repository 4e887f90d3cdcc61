package istio

import (
	security "istio.io/api/security/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

func (c *compiler) peerAuthentication() {
	pa := &c.obj.Value.(*securityv1.PeerAuthentication).Spec
	p := &model.PeerAuthentication{From: c.ref, Created: c.obj.Created, Selector: selector(pa.Selector), Mode: mtlsMode(pa.Mtls)}
	if p.Selector != nil && c.obj.Namespace == c.env.RootNamespace {
		c.out.Notices.Addf(field.At("spec", "selector"), "has no effect in the root namespace %s: rules for some workloads belong into the workloads' own namespace", c.env.RootNamespace)
	}
	if len(pa.PortLevelMtls) > 0 {
		if p.Selector == nil {
			c.out.Notices.Addf(field.At("spec", "portLevelMtls"), "has no effect without spec.selector")
		}
		p.Ports = make(map[uint16]model.MTLSMode, len(pa.PortLevelMtls))
		for port, m := range pa.PortLevelMtls {
			p.Ports[uint16(port)] = mtlsMode(m)
		}
	}
	c.out.Peer = p
}

func mtlsMode(m *security.PeerAuthentication_MutualTLS) model.MTLSMode {
	switch m.GetMode() {
	case security.PeerAuthentication_MutualTLS_DISABLE:
		return model.MTLSDisable
	case security.PeerAuthentication_MutualTLS_PERMISSIVE:
		return model.MTLSPermissive
	case security.PeerAuthentication_MutualTLS_STRICT:
		return model.MTLSStrict
	}
	return model.MTLSUnset
}
