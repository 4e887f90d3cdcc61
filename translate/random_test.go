package translate_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	networkingv1alpha3 "istio.io/client-go/pkg/apis/networking/v1alpha3"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	kubenetworkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/compile/gatewayapi"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/translate"
)

var (
	namespaces = []string{"a", "b", "istio-system"}
	names      = []string{"x", "y", "z"}
	hosts      = []string{"x", "y", "x.a.svc.cluster.local", "*.a.svc.cluster.local", "*.svc.cluster.local", "z.example.com"}
	exports    = [][]string{nil, {"."}, {"*"}, {"a", "b"}}
	protocols  = []model.Protocol{model.HTTP, model.Sniffed, model.TCP, model.TLS, model.GRPC}
	labelSets  = []map[string]string{nil, {"app": "x"}, {"app": "y"}}
	pods       = []*model.Workload{
		{Namespace: "a", Name: "x-1", Labels: labelSets[1], Addrs: []netip.Addr{netip.MustParseAddr("10.244.0.1")}},
		{Namespace: "istio-system", Name: "gw", Labels: labelSets[1], Addrs: []netip.Addr{netip.MustParseAddr("10.244.0.3")}},
	}
	roots = sync.OnceValue(func() []byte {
		ca, err := pki.NewCA("cluster.local", time.Now())
		if err != nil {
			panic(err)
		}
		return ca.RootPEM()
	})
)

// TestIncremental makes random edits, each compiled with the mesh before and
// from nothing. Both meshes, what they say to authors, and every resource that
// proxies get of them must be the same.
func TestIncremental(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			cfg := model.DefaultMeshConfig()
			var store config.Store
			reg := registry(r, nil)
			var prev *model.Mesh
			for step := range 60 {
				for range 1 + r.IntN(3) {
					edit(t, r, &store, step)
				}
				before := reg
				switch r.IntN(6) {
				case 0, 1:
					reg = registry(r, reg)
				case 2:
					reg = otherEndpoints(r, reg)
				}
				if r.IntN(10) == 0 {
					next := cfg
					next.AutoMTLS = !next.AutoMTLS
					next.RulesExportTo = pick(r, exports)
					cfg = next
				}
				if r.IntN(4) == 0 {
					cfg.Networks = randomNetworks(r)
				}
				if r.IntN(6) == 0 {
					if err := editNetworks(r, &store); err != nil {
						t.Fatal(err)
					}
				}
				c := cfg
				snapshot := store.Snapshot()
				next, told := compile.Mesh(snapshot, &c, reg, prev)
				scratch, want := compile.Mesh(snapshot, &c, reg, nil)
				same(t, step, "rules", scratch.Rules, next.Rules)
				same(t, step, "policies", scratch.Policies, next.Policies)
				same(t, step, "gateways", scratch.Gateways, next.Gateways)
				same(t, step, "sidecars", scratch.Scopes, next.Scopes)
				same(t, step, "peers", scratch.Peers, next.Peers)
				same(t, step, "gateways of networks", scratch.NetworkGateways, next.NetworkGateways)
				same(t, step, "problems", texts(want), texts(told))
				same(t, step, "what Gateway API's objects are told", standing(scratch), standing(next))
				for _, p := range proxies() {
					same(t, step, "resources", resources(t, model.NewView(p, scratch)), resources(t, model.NewView(p, next)))
				}
				onlyEndpoints(t, step, snapshot, &c, before, reg)
				if t.Failed() {
					return
				}
				prev = next
			}
		})
	}
}

// onlyEndpoints compares two registries under one configuration: where only endpoints
// are said to differ, proxies get the same of every other type.
func onlyEndpoints(t *testing.T, step int, snapshot *config.Snapshot, cfg *model.MeshConfig, before, after *model.Registry) {
	t.Helper()
	old, _ := compile.Mesh(snapshot, cfg, before, nil)
	now, _ := compile.Mesh(snapshot, cfg, after, nil)
	if !translate.OnlyEndpoints(old, now) {
		return
	}
	for _, p := range proxies() {
		a, b := resources(t, model.NewView(p, old)), resources(t, model.NewView(p, now))
		for _, m := range []map[string]string{a, b} {
			maps.DeleteFunc(m, func(name, _ string) bool { return strings.HasPrefix(name, translate.EndpointType) })
		}
		same(t, step, "what is not endpoints", a, b)
	}
}

