// Package compile makes the model of the mesh out of configuration and registry.
//
// Each kind of object is compiled for itself by the package of its dialect
// (compile/istio) and the result is kept for as long as the object stays the
// same. What depends on several objects is done here: who is older, which
// DestinationRules of one namespace are one. Precedence between levels
// (workload, namespace, mesh) is a question of the one who asks, so it is
// answered by the model.
//
// [Mesh] is a function of its arguments. The mesh before only saves work: with
// or without it the result is the same (TestIncremental of package translate
// makes random edits both ways and compares everything that proxies get).
package compile

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// A Problem is something that an author should know about a resource.
type Problem struct {
	*field.Error
	Reason Reason
	Notice bool          // the resource is in force, but for what the message says; else it is left out
	Waits  time.Duration // how long it takes at most until what may still be on its way has mended it
	Ref    model.Ref
}

// How long what mends a problem may still be on its way.
const (
	soon  = time.Second      // an object that is applied together with this one
	later = 10 * time.Second // a pod, at a start or when it is replaced
)

// Mesh compiles everything. Cfg holds for the whole mesh, r is what exists,
// prev is the mesh before or nil.
func Mesh(s *config.Snapshot, cfg *model.MeshConfig, r *model.Registry, prev *model.Mesh) (*model.Mesh, []Problem) {
	env := istio.Env{ClusterDomain: cfg.ClusterDomain, RootNamespace: cfg.RootNamespace}
	old := memoOf(prev, env)
	next := &memo{env: env, kinds: make(map[string]kindMemo, len(istio.Kinds))}
	m := &model.Mesh{Generation: s.Generation(), Config: cfg, Registry: r, Sources: next}
	if cfg.Entries != nil {
		m.Namespaces = map[string]map[string]string{}
		for _, o := range s.List("Namespace") {
			m.Namespaces[o.Name] = o.Labels
		}
	}
	everything := prev != nil && reflect.DeepEqual(prev.Config, cfg) // is the same
	for _, kind := range istio.Kinds {
		results, same := compileKind(s.List(kind), old.kinds[kind], env)
		if kind == "VirtualService" {
			same = same && slices.Equal(prev.Config.RulesExportTo, cfg.RulesExportTo) // which delegates may be used
			next.dropped = old.dropped
		}
		next.kinds[kind] = results
		everything = everything && same
		switch {
		case same:
			take(m, prev, old, kind)
		case kind == "VirtualService":
			rules := oldest(results, func(x istio.Result) *model.RouteRules { return x.Rules }, refOfRules)
			m.Rules, next.dropped = delegate(rules, cfg.RulesExportTo)
		case kind == "DestinationRule":
			m.Policies = mergePolicies(oldest(results, func(x istio.Result) *model.DestinationRule { return x.Policy }, refOfPolicy))
		case kind == "Gateway":
			m.Gateways = oldest(results, func(x istio.Result) *model.Gateway { return x.Gateway }, refOfGateway)
		case kind == "Sidecar":
			m.Scopes = oldest(results, func(x istio.Result) *model.Scope { return x.Scope }, refOfScope)
		case kind == "DNSPolicy":
			m.Names = oldest(results, func(x istio.Result) *model.NamePolicy { return x.Names }, refOfNames)
		case kind == "PeerAuthentication":
			m.Peers = oldest(results, func(x istio.Result) *model.PeerAuthentication { return x.Peer }, refOfPeer)
		case kind == "EnvoyFilter":
			m.Patches = oldest(results, func(x istio.Result) *model.Patches { return x.Patches }, refOfPatches)
			model.SortPatches(m.Patches)
		}
	}
	var same bool
	m.Credentials, next.credentials, same = credentials(s, old.credentials)
	everything = everything && same
	networks(s, m)
	m.Index(prev)
	next.rules, next.gateways, next.policies = m.Rules, m.Gateways, m.Policies
	same = same && prev != nil && slices.Equal(prev.Registry.Services, r.Services)
	everything = ingresses(s, m, old, next, same && prev.Config.Ingress == cfg.Ingress) && everything
	everything = gatewayAPI(s, m, old, next, same) && everything
	if everything && slices.Equal(prev.Registry.Services, r.Services) && slices.Equal(prev.Registry.Workloads, r.Workloads) {
		next.findings = old.findings // nothing moved but endpoints
	} else {
		next.findings = findings(next, m)
	}
	return m, slices.Concat(problems(next, r), next.findings, emptySelectors(m), ingressProblems(next), gatewayProblems(next), unknownGateways(s, m))
}

// A memo is what one mesh leaves for the next.
type memo struct {
	env      istio.Env
	kinds    map[string]kindMemo
	dropped  []dropped // what could not be delegated
	findings []Problem

	credentials map[string]credentialMemo
	rules       []*model.RouteRules // of VirtualServices
	gateways    []*model.Gateway    // of Istio's Gateways
	policies    []*model.DestinationRule
	ingress     ingressMemo
	gatewayAPI  gatewayMemo
}

