package gatewayapi

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// A parent is what routes attach to: a Gateway or a ListenerSet.
type parent struct {
	object    *config.Object
	kind      string
	gateway   *gateway
	listeners []*listener
	is        *conditions
}

// String returns "Gateway infra/edge".
func (p *parent) String() string { return p.kind + " " + nameOf(p.object).String() }

// A gateway is a Gateway of our classes.
type gateway struct {
	parent
	spec       *gatewayv1.GatewaySpec
	controller string
	sets       []*parent // the ListenerSets that it has, the oldest first
	ports      map[int32]*sharedPort

	// The pods that serve it: those made for it, or those of a Service that its address names.
	service  model.Name
	selector map[string]string
	manual   bool
	unnamed  bool              // nothing can have the name that what is made for it would have
	wanted   string            // an IP that its Service is to have
	patches  map[string]string // of what is made for it
	// those of its class's parameters
	classPatches map[string]string
	addresses    []string

	clientCert *model.SecretSource // what they show to servers
}

// served are its listeners in the order of their rights: its own, then those of its
// ListenerSets.
func (g *gateway) served() []*listener {
	out := slices.Clone(g.listeners)
	for _, s := range g.sets {
		out = append(out, s.listeners...)
	}
	return out
}

// gateways takes in those of our classes.
func (c *compiler) gateways() {
	for _, o := range oldest(c.objects.Gateways) {
		spec := &o.Value.(*gatewayv1.Gateway).Spec
		controller := c.controllers[string(spec.GatewayClassName)]
		if controller == "" {
			c.foreign(o, string(spec.GatewayClassName))
			continue
		}
		g := &gateway{parent: parent{object: o, kind: "Gateway", is: conditionsOf(o)}, spec: spec, controller: controller, classPatches: c.classPatches[string(spec.GatewayClassName)]}
		g.parent.gateway = g
		for i := range spec.Listeners {
			g.add(spec.Listeners[i])
		}
		g.is.set(accepted, true, "Accepted", "it is served by %s", controller)
		g.service = model.Name{Namespace: o.Namespace, Name: o.Name + "-" + string(spec.GatewayClassName)}
		g.selector = map[string]string{NameLabel: o.Name}
		if i := spec.Infrastructure; i != nil && i.ParametersRef != nil {
			ref := gatewayv1.ParametersReference{Group: i.ParametersRef.Group, Kind: i.ParametersRef.Kind, Name: i.ParametersRef.Name, Namespace: new(gatewayv1.Namespace(o.Namespace))}
			var wrong string
			if g.patches, wrong = c.parameters(o, field.At("spec", "infrastructure", "parametersRef"), ref); wrong != "" {
				g.is.fail(accepted, "InvalidParameters", "%s", wrong)
			}
		}
		c.address(g)
		c.clientCertificate(g)
		c.ours = append(c.ours, g)
		c.byName[nameOf(o)] = g
		c.defaults[spec.DefaultScope] = append(c.defaults[spec.DefaultScope], g)
	}
}

// foreign says that a Gateway is nobody's, unless there is the class: then it is another controller's, which is no news.
func (c *compiler) foreign(o *config.Object, class string) {
	at := field.At("spec", "gatewayClassName")
	switch {
	case slices.ContainsFunc(c.objects.Classes, func(o *config.Object) bool { return o.Name == class }):
	case class == "istio-waypoint" || class == "istio-remote":
		c.notice(o, at, false, "is %s: there are no waypoints and no remote gateways here; nobody serves it", class)
	default:
		c.notice(o, at, true, "no controller for class %q: there is no such GatewayClass, and nobody serves it; classes here: %s", class, strings.Join(slices.Sorted(maps.Keys(c.controllers)), ", "))
	}
}

