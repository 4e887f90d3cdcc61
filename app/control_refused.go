package app

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config/source/kube"
	"github.com/mallamesh/malla/control/status"
	"github.com/mallamesh/malla/control/xds"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// The control plane knows Envoy's fields, but not all that a proxy makes of them, and never what is in the proxy's
// files. So who wrote what a proxy refuses hears of it on the object. Where patches have changed the resource it is most likely
// their mistake, and theirs alone is told.

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

// refusals are problems of the objects of which proxies refuse what they are sent.
func (c *controlPlane) refusals() []problem {
	if c.server == nil || c.resources == nil {
		return nil
	}
	all := c.server.Refused()
	if len(all) == 0 {
		return nil
	}
	mesh := c.resources.Mesh()
	var out []problem
	named := map[model.Ref]int{}
	tell := func(ref model.Ref, p problem) {
		if named[ref]++; named[ref] > maxRefusals {
			return
		}
		if st, ok := c.source.Standing(p.about); ok {
			p.uid = st.UID
		}
		out = append(out, p)
	}
	for _, r := range all {
		v := model.NewView(r.Proxy, mesh)
		patchers := v.Patchers(patched[r.Type]...)
		for _, ref := range patchers {
			tell(ref, refused(ref, "spec.configPatches: ", r, r.Names, r.Detail))
		}
		if len(patchers) > 0 {
			continue
		}
		for _, x := range blamed(r.Nack) {
			for _, ref := range translate.Owners(v, r.Type, x.name) {
				tell(ref, refused(ref, "", r, []string{x.name}, x.reason))
			}
		}
	}
	return out
}

// A blame is a resource that is refused, and why.
type blame struct{ name, reason string }

// blamed are the resources of a refused response that are at fault. Ours names each with its reason, an Envoy in
// its sentence; if it names none it may be any.
func blamed(n xds.Nack) []blame {
	var out []blame
	for line := range strings.Lines(n.Detail) {
		i := slices.IndexFunc(n.Names, func(name string) bool { return strings.HasPrefix(line, name+": ") })
		switch {
		case i >= 0:
			out = append(out, blame{n.Names[i], line[len(n.Names[i])+2:]})
		case len(out) > 0: // a reason of several lines
			out[len(out)-1].reason += line
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, name := range n.Names {
		if strings.Contains(n.Detail, name) {
			out = append(out, blame{name, n.Detail})
		}
	}
	if len(out) == 0 && len(n.Names) == 1 {
		out = append(out, blame{n.Names[0], n.Detail})
	}
	return out
}

func refused(ref model.Ref, at string, r xds.Refused, names []string, reason string) problem {
	text := fmt.Sprintf("%sthe proxy %s.%s refuses what it gets with this, and keeps what it had: %s (%s %s)",
		at, r.Proxy.Name, r.Proxy.Namespace, strings.Join(strings.Split(strings.TrimSpace(reason), "\n"), "; "), xds.Short(r.Type), strings.Join(names[:min(len(names), 3)], ", "))
	return problem{text: ref.String() + ": " + text, about: kube.ID{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name},
		finding: status.Finding{Reason: compile.Invalid.Name, Code: compile.Invalid.Code, URL: compile.Invalid.Documentation(), Error: true, Text: text}}
}
