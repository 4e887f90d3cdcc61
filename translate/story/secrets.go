package story

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// addSecret reads: ns/name [cert=NAME] [by=NAME] [ca=NAME] [crl] [staple] [generic] [broken] [configmap].
// What it holds is made for the names, in kubectl's form of a tls secret, or in the generic one.
func addSecret(objects *[]*config.Object, words []string) error {
	keys := map[string]string{"cert": "tls.crt", "key": "tls.key", "ca": "ca.crt", "crl": "ca.crl"}
	said := map[string]string{}
	for _, w := range words[1:] {
		key, value := word(w)
		said[key] = value
		if key == "generic" {
			keys = map[string]string{"cert": "cert", "key": "key", "ca": "cacert", "crl": "crl"}
		}
	}
	data := map[string][]byte{}
	for _, part := range []string{"cert", "ca"} {
		name, ok := said[part]
		if !ok {
			continue
		}
		c, err := Issue(name, cmp.Or(said["by"], name))
		if err != nil {
			return err
		}
		data[keys[part]] = c.CertPEM()
		if part == "cert" {
			data[keys["key"]] = c.KeyPEM()
		} else if _, ok := said["crl"]; ok {
			data[keys["crl"]] = c.CRL
		}
	}
	if _, ok := said["broken"]; ok {
		data[keys["cert"]] = []byte("no certificate")
	}
	m := metav1.ObjectMeta{CreationTimestamp: metav1.Unix(int64(len(*objects)), 0)}
	m.Namespace, m.Name, _ = strings.Cut(words[0], "/")
	name, value := "Secret", runtime.Object(&corev1.Secret{ObjectMeta: m, Data: data})
	if _, ok := said["configmap"]; ok {
		text := map[string]string{}
		for k, v := range data {
			text[k] = string(v)
		}
		name, value = "ConfigMap", &corev1.ConfigMap{ObjectMeta: m, Data: text}
	}
	k, _ := kind.Named(name)
	o, err := config.FromTyped(k, value)
	*objects = append(*objects, o)
	return err
}

// secret says what a secret holds, one line each.
func secret(v *model.View, name string) string {
	s, ok := translate.Secret(v, name)
	if !ok {
		return "none\n"
	}
	var out strings.Builder
	say := func(what string, d *corev3.DataSource) {
		if d != nil {
			fmt.Fprintf(&out, "%s %s\n", what, source(d))
		}
	}
	c, check := s.GetTlsCertificate(), s.GetValidationContext()
	say("certificate", c.GetCertificateChain())
	say("key", c.GetPrivateKey())
	say("staple", c.GetOcspStaple())
	say("roots", check.GetTrustedCa())
	say("revoked", check.GetCrl())
	for _, d := range []*corev3.WatchedDirectory{c.GetWatchedDirectory(), check.GetWatchedDirectory()} {
		if d != nil {
			fmt.Fprintf(&out, "watched %s\n", d.Path)
		}
	}
	return out.String()
}

func source(d *corev3.DataSource) string {
	if f := d.GetFilename(); f != "" {
		return f
	}
	var all []string
	for block, rest := pem.Decode(d.GetInlineBytes()); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, c.Subject.CommonName)
		} else {
			all = append(all, strings.ToLower(block.Type))
		}
	}
	return cmp.Or(strings.Join(all, ", "), "(bytes)")
}

// socket says how a chain ends TLS: mtls for the mesh's own, else what it shows and
// whom it asks for.
func socket(t *corev3.TransportSocket) string {
	c := &tlsv3.DownstreamTlsContext{}
	if t.GetTypedConfig().UnmarshalTo(c) != nil {
		return ""
	}
	var out []string
	for _, s := range c.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
		out = append(out, s.Name)
	}
	if len(out) == 1 && out[0] == "default" {
		return "mtls"
	}
	if ca := c.GetCommonTlsContext().GetCombinedValidationContext().GetValidationContextSdsSecretConfig(); ca != nil {
		out = append(out, "may:"+ca.Name)
		if c.RequireClientCertificate.GetValue() {
			out[len(out)-1] = "must:" + ca.Name
		}
	}
	return "tls(" + strings.Join(out, " ") + ")"
}
