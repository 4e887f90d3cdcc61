package app

import (
	"fmt"
	"regexp"
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

// maxRefusals bounds how many reasons are told on one object, and how many proxies are named with each.
const maxRefusals = 3

// A proxy may say what it likes, of as many resources as it may ask for, and what it says is looked at again with every refusal of whomever.
const (
	maxBlamed  = 100 // resources of one refused response
	maxReasons = 100 // of one resource
)

// A complaint is one reason for which proxies refuse something, as its object is told of it.
type complaint struct {
	about  model.Ref
	at     string // where in the object, if that is known
	reason string
}

// complainants are the proxies that have a complaint.
type complainants struct {
	what    string   // they refuse, for people
	keep    []string // those that have an earlier version
	without []string // those that have none
	unready bool     // and are not ready without one
	known   map[string]bool
}

// refusals are problems of the objects of which proxies refuse what they are sent.
func (c *controlPlane) refusals() []problem {
	if c.server == nil || c.resources == nil {
		return nil
	}
	all := c.server.Refused()
	if len(all) == 0 {
		return nil
	}
	list, of := complaints(all, c.resources.Mesh(), c.tracer)
	var out []problem
	told := map[model.Ref]int{}
	for _, x := range list {
		if told[x.about]++; told[x.about] > maxRefusals {
			continue
		}
		p := x.problem(of[x])
		if st, ok := c.source.Standing(p.about); ok {
			p.uid = st.UID
		}
		out = append(out, p)
	}
	return out
}

// complaints sorts what proxies refuse by object and reason. What t has no answer to yet is not among them.
func complaints(all []xds.Refused, mesh *model.Mesh, t *tracer) (list []complaint, of map[complaint]*complainants) {
	of = map[complaint]*complainants{}
	t.begin()
	defer t.end()
	for _, r := range all {
		v := model.NewView(r.Proxy, mesh)
		patchers := v.Patchers(patched[r.Type]...)
		blames := blamed(r.Nack)
		if len(blames) == 0 && len(patchers) > 0 { // any of them may be meant
			blames = []blame{{strings.Join(r.Names[:min(len(r.Names), maxRefusals)], ", "), r.Detail}}
		}
		for _, b := range blames {
			add := func(x complaint) {
				if of[x] == nil {
					of[x] = &complainants{what: xds.Short(r.Type) + " " + b.name, unready: r.Type == translate.ListenerType || r.Type == translate.ClusterType}
					list = append(list, x)
				}
				of[x].add(r.Proxy.Name+"."+r.Proxy.Namespace, slices.Contains(r.Lacking, b.name))
			}
			reasons := reasons(b.reason)
			if len(patchers) > 0 {
				for _, x := range t.complaints(v, r.Type, b.name, reasons, patchers) {
					add(x)
				}
				continue
			}
			for _, ref := range translate.Owners(v, r.Type, b.name) {
				for _, reason := range reasons {
					add(complaint{about: ref, reason: reason.said()})
				}
			}
		}
	}
	return list, of
}

func (c *complainants) add(proxy string, without bool) {
	if c.known[proxy] { // a whole fleet may be among them
		return
	}
	if c.known == nil {
		c.known = map[string]bool{}
	}
	c.known[proxy] = true
	if without {
		c.without = append(c.without, proxy)
	} else {
		c.keep = append(c.keep, proxy)
	}
}

// A reason is why a resource is refused.
type reason struct {
	path string // in the resource; empty if that is not known
	text string
}

func (r reason) said() string {
	if r.path == "" {
		return r.text
	}
	return r.path + ": " + r.text
}

var pathBefore = regexp.MustCompile(`^([a-z_0-9]+(?:\.[A-Za-z_@0-9-]+|\[[0-9]+\]|\["[^"]*"\])*): `)

// reasons are those in what a proxy says of one resource, each once: what is wrong with each of its filter chains is one thing.
func reasons(text string) (out []reason) {
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		r := reason{text: strings.TrimSpace(line)}
		if m := pathBefore.FindString(r.text); m != "" {
			r = reason{strings.TrimSuffix(m, ": "), r.text[len(m):]}
		}
		if r.text == "" || seen[r.text] {
			continue
		}
		if seen[r.text] = true; len(out) < maxReasons {
			out = append(out, r)
		}
	}
	return out
}

// A blame is a resource that is refused, and why.
type blame struct{ name, reason string }

// blamed are the resources of a refused response that are at fault. Ours names each with its reason, an Envoy in
// its sentence; if it names none it may be any.
func blamed(n xds.Nack) []blame {
	names := make(map[string]bool, len(n.Names))
	for _, name := range n.Names {
		names[name] = true
	}
	var out []blame
	for line := range strings.Lines(n.Detail) {
		name, ok := xds.About(line, names)
		switch {
		case ok && len(out) == maxBlamed:
			return out
		case ok:
			out = append(out, blame{name, line[len(name)+2:]})
		case len(out) > 0: // a reason of several lines
			out[len(out)-1].reason += line
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, name := range n.Names {
		if len(out) < maxBlamed && strings.Contains(n.Detail, name) {
			out = append(out, blame{name, n.Detail})
		}
	}
	if len(out) == 0 && len(n.Names) == 1 {
		out = append(out, blame{n.Names[0], n.Detail})
	}
	return out
}

// problem says the reason first: it is what the author looks for, and a list has room for little more.
func (x complaint) problem(by *complainants) problem {
	text := x.reason + ": " + by.String()
	if x.at != "" {
		text = x.at + ": " + text
	}
	return problem{text: x.about.String() + ": " + text, about: kube.ID{Kind: x.about.Kind, Namespace: x.about.Namespace, Name: x.about.Name},
		finding: status.Finding{Reason: compile.Invalid.Name, Code: compile.Invalid.Code, URL: compile.Invalid.Documentation(), Error: true, Text: text}}
}

// String says who refuses what, and what becomes of them.
func (c *complainants) String() string {
	var out []string
	if n := len(c.keep); n > 0 {
		out = append(out, c.refuse(c.keep, "refuses %s over this, and keeps what it had", "refuse %s over this, and keep what they had"))
	}
	if n := len(c.without); n > 0 {
		one, many := "refuses %s over this, and has nothing in its place", "refuse %s over this, and have nothing in its place"
		if c.unready {
			one, many = one+": it is not ready", many+": they are not ready"
		}
		out = append(out, c.refuse(c.without, one, many))
	}
	return strings.Join(out, "; ")
}

func (c *complainants) refuse(proxies []string, one, many string) string {
	if len(proxies) == 1 {
		return "the proxy " + proxies[0] + " " + fmt.Sprintf(one, c.what)
	}
	names := strings.Join(proxies[:min(len(proxies), maxRefusals)], ", ")
	if len(proxies) > maxRefusals {
		names += " and others"
	}
	return fmt.Sprintf("%d proxies (%s) ", len(proxies), names) + fmt.Sprintf(many, c.what)
}
