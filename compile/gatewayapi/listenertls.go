package gatewayapi

import (
	"maps"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

// terminateMode is Istio's option by which a listener asks clients for certificates: the roots stand beside its
// own certificate.
const terminateMode = "gateway.istio.io/tls-terminate-mode"

var terminateModes = map[string]model.ServerTLSMode{
	"SIMPLE": model.ServerSimple, "MUTUAL": model.ServerMutual, "OPTIONAL_MUTUAL": model.ServerOptionalMutual, "ISTIO_MUTUAL": model.ServerIstioMutual,
}

// cipherSuites is Istio's option with the ciphers that a listener takes, separated by commas.
const cipherSuites = "gateway.istio.io/tls-cipher-suites"

// options takes in what is said in tls.options. Those of other implementations mean nothing here, as in Istio, and their author is told.
func (c *compiler) options(l *listener) {
	for _, name := range slices.Sorted(maps.Keys(l.TLS.Options)) {
		value := string(l.TLS.Options[name])
		switch name {
		case terminateMode:
			mode, ok := terminateModes[value]
			if !ok {
				l.is.fail(accepted, "UnsupportedValue", "tls.options has %s: %q; want SIMPLE, MUTUAL, OPTIONAL_MUTUAL or ISTIO_MUTUAL", name, value)
				continue
			}
			l.tls.Mode = mode
		case cipherSuites:
			for suite := range strings.SplitSeq(value, ",") {
				suite = strings.TrimSpace(suite)
				if all := model.TLSCiphers(); !slices.Contains(all, suite) {
					l.is.fail(accepted, "UnsupportedValue", "tls.options has %s with %q; want one of %s", name, suite, strings.Join(all, ", "))
					continue
				}
				l.tls.Ciphers = append(l.tls.Ciphers, suite)
			}
		default:
			c.notice(l.of.object, field.At("spec"), false, "listener %s: tls.options has %s, which means nothing here; options here are %s and %s", l.Name, name, cipherSuites, terminateMode)
		}
	}
}

// listenerTLS finds out what a listener does with TLS.
func (c *compiler) listenerTLS(l *listener) {
	t := l.TLS
	switch l.Protocol {
	case gatewayv1.HTTPSProtocolType, gatewayv1.TLSProtocolType:
	default:
		if t != nil {
			l.is.fail(accepted, "UnsupportedValue", "tls: protocol %s has none; leave it out", l.Protocol)
		}
		return
	}
	if t == nil {
		l.is.fail(accepted, "UnsupportedValue", "tls is missing: protocol %s needs it", l.Protocol)
		return
	}
	l.tls = &model.ServerTLS{Mode: model.ServerSimple}
	c.options(l)
	switch mode := deref(t.Mode, gatewayv1.TLSModeTerminate); {
	case mode == gatewayv1.TLSModePassthrough && l.Protocol == gatewayv1.HTTPSProtocolType:
		l.is.fail(accepted, "UnsupportedValue", "tls.mode is Passthrough: HTTPS is read here; want Terminate, or protocol TLS")
		return
	case mode == gatewayv1.TLSModePassthrough:
		l.tls.Mode = model.ServerPassthrough
		return
	case mode != gatewayv1.TLSModeTerminate:
		l.is.fail(accepted, "UnsupportedValue", "tls.mode is %s, want Terminate or Passthrough", mode)
		return
	}
	if l.tls.Mode == model.ServerIstioMutual {
		l.tls.Certs = []model.SecretSource{{Kind: model.OfWorkload}}
		return
	}
	c.certificates(l, t.CertificateRefs)
	if l.tls.Mode.Asks() && len(l.tls.Certs) > 0 {
		l.tls.CA = &l.tls.Certs[0]
	}
	c.clientValidation(l)
}

// certificates finds what a listener shows. One that is no good does not keep it from showing the others.
func (c *compiler) certificates(l *listener, refs []gatewayv1.SecretObjectReference) {
	if len(refs) == 0 {
		l.is.fail(resolved, "InvalidCertificateRef", "tls.certificateRefs is empty: it has no certificate to show")
	}
	for i, ref := range refs {
		source, reason, text := c.secret(l.of, ref)
		if reason != "" {
			l.is.fail(resolved, reason, "tls.certificateRefs[%d]: %s", i, text)
			continue
		}
		l.tls.Certs = append(l.tls.Certs, source)
	}
}

// secret finds the certificate that a Gateway or a ListenerSet names.
func (c *compiler) secret(from *parent, ref gatewayv1.SecretObjectReference) (source model.SecretSource, reason, text string) {
	if kind := deref(ref.Kind, "Secret"); deref(ref.Group, "") != "" || kind != "Secret" {
		return source, "InvalidCertificateRef", "is " + kindOf(deref(ref.Group, ""), kind) + ", want a Secret"
	}
	ns, name := string(deref(ref.Namespace, gatewayv1.Namespace(from.object.Namespace))), string(ref.Name)
	if !c.granted(from.kind, from.object.Namespace, "", "Secret", ns, name) {
		return source, "RefNotPermitted", "no ReferenceGrant of namespace " + ns + " lets a " + from.kind + " of namespace " + from.object.Namespace + " refer to Secret " + name
	}
	held := c.env.Secret(ns, name)
	switch {
	case held == nil:
		return source, "InvalidCertificateRef", "there is no Secret " + ns + "/" + name
	case held.NoCert != "":
		return source, "InvalidCertificateRef", held.From.String() + " " + held.NoCert
	}
	return from.gateway.source(model.FromSecret, ns, name), "", ""
}

// kindOf names a kind for people.
func kindOf(group gatewayv1.Group, kind gatewayv1.Kind) string {
	if group == "" {
		return "of kind " + string(kind)
	}
	return "of kind " + string(kind) + " of group " + string(group)
}

// source is an object that the pods of a gateway may have, though it may be another namespace's.
func (g *gateway) source(kind model.SecretKind, namespace, name string) model.SecretSource {
	if namespace == g.service.Namespace {
		return model.SecretSource{Kind: kind, Name: name}
	}
	return model.SecretSource{Kind: kind, Namespace: namespace, Name: name, Granted: g.service.Namespace}
}

// clientValidation finds what the certificates of clients are verified by.
func (c *compiler) clientValidation(l *listener) {
	g := l.of.gateway
	if g.spec.TLS == nil || g.spec.TLS.Frontend == nil {
		return
	}
	validation := g.spec.TLS.Frontend.Default.Validation
	for _, p := range g.spec.TLS.Frontend.PerPort {
		if p.Port == l.Port {
			validation = p.TLS.Validation
		}
	}
	if validation == nil {
		return
	}
	var all trust
	for i, ref := range validation.CACertificateRefs {
		source, held, reason, text := c.roots(&g.parent, ref)
		if reason != "" {
			l.is.fail(resolved, reason, "caCertificateRefs[%d] of the Gateway: %s", i, text)
			continue
		}
		all.add(source, held)
	}
	if text := all.mixed(); text != "" {
		l.is.fail(accepted, "UnsupportedValue", "caCertificateRefs of the Gateway: %s", text)
	}
	if l.tls.CA = all.first; l.tls.CA == nil {
		l.is.fail(accepted, "NoValidCACertificate", "there is nothing to verify clients by; condition ResolvedRefs says why")
		return
	}
	l.tls.Mode = model.ServerMutual
	if validation.Mode == gatewayv1.AllowInsecureFallback {
		l.tls.Mode, l.tls.AnyClient = model.ServerOptionalMutual, true
		g.is.set("InsecureFrontendValidationMode", true, "ConfigurationChanged", "port %d takes clients without a good certificate, too", l.Port)
	}
}

// roots finds what a Gateway names to verify clients by.
func (c *compiler) roots(from *parent, ref gatewayv1.ObjectReference) (source model.SecretSource, held *model.Credential, reason, text string) {
	kind, get := model.FromConfigMap, c.env.ConfigMap
	switch {
	case ref.Group == "" && ref.Kind == "ConfigMap":
	case ref.Group == "" && ref.Kind == "Secret":
		kind, get = model.FromSecret, c.env.Secret
	default:
		return source, nil, "InvalidCACertificateKind", "is " + kindOf(ref.Group, ref.Kind) + ", want a ConfigMap or a Secret"
	}
	ns, name := string(deref(ref.Namespace, gatewayv1.Namespace(from.object.Namespace))), string(ref.Name)
	if !c.granted(from.kind, from.object.Namespace, "", string(ref.Kind), ns, name) {
		return source, nil, "RefNotPermitted", "no ReferenceGrant of namespace " + ns + " lets a " + from.kind + " of namespace " + from.object.Namespace + " refer to " + string(ref.Kind) + " " + name
	}
	held = get(ns, name)
	if text := noRoots(held, string(ref.Kind), ns, name); text != "" {
		return source, nil, "InvalidCACertificateRef", text
	}
	source = from.gateway.source(kind, ns, name)
	source.Exact = true
	return source, held, "", ""
}

// A trust is roots of several objects, each of which counts.
type trust struct {
	first, last *model.SecretSource
	some, lists int // objects, and those of them with revocation lists
	without     *model.Credential
}

func (t *trust) add(source model.SecretSource, held *model.Credential) {
	if t.some++; len(held.CRL) > 0 {
		t.lists++
	} else {
		t.without = held
	}
	if t.first == nil {
		t.first = &source
	} else {
		t.last.Also = &source
	}
	t.last = &source
}

// mixed says what is wrong if some roots have revocation lists and others do not: who looks at lists looks for that of
// every issuer, and takes nobody of one without.
func (t *trust) mixed() string {
	if t.lists == 0 || t.lists == t.some {
		return ""
	}
	return t.without.From.String() + " has no revocation list, but others have; want one in all of them, or in none"
}

// noRoots says why an object has no roots, "" if it has.
func noRoots(held *model.Credential, kind, namespace, name string) string {
	switch {
	case held == nil:
		return "there is no " + kind + " " + namespace + "/" + name + " with roots in ca.crt"
	case held.NoCA != "":
		return held.From.String() + " " + held.NoCA
	}
	return ""
}

// clientCertificate finds what the proxies of a Gateway show to servers that BackendTLSPolicies are about.
func (c *compiler) clientCertificate(g *gateway) {
	if g.spec.TLS == nil || g.spec.TLS.Backend == nil || g.spec.TLS.Backend.ClientCertificateRef == nil {
		return
	}
	g.is.set(resolved, true, "ResolvedRefs", "what it names is there")
	source, reason, text := c.secret(&g.parent, *g.spec.TLS.Backend.ClientCertificateRef)
	switch reason {
	case "":
		g.clientCert = &source
	case "InvalidCertificateRef":
		g.is.set(resolved, false, "InvalidClientCertificateRef", "spec.tls.backend.clientCertificateRef: %s", text)
	default:
		g.is.set(resolved, false, reason, "spec.tls.backend.clientCertificateRef: %s", text)
	}
}