func same[T any](t *testing.T, step int, what string, want, got T) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("step %d: %s differ (-scratch +incremental):\n%s", step, what, d)
	}
}

func texts(problems []compile.Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.Ref.String()+" "+p.Error.Error())
	}
	return out
}

// standing is what the authors of Gateway API's objects are told, and which gateways are made for them.
func standing(m *model.Mesh) gatewayapi.Result {
	r := compile.GatewayAPI(m)
	if r == nil || len(r.Status) == 0 {
		return gatewayapi.Result{}
	}
	return gatewayapi.Result{Status: r.Status, Deployments: r.Deployments}
}

func proxies() []*model.Proxy {
	return []*model.Proxy{
		{Type: model.Router, Namespace: "a", Name: "x-istio", Proven: true, Labels: map[string]string{gatewayapi.NameLabel: "x"}, IPs: []netip.Addr{netip.MustParseAddr("10.244.0.4")}},
		{Type: model.Sidecar, Namespace: "a", Name: "x-1", Proven: true, Labels: labelSets[1], Metadata: map[string]string{"NETWORK": "two"}, Locality: "r/a", IPs: []netip.Addr{netip.MustParseAddr("10.244.0.1")}},
		{Type: model.Sidecar, Namespace: "b", Name: "y-1", Labels: labelSets[2], IPs: []netip.Addr{netip.MustParseAddr("10.244.0.2"), netip.MustParseAddr("fd00::2")}},
		{Type: model.Router, Namespace: "istio-system", Name: "gw", Proven: true, Labels: labelSets[1], IPs: []netip.Addr{netip.MustParseAddr("10.244.0.3")}},
	}
}

// resources returns every resource by type and name. What is listed must be
// there under its name, in order, and once.
func resources(t testing.TB, v *model.View) map[string]string {
	out := make(map[string]string)
	for _, url := range []string{translate.ClusterType, translate.EndpointType, translate.ListenerType, translate.RouteType, translate.SecretType} {
		list := translate.Names(v, url)
		if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
			t.Errorf("names of %s are not a sorted set: %q", url, list)
		}
		for _, name := range list {
			m, ok := translate.Resource(v, url, name)
			if !ok {
				t.Errorf("%s %s is listed, but there is none", url, name)
				continue
			}
			data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			out[url+" "+name] = string(data)
		}
	}
	return out
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// edit puts or deletes one object.
func edit(t *testing.T, r *rand.Rand, store *config.Store, step int) {
	name, ns := pick(r, names), pick(r, namespaces)
	var gvk schema.GroupVersionKind
	meta := metav1.ObjectMeta{
		Name: name, Namespace: ns, UID: types.UID(ns + name), ResourceVersion: fmt.Sprint(step, "-", r.Uint32()),
		CreationTimestamp: metav1.Time{Time: time.Unix(int64(r.IntN(4)), 0)},
	}
	var value runtime.Object
	switch r.IntN(11) {
	case 8, 9, 10:
		key, standard := randomStandard(r, meta)
		k, _ := kind.Named(key)
		o, err := config.FromTyped(k, standard)
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(4) == 0 {
			store.Delete(key, o.Namespace, o.Name)
		} else {
			store.Put(o)
		}
		return
	case 7:
		gvk = schema.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress"}
		value = &kubenetworkingv1.Ingress{ObjectMeta: meta}
		randomIngress(r, &value.(*kubenetworkingv1.Ingress).Spec)
	case 5:
		gvk = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1alpha3", Kind: "EnvoyFilter"}
		value = &networkingv1alpha3.EnvoyFilter{ObjectMeta: meta}
		randomPatches(r, &value.(*networkingv1alpha3.EnvoyFilter).Spec)
	case 6:
		gvk = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
		value = &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"ca.crt": pick(r, [][]byte{nil, []byte("none"), roots()})}}
	case 4:
		gvk = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "Sidecar"}
		value = &networkingv1.Sidecar{ObjectMeta: meta}
		randomSidecar(r, &value.(*networkingv1.Sidecar).Spec)
	case 0:
		gvk = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"}
		value = &networkingv1.VirtualService{ObjectMeta: meta}
		randomRules(r, &value.(*networkingv1.VirtualService).Spec)
	case 1:
		gvk = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "DestinationRule"}
		value = &networkingv1.DestinationRule{ObjectMeta: meta}
		randomPolicy(r, &value.(*networkingv1.DestinationRule).Spec)
	case 2:
		gvk = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "Gateway"}
		value = &networkingv1.Gateway{ObjectMeta: meta}
		randomGateway(r, &value.(*networkingv1.Gateway).Spec)
	default:
		gvk = schema.GroupVersionKind{Group: "security.istio.io", Version: "v1", Kind: "PeerAuthentication"}
		value = &securityv1.PeerAuthentication{ObjectMeta: meta}
		randomPeer(r, &value.(*securityv1.PeerAuthentication).Spec)
	}
	k, ok := kind.ByGVK(gvk)
	if !ok {
		t.Fatalf("no kind %s", gvk)
	}
	if r.IntN(4) == 0 {
		store.Delete(gvk.Kind, ns, name)
		return
	}
	o, err := config.FromTyped(k, value)
	if err != nil {
		t.Fatal(err)
	}
	store.Put(o)
}

