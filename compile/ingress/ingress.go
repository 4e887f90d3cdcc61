// Package ingress compiles Kubernetes' Ingresses into the model.
//
// Ingresses of everybody meet at one gateway, so they are compiled together: the
// paths of one host are tried as the standard says, whoever wrote them (the longest
// first, an exact one before a prefix), and default backends after all of them. The
// result is what a Gateway and VirtualServices would have become; nothing after this
// knows the difference.
//
// An Ingress is ours if its class is: spec.ingressClassName, or the old annotation,
// names the mesh's class (istio) or malla, or an IngressClass of our controllers. Others are left alone,
// unless the mesh takes those without a class too; it may take none.
package ingress

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/regex"
	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// Names that people write into their Ingresses.
const (
	ClassAnnotation   = "kubernetes.io/ingress.class"
	RewriteAnnotation = "nginx.ingress.kubernetes.io/rewrite-target"
	nginxAnnotations  = "nginx.ingress.kubernetes.io/"
	defaultAnnotation = "ingressclass.kubernetes.io/is-default-class"
)

// ownClass is ours without an IngressClass, as that of the mesh's settings is; controllers are those of ours.
const ownClass = "malla"

var controllers = []string{"istio.io/ingress-controller", "malla.dev/ingress-controller"}

// An Env is what a compilation depends on besides the objects.
type Env struct {
	ClusterDomain string
	RootNamespace string
	Settings      model.IngressSettings
	Services      func(host string) []*model.Service
	Secret        func(namespace, name string) *model.Credential
}

// A Result is what all Ingresses became.
type Result struct {
	Served   []*config.Object // the Ingresses of ours, the oldest first
	Gateways []*model.Gateway // none: there is no Ingress of ours
	Rules    []*model.RouteRules
	Authors  map[*model.Server][]Author // of the servers: the gateways are no objects
	Notices  []Notice
}

// An Author is an Ingress that asks for a server, and where it does.
type Author struct {
	Ref model.Ref
	At  *field.Path
}

// A Notice is something that the author of an object should know.
type Notice struct {
	Object  *config.Object
	At      *field.Path
	Missing bool // what it names is not there, and may come
	Text    string
}

// Compile returns what the Ingresses mean.
func Compile(ingresses, ingressClasses []*config.Object, env Env) Result {
	c := &compiler{env: env, hosts: map[string]*host{}, out: Result{Authors: map[*model.Server][]Author{}}}
	ours := c.ours(ingresses, ingressClasses)
	if len(ours) == 0 {
		return Result{Notices: c.out.Notices}
	}
	// The names are none of objects. Two, because what is for every host must not be mixed into what a
	// server of one host has: of virtual hosts only the most specific counts.
	c.any, c.named = c.gateway("~ingress", ours[0]), c.gateway("~ingress-hosts", ours[0])
	for _, o := range ours {
		c.ingress(o)
	}
	c.finish()
	c.out.Served = ours
	return c.out
}

func (c *compiler) gateway(name string, first *config.Object) *model.Gateway {
	g := &model.Gateway{From: model.Ref{Kind: "Ingress", Namespace: c.env.RootNamespace, Name: name}, Created: first.Created, Selector: map[string]string{"istio": c.env.Settings.Selector}, Namespace: c.env.RootNamespace}
	c.out.Gateways = append(c.out.Gateways, g)
	return g
}

type compiler struct {
	env   Env
	out   Result
	hosts map[string]*host

	any, named *model.Gateway // whose servers are for every host, and for hosts by name
	plain      *model.Server  // of HTTP without TLS
}

// A host is what all Ingresses say of one name.
type host struct {
	first *config.Object
	paths []path
	rest  *model.HTTPRule // of the oldest default backend
}

type path struct {
	rule   *model.HTTPRule
	length int
	exact  bool
}