// A kindMemo holds the results of one kind, in the snapshot's order.
type kindMemo []compiled

type compiled struct {
	object *config.Object
	result istio.Result
}

// memoOf returns what prev left, an empty memo if it does not apply.
func memoOf(prev *model.Mesh, env istio.Env) *memo {
	if prev != nil {
		if old, ok := prev.Sources.(*memo); ok && old.env == env {
			return old
		}
	}
	return &memo{}
}

// compileKind compiles the objects, which are sorted by namespace and name, as
// those of old are. Same is true if old has exactly these objects.
func compileKind(objects []*config.Object, old kindMemo, env istio.Env) (out kindMemo, same bool) {
	out = make(kindMemo, 0, len(objects))
	same = old != nil && len(objects) == len(old)
	i := 0
	for _, o := range objects {
		for i < len(old) && compareNames(old[i].object, o) < 0 {
			i++
		}
		if i < len(old) && unchanged(old[i].object, o) {
			out = append(out, compiled{o, old[i].result})
			continue
		}
		same = false
		out = append(out, compiled{o, istio.Compile(o, env)})
	}
	return out, same
}

func compareNames(a, b *config.Object) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// unchanged reports whether b compiles to what a did. Objects are never written,
// so one pointer is one content.
func unchanged(a, b *config.Object) bool {
	return a == b || a.Version != "" && a.Version == b.Version && a.UID == b.UID && a.UID != "" && a.Name == b.Name && a.Namespace == b.Namespace
}

// take carries one kind over from the mesh before.
func take(m, prev *model.Mesh, old *memo, kind string) {
	switch kind {
	case "VirtualService":
		m.Rules = old.rules
	case "DestinationRule":
		m.Policies = old.policies
	case "Gateway":
		m.Gateways = old.gateways
	case "PeerAuthentication":
		m.Peers = prev.Peers
	case "Sidecar":
		m.Scopes = prev.Scopes
	case "EnvoyFilter":
		m.Patches = prev.Patches
	case "DNSPolicy":
		m.Names = prev.Names
	}
}

// oldest returns the values that there are, the oldest first.
func oldest[T any](results kindMemo, value func(istio.Result) *T, ref func(*T) aged) []*T {
	var out []*T
	for _, c := range results {
		if v := value(c.result); v != nil {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(a, b *T) int { return ref(a).compare(ref(b)) })
	return out
}

// problems lists everything that the authors should know, by kind and name.
func problems(m *memo, r *model.Registry) []Problem {
	var out []Problem
	for _, kind := range istio.Kinds {
		for _, c := range m.kinds[kind] {
			ref := istio.RefOf(c.object)
			for _, e := range c.result.Errors {
				out = append(out, Problem{Error: e, Ref: ref, Reason: Invalid})
			}
			for _, e := range c.result.Notices {
				out = append(out, Problem{Error: e, Ref: ref, Reason: Weak, Notice: true})
			}
		}
	}
	return out
}

// mergePolicies makes one of the rules that one namespace has for one host, if
// they agree on who sees them and on whose proxies they are for. Rules come
// oldest first: the oldest one's policy and the first subset of each name stay.
func mergePolicies(rules []*model.DestinationRule) []*model.DestinationRule {
	type class struct{ namespace, host, exportTo, workload string }
	var out []*model.DestinationRule
	at := make(map[class]int)
	for _, d := range rules {
		k := class{d.From.Namespace, d.Host, set(d.ExportTo), pairs(d.Workload)}
		i, found := at[k]
		if !found {
			at[k] = len(out)
			out = append(out, d)
			continue
		}
		out[i] = merge(out[i], d)
	}
	slices.SortStableFunc(out, func(a, b *model.DestinationRule) int { return cmp.Compare(a.From.Namespace, b.From.Namespace) })
	return out
}

// merge returns a new rule; a and b are shared and stay as they are.
func merge(a, b *model.DestinationRule) *model.DestinationRule {
	m := *a
	if empty(a.Policy) {
		m.Policy = b.Policy
	}
	m.Subsets = slices.Clone(a.Subsets)
	for _, s := range b.Subsets {
		if _, taken := m.Subset(s.Name); !taken {
			m.Subsets = append(m.Subsets, s)
		}
	}
	m.Merged = append(slices.Clone(a.Merged), b.Merged...)
	return &m
}

// set and pairs write a set so that equal sets are equal strings.
func set(in []string) string {
	sorted := slices.Clone(in)
	slices.Sort(sorted)
	out := ""
	for _, s := range slices.Compact(sorted) {
		out += s + "\x00"
	}
	return out
}

func pairs(in map[string]string) string {
	out := ""
	for _, k := range slices.Sorted(maps.Keys(in)) {
		out += k + "\x00" + in[k] + "\x00"
	}
	return out
}