func randomRules(r *rand.Rand, vs *networking.VirtualService) {
	vs.Hosts = []string{pick(r, hosts)}
	vs.ExportTo = pick(r, exports)
	vs.Gateways = pick(r, [][]string{nil, {"mesh"}, {"x"}, {"mesh", "istio-system/x", "y"}})
	to := func() *networking.Destination {
		return &networking.Destination{Host: pick(r, hosts), Subset: pick(r, []string{"", "v1", "v2"})}
	}
	for range r.IntN(3) {
		h := &networking.HTTPRoute{Name: pick(r, names), Route: []*networking.HTTPRouteDestination{{Destination: to(), Weight: r.Int32N(3)}, {Destination: to(), Weight: r.Int32N(3)}}}
		if r.IntN(2) == 0 {
			h.Match = []*networking.HTTPMatchRequest{{Uri: &networking.StringMatch{MatchType: &networking.StringMatch_Prefix{Prefix: "/" + pick(r, names)}}, SourceLabels: pick(r, labelSets)}}
		}
		if r.IntN(3) == 0 {
			h.Timeout = durationpb.New(time.Second)
		}
		if r.IntN(4) == 0 {
			h.Route, h.Delegate = nil, &networking.Delegate{Name: pick(r, names), Namespace: pick(r, namespaces)}
		}
		vs.Http = append(vs.Http, h)
	}
	if r.IntN(4) == 0 { // a delegate
		vs.Hosts, vs.Gateways = nil, nil
		return
	}
	if r.IntN(3) == 0 {
		vs.Tcp = []*networking.TCPRoute{{Route: []*networking.RouteDestination{{Destination: to()}}}}
	}
	if r.IntN(3) == 0 {
		vs.Tls = []*networking.TLSRoute{{Match: []*networking.TLSMatchAttributes{{SniHosts: []string{pick(r, hosts)}}}, Route: []*networking.RouteDestination{{Destination: to()}}}}
	}
}

func randomPolicy(r *rand.Rand, dr *networking.DestinationRule) {
	dr.Host = pick(r, hosts)
	dr.ExportTo = pick(r, exports)
	if l := pick(r, labelSets); l != nil && r.IntN(2) == 0 {
		dr.WorkloadSelector = &typev1beta1.WorkloadSelector{MatchLabels: l}
	}
	if r.IntN(2) == 0 {
		dr.TrafficPolicy = &networking.TrafficPolicy{
			ConnectionPool: &networking.ConnectionPoolSettings{Tcp: &networking.ConnectionPoolSettings_TCPSettings{MaxConnections: r.Int32N(9)}},
			LoadBalancer:   &networking.LoadBalancerSettings{LbPolicy: &networking.LoadBalancerSettings_Simple{Simple: networking.LoadBalancerSettings_SimpleLB(r.Int32N(6))}},
			Tls:            &networking.ClientTLSSettings{Mode: networking.ClientTLSSettings_TLSmode(r.Int32N(4)), CredentialName: pick(r, []string{"", "", "x"})},
		}
	}
	for range r.IntN(3) {
		if p := dr.TrafficPolicy; p != nil {
			randomBalance(r, p)
		}
		dr.Subsets = append(dr.Subsets, &networking.Subset{Name: pick(r, []string{"v1", "v2"}), Labels: pick(r, labelSets)})
	}
}

