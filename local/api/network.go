package api

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Addresses of services. The last ones of the IPv4 range are the router's own.
var (
	serviceRange4 = netip.MustParsePrefix("10.96.0.0/16")
	serviceRange6 = netip.MustParsePrefix("fd00:6d61:6c6c:2::/108")
)

const (
	apiServerIP = "10.96.0.1"
	dnsIP       = "10.96.0.10"

	// Offsets in the range: below firstFree are fixed addresses, from lastFree on
	// the router's (host.malla.internal is 10.96.255.254).
	firstFree = 16
	lastFree  = 0xff00

	firstNodePort = 30000
	lastNodePort  = 32767
)

// allocate gives a Service the addresses and node ports that it lacks. Until
// release is called nobody else chooses any.
func (s *Server) allocate(res *resource, was, u *unstructured.Unstructured) (release func(), err error) {
	if res.key != "services" {
		return func() {}, nil
	}
	s.allocation.Lock()
	a := &allocator{s: s, name: u.GetNamespace() + "/" + u.GetName(), ips: map[string]string{}, ports: map[int64]string{}}
	a.load(u)
	if errs := a.service(was, u); len(errs) > 0 {
		s.allocation.Unlock()
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, u.GetName(), errs)
	}
	return s.allocation.Unlock, nil
}

// An allocator knows what other services have.
type allocator struct {
	s     *Server
	name  string // of the service it serves
	ips   map[string]string
	ports map[int64]string
}

func (a *allocator) load(u *unstructured.Unstructured) {
	all, _ := a.s.store.List("services", "")
	for _, o := range all {
		if o.Key.Namespace == u.GetNamespace() && o.Key.Name == u.GetName() {
			continue
		}
		name := o.Key.Namespace + "/" + o.Key.Name
		spec := asMap(o.Value.Object["spec"])
		for _, ip := range texts(spec["clusterIPs"]) {
			a.ips[ip] = name
		}
		if ip := text(spec, "clusterIP"); ip != "" && ip != "None" {
			a.ips[ip] = name
		}
		ports, _ := spec["ports"].([]any)
		for _, p := range ports {
			if n, ok := asMap(p)["nodePort"].(int64); ok && n > 0 {
				a.ports[n] = name
			}
		}
	}
}

func (a *allocator) service(was, u *unstructured.Unstructured) field.ErrorList {
	spec := asMap(u.Object["spec"])
	path := field.NewPath("spec")
	typ := text(spec, "type")
	if typ == "ExternalName" {
		for _, f := range []string{"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"} {
			delete(spec, f)
		}
		return nil
	}
	var oldSpec map[string]any
	if was != nil {
		oldSpec = asMap(was.Object["spec"])
	}
	errs := a.clusterIPs(path, oldSpec, spec)
	if typ == "NodePort" || typ == "LoadBalancer" {
		errs = append(errs, a.nodePorts(path, oldSpec, spec)...)
	} else {
		ports, _ := spec["ports"].([]any)
		for _, p := range ports {
			delete(asMap(p), "nodePort")
		}
	}
	return errs
}

// clusterIPs keeps addresses that the service has, checks those it asks for and
// chooses the rest: one of each family, unless the service says which.
func (a *allocator) clusterIPs(path *field.Path, old, spec map[string]any) field.ErrorList {
	ip, ips := text(spec, "clusterIP"), texts(spec["clusterIPs"])
	if had := text(old, "clusterIP"); had != "" {
		if ip == "" {
			ip = had
		}
		if ip != had {
			return field.ErrorList{field.Invalid(path.Child("clusterIPs").Index(0), ip, "may not change once set")}
		}
		if len(ips) == 0 {
			ips = texts(old["clusterIPs"])
			copyKeys(old, spec, "ipFamilies", "ipFamilyPolicy")
		}
	}
	if ip == "None" || len(ips) == 1 && ips[0] == "None" {
		spec["clusterIP"], spec["clusterIPs"] = "None", []any{"None"}
		if errs := a.missing(path, old, spec); len(errs) > 0 {
			return errs
		}
		a.families(spec)
		return nil
	}
	if ip == "" && len(ips) > 0 {
		ip = ips[0]
	}
	if len(ips) == 0 && ip != "" {
		ips = []string{ip}
	}
	var errs field.ErrorList
	if errs = a.missing(path, old, spec); len(errs) > 0 {
		return errs
	}
	families := a.families(spec)
	out := make([]any, 0, 2)
	for i, f := range families {
		var have string
		if i < len(ips) {
			have = ips[i]
		}
		addr, err := a.ip(path.Child("clusterIPs").Index(i), f, have)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, addr)
	}
	if len(out) > 0 {
		spec["clusterIP"], spec["clusterIPs"] = out[0], out
	}
	return errs
}

// missing refuses IPv6 where there is none, as a cluster of one family does. What a
// service has had since before stays.
func (a *allocator) missing(path *field.Path, old, spec map[string]any) (errs field.ErrorList) {
	if !a.s.o.IPv4Only || len(old) > 0 {
		return nil
	}
	if text(spec, "ipFamilyPolicy") == "RequireDualStack" {
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), "RequireDualStack", "this cluster is not configured for dual-stack services: the machine has no IPv6"))
	}
	for i, f := range texts(spec["ipFamilies"]) {
		if f == "IPv6" {
			errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(i), f, "not configured on this cluster: the machine has no IPv6"))
		}
	}
	return errs
}