// address finds out where a Gateway is served. The name of a Service as its address
// makes that Service's pods serve it, and none are made, unless the Service is what was made
// for it. An IP is what a load balancer is asked for: one can be.
func (c *compiler) address(g *gateway) {
	var wanted []string
	for i, a := range g.spec.Addresses {
		switch kind := deref(a.Type, gatewayv1.IPAddressType); {
		case kind == gatewayv1.IPAddressType && a.Value != "":
			wanted = append(wanted, a.Value)
		case kind == gatewayv1.IPAddressType:
		case kind == gatewayv1.HostnameAddressType && a.Value != "":
			host := istio.Host(a.Value, g.object.Namespace, istio.Env{ClusterDomain: c.env.ClusterDomain})
			services := slices.DeleteFunc(slices.Clone(c.env.Services(host)), func(s *model.Service) bool { return !s.Kubernetes || len(s.Selector) == 0 })
			if len(services) == 0 {
				g.manual = true
				g.is.fail(programmed, "AddressNotUsable", "spec.addresses[%d].value: there is no Service %s whose pods could serve it", i, host)
				continue
			}
			if name := (model.Name{Namespace: services[0].Namespace, Name: services[0].Name}); name == g.service && c.env.Front(name.Namespace, name.Name).Made == g.object.Name {
				continue
			}
			g.manual, g.service, g.selector = true, model.Name{Namespace: services[0].Namespace, Name: services[0].Name}, services[0].Selector
		default:
			g.is.fail(accepted, "UnsupportedAddress", "spec.addresses[%d]: type %s: want IPAddress, or Hostname with the host of a Service", i, kind)
		}
	}
	if wrong := validation.IsDNS1035Label(g.service.Name); !g.manual && len(wrong) > 0 {
		g.unnamed = true
		g.is.fail(programmed, "Invalid", "its Service would be called %s, which cannot be: %s", g.service.Name, wrong[0])
		return
	}
	front := c.env.Front(g.service.Namespace, g.service.Name)
	if !g.manual && (front.Taken || front.Made != "" && front.Made != g.object.Name) {
		g.unnamed = true
		whose := "nobody made it for a Gateway"
		if !front.Taken {
			whose = "it was made for Gateway " + front.Made
		}
		g.is.fail(programmed, "Invalid", "there is a Service %s already, and %s: want the Gateway called otherwise, or spec.addresses: [{type: Hostname, value: %s}] to have it served by the pods of that",
			g.service, whose, g.service.Name)
		return
	}
	g.addresses = front.Addresses
	if len(wanted) > 0 {
		g.wanted = wanted[0]
	}
	for _, a := range wanted {
		// Before there is any address nobody knows which it will be.
		if len(g.addresses) > 0 && !slices.Contains(g.addresses, a) {
			g.is.fail(programmed, "AddressNotUsable", "spec.addresses: %s is none of the addresses that the Service %s has", a, g.service)
		}
	}
}

// parameters finds the ConfigMap with patches for what is made for a Gateway, or for those of a class.
func (c *compiler) parameters(o *config.Object, at *field.Path, ref gatewayv1.ParametersReference) (patches map[string]string, wrong string) {
	bad := func(format string, args ...any) (map[string]string, string) {
		return nil, at.String() + ": " + fmt.Sprintf(format, args...)
	}
	if ref.Group != "" || ref.Kind != "ConfigMap" {
		return bad("is a %s of group %q, want a ConfigMap of group \"\"", ref.Kind, ref.Group)
	}
	namespace := string(deref(ref.Namespace, ""))
	if namespace == "" {
		return bad("a ConfigMap is in a namespace, want one in spec.parametersRef.namespace")
	}
	data := c.env.Parameters(namespace, ref.Name)
	if data == nil {
		return bad("there is no ConfigMap %s/%s with one of the keys %s", namespace, ref.Name, strings.Join(model.GatewayEntries(), ", "))
	}
	for _, key := range model.GatewayEntries() {
		var patch map[string]any
		if err := yaml.Unmarshal([]byte(data[key]), &patch); err != nil {
			return bad("ConfigMap %s/%s, key %s: %s", namespace, ref.Name, key, strings.Join(strings.Fields(err.Error()), " "))
		}
	}
	for _, key := range model.UnmadeEntries() {
		if _, ok := data[key]; ok {
			c.notice(o, at, false,
				"ConfigMap %s has the key %s, which is without effect: there is none of these here; how many pods there are says spec.replicas of the key deployment", ref.Name, key)
		}
	}
	return data, ""
}

