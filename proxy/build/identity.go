package build

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stream"
)

// identity reads to whom a connection manager says who it is, and how.
func (r *listenerReader) identity(m *hcmv3.HttpConnectionManager, c *stream.Config, at *field.Path) {
	if m.GetAddUserAgent().GetValue() {
		c.UserAgent, c.Node = []byte(r.env.Node.GetCluster()), []byte(r.env.Node.GetId())
	}
	p := m.GetProxyStatusConfig()
	if p == nil {
		return
	}
	c.ProxyStatus = &stream.ProxyStatus{
		Name: "envoy", NoDetails: p.GetRemoveDetails(), NoTermination: p.GetRemoveConnectionTerminationDetails(), NoFlags: p.GetRemoveResponseFlags(),
		SetCode: p.GetSetRecommendedResponseCode(),
	}
	switch {
	case p.GetLiteralProxyName() != "":
		c.ProxyStatus.Name = p.GetLiteralProxyName()
	case p.GetUseNodeId():
		c.ProxyStatus.Name = r.env.Node.GetId()
	case c.ServerName != "":
		c.ProxyStatus.Name = c.ServerName
	}
}

// early reads what is changed of requests before anything is made of them.
func (r *reader) early(list []*corev3.TypedExtensionConfig, at *field.Path) *route.Mutations {
	var all []route.Mutation
	for i, x := range list {
		at := at.Index(i).Child("typed_config")
		m, ok := r.unpack(x.GetTypedConfig(), at).(*earlyv3.HeaderMutation)
		if !ok {
			r.errs.Addf(at, "found %s, want the type of envoy.http.early_header_mutation.header_mutation", x.GetTypedConfig().GetTypeUrl())
			continue
		}
		all = append(all, r.mutations(m.GetMutations(), true, at.Child("mutations"))...)
	}
	if len(all) == 0 || len(r.errs) > 0 {
		return nil
	}
	out, err := route.NewMutations(all)
	if err != nil {
		r.errs.Addf(at, "%v", err)
	}
	return out
}