// families settles which address families the service has: IPv4 alone unless it
// says otherwise, as in a cluster with both.
func (a *allocator) families(spec map[string]any) []string {
	policy := text(spec, "ipFamilyPolicy")
	fams := texts(spec["ipFamilies"])
	if policy == "" {
		policy = "SingleStack"
		if len(fams) == 2 {
			policy = "RequireDualStack"
		}
		spec["ipFamilyPolicy"] = policy
	}
	if len(fams) == 0 {
		fams = []string{"IPv4"}
		if ip, err := netip.ParseAddr(text(spec, "clusterIP")); err == nil && ip.Is6() {
			fams = []string{"IPv6"}
		}
	}
	if policy == "SingleStack" {
		fams = fams[:1]
	} else if len(fams) == 1 && !a.s.o.IPv4Only {
		other := "IPv6"
		if fams[0] == "IPv6" {
			other = "IPv4"
		}
		fams = append(fams[:1:1], other)
	}
	list := make([]any, len(fams))
	for i, f := range fams {
		list[i] = f
	}
	spec["ipFamilies"] = list
	return fams
}

// ip checks an address that was asked for, or chooses one. The choice begins at a
// hash of the name, so that a service made anew tends to get the address it had.
func (a *allocator) ip(path *field.Path, family, have string) (string, *field.Error) {
	prefix := serviceRange4
	if family == "IPv6" {
		prefix = serviceRange6
	}
	if have != "" {
		addr, err := netip.ParseAddr(have)
		switch {
		case err != nil:
			return "", field.Invalid(path, have, "must be a valid IP address or None")
		case !prefix.Contains(addr):
			return "", field.Invalid(path, have, "the provided IP is not in the valid range, which is "+prefix.String())
		case a.ips[have] != "":
			return "", field.Invalid(path, have, "provided IP is already allocated to service "+a.ips[have])
		}
		return have, nil
	}
	h := fnv.New32a()
	h.Write([]byte(a.name))
	const n = lastFree - firstFree
	first := h.Sum32() % n
	for i := range uint32(n) {
		ip := offset(prefix, firstFree+(first+i)%n).String()
		if a.ips[ip] == "" {
			a.ips[ip] = a.name
			return ip, nil
		}
	}
	return "", field.InternalError(path, errNoAddress)
}

var errNoAddress = exhausted("service addresses")

type exhausted string

func (e exhausted) Error() string { return "all " + string(e) + " are in use" }

// offset returns the nth address of a prefix.
func offset(p netip.Prefix, n uint32) netip.Addr {
	raw := p.Addr().AsSlice()
	tail := raw[len(raw)-4:]
	binary.BigEndian.PutUint32(tail, binary.BigEndian.Uint32(tail)+n)
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func (a *allocator) nodePorts(path *field.Path, old, spec map[string]any) field.ErrorList {
	var errs field.ErrorList
	oldPorts, _ := old["ports"].([]any)
	ports, _ := spec["ports"].([]any)
	if spec["allocateLoadBalancerNodePorts"] == false {
		return nil
	}
	for i, p := range ports {
		m := asMap(p)
		n, _ := m["nodePort"].(int64)
		if n == 0 {
			for _, o := range oldPorts {
				om := asMap(o)
				if om["port"] == m["port"] && om["protocol"] == m["protocol"] {
					n, _ = om["nodePort"].(int64)
				}
			}
		}
		at := path.Child("ports").Index(i).Child("nodePort")
		switch {
		case n == 0:
			if n = a.nodePort(text(m, "name")); n == 0 {
				errs = append(errs, field.InternalError(at, exhausted("node ports")))
				continue
			}
		case n < firstNodePort || n > lastNodePort:
			errs = append(errs, field.Invalid(at, n, "provided port is not in the valid range. The range of valid ports is 30000-32767"))
			continue
		case a.ports[n] != "" && a.ports[n] != a.name:
			errs = append(errs, field.Invalid(at, n, "provided port is already allocated to service "+a.ports[n]))
			continue
		}
		a.ports[n] = a.name
		m["nodePort"] = n
	}
	return errs
}

func (a *allocator) nodePort(port string) int64 {
	h := fnv.New32a()
	h.Write([]byte(a.name + ":" + port))
	const n = lastNodePort - firstNodePort + 1
	first := h.Sum32() % n
	for i := range uint32(n) {
		p := int64(firstNodePort + (first+i)%n)
		if a.ports[p] == "" {
			return p
		}
	}
	return 0
}

func texts(v any) []string {
	list, _ := v.([]any)
	out := make([]string, 0, len(list))
	for _, e := range list {
		if t, ok := e.(string); ok {
			out = append(out, t)
		}
	}
	return out
}

func copyKeys(from, to map[string]any, keys ...string) {
	for _, k := range keys {
		if v, ok := from[k]; ok && to[k] == nil {
			to[k] = v
		}
	}
}