// deployment returns the workload that serves a Gateway.
func (g *gateway) deployment() Deployment {
	o := g.object
	d := Deployment{
		Gateway: refOf(o), Class: string(g.spec.GatewayClassName), Name: g.service.Name,
		Labels: map[string]string{}, Annotations: map[string]string{}, ServiceType: "LoadBalancer",
		ClassPatches: g.classPatches, Patches: g.patches,
	}
	if i := g.spec.Infrastructure; i != nil {
		for k, v := range i.Labels {
			d.Labels[string(k)] = string(v)
		}
		for k, v := range i.Annotations {
			d.Annotations[string(k)] = string(v)
		}
	} else { // as Istio did before there was a place for them
		maps.Copy(d.Labels, o.Labels)
		maps.Copy(d.Annotations, o.Annotations)
	}
	if t := o.Annotations["networking.istio.io/service-type"]; t != "" {
		d.ServiceType = t
	}
	if d.ServiceType == "LoadBalancer" {
		d.Address = g.wanted
	}
	ports := map[uint16]bool{}
	for _, l := range g.served() {
		if n := uint16(l.Port); !l.is.bad(accepted) && !ports[n] {
			ports[n] = true
			d.Ports = append(d.Ports, Port{Name: strings.ToLower(string(l.Protocol)) + "-" + strconv.Itoa(int(n)), Number: n})
		}
	}
	slices.SortFunc(d.Ports, func(a, b Port) int { return int(a.Number) - int(b.Number) })
	return d
}

// mostAddresses is how many a status has room for.
const mostAddresses = 16

// gatewayStatus writes down what was found about a Gateway, and asks for its workload.
func (c *compiler) gatewayStatus(g *gateway) {
	status := &gatewayv1.GatewayStatus{Listeners: []gatewayv1.ListenerStatus{}}
	good := 0
	for _, l := range g.listeners {
		status.Listeners = append(status.Listeners, gatewayv1.ListenerStatus{
			Name: l.Name, SupportedKinds: l.supportedKinds(), AttachedRoutes: int32(len(l.attached)), Conditions: l.finished(g),
		})
		if !l.is.bad(accepted) {
			good++
		}
	}
	switch {
	case g.is.bad(accepted):
	case good == 0 && len(g.listeners) > 0:
		g.is.set(accepted, false, "ListenersNotValid", "none of its listeners is accepted; their conditions say why")
	case good < len(g.listeners):
		g.is.set(accepted, true, "ListenersNotValid", "%d of its %d listeners are not accepted; their conditions say why", len(g.listeners)-good, len(g.listeners))
	}
	for _, a := range g.addresses[:min(len(g.addresses), mostAddresses)] {
		kind := gatewayv1.HostnameAddressType
		if _, err := netip.ParseAddr(a); err == nil {
			kind = gatewayv1.IPAddressType
		}
		status.Addresses = append(status.Addresses, gatewayv1.GatewayStatusAddress{Type: &kind, Value: a})
	}
	switch {
	case g.is.bad(programmed):
	case g.is.bad(accepted):
		g.is.set(programmed, false, "Invalid", "it is not accepted")
	case len(g.addresses) == 0:
		g.is.set(programmed, false, "AddressNotAssigned", "the Service %s has no address yet", g.service)
	default:
		g.is.set(programmed, true, "Programmed", "the Service %s is in front of the proxies that serve it", g.service)
	}
	if n := int32(len(g.sets)); n > 0 || g.spec.AllowedListeners != nil {
		for _, s := range g.sets {
			if s.is.bad(accepted) {
				n--
			}
		}
		status.AttachedListenerSets = &n
	}
	status.Conditions = g.is.list
	c.out.Status[refOf(g.object)] = status
	if g.manual {
		c.out.Manual = append(c.out.Manual, refOf(g.object))
	}
	if !g.manual && !g.unnamed && (!g.is.bad(accepted) || g.is.get(accepted).Reason == "ListenersNotValid") {
		if d := g.deployment(); len(d.Ports) > 0 {
			c.out.Deployments = append(c.out.Deployments, d)
		}
	}
}