func randomBalance(r *rand.Rand, p *networking.TrafficPolicy) {
	switch r.IntN(4) {
	case 0:
		p.LoadBalancer.LbPolicy = &networking.LoadBalancerSettings_ConsistentHash{ConsistentHash: &networking.LoadBalancerSettings_ConsistentHashLB{
			HashKey: &networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie{HttpCookie: &networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie{
				Name: pick(r, names), Ttl: durationpb.New(time.Duration(r.IntN(2)) * time.Minute),
			}},
		}}
	case 1:
		p.LoadBalancer.LbPolicy = &networking.LoadBalancerSettings_ConsistentHash{ConsistentHash: &networking.LoadBalancerSettings_ConsistentHashLB{
			HashKey:       &networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp{UseSourceIp: true},
			HashAlgorithm: &networking.LoadBalancerSettings_ConsistentHashLB_Maglev{Maglev: &networking.LoadBalancerSettings_ConsistentHashLB_MagLev{TableSize: 101}},
		}}
	case 2:
		p.LoadBalancer.LocalityLbSetting = &networking.LocalityLoadBalancerSetting{FailoverPriority: []string{"app"}}
		p.RetryBudget = &networking.TrafficPolicy_RetryBudget{MinRetryConcurrency: r.Uint32N(3)}
	}
	if r.IntN(2) == 0 {
		p.OutlierDetection = &networking.OutlierDetection{}
	}
	if r.IntN(3) == 0 {
		p.LoadBalancer.Warmup = &networking.WarmupConfiguration{Duration: durationpb.New(time.Second)}
	}
}

func randomGateway(r *rand.Rand, gw *networking.Gateway) {
	gw.Selector = pick(r, labelSets)
	for range r.IntN(3) {
		s := &networking.Server{
			Port:  &networking.Port{Number: pick(r, []uint32{80, 443, 9000}), Protocol: pick(r, []string{"HTTP", "TLS", "TCP", "HTTPS", "ODD"}), Name: "p"},
			Hosts: []string{pick(r, hosts), pick(r, []string{"*", "a/*", "./x"})},
		}
		if s.Port.Protocol == "TLS" || s.Port.Protocol == "HTTPS" || r.IntN(4) == 0 {
			s.Tls = &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_TLSmode(r.Int32N(6)), CredentialName: pick(r, append(names, ""))}
		}
		gw.Servers = append(gw.Servers, s)
	}
}

func randomIngress(r *rand.Rand, in *kubenetworkingv1.IngressSpec) {
	class := pick(r, []string{"istio", "malla", "other"})
	in.IngressClassName = &class
	to := func() kubenetworkingv1.IngressBackend {
		return kubenetworkingv1.IngressBackend{Service: &kubenetworkingv1.IngressServiceBackend{Name: pick(r, names), Port: kubenetworkingv1.ServiceBackendPort{Number: 80}}}
	}
	for range r.IntN(3) {
		kind := pick(r, []kubenetworkingv1.PathType{kubenetworkingv1.PathTypeExact, kubenetworkingv1.PathTypePrefix, kubenetworkingv1.PathTypeImplementationSpecific})
		in.Rules = append(in.Rules, kubenetworkingv1.IngressRule{Host: pick(r, []string{"", "a.example.com", "*.example.com"}), IngressRuleValue: kubenetworkingv1.IngressRuleValue{
			HTTP: &kubenetworkingv1.HTTPIngressRuleValue{Paths: []kubenetworkingv1.HTTPIngressPath{{Path: pick(r, []string{"/", "/a", "/a/b/", "/a*"}), PathType: &kind, Backend: to()}}},
		}})
	}
	if r.IntN(2) == 0 {
		in.TLS = []kubenetworkingv1.IngressTLS{{Hosts: pick(r, [][]string{nil, {"a.example.com"}, {"b.example.com", "a.example.com"}}), SecretName: pick(r, names)}}
	}
	if len(in.Rules) == 0 || r.IntN(3) == 0 {
		b := to()
		in.DefaultBackend = &b
	}
}

