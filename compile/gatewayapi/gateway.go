package gatewayapi

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/config"
)

// gateways takes in those of our classes.
func (c *compiler) gateways() {
	for _, o := range oldest(c.objects.Gateways) {
		gw := o.Value.(*gatewayv1.Gateway)
		if c.controllers[string(gw.Spec.GatewayClassName)] == "" {
			continue
		}
		c.gateway(o, gw)
	}
}

func (c *compiler) gateway(o *config.Object, gw *gatewayv1.Gateway) {
	d := deployment(o, gw)
	is := conditionsOf(o)
	is.set("Accepted", true, "Accepted", "it is served by %s", d.Name)
	status := &gatewayv1.GatewayStatus{}
	for _, a := range c.env.Addresses(o.Namespace, d.Name) {
		kind := gatewayv1.IPAddressType
		status.Addresses = append(status.Addresses, gatewayv1.GatewayStatusAddress{Type: &kind, Value: a})
	}
	if len(status.Addresses) == 0 {
		is.set("Programmed", false, "AddressNotAssigned", "the Service %s has no address yet", d.Name)
	} else {
		is.set("Programmed", true, "Programmed", "its proxies have it")
	}
	status.Conditions = is.list
	c.out.Status[refOf(o)] = status
	c.out.Deployments = append(c.out.Deployments, d)
}

// deployment returns the workload that serves a Gateway.
func deployment(o *config.Object, gw *gatewayv1.Gateway) Deployment {
	class := string(gw.Spec.GatewayClassName)
	d := Deployment{Gateway: refOf(o), Class: class, Name: o.Name + "-" + class, Labels: map[string]string{}, Annotations: map[string]string{}, ServiceType: "LoadBalancer"}
	if i := gw.Spec.Infrastructure; i != nil {
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
	ports := map[uint16]bool{}
	for _, l := range gw.Spec.Listeners {
		if n := uint16(l.Port); !ports[n] {
			ports[n] = true
			d.Ports = append(d.Ports, Port{Name: strings.ToLower(string(l.Protocol)) + "-" + strconv.Itoa(int(n)), Number: n})
		}
	}
	slices.SortFunc(d.Ports, func(a, b Port) int { return int(a.Number) - int(b.Number) })
	return d
}