// ours returns the Ingresses that are for us, the oldest first.
func (c *compiler) ours(ingresses, ingressClasses []*config.Object) []*config.Object {
	if c.env.Settings.Mode == model.IngressOff {
		return nil
	}
	known, otherwise := map[string]bool{}, ""
	for _, o := range ingressClasses {
		known[o.Name] = slices.Contains(controllers, o.Value.(*networkingv1.IngressClass).Spec.Controller)
		if o.Annotations[defaultAnnotation] == "true" {
			otherwise = o.Name
		}
	}
	var out []*config.Object
	for _, o := range ingresses {
		at, class := field.At("spec", "ingressClassName"), ""
		spec := &o.Value.(*networkingv1.Ingress).Spec
		switch old := o.Annotations[ClassAnnotation]; {
		case old != "":
			at, class = field.At("metadata", "annotations", ClassAnnotation), old
		case spec.IngressClassName != nil:
			class = *spec.IngressClassName
		default:
			class = otherwise
		}
		mine, exists := known[class]
		switch {
		case mine, !exists && class != "" && (class == c.env.Settings.Class || class == ownClass), class == "" && c.env.Settings.Mode == model.IngressDefault:
			out = append(out, o)
		case class == "":
			c.notice(o, at, true, "names no class, and no IngressClass is the default: nobody serves it; want istio")
		case !exists: // else it is another controller's, which is no news
			c.notice(o, at, true, "no controller for class %q: there is no such IngressClass, and nobody serves it; classes here: %s", class, c.classes(known))
		}
	}
	slices.SortStableFunc(out, func(a, b *config.Object) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// classes are the names by which an Ingress is ours.
func (c *compiler) classes(known map[string]bool) string {
	names := map[string]bool{ownClass: true}
	if c.env.Settings.Class != "" {
		names[c.env.Settings.Class] = true
	}
	for name, mine := range known {
		if names[name] = mine; !mine {
			delete(names, name)
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}

// ingress takes in one of ours.
func (c *compiler) ingress(o *config.Object) {
	spec := &o.Value.(*networkingv1.Ingress).Spec
	for _, name := range slices.Sorted(maps.Keys(o.Annotations)) {
		if strings.HasPrefix(name, nginxAnnotations) && name != RewriteAnnotation {
			c.notice(o, field.At("metadata", "annotations", name), false, "is nginx's own and has no effect here")
		}
	}
	if c.plain == nil { // one for all
		c.plain = c.server("http-80-ingress-"+o.Name+"-"+o.Namespace, 80, model.HTTP, []string{"*"}, nil)
	}
	c.by(c.plain, o, field.At("spec"))
	for i, t := range spec.TLS {
		c.tls(o, i, t)
	}
	for i, r := range spec.Rules {
		at := field.At("spec", "rules").Index(i)
		if r.Host != "" && !c.isHost(o, at.Child("host"), r.Host) {
			continue
		}
		h := c.host(cmp.Or(strings.ToLower(r.Host), "*"), o)
		if r.HTTP == nil {
			continue
		}
		for j, p := range r.HTTP.Paths {
			h.paths = append(h.paths, c.path(o, p, at.Child("http").Child("paths").Index(j)))
		}
	}
	if b := spec.DefaultBackend; b != nil {
		rule := &model.HTTPRule{Name: o.Namespace + "/" + o.Name + "/default", Forward: c.backend(o, *b, field.At("spec", "defaultBackend"))}
		hosts := []*host{c.host("*", o)}
		for _, r := range spec.Rules {
			if name := cmp.Or(strings.ToLower(r.Host), "*"); istio.IsHost(name) {
				hosts = append(hosts, c.host(name, o))
			}
		}
		for _, h := range hosts {
			if h.rest == nil {
				h.rest = rule
			}
		}
	}
}

// isHost reports whether proxies take a name, and says so if they do not: one that is wrong would be
// refused with all that stands beside it, whoever has written that.
func (c *compiler) isHost(o *config.Object, at *field.Path, name string) bool {
	ok := istio.IsHost(name)
	if !ok {
		c.notice(o, at, false, "is %q, want a host, maybe with *. in front: it is left out", name)
	}
	return ok
}

func (c *compiler) host(name string, o *config.Object) *host {
	if c.hosts[name] == nil {
		c.hosts[name] = &host{first: o}
	}
	return c.hosts[name]
}

func refOf(o *config.Object) model.Ref {
	return model.Ref{Kind: "Ingress", Namespace: o.Namespace, Name: o.Name, Pos: o.Pos, Version: o.Version}
}

// by notes who asks for a server.
func (c *compiler) by(s *model.Server, o *config.Object, at *field.Path) {
	c.out.Authors[s] = append(c.out.Authors[s], Author{Ref: refOf(o), At: at})
}

// server opens a port.
func (c *compiler) server(name string, port uint16, p model.Protocol, hosts []string, t *model.ServerTLS) *model.Server {
	g := c.named
	if slices.Contains(hosts, "*") {
		g = c.any
	}
	s := &model.Server{At: len(g.Servers), Port: port, PortName: name, Protocol: p, TLS: t}
	for _, h := range hosts {
		s.Hosts = append(s.Hosts, model.GatewayHost{Namespace: "*", Name: strings.ToLower(h)})
	}
	g.Servers = append(g.Servers, s)
	return s
}

// tls opens HTTPS for hosts that no older Ingress has it for. The Secret is that of
// the Ingress's namespace, as the standard says, else that of the gateway's, as Istio does.
func (c *compiler) tls(o *config.Object, i int, t networkingv1.IngressTLS) {
	at := field.At("spec", "tls").Index(i)
	if t.SecretName == "" {
		c.notice(o, at.Child("secretName"), false, "is missing: the gateway has no certificate of its own to show")
		return
	}
	source := model.SecretSource{Kind: model.FromSecret, Namespace: o.Namespace, Name: t.SecretName, Granted: c.env.RootNamespace}
	held := c.env.Secret(o.Namespace, t.SecretName)
	if held == nil {
		source = model.SecretSource{Kind: model.FromSecret, Name: t.SecretName}
		held = c.env.Secret(c.env.RootNamespace, t.SecretName)
	}
	switch {
	case held == nil:
		c.notice(o, at.Child("secretName"), true, "there is no Secret %s/%s: its hosts do not answer to TLS", o.Namespace, t.SecretName)
	case held.NoCert != "":
		c.notice(o, at.Child("secretName"), true, "%s %s: its hosts do not answer to TLS", held.From, held.NoCert)
	}
	var hosts []string
	for j, h := range t.Hosts {
		if c.isHost(o, at.Child("hosts").Index(j), h) {
			hosts = append(hosts, h)
		}
	}
	if len(t.Hosts) == 0 {
		hosts = []string{"*"}
	}
	asked := len(hosts)
	for _, s := range slices.Concat(c.any.Servers, c.named.Servers) {
		hosts = slices.DeleteFunc(hosts, func(h string) bool {
			return s.TLS != nil && slices.ContainsFunc(s.Hosts, func(have model.GatewayHost) bool { return strings.EqualFold(have.Name, h) })
		})
	}
	if len(hosts) < asked {
		c.notice(o, at.Child("hosts"), false, "an older Ingress has the certificate for some of them")
	}
	if len(hosts) > 0 {
		name := "https-443-ingress-" + o.Name + "-" + o.Namespace + "-" + strconv.Itoa(i)
		c.by(c.server(name, 443, model.HTTPS, hosts, &model.ServerTLS{Mode: model.ServerSimple, Certs: []model.SecretSource{source}}), o, at)
	}
}

// path translates one path of a host.
func (c *compiler) path(o *config.Object, p networkingv1.HTTPIngressPath, at *field.Path) path {
	out := path{rule: &model.HTTPRule{Name: o.Namespace + "/" + o.Name + p.Path, Forward: c.backend(o, p.Backend, at.Child("backend"))}}
	match := pathMatch(p)
	// The kind PathPrefix is of paths that could be one: with a wrong one Envoy refuses the routes of everybody.
	if v := match.Value; match.Kind == model.PathPrefix && o.Annotations[RewriteAnnotation] == "" && (v[0] != '/' || strings.ContainsAny(v, "?#")) {
		c.notice(o, at.Child("path"), false, "is %q, want a path that begins with /, without ? and #: it is left out", p.Path)
		out.rule.Forward = nil
		return out
	}
	out.exact, out.length = match.Kind == model.Exact, len(match.Value)
	if target := o.Annotations[RewriteAnnotation]; target != "" {
		whole, err := rewritten(p, target)
		if err != nil {
			c.notice(o, at.Child("path"), false, "is %q, want an expression with the groups of %s: %v", p.Path, RewriteAnnotation, err)
			out.rule.Forward = nil
			return out
		}
		match = model.StringMatch{Kind: model.Regex, Value: whole}
		out.exact, out.length = p.PathType != nil && *p.PathType == networkingv1.PathTypeExact, len(p.Path)
		out.rule.Rewrite = &model.Rewrite{Regex: whole, Replace: groups.Replace(target)}
	}
	if match != (model.StringMatch{}) {
		out.rule.Matches = []*model.HTTPMatch{{URI: &match}}
	}
	return out
}

// rewritten is the expression of a path that is rewritten to a target. As nginx does
// it, the path is an expression that begins where the request's path does, in either
// case of letters, and the target, with its groups, takes the place of all.
func rewritten(p networkingv1.HTTPIngressPath, target string) (string, error) {
	if p.PathType != nil && *p.PathType == networkingv1.PathTypeExact {
		return regexp.QuoteMeta(p.Path), checkGroups(target, 0)
	}
	expression, err := regex.Compile(p.Path)
	if err != nil {
		return "", err
	}
	whole := "(?i:" + p.Path + ").*"
	if _, err := regex.Compile(whole); err != nil {
		return "", err
	}
	return whole, checkGroups(target, expression.NumSubexp())
}

// checkGroups reports a group that a target names and the path does not have, and what no path may have.
func checkGroups(target string, groups int) error {
	if strings.ContainsAny(target, "\r\n\x00") {
		return fmt.Errorf("the target %q has a line break", target)
	}
	for i := 0; i+1 < len(target); i++ {
		if n := target[i+1]; target[i] == '$' && n >= '0' && n <= '9' && int(n-'0') > groups {
			return fmt.Errorf("$%c is not among its %d groups", n, groups)
		}
	}
	return nil
}

// groups turns $1 into \1.
var groups = strings.NewReplacer("$0", `\0`, "$1", `\1`, "$2", `\2`, "$3", `\3`, "$4", `\4`, "$5", `\5`, "$6", `\6`, "$7", `\7`, "$8", `\8`, "$9", `\9`, `\`, `\\`)

// pathMatch is the match of a path; that of / is every request. What the type leaves to
// the implementation is what it was before there were types, in Istio too: exact,
// but for a * at the end.
func pathMatch(p networkingv1.HTTPIngressPath) model.StringMatch {
	kind := networkingv1.PathTypeImplementationSpecific
	if p.PathType != nil {
		kind = *p.PathType
	}
	switch whole := strings.TrimRight(p.Path, "/"); {
	case kind == networkingv1.PathTypeExact:
		return model.StringMatch{Kind: model.Exact, Value: p.Path}
	case kind == networkingv1.PathTypePrefix && whole == "", p.Path == "":
		return model.StringMatch{}
	case kind == networkingv1.PathTypePrefix:
		return model.StringMatch{Kind: model.PathPrefix, Value: whole}
	}
	for _, end := range []string{".*", "*"} {
		if before, ok := strings.CutSuffix(p.Path, end); ok {
			if before == "" || before == "/" {
				return model.StringMatch{}
			}
			return model.StringMatch{Kind: model.Prefix, Value: before}
		}
	}
	if p.Path == "/" {
		return model.StringMatch{}
	}
	return model.StringMatch{Kind: model.Exact, Value: p.Path}
}

// backend is where requests go: a port of a service of the Ingress's namespace.
func (c *compiler) backend(o *config.Object, b networkingv1.IngressBackend, at *field.Path) []model.Split {
	to := model.Destination{}
	if b.Service == nil {
		return nil // refused before it comes here; answered by nobody
	}
	to.Host = b.Service.Name + "." + o.Namespace + ".svc." + c.env.ClusterDomain
	to.Port = uint16(b.Service.Port.Number)
	services := c.env.Services(to.Host)
	if len(services) == 0 {
		c.notice(o, at.Child("service").Child("name"), true, "no service has the host %s: requests are answered 503", to.Host)
		return []model.Split{{To: to}}
	}
	i := slices.IndexFunc(services[0].Ports, func(p model.Port) bool {
		return p.Number == to.Port || b.Service.Port.Name != "" && p.Name == b.Service.Port.Name
	})
	if i < 0 {
		c.notice(o, at.Child("service").Child("port"), true, "%s has no such port: requests are answered 503", to.Host)
		return []model.Split{{To: to}}
	}
	to.Port = services[0].Ports[i].Number
	return []model.Split{{To: to}}
}

// finish puts the paths of each host in order.
func (c *compiler) finish() {
	for _, name := range slices.Sorted(maps.Keys(c.hosts)) {
		h := c.hosts[name]
		slices.SortStableFunc(h.paths, func(a, b path) int {
			switch d := cmp.Compare(b.length, a.length); {
			case d != 0 || a.exact == b.exact:
				return d
			case a.exact:
				return -1
			}
			return 1
		})
		if name == "*" {
			c.rules(h, name, c.any)
		} else {
			c.rules(h, name, c.any, c.named)
		}
	}
	if h := c.hosts["*"]; h != nil { // is for servers of hosts that have nothing of their own
		for _, s := range c.named.Servers {
			for _, name := range s.Hosts {
				if !c.has(name.Name) {
					c.rules(h, name.Name, c.named)
				}
			}
		}
	}
}

// has reports whether there are rules for a host by its name, or by a wildcard.
func (c *compiler) has(name string) bool {
	for h := range c.hosts {
		if h != "*" && model.HostMatches(h, name) {
			return true
		}
	}
	return false
}

// rules adds what is said of a host, as rules for gateways.
func (c *compiler) rules(h *host, name string, gateways ...*model.Gateway) {
	o := h.first
	r := &model.RouteRules{
		From:    refOf(o),
		Created: o.Created, Hosts: []string{name}, ExportTo: model.ExportTo{"*"},
	}
	for _, g := range gateways {
		r.Gateways = append(r.Gateways, g.Key())
	}
	for _, p := range h.paths {
		if len(p.rule.Forward) > 0 {
			r.HTTP = append(r.HTTP, p.rule)
		}
	}
	if h.rest != nil && len(h.rest.Forward) > 0 {
		r.HTTP = append(r.HTTP, h.rest)
	}
	if len(r.HTTP) > 0 {
		c.out.Rules = append(c.out.Rules, r)
	}
}

func (c *compiler) notice(o *config.Object, at *field.Path, missing bool, format string, args ...any) {
	c.out.Notices = append(c.out.Notices, Notice{Object: o, At: at, Missing: missing, Text: fmt.Sprintf(format, args...)})
}