func randomSidecar(r *rand.Rand, s *networking.Sidecar) {
	if l := pick(r, labelSets); l != nil {
		s.WorkloadSelector = &networking.WorkloadSelector{Labels: l}
	}
	if r.IntN(2) == 0 {
		s.Egress = []*networking.IstioEgressListener{{Hosts: []string{pick(r, []string{"./*", "*/*", "~/*", "a/x.a.svc.cluster.local", "*/*.example.com"}), "~b/*"}}}
	}
	if r.IntN(3) == 0 {
		s.OutboundTrafficPolicy = &networking.OutboundTrafficPolicy{}
	}
	if r.IntN(2) == 0 {
		s.Ingress = []*networking.IstioIngressListener{{
			Port: &networking.SidecarPort{Number: pick(r, []uint32{80, 9000}), Protocol: pick(r, []string{"HTTP", "TCP"})}, DefaultEndpoint: pick(r, []string{"", "127.0.0.1:7", "0.0.0.0:8"}),
		}}
	}
}

func randomPeer(r *rand.Rand, pa *security.PeerAuthentication) {
	if l := pick(r, labelSets); l != nil {
		pa.Selector = &typev1beta1.WorkloadSelector{MatchLabels: l}
	}
	pa.Mtls = &security.PeerAuthentication_MutualTLS{Mode: security.PeerAuthentication_MutualTLS_Mode(r.Int32N(4))}
	if r.IntN(2) == 0 {
		pa.PortLevelMtls = map[uint32]*security.PeerAuthentication_MutualTLS{80: {Mode: security.PeerAuthentication_MutualTLS_Mode(r.Int32N(4))}}
	}
}

// registry returns services and endpoints; those of old that stay are the same
// values, as the registry promises.
func registry(r *rand.Rand, old *model.Registry) *model.Registry {
	out := &model.Registry{Endpoints: make(map[model.ServiceKey]*model.EndpointSet), Workloads: pods}
	for _, ns := range namespaces {
		for _, name := range names {
			s := randomService(r, ns, name)
			var set *model.EndpointSet
			if old != nil && r.IntN(3) > 0 {
				i := slices.IndexFunc(old.Services, func(o *model.Service) bool { return o.Key() == s.Key() })
				if i < 0 {
					continue
				}
				s, set = old.Services[i], old.Endpoints[s.Key()]
			}
			if r.IntN(8) == 0 {
				continue
			}
			if set == nil || r.IntN(2) == 0 {
				set = &model.EndpointSet{}
				for i := range r.IntN(4) {
					set.Endpoints = append(set.Endpoints, place(r, &model.Endpoint{
						Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, byte(i)})}, Port: 80, PortName: "http", Namespace: ns,
						Labels: pick(r, labelSets), TLS: r.IntN(2) == 0, Health: model.Health(r.IntN(2)),
					}))
				}
			}
			out.Services = append(out.Services, s)
			out.Endpoints[s.Key()] = set
		}
	}
	slices.SortFunc(out.Services, func(a, b *model.Service) int {
		if c := compareStrings(a.Host, b.Host); c != 0 {
			return c
		}
		return compareStrings(a.Namespace, b.Namespace)
	})
	return out
}

