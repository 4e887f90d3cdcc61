package validate

import (
	"net/netip"
	"strings"

	kubenetworkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/regex"
)

const rewriteAnnotation = "nginx.ingress.kubernetes.io/rewrite-target"

func (r *ruler) ingress(in *kubenetworkingv1.Ingress) {
	spec, at := &in.Spec, field.At("spec")
	if len(spec.Rules) == 0 && spec.DefaultBackend == nil {
		r.errorf(at.Child("rules"), "missing; want rules, or a defaultBackend")
	}
	if spec.IngressClassName != nil && in.Annotations["kubernetes.io/ingress.class"] != "" {
		r.errorf(at.Child("ingressClassName"), "stands beside the annotation kubernetes.io/ingress.class; keep one")
	}
	if spec.DefaultBackend != nil {
		r.ingressBackend(at.Child("defaultBackend"), *spec.DefaultBackend)
	}
	for i, t := range spec.TLS {
		for j, h := range t.Hosts {
			r.ingressHost(at.Child("tls").Index(i).Child("hosts").Index(j), h)
		}
	}
	for i, rule := range spec.Rules {
		at := at.Child("rules").Index(i)
		if rule.Host != "" {
			r.ingressHost(at.Child("host"), rule.Host)
		}
		if rule.HTTP == nil {
			continue
		}
		if len(rule.HTTP.Paths) == 0 {
			r.errorf(at.Child("http").Child("paths"), "missing; want at least one")
		}
		for j, p := range rule.HTTP.Paths {
			r.ingressPath(at.Child("http").Child("paths").Index(j), p, in.Annotations[rewriteAnnotation] != "")
		}
	}
}

func (r *ruler) ingressHost(at *field.Path, host string) {
	if _, err := netip.ParseAddr(host); err == nil || host == "*" {
		r.errorf(at, "found %q, want a host name, maybe with *. in front", host)
		return
	}
	r.host(at, host, true)
}

func (r *ruler) ingressPath(at *field.Path, p kubenetworkingv1.HTTPIngressPath, rewritten bool) {
	kind := kubenetworkingv1.PathType("")
	if p.PathType != nil {
		kind = *p.PathType
	}
	switch kind {
	case kubenetworkingv1.PathTypeExact, kubenetworkingv1.PathTypePrefix:
		if !strings.HasPrefix(p.Path, "/") {
			r.errorf(at.Child("path"), "found %q, want a path that begins with /", p.Path)
		}
	case kubenetworkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !strings.HasPrefix(p.Path, "/") {
			r.errorf(at.Child("path"), "found %q, want a path that begins with /", p.Path)
		}
	case "":
		r.errorf(at.Child("pathType"), "missing; want Exact, Prefix or ImplementationSpecific")
	default:
		r.errorf(at.Child("pathType"), "found %q, want Exact, Prefix or ImplementationSpecific", kind)
	}
	if _, err := regex.Compile(p.Path); rewritten && err != nil {
		r.errorf(at.Child("path"), "found %q, want an expression, of which %s is to have groups: %v", p.Path, rewriteAnnotation, err)
	}
	r.ingressBackend(at.Child("backend"), p.Backend)
}

func (r *ruler) ingressBackend(at *field.Path, b kubenetworkingv1.IngressBackend) {
	if b.Service == nil {
		r.errorf(at.Child("service"), "missing; want the name and the port of a Service")
		return
	}
	at = at.Child("service")
	if len(validation.IsDNS1123Label(b.Service.Name)) > 0 {
		r.errorf(at.Child("name"), "found %q, want the name of a Service", b.Service.Name)
	}
	switch port := b.Service.Port; {
	case port.Name != "" && port.Number != 0:
		r.errorf(at.Child("port"), "has a name and a number; keep one")
	case port.Name == "":
		r.port(at.Child("port").Child("number"), uint32(port.Number))
	}
}
