package pods

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/mallamesh/malla/local/router"
	"github.com/mallamesh/malla/node/dns"
)

// gather is how long changes are collected before the router is told.
const gather = 5 * time.Millisecond

// Network tells the router about services, endpoints and names, until ctx ends.
func Network(ctx context.Context, factory informers.SharedInformerFactory, r *router.Router, log *slog.Logger) error {
	services, behind := factory.Core().V1().Services(), factory.Discovery().V1().EndpointSlices()
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, i := range []cache.SharedIndexInformer{services.Informer(), behind.Informer()} {
		_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
		})
		if err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), services.Informer().HasSynced, behind.Informer().HasSynced) {
		return ctx.Err()
	}
	wake()
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		if !sleep(ctx, gather) {
			return nil
		}
		all, err := services.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		sets, err := behind.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		table, names := Tables(all, sets)
		if err := r.SetServices(table); err != nil {
			log.Error("the router did not take the services", "reason", err)
		}
		r.SetNames(dns.NewTable([]string{router.ClusterDomain, "10.in-addr.arpa"}, names))
	}
}

// serviceKey names a service.
type serviceKey struct{ namespace, name string }

// Tables returns what ClusterIPs stand for, and what names do.
func Tables(services []*corev1.Service, sets []*discoveryv1.EndpointSlice) ([]router.Service, map[string]dns.Record) {
	behind := map[serviceKey][]*discoveryv1.EndpointSlice{}
	for _, s := range sets {
		k := serviceKey{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
		behind[k] = append(behind[k], s)
	}
	names := map[string]dns.Record{
		router.HostName: {Addrs: router.HostIPs},
		"kubernetes.default.svc." + router.ClusterDomain:   {Addrs: router.KubernetesIPs},
		"kube-dns.kube-system.svc." + router.ClusterDomain: {Addrs: router.DNSIPs},
	}
	var table []router.Service
	for _, s := range services {
		host := s.Name + "." + s.Namespace + ".svc." + router.ClusterDomain
		sets := behind[serviceKey{s.Namespace, s.Name}]
		switch {
		case s.Namespace == "default" && s.Name == "kubernetes", s.Namespace == "kube-system" && s.Name == "kube-dns":
			continue // the router's own
		case s.Spec.Type == corev1.ServiceTypeExternalName:
			names[host] = dns.Record{CNAME: s.Spec.ExternalName}
			continue
		case s.Spec.ClusterIP == corev1.ClusterIPNone:
			headless(names, host, s, sets)
			continue
		}
		r := router.Service{Namespace: s.Namespace, Name: s.Name}
		for _, text := range s.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(text); err == nil {
				r.ClusterIPs = append(r.ClusterIPs, a)
			}
		}
		for _, p := range s.Spec.Ports {
			r.Ports = append(r.Ports, router.ServicePort{Protocol: string(p.Protocol), Port: uint16(p.Port), Endpoints: addrPorts(sets, p.Name)})
		}
		table = append(table, r)
		names[host] = dns.Record{Addrs: r.ClusterIPs}
		for _, p := range s.Spec.Ports {
			if p.Name != "" {
				names["_"+p.Name+"._"+lowerProtocol(p.Protocol)+"."+host] = dns.Record{SRV: []dns.SRV{{Target: host, Port: uint16(p.Port)}}}
			}
		}
	}
	slices.SortFunc(table, func(a, b router.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return table, names
}

func lowerProtocol(p corev1.Protocol) string {
	if p == corev1.ProtocolUDP {
		return "udp"
	}
	return "tcp"
}

// usable reports whether new connections may go to an endpoint.
func usable(e *discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready }

// addrPorts lists the endpoints behind a service's port: those that are ready, or
// if none is, those that still serve while they end (as kube-proxy does): a
// request that is answered by a pod on its way out is better than one refused.
func addrPorts(sets []*discoveryv1.EndpointSlice, port string) []netip.AddrPort {
	if ready := chosen(sets, port, usable); len(ready) > 0 {
		return ready
	}
	return chosen(sets, port, func(e *discoveryv1.Endpoint) bool {
		c := e.Conditions
		return c.Terminating != nil && *c.Terminating && c.Serving != nil && *c.Serving
	})
}

func chosen(sets []*discoveryv1.EndpointSlice, port string, good func(*discoveryv1.Endpoint) bool) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range sets {
		for _, p := range s.Ports {
			if p.Port == nil || (p.Name == nil && port != "") || (p.Name != nil && *p.Name != port) {
				continue
			}
			for i := range s.Endpoints {
				if !good(&s.Endpoints[i]) {
					continue
				}
				for _, text := range s.Endpoints[i].Addresses {
					if a, err := netip.ParseAddr(text); err == nil {
						out = append(out, netip.AddrPortFrom(a, uint16(*p.Port)))
					}
				}
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// headless names the pods behind a service without an address: all under the
// service's name, and each under its own.
func headless(names map[string]dns.Record, host string, s *corev1.Service, sets []*discoveryv1.EndpointSlice) {
	all := dns.Record{}
	for _, set := range sets {
		for i := range set.Endpoints {
			e := &set.Endpoints[i]
			if !usable(e) {
				continue
			}
			for _, text := range e.Addresses {
				a, err := netip.ParseAddr(text)
				if err != nil {
					continue
				}
				all.Addrs = append(all.Addrs, a)
				if e.Hostname != nil {
					one := names[*e.Hostname+"."+host]
					one.Addrs = append(one.Addrs, a)
					names[*e.Hostname+"."+host] = one
				}
			}
		}
	}
	if len(all.Addrs) > 0 {
		slices.SortFunc(all.Addrs, netip.Addr.Compare)
		names[host] = all
	}
}