// otherEndpoints returns the same services with other endpoints behind one of them.
func otherEndpoints(r *rand.Rand, old *model.Registry) *model.Registry {
	if len(old.Services) == 0 {
		return old
	}
	out := &model.Registry{Services: old.Services, Workloads: old.Workloads, Endpoints: maps.Clone(old.Endpoints)}
	s := pick(r, old.Services)
	set := &model.EndpointSet{}
	for i := range r.IntN(4) {
		set.Endpoints = append(set.Endpoints, place(r, &model.Endpoint{
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, byte(i)})}, Port: 80, PortName: "http", Namespace: s.Namespace,
			Labels: pick(r, labelSets), TLS: r.IntN(2) == 0,
		}))
	}
	out.Endpoints[s.Key()] = set
	return out
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func randomService(r *rand.Rand, ns, name string) *model.Service {
	s := &model.Service{
		Host: name + "." + ns + ".svc.cluster.local", Namespace: ns, Name: name, Kubernetes: true, Created: time.Unix(int64(r.IntN(5)), 0),
		From: model.Ref{Kind: "Service", Namespace: ns, Name: name}, ExportTo: pick(r, exports), Selector: pick(r, labelSets),
		Ports: []model.Port{
			{Name: "http", Number: 80, Protocol: pick(r, protocols)}, {Name: "other", Number: 443, Protocol: pick(r, protocols), Target: model.TargetPort{Number: 80}},
		},
	}
	leads(r, s)
	switch r.IntN(4) {
	case 0:
		s.Headless, s.Resolution = true, model.Passthrough
	case 1:
		s.Host, s.Kubernetes, s.External = name+".example.com", false, true
	default:
		for range 1 + r.IntN(2) { // addresses that several services claim
			if a := netip.AddrFrom4([4]byte{10, 96, 0, byte(1 + r.IntN(5))}); !slices.Contains(s.VIPs, a) {
				s.VIPs = append(s.VIPs, a)
			}
		}
	}
	return s
}

// patches are what random EnvoyFilters are made of; some are wrong. N is another number each time: who adds
// one name twice has Envoy refuse the table.
var patches = []string{
	`{applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: 3s}}}`,
	`{applyTo: CLUSTER, match: {context: SIDECAR_OUTBOUND, cluster: {service: x.a.svc.cluster.local}}, patch: {operation: REMOVE}}`,
	`{applyTo: CLUSTER, patch: {operation: ADD, value: {name: added, type: STATIC}}}`,
	`{applyTo: CLUSTER, patch: {operation: MERGE, value: {nothing: 3s}}}`,
	`{applyTo: LISTENER, match: {listener: {portNumber: 80}}, patch: {operation: REMOVE}}`,
	`{applyTo: FILTER_CHAIN, match: {context: SIDECAR_OUTBOUND}, patch: {operation: REMOVE}}`,
	`{applyTo: LISTENER, patch: {operation: ADD, value: {name: added, address: {socket_address: {address: 127.0.0.1, port_value: 4444}}, filter_chains: [{name: a, filters: [{name: tcp, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: a, cluster: BlackHoleCluster}}]}]}}}`,
	`{applyTo: NETWORK_FILTER, match: {listener: {filterChain: {filter: {name: istio.stats}}}}, patch: {operation: REMOVE}}`,
	`{applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.cors}}}}}, patch: {operation: REMOVE}}`,
	`{applyTo: ROUTE_CONFIGURATION, match: {context: GATEWAY}, patch: {operation: MERGE, value: {response_headers_to_remove: [server]}}}`,
	`{applyTo: HTTP_ROUTE, patch: {operation: MERGE, value: {route: {timeout: 5s}}}}`,
	`{applyTo: VIRTUAL_HOST, patch: {operation: ADD, value: {name: added-N, domains: [added-N.example]}}}`,
}

func randomPatches(r *rand.Rand, out *networking.EnvoyFilter) {
	var list []string
	for range 1 + r.IntN(3) {
		list = append(list, strings.ReplaceAll(pick(r, patches), "-N", fmt.Sprint("-", r.Uint32())))
	}
	data, err := yaml.YAMLToJSON([]byte("configPatches: [" + strings.Join(list, ", ") + "]"))
	if err == nil {
		err = out.UnmarshalJSON(data)
	}
	if err != nil {
		panic(err)
	}
	out.Priority = int32(r.IntN(3)) - 1
	if set := pick(r, labelSets); set != nil {
		out.WorkloadSelector = &networking.WorkloadSelector{Labels: set}
	}
}
