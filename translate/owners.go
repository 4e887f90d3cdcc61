package translate

import (
	"cmp"
	"slices"

	"github.com/mallamesh/malla/model"
)

// Owners returns the objects of which the resource called name was made for v's proxy, those that
// people wrote: for who has to tell them what the proxy makes of it. Of a table of routes they are the
// Gateways and the rules of its hosts, of a cluster its policy and its service, of a secret the object that holds it
// and all that name it.
func Owners(v *model.View, typeURL, name string) []model.Ref {
	o := owners{}
	switch typeURL {
	case SecretType:
		o.ofSecret(v, name)
	case ListenerType:
		o.ofListener(v, name)
	case RouteType:
		o.ofRoutes(v, name)
	case ClusterType, EndpointType:
		o.ofCluster(v, name)
	}
	out := make([]model.Ref, 0, len(o))
	for ref := range o {
		out = append(out, ref)
	}
	slices.SortFunc(out, func(a, b model.Ref) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// owners is a set of objects.
type owners map[model.Ref]bool

func (o owners) add(r model.Ref) {
	if r.Kind != "" {
		o[model.Ref{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}] = true
	}
}

func (o owners) ofSecret(v *model.View, name string) {
	eachSecret(v, func(ref model.SecretSource, roots bool, _ map[string]string, by model.Ref) {
		if ref.Kind == model.OfWorkload || secretName(ref, roots) != name {
			return
		}
		o.add(by)
		object := model.Ref{Namespace: cmp.Or(ref.Namespace, v.Proxy.Namespace), Name: ref.Name}
		switch ref.Kind {
		case model.FromSecret:
			object.Kind = "Secret"
		case model.FromConfigMap:
			object.Kind = "ConfigMap"
		}
		o.add(object)
	})
}

func (o owners) ofListener(v *model.View, name string) {
	if v.Proxy.Type == model.Router {
		if p := gatewayPorts(v)[name]; p != nil {
			o.ofServers(v, p.servers, !p.http)
		}
		return
	}
	if s := v.Scope(); s != nil {
		o.add(s.From)
	}
}

// ofServers adds the Gateways of servers, and the rules by which they carry bytes.
func (o owners) ofServers(v *model.View, servers []gatewayServer, rules bool) {
	for _, s := range servers {
		o.add(s.gateway.From)
		if rules {
			o.ofRules(v.RulesAt(s.gateway.Key()))
		}
	}
}

func (o owners) ofRules(all []*model.RouteRules) {
	for _, r := range all {
		o.add(r.From)
	}
}

func (o owners) ofRoutes(v *model.View, name string) {
	if v.Proxy.Type != model.Router {
		o.ofRules(v.Rules())
		return
	}
	for _, p := range gatewayPorts(v) {
		if p.http && p.route == name {
			o.ofServers(v, p.servers, true)
		}
		for _, s := range p.servers {
			if s.https() && p.httpsRoute(s) == name {
				o.ofServers(v, []gatewayServer{s}, true)
			}
		}
	}
}

func (o owners) ofCluster(v *model.View, name string) {
	c, ok := parseClusterName(name)
	if !ok {
		return
	}
	s, _, _, ok := resolve(v, c)
	if !ok {
		if scope := v.Scope(); scope != nil { // one of its inbound listeners
			o.add(scope.From)
		}
		return
	}
	o.add(s.From)
	if d := v.PolicyFor(s); d != nil {
		o.add(d.From)
		for _, r := range d.Merged {
			o.add(r)
		}
	}
}
