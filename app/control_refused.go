package app

import (
	"fmt"
	"strings"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config/source/kube"
	"github.com/mallamesh/malla/control/status"
	"github.com/mallamesh/malla/control/xds"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// What a proxy refuses and no patch has touched is a mistake of ours. Where patches have, it is most likely theirs: the
// control plane knows Envoy's fields, but not all that an Envoy makes of them, so the author hears of it on the object.

// refusalsChanged has the objects told anew.
func (c *controlPlane) refusalsChanged() {
	select {
	case c.refused <- struct{}{}:
	default:
	}
}

// patched are the targets of patches that end in resources of a type.
var patched = map[string][]model.PatchTarget{
	translate.ListenerType:  {model.PatchListener, model.PatchListenerFilter, model.PatchFilterChain, model.PatchNetworkFilter, model.PatchHTTPFilter, model.PatchExtension},
	translate.RouteType:     {model.PatchRouteTable, model.PatchVirtualHost, model.PatchRoute},
	translate.ClusterType:   {model.PatchCluster},
	translate.ExtensionType: {model.PatchExtension},
}

// maxRefusals bounds how many proxies are named on one object.
const maxRefusals = 3

// refusedPatches are problems of EnvoyFilters whose proxies refuse what they have changed.
func (c *controlPlane) refusedPatches() []problem {
	if c.server == nil || c.resources == nil {
		return nil
	}
	mesh := c.resources.Mesh()
	if len(mesh.Patches) == 0 {
		return nil
	}
	var out []problem
	named := map[model.Ref]int{}
	for _, r := range c.server.Refused() {
		for _, ref := range model.NewView(r.Proxy, mesh).Patchers(patched[r.Type]...) {
			if named[ref]++; named[ref] > maxRefusals {
				continue
			}
			p := refusedPatch(ref, r)
			if st, ok := c.source.Standing(p.about); ok {
				p.uid = st.UID
			}
			out = append(out, p)
		}
	}
	return out
}

func refusedPatch(ref model.Ref, r xds.Refused) problem {
	text := fmt.Sprintf("spec.configPatches: the proxy %s.%s refuses what it gets with this (%s %s), and keeps what it had: %s",
		r.Proxy.Name, r.Proxy.Namespace, xds.Short(r.Type), strings.Join(r.Names[:min(len(r.Names), 3)], ", "), oneLine(r.Detail))
	return problem{text: ref.String() + ": " + text, about: kube.ID{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name},
		finding: status.Finding{Reason: compile.Invalid.Name, Code: compile.Invalid.Code, URL: compile.Invalid.Documentation(), Error: true, Text: text}}
}
